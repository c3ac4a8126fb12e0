"""What Axolotl reads and writes: plug-in, history, tokenizer, checkpoints."""
