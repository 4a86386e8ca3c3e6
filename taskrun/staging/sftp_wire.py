"""What is asked of an SFTP server in words that paramiko does not have."""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from taskrun.staging.store import Permanent

_CLOSE, _READ, _WRITE, _OPENDIR, _READDIR, _STATUS, _DATA, _EXTENDED, _EXTENDED_REPLY = 4, 5, 6, 11, 12, 101, 103, 200, 201
_ON_THE_WAY = 4 << 20  # bytes of requests that are not answered: memory stays flat whoever is slow
_EVERY_SERVER = 32_768  # bytes that every server takes in one request
_MOST = 256 << 10  # bytes in one request at most, whatever a server offers
_LENGTH, _OFFSET = struct.Struct(">I"), struct.Struct(">Q")
_EOF, _ERRORS, _TEXT_MOST = 1, {2: errno.ENOENT, 3: errno.EACCES}, 400
_EXTENSIONS_MOST = 100  # of one file's attributes; OpenSSH sends none


def listed(sftp: Any, path: bytes, found: Callable[[str], None]) -> list[tuple[str, int]]:
    """Names and modes of what is in a folder. As paramiko does it, but for names that are not UTF-8.

    `found`: told each name, and '' for each answer; may raise. Raises OSError, Permanent for a name that none can have.
    """
    _, answer = sftp._request(_OPENDIR, path)
    handle = answer.get_binary()
    names = []
    with contextlib.suppress(EOFError):  # that was all
        while True:
            _, answer = sftp._request(_READDIR, handle)
            found("")
            for _ in range(answer.get_int()):
                name = answer.get_binary().decode("utf-8", "surrogateescape")
                answer.get_binary()  # a line as of `ls -l`
                mode = _mode(answer)
                if not name or "/" in name or "\0" in name:  # also past the end of the message, where paramiko reads zeros
                    raise Permanent(f"what the host says is in {path.decode('utf-8', 'replace')} cannot be: a name that no file can have")
                if name not in (".", ".."):
                    found(name)
                    names.append((name, mode))
    sftp._request(_CLOSE, handle)
    return names


def _mode(answer: Any) -> int:
    """Of the attributes that come next in a message; 0 if it is not among them."""
    flags = answer.get_int()
    answer.get_bytes((8 if flags & 1 else 0) + (8 if flags & 2 else 0))  # size; user and group
    mode = int(answer.get_int()) if flags & 4 else 0
    answer.get_bytes(8 if flags & 8 else 0)  # times
    for _ in range(2 * min(answer.get_int(), _EXTENSIONS_MOST) if flags & 0x80000000 else 0):
        answer.get_binary()
    return mode


class Shorter(Exception):
    """A file ends before the bytes that were asked for."""


class Limits(NamedTuple):
    """Bytes that a server takes in one request."""

    read: int = _EVERY_SERVER
    write: int = _EVERY_SERVER


def limits(sftp: Any) -> Limits:
    """Ask a server for its limits, by an extension of OpenSSH's; fewer and longer requests cost a fraction of the time. Raises OSError."""
    try:
        kind, answer = sftp._request(_EXTENDED, "limits@openssh.com")
    except ConnectionError:
        raise
    except OSError:  # it has no word for it
        return Limits()
    if kind != _EXTENDED_REPLY:
        return Limits()
    _, read, write, _ = (answer.get_int64() for _ in range(4))
    return Limits(*(min(_MOST, max(_EVERY_SERVER, each)) for each in (read, write)))


def read(sftp: Any, handle: bytes, start: int, end: int, request: int) -> Iterator[bytes]:
    """Yield the bytes of an open file, with many requests under way. Raises OSError, EOFError, Shorter.

    The session is the caller's alone. What is not answered when the caller stops is passed over by later requests, as paramiko does it.
    """
    asked: dict[int, tuple[int, int]] = {}  # number of a request → its offset and length
    came: dict[int, bytes] = {}  # by offset: servers may answer in any order
    at, ahead = start, start
    while at < end:
        while ahead < end and ahead - at < _ON_THE_WAY:
            length = min(request, end - ahead)
            asked[_ask_to_read(sftp, handle, ahead, length)] = (ahead, length)
            ahead += length
        while at not in came:
            number, kind, answer = _answer(sftp)
            if number not in asked:
                continue
            offset, length = asked.pop(number)
            data = _data(kind, answer)
            if not data or len(data) > length:
                raise Shorter
            came[offset] = data
            if len(data) < length:
                offset, length = offset + len(data), length - len(data)
                asked[_ask_to_read(sftp, handle, offset, length)] = (offset, length)
        data = came.pop(at)
        at += len(data)
        yield data


