"""Engines over SSH: one connection and one channel a host, by paramiko. Nothing is installed there, nothing is ever asked of a terminal.

Connecting and moving bytes happen in threads of the engine's own; the driver sees a link like any other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskrun.engines import bootstrap
from taskrun.engines.link import Link
from taskrun.engines.ssh_connection import LOGIN_SECONDS, open_transport
from taskrun.engines.ssh_known_hosts import CannotConnect
from taskrun.engines.ssh_sessions import notice_silence, session
from taskrun.engines.streams import What
from taskrun.errors import Refused

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 17  # bytes moved at a time
_SIGNALS = 128  # exit codes from here on are signals: not what a host says of itself
STATUS_SECONDS = 1.0  # after the end of its output, for the agent's exit code to come
LAST_WORDS = 400  # bytes of standard error kept to tell why it ended


class SshAgent:
    """An agent on another host, once its connection is made; until then a link on which nothing has come."""

    def __init__(self, address: str, log_fd: int, note: Callable[[str], None]) -> None:
        """`note`: takes a sentence for the person, from any thread."""
        self.address = address
        self.failure = ""
        self.permanent = False
        self.lives_on = False
        self.died = False
        self.code = 0
        self.reached = False
        self.settled = True  # its link is closed last
        self._note = note
        self._log_fd = os.dup(log_fd)
        self._ended = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self._transports: list[paramiko.Transport] = []  # jump hosts first
        ours, self._theirs = socket.socketpair()
        self.link = Link(os.dup(ours.fileno()), ours.detach())
        threading.Thread(target=self._run, name=f"ssh {address}", daemon=True).start()

    def session(self, what: What, silent: float) -> paramiko.Channel:
        """One over this connection. Raises ConnectionError when it is gone, or silent for so many seconds."""
        return session(self._transport(), what, silent)

    def _transport(self) -> paramiko.Transport:
        if not self._transports or not self._transports[-1].is_active():
            raise ConnectionError("the connection to the host is gone")
        return self._transports[-1]

    def hold(self) -> None:
        """Keep the connection when the agent has left, until `let_go`: files are still to be fetched."""
        self._free.clear()
        for transport in self._transports[:1]:
            notice_silence(transport)  # no heartbeat does any more

    @property
    def held(self) -> bool:
        return not self._free.is_set()

    def let_go(self) -> None:
        self._free.set()

    def ended(self) -> bool:
        return self._ended.is_set()

    def kill(self) -> None:
        self._free.set()
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        for transport in reversed(self._transports):
            sock = transport.sock
            with contextlib.suppress(Exception):
                sock.close()  # at once: a polite goodbye waits for a host that may not answer

    def settle(self) -> None:
        """It is."""

    # in its threads

    def _run(self) -> None:
        try:
            channel = self._connect()
            self._serve(channel)
        except CannotConnect as error:
            self.failure, self.permanent = str(error), error.permanent
        except Refused as error:
            self.failure, self.permanent = str(error), True
        except (OSError, EOFError) as error:
            self.lives_on = True
            self.failure = f"the connection broke: {error}" if str(error) else "the connection broke"
        except Exception as error:  # noqa: BLE001 - what paramiko may raise is not written down anywhere
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            with contextlib.suppress(OSError):
                self._theirs.shutdown(socket.SHUT_RDWR)  # the link has ended; the connection may still be of use
            self._free.wait()
            for transport in reversed(self._transports):
                with contextlib.suppress(Exception):
                    transport.close()
            self._theirs.close()
            os.close(self._log_fd)
            self._ended.set()

    def _connect(self) -> paramiko.Channel:
        transport = open_transport(self.address, self._note, self._transports)
        try:
            channel = transport.open_session(timeout=LOGIN_SECONDS)
            channel.exec_command(bootstrap.remote_command())
            self.reached = True
        except Exception as error:
            raise CannotConnect(f"it takes no commands over ssh ({str(error) or type(error).__name__})", permanent=False) from error
        return channel

    def _serve(self, channel: paramiko.Channel) -> None:
        """Move bytes until one side has ended."""
        threading.Thread(target=self._send, args=(channel,), name=f"to {self.address}", daemon=True).start()
        words = threading.Thread(target=self._listen, args=(channel,), name=f"stderr {self.address}", daemon=True)
        words.start()
        theirs = self._theirs
        while True:
            data = channel.recv(CHUNK)
            if not data:
                break
            theirs.sendall(data)
        words.join(1.0)
        channel.status_event.wait(STATUS_SECONDS)
        self.lives_on = channel.exit_status < 0  # else the host itself has said that the agent is no more
        self.code = max(0, channel.exit_status)
        self.died = self.code > 0
        self.permanent = 0 <= channel.exit_status < _SIGNALS

    def _send(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(Exception):  # its end is seen where it is read
            channel.sendall(bootstrap.shipment())
            while data := self._theirs.recv(CHUNK):
                channel.sendall(data)
            channel.shutdown_write()

    def _listen(self, channel: paramiko.Channel) -> None:
        """What the host says on standard error goes to the engine's log; the last line of it tells why, if anything does."""
        last = b""
        with contextlib.suppress(Exception):
            while data := channel.recv_stderr(CHUNK):
                with contextlib.suppress(OSError):
                    os.write(self._log_fd, data)
                last = (last + data)[-LAST_WORDS:]
        lines = last.decode("utf-8", "replace").strip().splitlines()
        if lines:
            self.failure = lines[-1]
