"""Attempts whose slot or agent died: their processes are ended before anyone may run the task again.

On a host that a run reaches from elsewhere each agent and its slots hold a name, as a driver does on its own host (see fence.py): as long
as it is held, something of the run lives here, and a resume waits for that.
"""

import os
import time

from . import ending, fence, slot, workdir


class Loss(object):
    """Processes of one lost attempt: TERM, 2 s, KILL, and gone."""

    def __init__(self, key: tuple, mark: bytes, session: int) -> None:
        self.key = key
        self.mark = mark
        self.session = session
        self.kill_at = 0.0

    def step(self, now: float) -> bool:
        """True when nothing of it is left."""
        rest = ending.processes(self.mark, self.session) or ending.processes(self.mark, self.session)  # a look may miss a new child
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

    def __init__(self, run: str, anybody: bool) -> None:
        """`anybody`: its processes may be those of another user."""
        self.run = run
        self.watch = fence.Watch(run.encode("utf-8", "surrogateescape"), fence.AGENT, frozenset((os.getuid(),)), anybody)
        self.rest = Loss((), run.encode("ascii") + b".", 0)

    def step(self, now: float) -> bool:
        """True when nothing of it is left."""
        if any(self.watch.look()) or not self.rest.step(now):
            return False
        self.watch.close()
        return True


def hold(run: str) -> list:
    """The descriptor that says that something of `run` lives here, to be handed on to slots; none where the system has no such names.

    Raises Unusable where it has them and none can be held: nothing would tell a resume that tasks still run here.
    """
    if not fence.EXISTS:
        return []
    why = "all of them are taken"
    try:
        held = fence.bind_beside(run.encode("utf-8", "surrogateescape"), fence.AGENT)
    except OSError as error:
        held, why = None, os.strerror(error.errno or 0)
    if held is None:
        raise workdir.Unusable("no socket name can be held that tells a resume of tasks here: %s" % why)
    return [held.detach()]


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