def _ask_to_read(sftp: Any, handle: bytes, offset: int, length: int) -> int:
    return _send(sftp, _READ, handle, offset, length)


def _data(kind: int, answer: bytes) -> bytes:
    """Return the bytes of an answer to a read, none at the end of the file. Raises OSError."""
    if kind == _STATUS:
        with contextlib.suppress(EOFError):
            _status(answer)
        return b""
    if kind != _DATA or len(answer) < _LENGTH.size or len(answer) != _LENGTH.size + _LENGTH.unpack_from(answer)[0]:
        raise ConnectionError(f"the file transfer server answered a read with a message of kind {kind} that cannot be")
    return answer[_LENGTH.size :]


def _status(answer: bytes) -> None:
    """Raises what a status says: OSError, EOFError; nothing if all went well."""
    if len(answer) < _LENGTH.size:
        raise ConnectionError("the file transfer server sent a status without a code")
    (code,) = _LENGTH.unpack_from(answer)
    (length,) = _LENGTH.unpack_from(answer, 4) if len(answer) >= 2 * _LENGTH.size else (0,)
    text = answer[8 : 8 + min(length, _TEXT_MOST)].decode("utf-8", "replace")
    if code == _EOF:
        raise EOFError(text)
    if code in _ERRORS:
        raise OSError(_ERRORS[code], text)  # FileNotFoundError, PermissionError
    if code:
        raise OSError(text)  # SSH_FX_FAILURE and others: no number says why


class Writing:
    """Bytes that are being written to an open file in order, with many requests under way. The session is the caller's alone."""

    def __init__(self, sftp: Any, handle: bytes, offset: int, request: int) -> None:
        self._sftp = sftp
        self._handle = handle
        self._offset = offset
        self._request = request
        self._open: dict[int, int] = {}  # number of a request → its bytes
        self._under_way = 0

    def write(self, data: bytes) -> None:
        """Raises OSError, also for what was written before."""
        view = memoryview(data)
        while view:
            piece, view = view[: self._request], view[self._request :]
            number = _send(self._sftp, _WRITE, self._handle, self._offset, bytes(piece))
            self._open[number] = len(piece)
            self._offset += len(piece)
            self._under_way += len(piece)
            self._wait(_ON_THE_WAY)

    def flush(self) -> None:
        """Wait until all of it is written. Raises OSError."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while self._under_way > most:
            number, kind, answer = _answer(self._sftp)
            size = self._open.pop(number, 0)
            if size:
                self._under_way -= size
                if kind != _STATUS:
                    raise ConnectionError(f"the file transfer server answered with {kind} to a write")
                _status(answer)


def _send(sftp: Any, kind: int, handle: bytes, offset: int, more: int | bytes) -> int:
    """Send a request about an open file, with a number or bytes at its end; return its number."""
    number = int(sftp.request_number)
    sftp.request_number = (number + 1) & 0xFFFFFFFF
    end = _LENGTH.pack(more) if isinstance(more, int) else _LENGTH.pack(len(more)) + more
    message = bytes([kind]) + _LENGTH.pack(number) + _LENGTH.pack(len(handle)) + handle + _OFFSET.pack(offset) + end
    sftp._write_all(_LENGTH.pack(len(message)) + message)
    return number


def _answer(sftp: Any) -> tuple[int, int, bytes]:
    """Return the number, the kind and the rest of the next answer. Raises OSError, EOFError."""
    kind, data = sftp._read_packet()
    if len(data) < _LENGTH.size:
        raise ConnectionError("the file transfer server sent an answer without a number")
    return _LENGTH.unpack_from(data)[0], kind, data[_LENGTH.size :]


def free(sftp: Any, path: bytes) -> int | None:
    """Bytes free in a folder, by an extension of OpenSSH's. Raises OSError."""
    kind, answer = sftp._request(_EXTENDED, "statvfs@openssh.com", path)  # paramiko has no word for it
    if kind != _EXTENDED_REPLY:
        return None
    _, fragment, blocks, _, available = (answer.get_int64() for _ in range(5))
    return int(available * fragment) if blocks else None
