"""Results that wait for the news that the system has told the agent to stop."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from harness import until

from taskrun.agent import doubts, ending
from taskrun.agent.doubts import BRIEF, LONG, LONG_TASK, SHORT, USUAL, Doubts
from taskrun.agent.losses import Losses

JOB = {"SLURM_JOB_ID": "1"}


def row(number: int, cause: str = "ok", code: int = 0, *, elapsed: float = 1.0, pid: int = 4711, left: bool = False) -> tuple[Any, ...]:
    return ("task", number, 1, cause, code, pid, 0, 1.0, 2.0, elapsed, 0.0, 0.0, 0, 0, b"", 0, b"", left)


def made(environ: dict[str, str] = JOB, *, stopped_ok: bool = False) -> Doubts:
    return Doubts({"grace": 5.0, "stopped_ok": stopped_ok}, Losses("r"), environ)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(doubts.time, "monotonic", lambda: now[0])
    return now


def test_outside_of_a_job_nothing_waits() -> None:
    assert not made({"HOME": "/"}).on
    assert not made({"HOME": "/"}).keep(row(0))


def test_a_result_waits_longer_if_its_task_was_long(clock: list[float]) -> None:
    one = made()
    assert one.wait() == 60.0
    assert one.keep(row(0, elapsed=LONG_TASK))
    assert one.keep(row(1, "exit", 3))
    assert one.wait() == pytest.approx(SHORT)
    assert one.take() == []
    clock[0] += SHORT
    assert one.take() == [row(1, "exit", 3)]
    assert one.wait() == pytest.approx(LONG - SHORT)
    clock[0] += LONG
    assert one.take() == [row(0, elapsed=LONG_TASK)]


def test_a_brief_task_waits_where_such_tasks_are_not_usual(clock: list[float]) -> None:
    """A long one may have been told to stop when it had just begun."""
    one = made()
    assert one.keep(row(0, elapsed=LONG_TASK))
    clock[0] += LONG
    one.take()
    assert one.keep(row(1, elapsed=BRIEF / 2))
    one.tell()
    assert one.take() == [row(1, "preempted", elapsed=BRIEF / 2)]


def test_brief_tasks_do_not_wait_one_after_the_other_until_the_news_is_there(clock: list[float]) -> None:
    one = made()
    assert one.keep(row(0, elapsed=BRIEF / 2))
    assert one.keep(row(1, elapsed=BRIEF / 2))
    clock[0] += SHORT
    assert len(one.take()) == 2
    for number in range(2, 9):
        clock[0] += USUAL / 2
        assert not one.keep(row(number, elapsed=BRIEF / 2))
        assert one.keep(row(number, elapsed=BRIEF))
    one.tell()
    assert one.keep(row(9, elapsed=BRIEF / 2))


def test_brief_tasks_are_not_usual_for_ever(clock: list[float]) -> None:
    one = made()
    assert one.keep(row(0, elapsed=BRIEF / 2))
    clock[0] += SHORT
    one.take()
    clock[0] += USUAL
    assert one.keep(row(1, elapsed=BRIEF / 2))


def test_what_waits_and_what_comes_when_the_news_comes_is_given_back(clock: list[float]) -> None:
    one = made()
    one.keep(row(0))
    clock[0] += SHORT
    kept = one.take()
    one.keep(row(1, "exit", 1))
    one.keep(row(2, elapsed=60.0))
    one.tell()
    assert one.keep(row(3, "signal", -15))
    assert one.wait() == 0.0
    assert kept == [row(0)]
    assert one.take() == [row(1, "preempted", 1), row(2, "preempted", elapsed=60.0), row(3, "preempted", -15)]


@pytest.mark.parametrize("result", [row(0, "preempted"), row(0, "start", 2), ("stop", *row(0)[1:]), ("start", *row(0)[1:])])
def test_what_is_no_answer_of_a_task_does_not_wait(result: tuple[Any, ...]) -> None:
    one = made()
    assert not one.keep(result)
    one.tell()
    assert not one.keep(result)


def test_with_stopped_ok_0_is_in_no_doubt() -> None:
    one = made(stopped_ok=True)
    one.tell()
    assert not one.keep(row(0))
    assert one.keep(row(0, "exit", 1))


def test_what_is_left_of_a_task_has_the_grace_to_end() -> None:
    """It was told as well, and may be writing a checkpoint: nobody runs the task meanwhile."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as rest:
        one = made()
        one.grace = 0.4
        one.keep(row(0, pid=rest.pid, left=True))
        began = time.monotonic()
        one.tell()
        assert one.take() == []
        assert one.wait() <= 0.05
        assert rest.poll() is None, "it is not told again"
        until(one.take, what="its end")
        assert time.monotonic() - began >= 0.4
        assert rest.wait() == -ending.KILL
