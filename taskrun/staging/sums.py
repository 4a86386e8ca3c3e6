"""Checksums of files on a host, worked out there: asked of a Python that stays for as long as there are more (agent/sums.py)."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from taskrun.staging.sessions import Pool

_PAUSES = (0.2, 0.8)  # seconds before a host is asked again that had no room for one more session
_AT_A_TIME = 2  # on one host: sshd allows ten sessions of all kinds (see sftp)
_LINE_MOST = 1 << 16  # bytes of a line
_NOISE_MOST = 1 << 20  # and of all that is no answer: the noise of a login shell
_SHA256 = re.compile("[0-9a-f]{64}")


class NoPython(Exception):
    """Nobody there can tell."""


class Sums:
    """Of one host. Called from several threads. `connect`: begins a session, a channel."""

    def __init__(self, connect: Callable[[], Any], lost: tuple[type[Exception], ...]) -> None:
        """`lost`: what is raised over a connection that is gone, beside OSError and EOFError."""
        self.pool = Pool(lambda: _Session(connect()), lambda session: session.closed)
        self._lost: tuple[type[BaseException], ...] = (*lost, OSError, EOFError)
        self._room = threading.Semaphore(_AT_A_TIME)
        self._nobody = False

    def __call__(self, path: str) -> str | None:
        """The sha256 of a file over there, None where that cannot be had."""
        pauses = iter(_PAUSES)
        with self._room:
            while not self._nobody:
                fresh = True
                try:
                    session, fresh = self.pool.borrow()
                    return self._ask(session, path)
                except NoPython:
                    self._nobody = True
                except self._lost as error:
                    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                        break
                    if fresh:  # else it was lost while it waited: another one is asked
                        if (pause := next(pauses, None)) is None:
                            break
                        time.sleep(pause)
            return None

    def _ask(self, session: _Session, path: str) -> str | None:
        broken = True
        try:
            found = session.ask(path)
            broken = False
            return found
        finally:
            self.pool.give_back(session, broken=broken)


class _Session:
    """With one Python."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._left = b""
        self._noise = 0
        self._there = False

    @property
    def closed(self) -> bool:
        return bool(self._channel.closed)

    def close(self) -> None:
        self._channel.close()

    def ask(self, path: str) -> str | None:
        """Raises NoPython when there is none; OSError, EOFError and others when the session has ended."""
        if not self._there:
            self._answer()
            self._there = True
        self._channel.sendall(json.dumps(path).encode("ascii") + b"\n")
        while True:
            answer = self._answer()
            if "sum" in answer:
                found = answer["sum"]
                return found if isinstance(found, str) and _SHA256.fullmatch(found) else None

    def _answer(self) -> dict[str, Any]:
        while True:
            line, newline, rest = self._left.partition(b"\n")
            if newline:
                self._left = rest
                found = None
                with contextlib.suppress(ValueError, RecursionError):  # a login shell may say something before
                    found = json.loads(line)
                if isinstance(found, dict):
                    return found
                self._noise += len(line) + 1
                continue
            if len(self._left) > _LINE_MOST or self._noise > _NOISE_MOST:
                raise EOFError("a line without an end" if len(self._left) > _LINE_MOST else "noise without an end")
            data = self._channel.recv(4096)
            if not data:
                raise EOFError("it has ended") if self._there else NoPython
            self._left += data
