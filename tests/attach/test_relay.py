"""Links over one connection: every byte arrives in order, and a side that does not read makes nobody keep its bytes in memory."""

from __future__ import annotations

import hashlib
import os
import random
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskrun.engines.link import Link
from taskrun.engines.relay import BACKLOG, CHUNK, WINDOW, Mux
from taskrun.engines.tls import Broken, SecureStream, make_identity, pinning_context


class Pair:
    """Two ends of a connection in one thread, and links on both."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.selector = selectors.DefaultSelector()
        self.control: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self.ended: list[int] = []
        self.eof: list[int] = []
        identity = make_identity()
        ends = [SecureStream(near, identity.context, server_side=True), SecureStream(far, pinning_context(), server_side=False)]
        ends[1].begin()
        while not all(end.established for end in ends):
            for end in ends:
                end.read()
        assert ends[1].fingerprint == identity.fingerprint
        self.muxes = [
            Mux(
                end,
                self.selector,
                self.control.append,
                lambda error: self.broken.append(str(error)),
                lambda channel: self.eof.append(channel) is None,
                self.ended.append,
            )
            for end in ends
        ]
        self.sockets: list[socket.socket] = []

    def link(self, side: int, channel: int) -> socket.socket:
        """A link on that side; the local end of it."""
        ours, theirs = socket.socketpair()
        self.muxes[side].open(channel, Link(os.dup(theirs.fileno()), theirs.detach()))
        ours.setblocking(False)
        self.sockets.append(ours)
        return ours

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            self.turn()

    def turn(self) -> None:
        for key, events in self.selector.select(0.01):
            if self.selector.get_map().get(key.fd) is key:
                key.data(events)
        for mux in self.muxes:
            assert mux.stream.backlog <= BACKLOG + 64 * CHUNK
            assert all(len(relay.link._out) <= WINDOW for relay in mux.relays.values())

    def close(self) -> None:
        for mux in self.muxes:
            mux.close()
        for sock in self.sockets:
            sock.close()
        self.selector.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair(*socket.socketpair())
    yield found
    found.close()


@pytest.fixture(params=["unix", "tcp"])
def ended(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair whose first end has said its last words and closed the connection with unread bytes in it, so that it is reset."""
    if request.param == "unix":
        found = Pair(*socket.socketpair())
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = socket.create_connection(server.getsockname())
            found = Pair(server.accept()[0], far)
    found.muxes[1].send({"k": "unread"})
    found.muxes[0].send({"k": "last"})
    found.muxes[0].close()
    yield found
    found.close()


class Pump:
    """Sends bytes on one end and takes them at the other."""

    def __init__(self, pair: Pair, channel: int, size: int, seed: int) -> None:
        self.source, self.sink = pair.link(0, channel), pair.link(1, channel)
        self.data = random.Random(seed).randbytes(size)
        self.sent = 0
        self.taken = bytearray()

    def send(self) -> None:
        try:
            while self.sent < len(self.data):
                self.sent += self.source.send(self.data[self.sent : self.sent + (1 << 16)])
        except BlockingIOError:
            pass

    def take(self) -> None:
        try:
            while chunk := self.sink.recv(1 << 16):
                self.taken += chunk
        except BlockingIOError:
            pass


def test_last_words_are_heard_by_a_side_that_can_send_no_more(ended: Pair) -> None:
    link = ended.link(1, 7)
    for _ in range(3):
        ended.muxes[1].send({"k": "more"})
    assert not ended.control
    ended.until(lambda: ended.broken)
    assert ended.control == [{"k": "last"}]
    assert len(ended.broken) == 1
    assert link.recv(1) == b"", "its links are let go of"


def test_bytes_arrive_as_they_were_sent(pair: Pair) -> None:
    pumps = [Pump(pair, channel, 3_000_000, channel) for channel in (1, 2, 3)]

    def done() -> bool:
        for pump in pumps:
            pump.send()
            pump.take()
        return all(len(pump.taken) == len(pump.data) for pump in pumps)

    pair.until(done)
    assert [hashlib.sha256(pump.taken).digest() for pump in pumps] == [hashlib.sha256(pump.data).digest() for pump in pumps]
    assert not pair.broken


