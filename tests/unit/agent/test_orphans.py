"""What a slot does with leftovers where it cannot adopt them: by process group, or by session and mark. (For the rest see tests/cli.)"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import until

from taskrun.agent import ending, orphans
from taskrun.agent.orphans import Orphans
from taskrun.agent.remains import ATTEMPTS_MOST, Remains

Leave = Callable[[str, bytes], int]


class Slot:
    grace = 0.2

    def __init__(self) -> None:
        self.wake, self.other = os.pipe()
        self.told: list[int] = []

    def hurry(self) -> None:
        return None

    def send_left(self, pids: list[int]) -> None:
        self.told += pids


@pytest.fixture
def slot() -> Iterator[Slot]:
    made = Slot()
    yield made
    os.close(made.wake)
    os.close(made.other)


@pytest.fixture
def leave() -> Iterator[Leave]:
    """Runs a task that ends; returns its process id."""
    marks = []

    def run(command: str, mark: bytes) -> int:
        marks.append(mark)
        process = subprocess.Popen(["bash", "-c", command], start_new_session=True, env={**os.environ, "TASKRUN_ATTEMPT": mark.decode()})
        process.wait()
        return process.pid

    yield run
    for mark in marks:
        ending.signal_all(ending.processes(mark), signal.SIGKILL)
        until(lambda: not ending.processes(mark), what="the leftovers to end")  # noqa: B023 - at once


@pytest.fixture
def made(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> Orphans:
    monkeypatch.setattr(orphans, "adopt", lambda: False)
    return Orphans(slot)


@pytest.mark.parametrize(("command", "left"), [("sleep 300 & exit 0", True), (":", False)])
def test_kept(made: Orphans, slot: Slot, leave: Leave, command: str, left: bool) -> None:
    pid = leave(command, b"r.1.1")
    assert made.any("task", pid, b"r.1.1") is left
    if left:
        assert made.settle("task", pid, b"r.1.1", own=True) == (True, b"")
        assert [ending.command(each) for each in slot.told] == [b"sleep 300"]


@pytest.mark.parametrize("command", ["sleep 300 & exit 0", "setsid -f sleep 300", "trap '' TERM; setsid -f sleep 300"])
def test_ended(made: Orphans, slot: Slot, leave: Leave, command: str) -> None:
    made.how = "end"
    pid = leave(command, b"r.1.1")
    assert made.any("task", pid, b"r.1.1")
    left, said = made.settle("task", pid, b"r.1.1", own=True)
    assert left
    assert said.startswith(b"left 1 process behind, which was ended: ")
    assert said.endswith(b" sleep 300")
    assert not ending.processes(b"r.1.1", pid)
    assert not slot.told


def test_what_does_not_end_is_kept_in_mind(made: Orphans, slot: Slot, leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "GIVE_UP", 0.1)
    monkeypatch.setattr(ending, "signal_all", lambda pids, number: None)
    made.how = "end"
    pid = leave("sleep 300 & exit 0", b"r.1.1")
    said = made.settle("task", pid, b"r.1.1", own=True)[1]
    monkeypatch.undo()
    assert said.startswith(b"left 1 process behind, of which 1 could not be ended: ")
    assert len(slot.told) == 1


def test_names_are_few() -> None:
    said = orphans.named([os.getpid()] * 5)
    assert said.count(b"; ") == 3
    assert said.endswith(b"; and 2 more")


def test_remains_are_found_by_mark_or_by_what_they_are(leave: Leave) -> None:
    remains = Remains(lambda key: b"r.%d.%d" % key[1:])
    assert remains.look() == (0, [])
    leave("setsid -f sleep 300.1; setsid -f sleep 300.2", b"r.4.1")
    leave("setsid -f sleep 300.3", b"r.5.1")
    until(lambda: len(ending.processes(b"r.5.1")) == 1 and len(ending.processes(b"r.4.1")) == 2, what="all three alone")
    (other,) = ending.processes(b"r.5.1")
    first, second = sorted(ending.processes(b"r.4.1"), key=ending.begun)
    remains.add(("task", 4, 1), ())
    assert sorted(row[3] for row in remains.look()[1]) == sorted([first, second])
    remains.add(("task", 6, 1), ((other, ending.begun(other)),))
    count, rows = remains.look()
    assert count == 3
    assert ["task", 6, 1, other, "sleep 300.3"] in rows
    for wrong in (((1, 1),), ((other, "1"),), (other,)):
        with pytest.raises((TypeError, ValueError)):
            remains.add(("task", 6, 1), wrong)
    for number in range(2 * ATTEMPTS_MOST):
        remains.add(("task", number, 9), ())
    assert len(remains.keys) == ATTEMPTS_MOST


def test_children_are_told(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"], cwd=tmp_path) as process:
        assert process.pid in (ending.children(os.getpid()) or [process.pid])
        assert ending.begun(process.pid) > 0
        process.kill()
    assert ending.begun(process.pid) == 0
