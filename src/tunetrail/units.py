"""Bytes and seconds -> text."""

GIB = 2**30


def size(number: float) -> str:
    """Return bytes in the unit that leaves few digits: 99.3 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"


def duration(seconds: float) -> str:
    """Return seconds with two or three digits: 40 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