def test_a_slow_one_stops_itself_alone(pair: Pair) -> None:
    slow, quick = Pump(pair, 1, 20_000_000, 1), Pump(pair, 2, 3_000_000, 2)

    def quick_done() -> bool:
        slow.send()
        quick.send()
        quick.take()
        return len(quick.taken) == len(quick.data)

    pair.until(quick_done)
    for _ in range(50):
        slow.send()
        pair.turn()
    assert slow.sent < 4 * WINDOW + (1 << 20)  # a window here, one there, and what sockets hold
    slow.data = slow.data[: slow.sent]

    def slow_done() -> bool:
        slow.take()
        return len(slow.taken) == len(slow.data)

    pair.until(slow_done)
    assert slow.taken == slow.data


def test_the_end_of_a_link_is_told_after_its_bytes(pair: Pair) -> None:
    pump = Pump(pair, 1, 500_000, 1)

    def sent() -> bool:
        pump.send()
        pump.take()
        return pump.sent == len(pump.data)

    pair.until(sent)
    pump.source.close()
    pair.until(lambda: pump.take() or pair.ended == [1])
    pump.take()
    assert (pump.taken, pair.eof) == (pump.data, [1])
    assert not any(mux.relays for mux in pair.muxes)


def test_silence_and_signs_of_life(pair: Pair) -> None:
    near, far = pair.muxes
    near.heard = far.heard = time.monotonic() - 5.0
    near.said = 0.0
    near.beat(1.0, 10.0)
    pair.until(lambda: far.heard > time.monotonic() - 1.0)
    assert not pair.broken
    near.beat(1.0, 4.0)
    assert pair.broken == ["nothing was heard for 4 s"]


def test_a_connection_that_ends_closes_its_links(pair: Pair) -> None:
    pump = Pump(pair, 1, 10, 1)
    pair.muxes[0].close()
    pair.until(lambda: pair.broken)
    assert pair.broken == ["it was closed"]
    assert pump.sink.recv(1) == b""
    assert pump.source.recv(1) == b""


def test_who_is_reset_is_known_to_be(pair: Pair) -> None:
    near, far = socket.create_server(("127.0.0.1", 0)), socket.socket()
    far.connect(near.getsockname())
    sock, _ = near.accept()
    stream = SecureStream(sock, pinning_context(), server_side=False)
    sock.setblocking(True)
    sock.sendall(b"x")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    sock.setblocking(False)
    time.sleep(0.05)
    with pytest.raises(Broken) as caught:
        stream.read()
    assert caught.value.abrupt
    stream.close()
    near.close()


def test_a_mistake_in_what_is_done_about_one_connection_ends_that_one_alone() -> None:
    """Many are served by the same thread."""
    pair = Pair(*socket.socketpair())

    def stumble(_: object) -> None:
        raise ZeroDivisionError("of ours")

    pair.muxes[1].on_control = stumble
    pair.muxes[0].send({"k": "beat"})
    pair.until(lambda: pair.broken)
    assert pair.broken == ["a mistake: ZeroDivisionError: of ours"]
    pair.close()


@pytest.mark.parametrize("kind", [b"D", b"E", b"W"])
def test_frames_of_channels_where_there_may_be_none(kind: bytes) -> None:
    """Nothing is kept of them, and nothing is handed on."""
    pair = Pair(*socket.socketpair())
    pump = Pump(pair, 1, 10, 1)
    pair.muxes[1].channels = False
    pair.muxes[0]._send(kind, 1, b"x" if kind == b"D" else b"", 1 if kind == b"W" else -1)
    pair.until(lambda: pair.broken)
    assert pair.broken[0] == "a frame of a channel at a wrong time"
    assert pump.sink.recv(1) == b""
    pair.close()


def test_who_has_proved_nothing_leaves_little_unread() -> None:
    pair = Pair(*socket.socketpair())
    near = pair.muxes[0]
    near.stream._out += b"x" * (1 << 17)  # as if it did not read
    pair.muxes[1].send({"k": "beat"})
    while not pair.broken:
        near.stream.flush = lambda: None  # type: ignore[method-assign]
        pair.turn()
    assert pair.broken[0] == "it does not read what it is sent"
    pair.close()


def test_control_frames_are_not_kept_for_who_does_not_read() -> None:
    pair = Pair(*socket.socketpair())
    for _ in range(200):
        pair.muxes[0].send({"k": "x" * 100_000})
    assert pair.broken == ["it does not read what it is sent"]
    pair.close()


def test_nothing_is_written_before_the_connection_is_established() -> None:
    near, far = socket.socketpair()
    stream = SecureStream(near, pinning_context(), server_side=False)
    with pytest.raises(Broken):
        stream.write(b"x")
    stream.close()
    far.close()
