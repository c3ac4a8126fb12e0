"""Git and DVC of this checkout."""
