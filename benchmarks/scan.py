"""Seconds to scan and to expand a task file of a million plain lines, and one of 100,000 different directive lines.

Usage: python benchmarks/scan.py [folder for the two files, default a temporary one]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from taskrun.language.source import read_items, scan_file
from taskrun.planning.expand import Expander

PLAIN = 1_000_000
DIRECTIVES = 100_000


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        plain = Path(folder, "plain.txt")
        plain.write_bytes(b"".join(b"/bin/true %d > /dev/null\n" % number for number in range(PLAIN)))
        directives = Path(folder, "directives.txt")
        directives.write_bytes(b"".join(b"#TASKRUN REPEAT 2 start %d echo\n" % number for number in range(DIRECTIVES)))
        _measure(f"{PLAIN:,} plain lines", plain)
        _measure(f"{DIRECTIVES:,} directive lines", directives)


def _measure(what: str, path: Path) -> None:
    begin = time.perf_counter()
    scan = scan_file(path)
    scanned = time.perf_counter()
    expander = Expander()
    for item in read_items(path):
        deque(expander.expand(item), 0)
    expanded = time.perf_counter()
    print(f"{what}: scan {scanned - begin:.3f} s, read and expand to {scan.tasks:,} tasks {expanded - scanned:.3f} s")


if __name__ == "__main__":
    main()
