"""What a guest has begun on its hosts for the run, each behind one channel of its connection: agents, and sessions for data."""

from __future__ import annotations

import os
import socket
import threading
from typing import Protocol

from taskrun.engines.link import Link
from taskrun.engines.streams import SocketStream, What


class Relaying(Protocol):
    """Who brought the hosts."""

    gone: bool

    def kill(self, channel: int) -> None: ...

    def serve(self, address: str, what: What, silent: float) -> RelayedSession: ...


class RelayedAgent:
    """An agent that a guest has started."""

    def __init__(self, guest: Relaying, channel: int, address: str) -> None:
        self.failure = ""
        self.permanent = False
        self.lives_on = False
        self.died = False
        self.held = False
        self.reached = True  # by who has brought its host
        self.settled = True  # the guest says what it knows before it ends a link
        self.code = 0
        self.over = threading.Event()
        self._guest = guest
        self._channel = channel
        self._address = address
        ours, theirs = socket.socketpair()
        self.link = Link(os.dup(ours.fileno()), ours.detach())
        self.far = Link(os.dup(theirs.fileno()), theirs.detach())

    def session(self, what: What, silent: float) -> RelayedSession:
        """One with its host, also when the agent has left: as long as the guest is there. Raises OSError."""
        return self._guest.serve(self._address, what, silent)

    @property
    def gone(self) -> bool:
        """Who brought its host is."""
        return self._guest.gone

    def ended(self) -> bool:
        return self.over.is_set()

    def settle(self) -> None:
        """It is."""

    def kill(self) -> None:
        self._guest.kill(self._channel)


class RelayedSession(SocketStream):
    """A session with one of a guest's hosts."""

    def __init__(self, silent: float) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours, silent)
        self.far = Link(os.dup(theirs.fileno()), theirs.detach())
        self.failure = ""
        self.permanent = False
        self.over = False  # the guest has ended it, or gone

    @property
    def closed(self) -> bool:
        return self._closed or self.over

    def said(self) -> str:
        return self.failure

    @property
    def hopeless(self) -> bool:
        return self.permanent

    def end(self, why: str = "") -> None:
        """Nothing comes from it any more."""
        self.failure = self.failure or why
        self.over = True
