"""Files that a run writes are told from task files by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import ROOT

from taskrun.language import Reader
from taskrun.language.own_files import kind_of

RECORD = b" O  \t0\t1\t-1\tnode\t28163\t0\t0.006\t1796099612.664\t1796099612.670\t3\t'hi\\n'\t0\t''\techo hi\n"

OURS = {
    "a status file": (
        RECORD,
        RECORD.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + RECORD,
        b"ROE[ PSZ]\tTaskID\tLineNum\tRepeatIndex\n",
        b"R E" + RECORD[3:],
        b"B    " + RECORD[4:],
        RECORD[:60],  # torn
        b" O  \tgarbage\n" + RECORD,
    ),
    "the events file of a run": (b'{"t":1796099611.898,"kind":"run","v":1,"what":"start","run_id":"261201043331-2a8cbc914f"}\n',),
    "the sidecar of a run": (
        b'{\n "v": 1,\n "name": "t.txt",\n "data_tag": "a4867c84",\n',
        b'{\r\n "v": 1,\r\n "run_id": "1",\r\n "argv": [\r\n',
    ),
    "the attach file of a run": (b'{\n "v": 1,\n "run_id": "1",\n "addresses": [],\n "fingerprint": "",\n',),
    "the lock of a run": (b'{"v": 1, "run_id": "1", "host": "vm", "pid_space": "pid:[4026531836]"}\n',),
    "the manifest of a run": (b'{\n "v": 1,\n "run_id": "1",\n "inputs": [],\n',),
    "the log of a run": (b"2026-12-01 04:33:32.140 INFO taskrun 0.1.0, run 261201043331-2a8cbc914f: taskrun t.txt\n",),
    "the list of a run's FOREACH files": (b"FOREACH *.txt\n\tt.txt\nEND 1\n", b"FOREACH *.none\nEND 0\n"),
    "the script by which engines join a run": (b'#!/bin/sh\n[ "$1" = --mon ] && exec python -m taskrun monitor run\n',),
    "a job script of taskrun submit": (b"#!/bin/bash\n# Written by `taskrun submit`; it may be changed\n",),
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in OURS.items() for text in texts])
def test_a_file_of_a_run_is_one_error_whatever_else_is_in_it(kind: str, text: bytes) -> None:
    assert kind_of(text) == kind
    reader = Reader("run file")
    assert reader.feed(text + b"#PREFIX\n#BARRIER nonsense x\0\n") + reader.feed(b"\0\n") + reader.close() == []
    (problem,) = reader.diagnostics
    assert (problem.severity, problem.line, problem.column) == ("error", 1, 1)
    assert kind in problem.message
    if kind == "a status file":
        assert "this is a status file: taskrun -r 'run file'" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"{ echo a; echo b; }\n", b'{"t"}\n', b"2026-12-01.sh\n", b"FOREACH x\necho\n", b"C compile\t1\t2\n", b"R\t0\t1\n",
        b"#!/bin/bash\ntrue\n", b"     \techo\n", b"R -e\t'1'\t2\t3\n",
    ],
)  # fmt: skip
def test_a_task_file_is_none(text: bytes) -> None:
    assert kind_of(text) == ""


def test_no_task_file_that_is_known_is_taken_for_one() -> None:
    files = [*(ROOT / "examples").glob("*"), *(ROOT / "tests" / "golden").rglob("*tasks*")]
    assert files
    assert [path for path in files if path.is_file() and kind_of(path.read_bytes()) and "status" not in Path(path).name] == []
