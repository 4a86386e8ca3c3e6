"""Places and error texts of failed tasks."""

from __future__ import annotations

import pytest

from taskrun.model import NO_REPEAT, TAIL, PerEngine, Result, Task
from taskrun.observers.failure import last_line, last_lines, place
from taskrun.observers.summary import failure_lines


def result(err: bytes = b"", out: bytes = b"", tail: bytes = b"", cause: str = "exit") -> Result:
    return Result("task", 7, 1, cause, 1, 9, 0, 0.0, 1.0, 1.0, 0.0, 0.0, 0, len(out), out, len(err), err, False, tail)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task(7, 3, NO_REPEAT, b"x"), "line 3"),
        (Task(7, 3, 0, b"x"), "line 3, index 0"),
        (Task(7, 3, 4, b"x", b"data/x.txt"), "line 3, file data/x.txt"),
        (Task(7, 3, 4, b"x", b"a\x1b\xff" + b"y" * 80 + b".txt"), "line 3, file …" + "y" * 55 + ".txt"),
        (Task(7, 3, 4, b"x", b"a\x1b\xff"), "line 3, file a\\x1b\\xff"),
        (PerEngine(0, 3, "START", b"x"), "line 3"),
    ],
)
def test_a_place(task: Task | PerEngine, text: str) -> None:
    assert place(task) == text


TRACEBACK = b"""Traceback (most recent call last):
  File "fit.py", line 12, in <module>
    fit(load(path))
ValueError: no rows in data.csv
"""


def test_the_end_of_an_error_text() -> None:
    said = result(TRACEBACK[:40] + b"..." + TRACEBACK[-40:], tail=TRACEBACK)
    assert last_line(said) == "ValueError: no rows in data.csv"
    assert failure_lines([(Task(7, 3, 4, b"fit {}", b"data/x.txt"), said)]) == [
        "  line 3, file data/x.txt, task 7, exit 1: fit {}",
        '        File "fit.py", line 12, in <module>',
        "          fit(load(path))",
        "      ValueError: no rows in data.csv",
    ]


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (result(b"oh no\n"), ["oh no"]),
        (result(b" \n", b"on stdout\n"), ["on stdout"]),
        (result(b"x", tail=b"10%\r20%\r\n\nfailed\x1b[31m\xff\tnow\n"), ["20%", "failed\\x1b[31m\\xff    now"]),
        (result(b"x", tail=b"\x80" + b"z" * (TAIL - 5) + b"\nend"), ["…" + "z" * 97 + " … " + "z" * 98, "end"]),
        (result(b"could not start: [Errno 2] " + b"y" * 300, cause="start"), ["could not start: [Errno 2] " + "y" * 300]),
        (result(), []),
    ],
)
def test_lines(said: Result, lines: list[str]) -> None:
    assert last_lines(said) == lines
    assert last_line(said) == (lines[-1] if lines else "")
