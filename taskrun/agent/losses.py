"""Attempts whose slot or agent died: their processes are ended before anyone may run the task again.

On a host that a run reaches from elsewhere each agent and its slots hold a name, as a driver does on its own host: as long as it is
taken, something of the run lives here, and a resume waits for that.
"""

import socket
import time

from . import ending, slot


class Loss(object):
    """Processes of one lost attempt: TERM, 2 s, KILL, and gone."""

    def __init__(self, key: tuple, mark: bytes, session: int) -> None:
        self.key = key
        self.mark = mark
        self.session = session
        self.kill_at = 0.0

    def step(self, now: float) -> bool:
        """True when nothing of it is left."""
        rest = ending.processes(self.mark, self.session)
        if not rest:
            return True
        if not self.kill_at:
            self.kill_at = now + slot.ORPHAN_GRACE
            ending.signal_all(rest, ending.TERM)
        elif now >= self.kill_at:
            ending.signal_all(rest, ending.KILL)
        return False


class Before(object):
    """What an earlier run may have left here: its agents and slots end by themselves, each by its own clock; then the rest is ended."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rest = Loss((), run.encode("ascii") + b".", 0)

    def step(self, now: float) -> bool:
        """True when nothing of it is left."""
        return not is_held(self.run) and self.rest.step(now)


def hold(run: str, folder: str) -> list:
    """The descriptor that says that something of `run` lives here, to be handed on to slots; none where the system has no such names."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind("\0taskrun-%s.%s" % (run, folder))
    except OSError:
        held.close()
        return []
    return [held.detach()]


def is_held(run: str) -> bool:
    """Whether an agent of `run`, or its driver, or a slot of theirs lives here."""
    name = "@taskrun-%s" % run
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            paths = [line.rsplit(" ", 1)[-1].rstrip("\n") for line in file]
    except OSError:
        return False
    return any(path == name or path.startswith(name + ".") for path in paths)


class Losses(object):
    """All of an agent's, stepped from its loop so that nothing waits for a process that will not go."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.open: list = []

    def mark(self, key: tuple) -> bytes:
        kind, number, n = key
        return ("%s.%s%d.%d" % (self.run, "" if kind == "task" else kind, number, n)).encode("ascii")

    def add(self, key: tuple, session: int = 0) -> None:
        self.open.append(Loss(key, self.mark(key), session))

    def step(self) -> list:
        """The keys of those of which nothing is left any more."""
        now = slot.clock()
        gone = [each for each in self.open if each.step(now)]
        self.open = [each for each in self.open if each not in gone]
        return [each.key for each in gone]

    def kill(self, key: tuple, session: int, seconds: float) -> None:
        """End one at once and wait for it, at most so long."""
        loss = Loss(key, self.mark(key), session)
        loss.kill_at = slot.clock()
        until = loss.kill_at + seconds
        while not loss.step(slot.clock()) and slot.clock() < until:
            time.sleep(0.02)
