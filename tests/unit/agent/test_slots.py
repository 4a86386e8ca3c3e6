"""Slots as the agent sees them, with the test in a slot's place."""

from __future__ import annotations

import marshal
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskrun.agent import slot
from taskrun.agent.losses import Losses
from taskrun.agent.share import Shares
from taskrun.agent.slots import Slots

KEY = ("task", 7, 1)
NEXT = ("task", 8, 1)
TASK = (*KEY, 1, -1, b"true", None)
ROW = (*KEY, "ok", 0, 4711, 0, 1.0, 2.0, 1.0, 0.0, 0.0, 0, 0, b"", 0, b"", False)


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slots]:
    monkeypatch.setattr("taskrun.agent.ending.signal_all", lambda pids, number: None)  # the sender of these is this process
    config = {"slots": 3, "run": "r", "cwd": str(tmp_path), "lost_after": 10.0, "grace": 5.0, "fail_fast": False}
    env = os.open(os.devnull, os.O_RDONLY)
    folder = os.environ["TMPDIR"]
    made = Slots(select.poll(), folder, config, Shares(3), env, [], Losses("r"))
    yield made
    for peer in list(made.peers.values()):
        made.drop(peer)
    made.listener.close()
    made.queue.ours.close()
    made.queue.slots_end.close()
    os.close(env)
    for path in Path(folder).iterdir():
        path.unlink()


def connect(slots: Slots) -> socket.socket:
    """A slot that holds the task."""
    slots.queue.add(TASK)
    slots.queue.feed()
    mine = come(slots, 4711)
    take(slots, KEY)
    say(mine, slot.TAKEN, KEY)
    read(slots)
    assert slots.held() == 1
    return mine


def come(slots: Slots, pid: int) -> socket.socket:
    """A slot that holds nothing."""
    mine = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.connect(slots.path)
    slots.accept()
    say(mine, slot.HERE, pid, "1")
    read(slots)
    data, ancillary, _, _ = mine.recvmsg(65536, 1024)
    for _, _, payload in ancillary:
        for start in range(0, len(payload), 4):
            os.close(int.from_bytes(payload[start : start + 4], "little"))
    assert marshal.loads(data)[0] == slot.CONFIG
    return mine


def take(slots: Slots, key: tuple[str, int, int]) -> None:
    """What a slot does first: out of the queue, before it says so."""
    assert marshal.loads(slots.queue.slots_end.recv(1 << 17))[:3] == key


def read(slots: Slots) -> None:
    for fd in list(slots.peers):
        slots.read(fd)


def ask_the_living(mine: socket.socket) -> None:
    assert marshal.loads(mine.recv(1 << 17)) == (slot.ROLL,)


def say(mine: socket.socket, *message: Any) -> None:
    mine.send(marshal.dumps(message))


def test_what_a_slot_says_before_it_goes_counts_though_it_has_not_heard_the_last_beat(slots: Slots) -> None:
    """The system says `connection reset` first when something was unread; the result comes after it."""
    mine = connect(slots)
    slots.beat()
    say(mine, slot.RESULT, ROW, None)
    say(mine, slot.BYE, "lease")
    mine.close()
    (fd,) = slots.peers
    slots.read(fd)
    assert slots.results == [ROW]
    assert not slots.peers
    assert not slots.losses.open


def test_a_slot_that_goes_without_a_word_loses_its_task(slots: Slots) -> None:
    mine = connect(slots)
    mine.close()
    (fd,) = slots.peers
    slots.read(fd)
    assert slots.results == []
    assert [each.key for each in slots.losses.open] == [KEY]
    assert sorted(slots.numbers) == [0, 1, 2], "its number is free again"


def test_a_slot_that_dies_between_a_result_and_the_next_task_loses_both(slots: Slots) -> None:
    """Found by the soak: the next task was nobody's, and the run waited for it for ever."""
    mine = connect(slots)
    other = come(slots, 4712)
    slots.queue.add((*NEXT, *TASK[3:]))
    slots.queue.feed()
    take(slots, NEXT)  # it has run the one and taken the other, and dies before it says so
    mine.close()
    read(slots)
    ask_the_living(other)
    say(other, slot.HERE, 4712, None)
    read(slots)
    assert [each.key for each in slots.losses.open] == [KEY, NEXT]
    assert not slots.queue
    other.close()


def test_a_roll_call_that_is_called_again_waits_for_the_second_answer(slots: Slots) -> None:
    """A task taken between the two answers runs: nobody may take it for lost."""
    first, second, living = come(slots, 4711), come(slots, 4712), come(slots, 4713)
    slots.queue.add(TASK)
    slots.queue.feed()
    first.close()
    read(slots)
    slots.queue.feed()  # what was taken back is handed out again
    say(living, slot.HERE, 4713, None)  # in answer to the first
    take(slots, KEY)
    second.close()
    for peer in list(slots.peers.values()):
        if peer.pid == 4712:
            slots.read(peer.fd)
    read(slots)
    assert not slots.losses.open
    say(living, slot.TAKEN, KEY)
    say(living, slot.HERE, 4713, KEY)
    read(slots)
    assert not slots.losses.open
    assert slots.held() == 1
    living.close()


def test_a_slot_that_answers_no_beat_is_killed(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("taskrun.agent.ending.signal_all", lambda pids, number: killed.extend(pids))
    mine = connect(slots)
    for _ in range(7):
        slots.beat()
    (fd,) = slots.peers
    say(mine, slot.ALIVE)
    slots.read(fd)
    for _ in range(8):
        slots.beat()
    assert killed == []
    slots.beat()
    assert killed == [4711]
    mine.close()


def test_a_task_that_came_back_starts_when_the_driver_has_been_told(slots: Slots) -> None:
    """It may be what its engine was lost by."""
    again = ("task", 7, 2)
    mine = come(slots, 4711)
    slots.queue.add((*again, *TASK[3:]))
    slots.queue.feed()
    take(slots, again)
    say(mine, slot.TAKEN, again)
    read(slots)
    assert [task[:3] for task in slots.running] == [again]
    assert len(slots.announced) == 1
    slots.let_go()
    assert marshal.loads(mine.recv(1 << 17)) == (slot.GO,)
    assert not slots.announced
    mine.close()
