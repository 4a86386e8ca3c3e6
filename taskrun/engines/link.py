"""A link: two byte streams to an agent, with frames on them. What comes before the agent's marker is a login shell's noise."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Protocol

from taskrun.agent import wire
from taskrun.engines import advice
from taskrun.engines.frames import Decoder

KILL_SECONDS = 0.2  # for the threads of agents that were killed to close what they hold
ECHO = b"exec /bin/sh -c "  # how bootstrap.remote_command() begins
NOISE = 200  # characters of it that are quoted
LAST_WORDS = 2000  # bytes of a log that are looked at for why an agent ended


class Agent(Protocol):
    """An agent somewhere, behind a link. What starts one is a kind of engine (local, command, ssh)."""

    @property
    def link(self) -> Link: ...

    @property
    def reached(self) -> bool:
        """Return whether bytes sent to it have left this machine: there is a connection, as far as that can be known."""

    @property
    def failure(self) -> str:
        """Why it could not be started or has ended, '' if only its last words may tell."""

    @property
    def permanent(self) -> bool:
        """Another try would fail in the same way."""

    @property
    def code(self) -> int:
        """Exit code of what reached it; 0 while that is not known."""

    @property
    def settled(self) -> bool:
        """When its link is closed: `failure`, `code` and `lives_on` are what they will be."""

    def settle(self) -> None:
        """Wait for that, for a second at most. Not for a loop."""

    @property
    def lives_on(self) -> bool:
        """When its link is closed: it may still run tasks, and nobody can tell it not to."""

    @property
    def died(self) -> bool:
        """Return, when its link is closed, whether its host has reported that it was killed or has crashed. Such a host is up."""

    @property
    def held(self) -> bool:
        """Files are still fetched through its connection, although it has left."""

    def ended(self) -> bool:
        """Its end of the link is gone, and nothing of ours waits for it any more."""

    def kill(self) -> None:
        """Let go of it at once, whether it answers or not. Its slots end their tasks when they see that it is gone."""


class Link:
    """The driver's end. Reads and writes never block; a thread may send, too (heartbeats)."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        self._decoder = Decoder()
        self._greeted = False
        self._noise = b""
        self._out = bytearray()
        self._lock = threading.Lock()
        self.closed = False

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and write what the stream takes now. A closed link swallows it: its end is seen when reading."""
        self.send_bytes(wire.frame(message))

    def send_bytes(self, data: bytes) -> None:
        """The same with what is no message: an agent that is shipped."""
        with self._lock:
            self._out += data
            self._write()

    def flush(self) -> None:
        with self._lock:
            self._write()

    @property
    def noise(self) -> str:
        """The last line of what came before the agent's marker: an error of a login shell, perhaps."""
        lines = self._noise[-LAST_WORDS:].decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else ""
        return last if len(last) <= NOISE else last[: NOISE - 1] + "…"

    @property
    def echoed(self) -> bool:
        """The command that starts the agent came back instead of its words."""
        return ECHO in self._noise

    @property
    def waiting(self) -> bool:
        """Bytes are left to write."""
        return bool(self._out)

    @property
    def taken(self) -> bool:
        """All that was sent has been read by the program behind the pipe."""
        if self.closed or self._out:
            return False
        import fcntl
        import termios

        unread = fcntl.ioctl(self.write_fd, termios.FIONREAD, b"\0" * 4)
        return not any(unread)

    def _write(self) -> None:
        if self.closed:
            self._out.clear()
            return
        try:
            while self._out:
                del self._out[: os.write(self.write_fd, self._out[: 1 << 16])]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()

    def read(self) -> list[dict[str, Any]] | None:
        """Messages that have come, None at the end of the stream. Raises wire.BadFrame."""
        try:
            data = os.read(self.read_fd, 1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return None
        if not self._greeted:
            self._noise += data
            before, marker, after = self._noise.partition(wire.MARKER + b"\n")
            if not marker:
                self._noise = self._noise[-(1 << 16) :]
                return []
            self._greeted = True
            self._noise = before
            data = after
        messages: list[dict[str, Any]] = self._decoder.feed(data)
        return messages

    def close(self) -> None:
        with self._lock:
            if not self.closed:
                self.closed = True
                os.close(self.read_fd)
                os.close(self.write_fd)


def silent_end(agent: Agent, address: str, ssh: str) -> str:
    """Return the reason for a missing agent where nobody gave one. `ssh`: the command of --ssh."""
    if agent.link.echoed:
        if not ssh:
            return "its login shell only prints the command that it is to run, so that no task can run there"
        return f"--ssh {ssh!r} only prints the command that it is to run there; name a program that runs it, as ssh does"
    code = f" with exit code {agent.code}" if agent.code else ""
    return f"the login ended{code} before the agent came, and said nothing: see `{advice.login(address, ssh=ssh)}`"


def end_agents(agents: list[Agent], seconds: float) -> list[Agent]:
    """Agents that were let go get so long to end what they still run; those that had to be killed then."""
    left = list(agents)
    until = time.monotonic() + seconds
    while (left := [agent for agent in left if not agent.ended()]) and time.monotonic() < until:
        time.sleep(0.002)
    for agent in left:
        agent.kill()
    until = time.monotonic() + KILL_SECONDS
    while not all(agent.ended() for agent in left) and time.monotonic() < until:
        time.sleep(0.002)
    return left
