"""What Axolotl reads and leaves."""
