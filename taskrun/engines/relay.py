"""Many links over one connection: raw bytes of each on a channel of its own, so that a slow one neither stops the others nor eats memory.

A frame has a kind, a channel and a size. What a channel may send ahead is bounded by a window, which the other side opens again as it hands
the bytes on. Control frames are JSON; what they say is checked in `attach_frames.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import struct
import time
from collections.abc import Callable
from typing import Any

from taskrun.agent import wire
from taskrun.engines import frames
from taskrun.engines.link import Link
from taskrun.engines.tls import Broken, SecureStream

CONTROL, DATA, END, OPENED = b"C", b"D", b"E", b"W"  # kinds of frames; OPENED: the window is wider again by the size
WINDOW = 1 << 18  # bytes of a channel that may be on their way
CHUNK = 1 << 15  # bytes of one data frame, at most
BACKLOG = 1 << 20  # bytes that the connection has not taken; with more no link is read
BACKLOG_MOST = 1 << 23  # with more the other side does not read at all
CONTROL_FIRST = 1 << 12  # bytes of a control frame of somebody who has proved nothing yet
CONTROL_SMALL = 1 << 16  # of a guest's, but for the one that offers its hosts
CONTROL_MOST = 1 << 22  # and of any other
CONTROL_PARTS = 100_000  # lists and objects in one: a context has 10,000 hosts at most, and each takes four
BACKLOG_FIRST = 1 << 16  # bytes that somebody who has proved nothing may leave unread

_HEAD = struct.Struct(">cII")


class Relay:
    """One link and its channel."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.room = WINDOW  # what may be sent
        self.owed = 0  # bytes that were taken, for which the other side's window has not been opened again
        self.ended = False  # it says nothing more
        self.reading = self.writing = False


