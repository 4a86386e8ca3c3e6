"""Frames of the link between driver and agent: 4 bytes of length, then a JSON object with a `k` that says which.

Text is UTF-8 with surrogateescape, ASCII-escaped, so any byte of a command or of output survives.
"""

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

PROTOCOL = 1
FRAME_MAX = 64 * 1024 * 1024  # bytes; a longer frame is an error of the other side. The driver takes less: see engines/frames.py
PORTION = 48 * 1024  # bytes of a frame of an agent, about: lists that are longer go in several
MARKER = b"taskrun-agent:"  # what comes before it on the link is noise of a login shell

HEAD = 32  # bytes in which the kind is to be seen: `frame` writes a message in its order, the kind first

_LENGTH = struct.Struct(">I")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class BadFrame(Exception):
    """The other side does not speak the protocol."""


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def frame(message: dict) -> bytes:
    body = _encode(message).encode("ascii")
    if len(body) > FRAME_MAX:
        raise BadFrame("a frame of %d bytes is longer than %d" % (len(body), FRAME_MAX))
    return _LENGTH.pack(len(body)) + body


def portions(items: list, size: "Callable[[Any], int]") -> "Iterator[list]":
    """Yield `items` in lists of about PORTION bytes, none of them empty. `size`: bytes that an item takes at most, encoded."""
    portion: list = []
    room = PORTION
    for item in items:
        needed = size(item)
        if needed > room and portion:
            yield portion
            portion = []
            room = PORTION
        portion.append(item)
        room -= needed
    if portion:
        yield portion


def parse(body: bytes, decode: "Callable[[str], Any]" = json.loads) -> dict:
    """Return the message that is a frame's body. Raises BadFrame."""
    try:
        message = decode(body.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BadFrame("a frame is not JSON: %s" % (error,)) from None
    if not isinstance(message, dict) or not isinstance(message.get("k"), str):
        raise BadFrame("a frame has no kind")
    return message


class Decoder(object):
    """Bytes in as they come, whole messages out. `admit` and `parse` are for who knows more about what may come."""

    small = 1 << 16  # bytes of a frame that may always come

    def __init__(self) -> None:
        self.data = bytearray()

    def feed(self, data: bytes) -> list:
        """The messages that `data` completes. Raises BadFrame."""
        buffer = self.data
        buffer += data
        messages = []
        at = 0
        while len(buffer) - at >= 4:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > self.small:
                self.admit(length, bytes(buffer[at + 4 : at + 4 + HEAD]))
            end = at + 4 + length
            if len(buffer) < end:
                break
            messages.append(self.parse(bytes(buffer[at + 4 : end])))
            at = end
        if at:
            del buffer[:at]
        return messages

    def admit(self, length: int, head: bytes) -> None:  # noqa: ARG002 - for those that know better
        """Raise BadFrame for a frame that may not come. Called with its length and as much of its head as has come, before the rest."""
        if length > FRAME_MAX:
            raise BadFrame("a frame of %d bytes is longer than %d" % (length, FRAME_MAX))

    def parse(self, body: bytes) -> dict:
        """Return the message. Raises BadFrame."""
        return parse(body)
