"""Sessions with a host over SSH by paramiko: channels of one connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskrun.engines.bootstrap import python_command
from taskrun.engines.ssh_connection import host_and_port, open_transport
from taskrun.engines.ssh_known_hosts import CannotConnect
from taskrun.engines.streams import What, ended

if TYPE_CHECKING:
    import paramiko

_TIMEOUT = "Timeout"  # in what paramiko says when nobody answers; of two refusals at a time it says of one merely that there is no channel
SILENT_SECONDS = 60.0  # after which a connection without a word from the host is broken


class Unanswered(ConnectionError):
    """Nobody has answered in time."""


class Full(ConnectionError):
    """The connection has as many sessions as the host allows (MaxSessions in its sshd_config)."""


class SftpHost:
    """The connections that `sftp://` locations of one host share, one if it takes all sessions. `where`: `[user@]host[:port]`."""

    def __init__(self, where: str, note: Callable[[str], None]) -> None:
        self._address, self._port = host_and_port(where)
        self._note = note
        self._opened: list[list[paramiko.Transport]] = []  # each with those it goes through, itself the last
        self._lock = threading.Lock()

    def session(self, what: What, silent: float) -> paramiko.Channel:
        """One more; connects anew when no connection takes it. Raises OSError."""
        full: dict[paramiko.Transport, Full] = {}
        with contextlib.suppress(Full):
            return self._on_any(full, what, silent)
        with self._lock:
            self._forget_dead()
            with contextlib.suppress(Full):  # another one may have been made meanwhile
                return self._on_any(full, what, silent)
            try:
                return _session_or_close(self._connect(), what, silent)
            except OSError:
                if full:  # only what is too much needs another login, which not every host grants
                    raise list(full.values())[-1] from None
                raise

    def _on_any(self, full: dict[paramiko.Transport, Full], what: What, silent: float) -> paramiko.Channel:
        """On one that has not refused. Raises OSError, Full also where there is none."""
        for transport in [each[-1] for each in self._opened if each[-1] not in full and each[-1].is_active()]:
            try:
                return _session_or_close(transport, what, silent)
            except Full as error:
                full[transport] = error
        raise Full

    def _forget_dead(self) -> None:
        for each in [each for each in self._opened if not each[-1].is_active()]:
            self._opened.remove(each)
            for transport in each:
                transport.close()

    def _connect(self) -> paramiko.Transport:
        opened: list[paramiko.Transport] = []
        try:
            notice_silence(open_transport(self._address, self._note, opened, self._port))
        except CannotConnect as error:
            raise (PermissionError if error.permanent else ConnectionError)(str(error)) from error
        self._opened.append(opened)
        return opened[-1]


def _session_or_close(transport: paramiko.Transport, what: What, silent: float) -> paramiko.Channel:
    """A connection on which nobody answers is closed: the next one is made anew."""
    try:
        return session(transport, what, silent)
    except Unanswered:
        transport.close()
        raise


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
    except paramiko.SSHException as error:
        if not transport.is_active():
            raise ConnectionError(str(error)) from error
        if _TIMEOUT in str(error):
            raise Unanswered(f"the host has not answered for {silent:.0f} s") from error
        raise Full("the host takes no more sessions on one connection (MaxSessions in its sshd_config)") from error
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
