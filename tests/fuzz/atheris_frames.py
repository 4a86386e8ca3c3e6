"""Frames of a link by coverage: `python tests/fuzz/atheris_frames.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

with atheris.instrument_imports(include=["taskrun.agent", "taskrun.engines", "taskrun.status"]):
    from fuzz import targets
    from fuzz.atheris_run import run

ROW = ["task", 0, 1, "exit", 3, 99, 0, 1.0, 2.0, 1.0, 0.1, 0.1, 4096, 0, "\udcff", 0, "", False]
FRAMES: tuple[dict[str, object], ...] = (
    {"k": "hello", "protocol": 1, "host": "vm", "boot": "b", "pid": 9, "cores": 2, "memory": 1, "python": "3.11.0"},
    {"k": "done", "r": [ROW], "t": [["task", 1, 1]]},
    {"k": "note", "level": "warning", "text": "\x1b"},
    {"k": "told", "signal": 15},
)


def framed(frame: dict[str, object]) -> bytes:
    body = json.dumps(frame).encode("ascii")
    return len(body).to_bytes(4, "big") + body


def either(data: bytes, size: int) -> None:
    """As a stream of frames, and as the text of one: a length is hard to guess."""
    targets.link_bytes(data, size)
    targets.link_bytes(len(data).to_bytes(4, "big") + data, 1 << 20)


if __name__ == "__main__":
    run(either, [*map(framed, FRAMES), *(framed(frame)[4:] for frame in FRAMES)])
