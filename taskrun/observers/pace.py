"""How fast a run goes and how long it will still take. Numbers in, numbers out: no clock, no task.

What is left to start is divided by the tasks that ended for each second of slot time that was on offer. So it is right
with lengths of every kind, a giant counts only for the slot it keeps, a barrier's pause and an engine that left are in
it. To that comes the time from the last start to the end, which belongs to the longest of the tasks that run then: a
slot is met in the middle of a task, and of a long one more often than of a short one, so what such a task still
needs is read off a sample of the lengths (the equilibrium distribution of a renewal process).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

RECENT = 10.0  # seconds that the rate is of
KEPT = 256  # moments kept, however long the run is
LENGTHS = 1000  # lengths kept, at most: the longest few say when the end is
ENOUGH = 1000  # ended tasks from which on only the later half of the run is looked at
LEAST = 1.0  # seconds that what runs takes at least


class Moment(NamedTuple):
    now: float
    done: int
    offered: float  # seconds of slot time so far


class Pace:
    """Fold `look` over a run; `rate` and `left` are of the last look."""

    def __init__(self, now: float) -> None:
        self.moments = [Moment(now, 0, 0.0)]
        self._recent = [self.moments[0]]
        self._slots = 0
        self._last = self.moments[0]
        self._ended_at = now  # when something had ended last
        self._offered_then = 0.0
        self._none_to_start_since: float | None = None
        self._lengths: list[float] = []
        self._offers = 0
        self._one_in = 1
        self._step = 0.0  # seconds between two moments that are kept

    def look(self, now: float, done: int, slots: int, lengths: tuple[float, ...], *, to_start: int | None) -> None:
        """`lengths`: of some of the tasks that ended; `to_start`: tasks that do not run yet, None if nobody knows."""
        last = self._last
        moment = Moment(now, done, last.offered + (now - last.now) * (self._slots or slots))
        if done > last.done:
            self._ended_at = now
            self._offered_then = moment.offered
        self._slots = slots
        self._last = moment
        self._recent.append(moment)
        while len(self._recent) > 2 and now - self._recent[1].now > RECENT:
            del self._recent[0]
        if now - self.moments[-1].now >= self._step:
            self.moments.append(moment)
            if len(self.moments) > KEPT:
                del self.moments[1::2]
                self._step = max(2 * self._step, (now - self.moments[0].now) / KEPT)
        for length in lengths:
            self._sample(length)
        if to_start != 0:
            self._none_to_start_since = None
        elif self._none_to_start_since is None:
            self._none_to_start_since = now

    def _sample(self, length: float) -> None:
        """One in so many of those offered, so that the whole run is in what is kept."""
        self._offers += 1
        if self._offers % self._one_in == 0:
            self._lengths.append(length)
            if len(self._lengths) > LENGTHS:
                del self._lengths[::2]
                self._one_in *= 2

    @property
    def rate(self) -> float | None:
        """Tasks a second of late: of ten seconds, or of as many as it takes to have some."""
        last = self._last
        if not last.done:
            return None
        for since in (self._recent[0], self._before()):
            if last.done > since.done:
                return (last.done - since.done) / max(last.now - since.now, 1e-9)
        return None

    @property
    def longest(self) -> float:
        """Seconds that the longest task took, of those known; infinite when none is: then nothing is said anyway."""
        return max(self._lengths, default=math.inf)

    def left(self, to_start: int, running: int) -> float | None:
        """Seconds to the end; None as long as nothing has ended."""
        last = self._last
        if not (to_start or running):
            return 0.0
        if not last.done:
            return None
        lengths = sorted(self._lengths, reverse=True)
        if not to_start:
            waited = last.now - (self._none_to_start_since or last.now)
            return max(LEAST, longest_of(lengths, running, waited), waited - (lengths[0] if lengths else 0.0))
        since = self._before()
        usual = lengths[len(lengths) // 2] if lengths else 0.0
        waited = min(last.now - self._ended_at, usual)
        # Up to the last end: the time since then was for tasks that have yet to end, unless that is unusually long ago.
        offered = max(self._offered_then, last.offered - usual * self._slots) - since.offered
        slots = max(self._slots, running, 1)
        to_last_start = to_start * offered / max(last.done - since.done, 1) / slots - waited
        return max(LEAST, to_last_start + longest_of(lengths, min(slots, to_start + running), 0.0))

    def _before(self) -> Moment:
        """Since when the run is looked at: half of it, or as much as it takes to have enough that ended."""
        last = self._last
        half = (self.moments[0].now + last.now) / 2
        for earlier, later in pairwise(self.moments):
            if later.now > half or last.done - later.done < ENOUGH:
                return earlier
        return self.moments[0]


def longest_of(lengths: list[float], count: int, waited: float) -> float:
    """How long the longest of `count` tasks still takes, met `waited` seconds ago somewhere in their run.

    `lengths`: a sample, longest first. The chance that one such task takes longer than x is above(x) / above(0), where
    above(x) is the sum of what the lengths have beyond x: sought is the x that one of count + 1 exceeds.
    """
    sought = sum(length - waited for length in lengths if length > waited) / (count + 1)
    if sought <= 0:
        return 0.0
    total = 0.0
    for number, length in enumerate(lengths, 1):
        total += length
        x = (total - sought) / number
        if number == len(lengths) or x >= lengths[number]:
            return x - waited
    return 0.0
