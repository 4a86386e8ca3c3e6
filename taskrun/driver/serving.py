"""Sessions for data with the hosts of a context that attaches: begun where they can be, their bytes relayed to the run."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskrun import threads
from taskrun.engines.link import Link
from taskrun.engines.request import EngineRequest
from taskrun.engines.streams import RELAYED, Host, ProgramStream, ThisHost, What
from taskrun.errors import Refused

if TYPE_CHECKING:
    from taskrun.engines.slurm import Steps

SESSIONS_MOST = 16  # at a time, for each host
OPEN_SECONDS = 60.0  # for a host to begin a session
CHUNK = 1 << 17  # bytes moved at a time


class Serving:
    """All sessions of one context. Called in the loop's thread."""

    def __init__(self, requests: Mapping[str, EngineRequest], steps: Steps | None, ssh: str, note: Callable[[str], None]) -> None:
        """`requests`: by address; `ssh`: as --ssh; `note`: takes a sentence for the person, from any thread."""
        self._requests = requests
        self._steps = steps
        self._ssh = ssh
        self._note = note
        self._hosts: dict[str, Host] = {}
        self._sessions: dict[int, _Session] = {}

    def __contains__(self, channel: int) -> bool:
        return channel in self._sessions

    def __getitem__(self, channel: int) -> _Session:
        return self._sessions[channel]

    def begin(self, channel: int, address: str, what: str) -> Link:
        """The link of a session that begins. It ends at once where there is none to be had."""
        known = next((each for each in RELAYED if each == what), None)
        session = self._begin(address, known) if known else _Session("files of attached hosts are moved by the driver", permanent=True)
        self._sessions[channel] = session
        return session.link

    def _begin(self, address: str, what: What) -> _Session:
        if address not in self._requests:
            return _Session(f"{address} is no host of this context", permanent=True)
        if len(self._sessions) >= SESSIONS_MOST * len(self._requests):
            return _Session("there are too many sessions")
        host = self._host(self._requests[address])
        try:
            return (
                _Far(host, what) if self._requests[address].reach == "ssh" and not self._ssh else _Program(host.session(what, OPEN_SECONDS))
            )
        except (OSError, Refused) as error:
            return _Session(str(error), permanent=isinstance(error, Refused | FileNotFoundError))

    def _host(self, request: EngineRequest) -> Host:
        address = request.address or request.host
        if address not in self._hosts:
            self._hosts[address] = self._make(request, address)
        return self._hosts[address]

    def _make(self, request: EngineRequest, address: str) -> Host:
        if request.reach == "slurm":
            from taskrun.engines.slurm import StepHost

            assert self._steps is not None
            return StepHost(request.host, self._steps)
        if request.reach == "local":
            return ThisHost()
        if self._ssh:
            from taskrun.engines.ssh_program import ProgramHost

            return ProgramHost(self._ssh, address)
        from taskrun.engines.ssh_sessions import SftpHost

        return SftpHost(address, self._note)

    def end(self, channel: int) -> tuple[str, bool]:
        """One is over: why it had ended by itself, '' if it had not, and whether another one would end so, too."""
        session = self._sessions.pop(channel)
        why = session.why()
        session.close()
        return why

    def close(self) -> None:
        for channel in list(self._sessions):
            self.end(channel)


class _Session:
    """One that could not begin; the others add to it."""

    def __init__(self, failure: str, *, permanent: bool = False) -> None:
        self.failure = failure
        self.permanent = permanent
        ours, theirs = socket.socketpair()
        theirs.close()
        self.link = Link(os.dup(ours.fileno()), ours.detach())

    @property
    def settled(self) -> bool:
        """Why it has ended can be said."""
        return True

    def settle(self) -> None:
        """Waits for that. Called in a thread."""

    def why(self) -> tuple[str, bool]:
        return self.failure, self.permanent

    def close(self) -> None:
        """The link is closed by who has it."""


class _Program(_Session):
    """Behind a program's standard input and output: its own socket is the link."""

    def __init__(self, stream: ProgramStream) -> None:
        self._stream = stream
        self.link = Link(os.dup(stream.fileno()), os.dup(stream.fileno()))

    @property
    def settled(self) -> bool:
        return self._stream.settled

    def settle(self) -> None:
        self._stream.settle()

    def why(self) -> tuple[str, bool]:
        return self._stream.said(), self._stream.hopeless

    def close(self) -> None:
        self._stream.close()


class _Far(_Session):
    """A channel of a connection over SSH. Connecting and moving bytes happen in threads of its own."""

    def __init__(self, host: Host, what: What) -> None:
        self.failure = ""
        self.permanent = False
        ours, self._near = socket.socketpair()
        self.link = Link(os.dup(ours.fileno()), ours.detach())
        threads.start(self._run, "a session", host, what)

    def close(self) -> None:
        """Its threads end when the link does."""

    def _run(self, host: Host, what: What) -> None:
        try:
            channel = host.session(what, OPEN_SECONDS)
        except Exception as error:  # noqa: BLE001 - what paramiko may raise is not written down anywhere
            self.failure = f"{str(error) or type(error).__name__}"
            self.permanent = isinstance(error, OSError | Refused) and not isinstance(error, ConnectionError | TimeoutError)
            self._near.close()
            return
        channel.settimeout(None)  # the run knows for how long it waits
        sender = threads.start(self._send, "to a session", channel)
        with contextlib.suppress(Exception):  # its end is seen by who reads
            while data := channel.recv(CHUNK):
                self._near.sendall(data)
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)
        sender.join()
        self._near.close()

    def _send(self, channel: Any) -> None:
        with contextlib.suppress(Exception):
            while data := self._near.recv(CHUNK):
                channel.sendall(data)
        with contextlib.suppress(Exception):
            channel.close()
