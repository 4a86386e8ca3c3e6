"""SHA256SUMS, as `sha256sum` writes and checks it (coreutils manual, "md5sum invocation"). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = "SHA256SUMS"
#: Bytes of the largest one that is read.
LARGEST = 64 << 20

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


def parse(text: bytes) -> dict[str, str]:
    """Return the sha256 of each file, by its name; lines of any other form are passed over."""
    found = {}
    for line in text.split(b"\n"):
        if each := _LINE.fullmatch(line.removesuffix(b"\r")):
            name = re.sub(rb"\\[\\nr]", lambda escaped: _ESCAPES[escaped[0]], each[3]) if each[1] else each[3]
            found[name.decode("utf-8", "surrogateescape").removeprefix("./")] = each[2].decode("ascii").lower()
    return found


def text_of(sums: Mapping[str, str]) -> bytes:
    """Return the file, in the order of the names."""
    lines = []
    for name in sorted(sums):
        raw = name.encode("utf-8", "surrogateescape")
        escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        lines.append(b"\\"[: escaped != raw] + sums[name].encode("ascii") + b"  " + escaped + b"\n")
    return b"".join(lines)
