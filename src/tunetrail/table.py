"""Rows of cells -> a text table; a long text -> as much of it as fits."""


def columns(rows: list[list[str]]) -> str:
    """Return the rows as lines of text with aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows)


def cut(text: str, width: float) -> str:
    """Return at most `width` characters on one line; an ellipsis stands for what was cut."""
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= width else line[: max(int(width) - 1, 0)] + "…"
