"""Sessions with a host over SSH by paramiko: channels of one connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskrun.engines.bootstrap import python_command
from taskrun.engines.ssh_connection import host_and_port, open_transport
from taskrun.engines.ssh_known_hosts import CannotConnect
from taskrun.engines.streams import What, ended

if TYPE_CHECKING:
    import paramiko

SILENT_SECONDS = 60.0  # after which a connection without a word from the host is broken


class Unanswered(ConnectionError):
    """Nobody has answered in time."""


class SftpHost:
    """The connection that `sftp://` locations of one host share. `where`: `[user@]host[:port]`."""

    def __init__(self, where: str, note: Callable[[str], None]) -> None:
        self._address, self._port = host_and_port(where)
        self._note = note
        self._opened: list[paramiko.Transport] = []
        self._lock = threading.Lock()

    def session(self, what: What, silent: float) -> paramiko.Channel:
        """One more; connects anew when the connection is gone. Raises OSError."""
        with self._connection() as transport:
            return session(transport, what, silent)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[paramiko.Transport]:
        """One on which nobody answers is closed: the next one is made anew."""
        transport = self._transport()
        try:
            yield transport
        except Unanswered:
            transport.close()
            raise

    def _transport(self) -> paramiko.Transport:
        with self._lock:
            if not self._opened or not self._opened[-1].is_active():
                self._opened = []
                try:
                    notice_silence(open_transport(self._address, self._note, self._opened, self._port))
                except CannotConnect as error:
                    raise (PermissionError if error.permanent else ConnectionError)(str(error)) from error
            return self._opened[-1]


def session(transport: paramiko.Transport, what: What, silent: float) -> paramiko.Channel:
    """A session over a connection, a channel of its own. `silent`: seconds without a word after which an operation of it fails.

    Raises ConnectionError.
    """
    import paramiko

    channel = _channel(transport, silent)
    try:
        if what == "sftp":
            channel.invoke_subsystem("sftp")
        else:
            channel.exec_command(python_command(what))
    except paramiko.SSHException as error:
        raise ConnectionError(f"the host takes no {'file transfers (sftp)' if what == 'sftp' else 'commands'}: {error}") from error
    return channel


def open_sftp(stream: Any) -> paramiko.SFTPClient:
    """The client of a session with a file transfer server. Raises OSError, ConnectionError where another try may go better."""
    import paramiko

    try:
        return paramiko.SFTPClient(stream)
    except (paramiko.SSHException, EOFError, OSError) as error:
        problem = ended(stream, error, "no file transfer session (sftp) is to be had")
        stream.close()
        raise problem from error


def _channel(transport: paramiko.Transport, silent: float) -> paramiko.Channel:
    """A channel. Raises ConnectionError."""
    import paramiko

    try:
        channel = transport.open_session(timeout=silent)
    except paramiko.ChannelException as error:
        raise ConnectionError(f"the host takes no more sessions on this connection: {error}") from error
    except paramiko.SSHException as error:
        raise Unanswered(f"the host has not answered for {silent:.0f} s: {error}") from error
    channel.settimeout(silent)  # a host that has lost its power says nothing, for ever
    return channel


def notice_silence(transport: paramiko.Transport) -> None:
    """From now on the connection breaks by itself when nothing comes from the other side, instead of waiting for ever."""
    sock = transport.sock
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_SECONDS * 1000))


def lost_errors() -> tuple[type[Exception], ...]:
    """What is raised over a connection that is gone, beside OSError and EOFError."""
    import paramiko

    return (paramiko.SSHException,)
