"""Status files by coverage: `python tests/fuzz/atheris_status_files.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

with atheris.instrument_imports(include=["taskrun.status", "taskrun.planning"]):
    from fuzz import targets
    from fuzz.atheris_run import run

_REST = b"\t1\t-1\tvm\t9\t0\t0.100\t1.000\t1.100\t0\t''\t3\t'a\\tb'\ttrue\n"
SEEDS = (
    b"    \t0" + _REST + b"R   \t1" + _REST + b"B    \t2" + _REST,
    b"   S\t0" + _REST + b"   P\t0" + _REST + b"ROEZ\t70000" + _REST[:20],
    b"ROE[ PSZ]\tTaskID\tLineNum\n    \t3" + _REST.replace(b"true", b"b'\\xff'"),
)

if __name__ == "__main__":
    run(lambda data, _: targets.status_file(data), SEEDS)
