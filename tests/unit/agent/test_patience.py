"""A starter that works is waited for; one that is stuck, or works for ever, is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness import until

from taskrun.agent import leases, starter


class Starter:
    """What a starter has done is what the test says."""

    def __init__(self) -> None:
        self.done = 0

    def work(self) -> tuple[int, int]:
        return 1, self.done


def waiting(work: list[int]) -> tuple[float, str]:
    """After how many seconds a lease that was asked for at 100 is given up, and why; `work`: what the starter does by the second."""
    made: Any = leases.Leases({"starter": "builtin"}, [], "", lambda *_: None)
    made.starter = Starter()
    made.starting = {"1": 100.0}
    for second in range(1000):
        made.starter.done = work[min(second, len(work) - 1)]
        if why := made.stuck(100.0 + second):
            return float(second), why
    return 1000.0, ""


def test_how_long_a_starter_is_waited_for() -> None:
    hung, why = waiting([1])
    assert why == f"it has started no slot, and done nothing for {leases.START_LIMIT + 1:.0f} s"
    assert leases.START_LIMIT <= hung <= leases.START_LIMIT + leases.LOOK_AFTER + 2
    assert waiting([1, 2, 3, 4, 5, 6, 7, 8, *[9] * 8, 10])[0] == 16 + leases.START_LIMIT + 1, "slow, and then stuck"
    slow = leases.SLOW_LIMIT + 1
    assert waiting(list(range(1000))) == (slow, f"it works, but has started no slot for {slow:.0f} s")


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process that sleeps, above one that works when it is told to."""
    below = "import sys; sys.stdin.readline(); [None for _ in iter(int, 1)]"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {below!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, start_new_session=True)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_work_of_a_tree(parent: subprocess.Popen[str]) -> None:
    def settled() -> bool:
        before = starter.work_of([parent.pid])
        with pytest.raises(subprocess.TimeoutExpired):
            parent.wait(0.5)
        return before[0] == 2 and starter.work_of([parent.pid]) == before

    until(settled, what="both to do nothing")
    before = starter.work_of([parent.pid])
    assert parent.stdin is not None
    parent.stdin.write("go\n")
    parent.stdin.flush()
    until(lambda: starter.work_of([parent.pid])[1] > before[1] + 5, what="the work to be seen")
    assert starter.work_of([2**22 + 1]) == (0, 0)
