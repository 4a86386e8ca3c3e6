"""An agent whose slots say anything: the one that does is dropped and what it held is lost, the others go on."""

from __future__ import annotations

import marshal
import os
import select
import socket
import tempfile
from typing import Any
from unittest import mock

import pytest
from fuzz.budget import costly
from hypothesis import given
from hypothesis import strategies as st

from taskrun.agent import ending, slot
from taskrun.agent.losses import Losses
from taskrun.agent.share import Shares
from taskrun.agent.slots import Slots

pytestmark = pytest.mark.timeout(0)

NOBODY = 1 << 23  # no process has such a number
CONFIG: dict[str, Any] = {"slots": 2, "run": "r", "cwd": "/", "lost_after": 120.0, "grace": 1.0, "fail_fast": False}
ROW = (0.0, 0.0, 0, 0, b"", 0, b"", False)

values = st.recursive(
    st.one_of(st.none(), st.integers(-2, 9), st.binary(max_size=4), st.text(max_size=4), st.floats()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
keys = st.tuples(st.just("task"), st.integers(0, 4), st.just(1))
messages = st.one_of(
    st.tuples(st.just(slot.TAKEN), keys),
    keys.map(lambda key: (slot.RESULT, (*key, "ok", 0, 1, 0, 1.0, 2.0, 1.0, *ROW), None)),
    st.tuples(keys, keys).map(lambda two: (slot.RESULT, (*two[0], "exit", 1, 1, 0, 1.0, 2.0, 1.0, *ROW), two[1])),
    keys.map(lambda key: (slot.RUNNING, key, NOBODY)),
    keys.map(lambda key: (slot.UNSTARTED, key, 0)),
    st.sampled_from([((NOBODY, 1),), ((1, 1),), (NOBODY,), NOBODY]).map(lambda some: (slot.LEFT, some)),
    st.lists(keys, max_size=2).map(lambda some: (slot.EMPTIED, some)),
    st.sampled_from([(slot.ALIVE,), (slot.BYE, "lease"), (slot.HERE, NOBODY, None)]),
    values,
)
data = st.one_of(
    messages.map(marshal.dumps), messages.map(marshal.dumps), st.sampled_from([b"\x00", b"x", b"(", marshal.dumps(())[:0] + b"N"])
)


class Loud:
    """Slots of an agent, and two connections to it."""

    def __init__(self, folder: str) -> None:
        env_fd = os.memfd_create("env")
        self.losses = Losses("r")
        self.slots = Slots(select.poll(), folder, CONFIG, Shares(CONFIG["slots"]), env_fd, [], self.losses)
        self.env_fd = env_fd
        for number in range(5):
            self.slots.queue.add(("task", number, 1, 1, -1, b"true", None))
        self.slots.queue.feed()
        self.ends = []
        for number in range(2):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            end.connect(self.slots.path)
            end.send(marshal.dumps((slot.HERE, NOBODY + number, str(number))))
            self.ends.append(end)
        self.slots.accept()
        self.step()

    def step(self) -> None:
        for fd in list(self.slots.peers):
            self.slots.read(fd)

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.step()
        self.slots.listener.close()
        self.slots.queue.ours.close()
        self.slots.queue.slots_end.close()
        os.close(self.env_fd)


@costly
@given(st.lists(st.tuples(st.integers(0, 1), data), max_size=12))
def test_whatever_a_slot_says(said: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(ending, "signal_all"):  # the slots are this process
        loud = Loud(folder)
        try:
            for who, message in said:
                try:
                    loud.ends[who].send(message)
                except (BrokenPipeError, ConnectionResetError):
                    continue
                loud.step()
            assert len(loud.slots.numbers) + len(loud.slots.peers) >= 2
        finally:
            loud.close()
        slots = loud.slots
        assert not slots.peers
        # Each task is somewhere, and in one place alone.
        held = [task[:3] for task in slots.queue.backlog] + list(slots.queue.queued) + [each.key for each in loud.losses.open]
        reported = [row[:3] for row in slots.results]
        assert sorted({*held, *reported}) == [("task", number, 1) for number in range(5)]
        assert len(held) == len(set(held))
        assert not set(held) & set(reported)
