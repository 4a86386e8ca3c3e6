"""Sessions with a host that data goes to, each on standard input and output of a process there.

A host is what offers `session(what, silent)`: a file transfer server, or one of the programs that the host's Python runs. Over SSH sessions
are channels of one connection (ssh_sessions.py); here they are a socket of this machine, mostly with a process behind it.
"""

from __future__ import annotations

import contextlib
import errno
import re
import select
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

from taskrun import threads
from taskrun.engines import bootstrap

#: What a session is with.
What: TypeAlias = Literal["sftp", "sums", "by_rclone", "by_url"]
#: Those that a run may ask of a host that was attached: files of such hosts are moved by the driver.
RELAYED: tuple[What, ...] = ("sftp", "sums")

_WORDS = 400  # bytes of what a process says last
_SETTLE_SECONDS = 3.0  # in which it ends when its streams have: srun's own words, and the node's, may come after that
_END_SECONDS: dict[What, float] = {
    "sftp": 1.0,
    "sums": 1.0,
    "by_rclone": 8.0,
    "by_url": 8.0,
}  # to end by itself; files under way are taken back


class Host(Protocol):
    """A host that data goes to. Called from several threads."""

    def session(self, what: What, silent: float) -> Any:
        """One more: a channel as paramiko's. `silent`: seconds without a word after which reading or writing fails.

        Raises OSError: ConnectionError where another try may go better.
        """


def words(what: What) -> list[str]:
    """The argument list that starts it on the host itself."""
    return bootstrap.sftp_words() if what == "sftp" else bootstrap.python_words(what)


class SocketStream:
    """What is used of a channel of paramiko's, on a socket."""

    def __init__(self, sock: socket.socket, silent: float) -> None:
        self._sock = sock
        self._closed = False
        sock.settimeout(silent)

    @property
    def closed(self) -> bool:
        """It is of no more use."""
        return self._closed

    def get_name(self) -> str:
        return ""

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def recv_ready(self) -> bool:
        return bool(select.select([self._sock], [], [], 0)[0])

    def send(self, data: bytes) -> int:
        return self._sock.send(data)

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._sock.gettimeout()

    def fileno(self) -> int:
        return self._sock.fileno()

    def said(self) -> str:
        """Why it has ended, as far as somebody has said so; '' else."""
        return ""

    @property
    def hopeless(self) -> bool:
        """Another one would end so, too."""
        return False

    def close(self) -> None:
        self._closed = True
        self._sock.close()


class ProgramStream(SocketStream):
    """Standard input and output of a program, which ends with it."""

    def __init__(self, argv: list[str], what: What, silent: float, *, env: Mapping[str, str] | None = None, never: str = "") -> None:
        """`never`: a pattern of what it says when another try is of no use. Raises OSError."""
        ours, theirs = socket.socketpair()
        super().__init__(ours, silent)
        self._patience = _END_SECONDS[what]
        self._never = never
        self._errors = tempfile.TemporaryFile()
        with theirs:
            fd = theirs.fileno()
            try:
                self._process = subprocess.Popen(argv, stdin=fd, stdout=fd, stderr=self._errors, start_new_session=True, env=env)
            except OSError:
                ours.close()
                self._errors.close()
                raise

    @property
    def closed(self) -> bool:
        return self._closed or self._process.poll() is not None

    @property
    def settled(self) -> bool:
        """All that it says has been said."""
        return self._process.poll() is not None

    def settle(self) -> None:
        """Waits a little for that, when its streams have ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SETTLE_SECONDS)

    def said(self) -> str:
        """The last line of its standard error; that there is no server for file transfers before srun's own words about it."""
        with contextlib.suppress(ValueError):  # closed
            self._errors.seek(0)
            text = self._errors.read()[-_WORDS:].decode("utf-8", "replace").strip()
            return bootstrap.NO_SFTP_SERVER if bootstrap.NO_SFTP_SERVER in text else (text.splitlines() or [""])[-1]
        return ""

    @property
    def hopeless(self) -> bool:
        said = self.said()
        return bootstrap.NO_SFTP_SERVER in said or bool(self._never and re.search(self._never, said, re.IGNORECASE))

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._errors.close()
            if self._process.poll() is None:  # seen to its end also when the driver ends: a host that is silent may keep it for ever
                threads.start_or_do(self._end, "end of a session", kept=True)

    def _end(self) -> None:
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ended(stream: Any, error: Exception, what: str) -> OSError:
    """What to raise about a session that was to begin and did not: `what` says who has none, in words."""
    getattr(stream, "settle", lambda: None)()
    said = getattr(stream, "said", str)() or str(error) or type(error).__name__
    if bootstrap.NO_SFTP_SERVER in said:
        return OSError(errno.EOPNOTSUPP, bootstrap.NO_SFTP_SERVER)
    if getattr(stream, "hopeless", False):
        return OSError(errno.EOPNOTSUPP, f"{what}: {said}")
    return ConnectionError(f"{what}: {said}")


class ThisHost:
    """The machine that this process runs on."""

    def session(self, what: What, silent: float) -> ProgramStream:
        """One more. Raises OSError."""
        return ProgramStream(words(what), what, silent)
