"""Numbers of bytes in words, the same wherever one is printed: powers of 1024, with one decimal."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size_text(count: float) -> str:
    """`12 B`, `3.4 GiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    size, unit = count / 1024, 0
    while size >= 1023.95 and unit < len(_UNITS) - 1:  # what would be printed as 1024.0 is 1.0 of the next unit
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}"
