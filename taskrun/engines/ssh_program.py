"""Data through the user's own ssh program (`--ssh COMMAND`): each session is a process of it, as the sessions of `sftp -S` are."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING

from taskrun.engines.bootstrap import python_command
from taskrun.engines.command import ssh_words

if TYPE_CHECKING:
    import paramiko

_WORDS = 400  # bytes of what it says last


class ProgramHost:
    """A host that `--ssh COMMAND` reaches."""

    def __init__(self, command: str, address: str) -> None:
        self._words = ssh_words(command)
        self._address = address

    def open_sftp(self, silent: float) -> paramiko.SFTPClient:
        """One more file transfer session. `silent`: seconds without a word after which an operation of it fails. Raises ConnectionError."""
        import paramiko

        stream = ProgramStream([*self._words, "-s", self._address, "sftp"], silent)
        try:
            return paramiko.SFTPClient(stream)  # type: ignore[arg-type]  # all of a channel that it uses
        except (paramiko.SSHException, OSError) as error:
            stream.close()
            raise ConnectionError(f"{self._words[0]} makes no file transfer session (sftp): {stream.said() or error}") from error

    def python(self, text: str, silent: float) -> ProgramStream:
        """The standard streams of the host's Python, running this text. Raises OSError."""
        return ProgramStream([*self._words, self._address, python_command(text)], silent)


class ProgramStream:
    """Standard input and output of a program, as a channel. It is ended with it."""

    def __init__(self, argv: list[str], silent: float) -> None:
        self.closed = False
        self._sock, theirs = socket.socketpair()
        self._sock.settimeout(silent)
        self._errors = tempfile.TemporaryFile()
        with theirs:
            fd = theirs.fileno()
            self._process = subprocess.Popen(argv, stdin=fd, stdout=fd, stderr=self._errors, start_new_session=True)

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

    def shutdown_write(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._sock.gettimeout()

    def said(self) -> str:
        """The last line of its standard error."""
        with contextlib.suppress(ValueError):  # closed
            self._errors.seek(0)
            lines = self._errors.read()[-_WORDS:].decode("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._sock.close()
            self._process.kill()
            self._process.wait()
            self._errors.close()
