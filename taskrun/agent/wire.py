"""Frames of the link between driver and agent: 4 bytes of length, then a JSON object with a `k` that says which.

Text is UTF-8 with surrogateescape, ASCII-escaped, so any byte of a command or of output survives.
"""

import json
import struct

PROTOCOL = 1
FRAME_MAX = 64 * 1024 * 1024  # bytes; a longer frame is an error of the other side
MARKER = b"taskrun-agent:"  # what comes before it on the link is noise of a login shell

_LENGTH = struct.Struct(">I")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class BadFrame(Exception):
    """The other side does not speak the protocol."""


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def frame(message: dict) -> bytes:
    body = _encode(message).encode("ascii")
    if len(body) > FRAME_MAX:
        raise BadFrame("a frame of %d bytes is longer than %d" % (len(body), FRAME_MAX))
    return _LENGTH.pack(len(body)) + body


class Decoder(object):
    """Bytes in as they come, whole messages out."""

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
            if length > FRAME_MAX:
                raise BadFrame("a frame of %d bytes is longer than %d" % (length, FRAME_MAX))
            end = at + 4 + length
            if len(buffer) < end:
                break
            try:
                message = json.loads(buffer[at + 4 : end].decode("ascii"))
            except (ValueError, RecursionError) as error:
                raise BadFrame("a frame is not JSON: %s" % (error,)) from None
            if not isinstance(message, dict) or not isinstance(message.get("k"), str):
                raise BadFrame("a frame has no kind")
            messages.append(message)
            at = end
        if at:
            del buffer[:at]
        return messages
