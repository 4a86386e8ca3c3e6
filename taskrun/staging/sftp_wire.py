"""What is asked of an SFTP server in words that paramiko does not have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from taskrun.staging.store import Permanent

_CLOSE, _OPENDIR, _READDIR, _EXTENDED, _EXTENDED_REPLY = 4, 11, 12, 200, 201  # kinds of messages
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


def free(sftp: Any, path: bytes) -> int | None:
    """Bytes free in a folder, by an extension of OpenSSH's. Raises OSError."""
    kind, answer = sftp._request(_EXTENDED, "statvfs@openssh.com", path)  # paramiko has no word for it
    if kind != _EXTENDED_REPLY:
        return None
    _, fragment, blocks, _, available = (answer.get_int64() for _ in range(5))
    return int(available * fragment) if blocks else None
