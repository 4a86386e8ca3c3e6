"""Frames of the live view at given widths, as they are drawn."""

from __future__ import annotations

import pytest

from taskrun.model import PerEngine, Result, Task
from taskrun.observers.frame import Painter
from taskrun.observers.progress import Failure, Progress, Times


def failure(line: int, command: bytes, code: int = 1, err: bytes = b"", cause: str = "exit") -> Failure:
    return Task(line - 1, line, -1, command), Result(
        "task", line - 1, 1, cause, code, 7, 0, 0.0, 1.0, 1.0, 0.0, 0.0, 0, 0, b"", len(err), err, False  # type: ignore[arg-type]
    )  # fmt: skip


HALF = Progress(
    done=4900,
    failed=12,
    skipped=300,
    running=8,
    left=5092,
    finished=4912,
    slots=8,
    failures=(
        failure(17, b"./fit --seed 17 data/a.csv", 3, b"no such file: data/a.csv"),
        failure(99, b"./fit --seed 99", -9, cause="signal"),
    ),
)
TIMES = Times(elapsed=725.0, rate=6.8, left=750.0)


def frame(progress: Progress, width: int, *, times: Times = TIMES, height: int = 24, encoding: str = "utf-8") -> str:
    lines = Painter(encoding, color=False).frame(progress, times, width, height)
    assert len(lines) < max(2, height)
    assert all(cells < width for _, cells in lines)
    assert all(cells == len(text) for text, cells in lines if text.isascii())
    return "\n".join(text.rstrip() for text, _ in lines)


FRAMES = {
    120: """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━                                 49%  12:05  ≈ 12:30 to go
4,900 done · 8 running · 12 failed · 300 skipped · 5,092 left · 6.8/s · 8 of 8 slots
line 17, exit 3: ./fit --seed 17 data/a.csv  no such file: data/a.csv
line 99, signal 9: ./fit --seed 99""",
    80: """\
━━━━━━━━━━━━━━━━━━━━━━━━━╸                            49%  12:05  ≈ 12:30 to go
4,900 done · 8 running · 12 failed · 5,092 left · 6.8/s · 8 of 8 slots
line 17, exit 3: ./fit --seed 17 data/a.csv  no such file: data/a.csv
line 99, signal 9: ./fit --seed 99""",
    40: """\
━━━━━╸        49%  12:05  ≈ 12:30 to go
4,900 done · 12 failed · 5,092 left
line 17, exit 3: ./fit --se…  no such …
line 99, signal 9: ./fit --seed 99""",
    20: """\
━━━━━━╸         49%
4,900 done
line 17, exit 3: .…
line 99, signal 9:…""",
    8: """\
 49%
4,900 …
line 1…
line 9…""",
}


@pytest.mark.parametrize("width", FRAMES)
def test_a_frame_of_every_width(width: int) -> None:
    assert frame(HALF, width) == FRAMES[width]


@pytest.mark.parametrize("width", [*range(1, 60), 200, 1000])
@pytest.mark.parametrize("height", [1, 2, 3, 50])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    wide = HALF._replace(
        failures=(failure(3, "echo 日本語日本語日本語".encode() * 3, 1, "エラー".encode() * 9),) * 3, waiting="waiting at a barrier"
    )
    lines = Painter("utf-8", color=True).frame(wide, TIMES, width, height)
    assert len(lines) <= max(1, height - 1)
    assert all(cells <= max(1, width - 1) for _, cells in lines)


def test_why_it_waits_is_said() -> None:
    assert "8 of 8 slots · waiting at a barrier" in frame(HALF._replace(waiting="waiting at a barrier"), 120)


def test_a_stream_has_no_bar() -> None:
    assert frame(HALF._replace(left=None, failures=(), skipped=0), 80, times=TIMES._replace(left=None)) == (
        "4,900 done · 8 running · 12 failed · 6.8/s · 8 of 8 slots · 12:05"
    )


def test_colors_are_the_terminals_own() -> None:
    lines = Painter("utf-8", color=True).frame(HALF, TIMES, 80, 24)
    assert lines[0][0].startswith("\x1b[32m━")
    assert "\x1b[31m12 failed\x1b[0m" in lines[1][0]
    plain = Painter("utf-8", color=False).frame(HALF, TIMES, 80, 24)
    assert [cells for _, cells in lines] == [cells for _, cells in plain]
    assert not any("\x1b" in text for text, _ in plain)


def test_where_there_is_no_unicode() -> None:
    text = frame(HALF, 60, encoding="ascii")
    assert text.isascii()
    assert text.split("\n")[0].endswith(" 49%  12:05  12:30 to go")


def test_what_a_task_printed_cannot_move_the_cursor() -> None:
    text = frame(HALF._replace(failures=(failure(1, b"x\x1b[2J\r\n", err=b"\x1b]0;title\x07\xff"),)), 100)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "line 1, exit 1: x\\x1b[2J\\r\\n  \\x1b]0;title\\x07\\xff" in text


def test_per_engine_commands_and_causes_are_named() -> None:
    _, result = failure(2, b"", 1)
    both = ((PerEngine(0, 2, "START", b"mount /x"), result._replace(kind="start")), failure(5, b"true", -100, cause="crash-limit"))
    text = frame(HALF._replace(failures=both), 100)
    assert "line 2, PERENGINE START, exit 1: mount /x" in text
    assert "line 5, crash-limit: true" in text


def test_an_end_is_an_end() -> None:
    done = Progress(done=3, finished=3, left=0, slots=1)
    assert frame(done, 40, times=Times(4.0, 0.75, 0.0)).startswith("━" * 10)
    assert "100%" in frame(done, 40, times=Times(4.0, 0.75, 0.0))
    assert "100%" in frame(Progress(left=0), 40)