class Mux:
    """One end of a connection with its channels. One thread serves it, with a selector whose data are functions of the events.

    `on_control` may raise Broken. `on_eof(channel)` is called when a link here has ended: whether the other side may be told at once, else
    `close_channel` does so later. `on_end(channel)`: when the other side's has. `on_broken`: once, when the connection is of no more use.
    """

    def __init__(
        self,
        stream: SecureStream,
        selector: selectors.BaseSelector,
        on_control: Callable[[dict[str, Any]], None],
        on_broken: Callable[[Broken], None],
        on_eof: Callable[[int], bool] = lambda _: True,
        on_end: Callable[[int], None] = lambda _: None,
        *,
        channels: bool = True,
    ) -> None:
        """`channels`: whether frames of channels may come; without it one of them ends the connection."""
        self.stream = stream
        self.selector = selector
        self.on_control = on_control
        self.on_broken = on_broken
        self.on_eof = on_eof
        self.on_end = on_end
        self.channels = channels
        self.control_most = CONTROL_FIRST
        self.relays: dict[int, Relay] = {}
        self.heard = self.said = time.monotonic()
        self.broken = False
        self._mute: Broken | None = None  # why nothing can be sent; what the other side has said before is still read
        self._in = bytearray()
        self._events = selectors.EVENT_READ
        self._full = False
        selector.register(stream.sock, self._events, self._ready)

    # channels

    def open(self, channel: int, link: Link) -> None:
        self.relays[channel] = relay = Relay(link)
        self._watch(channel, relay)

    def close_channel(self, channel: int) -> None:
        """Let go of the link, and tell the other side."""
        if self._forget(channel):
            self._send(END, channel, b"")

    def _forget(self, channel: int) -> bool:
        relay = self.relays.pop(channel, None)
        if relay is None:
            return False
        for fd in (relay.link.read_fd, relay.link.write_fd):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(fd)
        relay.link.close()
        return True

    def _watch(self, channel: int, relay: Relay) -> None:
        """A link is read while there is room for what it says, and written to while something waits for it."""
        reading = relay.room > 0 and not self._full and not relay.ended
        if reading != relay.reading:
            relay.reading = reading
            if reading:
                self.selector.register(relay.link.read_fd, selectors.EVENT_READ, lambda _: self._from_link(channel, relay))
            else:
                self.selector.unregister(relay.link.read_fd)
        writing = relay.link.waiting
        if writing != relay.writing:
            relay.writing = writing
            if writing:
                self.selector.register(relay.link.write_fd, selectors.EVENT_WRITE, lambda _: self._to_link(channel, relay))
            else:
                self.selector.unregister(relay.link.write_fd)

    def _from_link(self, channel: int, relay: Relay) -> None:
        try:
            data = os.read(relay.link.read_fd, min(CHUNK, relay.room))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            relay.room -= len(data)
            self._send(DATA, channel, data)
            if channel in self.relays:
                self._watch(channel, relay)
        else:
            relay.ended = True
            if self.on_eof(channel):
                self.close_channel(channel)
            else:
                self._watch(channel, relay)

    def _to_link(self, channel: int, relay: Relay) -> None:
        relay.link.flush()
        self._watch(channel, relay)
        self._open_window(channel, relay)

    def _open_window(self, channel: int, relay: Relay) -> None:
        if relay.owed >= WINDOW // 4 and not relay.link.waiting:
            owed, relay.owed = relay.owed, 0
            self._send(OPENED, channel, b"", owed)

    # the connection

    def send(self, message: dict[str, Any]) -> None:
        """A control frame."""
        self._send(CONTROL, 0, json.dumps(message, separators=(",", ":")).encode("ascii"))
        if self.stream.backlog > BACKLOG_MOST:
            self._break(Broken("it does not read what it is sent"))

    def _send(self, kind: bytes, channel: int, data: bytes, size: int = -1) -> None:
        if self.broken or self._mute is not None:
            return
        self.said = time.monotonic()
        try:
            self.stream.write(_HEAD.pack(kind, channel, len(data) if size < 0 else size) + data)
        except Broken as error:
            self._unsendable(error)
            return
        self._look_at_backlog()

    def _unsendable(self, error: Broken) -> None:
        """Break, but only at the end of what has arrived: the other side may have said why it closed the connection."""
        if error.abrupt:
            self._mute = error
            self._look_at_backlog()
        else:
            self._break(error)

    def _look_at_backlog(self) -> None:
        backlog = self.stream.backlog
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if backlog else 0)
        if events != self._events:
            self._events = events
            self.selector.modify(self.stream.sock, events, self._ready)
        if (backlog > BACKLOG) != self._full:
            self._full = backlog > BACKLOG
            for channel, relay in self.relays.items():
                self._watch(channel, relay)

    def _ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE and self._mute is None:
                self._flush()
            if events & selectors.EVENT_READ:
                self._read()
        except Broken as error:
            self._break(self._mute or error)
        except Exception as error:  # noqa: BLE001 - whatever it is: others are served by this thread, too
            self._break(Broken(f"a mistake: {type(error).__name__}: {error}"))

    def _flush(self) -> None:
        try:
            self.stream.flush()
        except Broken as error:
            self._unsendable(error)
        else:
            self._look_at_backlog()

    def _read(self) -> None:
        data = self.stream.read()
        if data is None:
            raise Broken("it ended in the middle of a frame" if self._in else "it was closed")
        self._look_at_backlog()
        if self.control_most == CONTROL_FIRST and self.stream.backlog > BACKLOG_FIRST:
            raise Broken("it does not read what it is sent")
        if not data:
            return
        self.heard = time.monotonic()
        self._in += data
        at = 0
        while len(self._in) - at >= _HEAD.size and not self.broken:
            kind, channel, size = _HEAD.unpack_from(self._in, at)
            start = at + _HEAD.size
            end = start + self._size(kind, size)
            if len(self._in) < end:
                break
            at = end
            self._take(kind, channel, size, bytes(self._in[start:end]))
        del self._in[:at]

    def _size(self, kind: bytes, size: int) -> int:
        """Bytes that follow the head. Raises Broken."""
        most = {CONTROL: self.control_most, DATA: CHUNK, END: 0, OPENED: WINDOW}.get(kind)
        if most is None:
            raise Broken(f"no frame begins with {kind!r}")
        if size > most:
            raise Broken(f"a frame of {size} bytes is longer than {most}")
        if kind != CONTROL and not self.channels:
            raise Broken("a frame of a channel at a wrong time")
        return 0 if kind == OPENED else size

    def _take(self, kind: bytes, channel: int, size: int, data: bytes) -> None:
        if kind == CONTROL:
            self.on_control(_message(data))
            return
        relay = self.relays.get(channel)
        if relay is None:
            return  # it was closed here, and the other side does not know yet
        if kind == END:
            self._forget(channel)
            self.on_end(channel)
        elif kind == OPENED:
            relay.room += size
            if relay.room > WINDOW:
                raise Broken("a window was opened wider than it is")
            self._watch(channel, relay)
        else:
            relay.owed += size
            if relay.owed > WINDOW:
                raise Broken("more was sent than the window has room for")
            relay.link.send_bytes(data)
            self._watch(channel, relay)
            self._open_window(channel, relay)

    def beat(self, every: float, silence: float) -> None:
        """Now and then: say that we live; see whether the other side does. Seconds."""
        now = time.monotonic()
        if now - self.heard > silence:
            self._break(Broken(f"nothing was heard for {silence:.0f} s", abrupt=True))
        elif now - self.said > every:
            self.send({"k": "beat"})

    def absent(self, seconds: float) -> None:
        """Shift the silence of the other side by those seconds, in which this process did not run."""
        self.heard += seconds

    def _break(self, error: Broken) -> None:
        if not self.broken:
            self.broken = True
            self.on_broken(error)  # before the links are closed: who sees their end may want to know why
            self.close()

    def close(self) -> None:
        """End the connection and let go of all links."""
        self.broken = True
        for channel in list(self.relays):
            self._forget(channel)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(self.stream.sock)
        self.stream.close()


def _message(data: bytes) -> dict[str, Any]:
    try:
        return frames.parse_long(data, CONTROL_PARTS)
    except wire.BadFrame as error:
        raise Broken(str(error).replace("a frame", "a control frame", 1)) from None
