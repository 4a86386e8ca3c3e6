"""Processes of an attempt, and what they make of a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import until

from taskrun.agent import ending

SETS = "import os, signal, time; {}; print('set', flush=True); time.sleep(60)"


@contextlib.contextmanager
def doing(what: str) -> Iterator[int]:
    """A process of Python that has done this."""
    with subprocess.Popen([sys.executable, "-c", SETS.format(what)], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"set\n"
            yield process.pid
        finally:
            process.kill()


HANDLER = "signal.signal(15, lambda *_: None)"
IGNORES = "signal.signal(15, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("pass", "default"),
        (HANDLER, "caught"),
        (IGNORES, "ignored"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [15])", "caught"),
        ("signal.signal(10, lambda *_: None)", "default"),
    ],
)
def test_disposition(what: str, found: str) -> None:
    with doing(what) as pid:
        assert ending.disposition(pid, ending.TERM) == found
        assert ending.disposition(pid, signal.SIGUSR2) == "default"


def test_one_that_has_ended_has_none() -> None:
    with subprocess.Popen(["true"]) as process:
        until(lambda: ending.disposition(process.pid, ending.TERM) == "")
    assert ending.disposition(process.pid, ending.TERM) == ""


@pytest.mark.parametrize(
    ("leader", "other", "answers"),
    [
        ("pass", "pass", False),
        (HANDLER, "pass", True),
        ("pass", HANDLER, True),
        (IGNORES, IGNORES, False),
        (IGNORES, "pass", True),  # it outlives the other
        ("pass", IGNORES, False),
    ],
)
def test_whether_0_may_be_an_answer(leader: str, other: str, answers: bool) -> None:
    with doing(leader) as first, doing(other) as second:
        assert ending.answers([first, second], first, ending.TERM) is answers
        assert not ending.answers([second], first, ending.TERM), "the leader had ended before"


@pytest.mark.parametrize("trap", ["trap 'exit 0' TERM", "trap true EXIT"])
def test_bash_that_catches(trap: str) -> None:
    command = ["/bin/bash", "-c", f"{trap}; echo set; sleep 60; true"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as bash:
        assert bash.stdout is not None
        bash.stdout.readline()
        assert ending.disposition(bash.pid, ending.TERM) == "caught"
        os.killpg(bash.pid, signal.SIGKILL)


def test_the_leader_comes_first() -> None:
    """Told after its children it could go on without them, and end with 0."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"], start_new_session=True) as leader:
        pids = until(lambda: len(found := ending.processes(b"x.0.1", leader.pid)) == 3 and found)
        assert pids[0] == leader.pid
        os.killpg(leader.pid, signal.SIGKILL)
