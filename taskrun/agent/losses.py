"""Attempts whose slot or agent died: their processes are ended before anyone may run the task again."""

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
