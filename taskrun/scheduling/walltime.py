"""The end of an allocation: until when a task may still start, and when what runs is told to stop. Pure.

`now` is monotonic seconds, as everywhere in the scheduler.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

State: TypeAlias = Literal["open", "closing", "over"]

SHARE = 0.95  # of the tasks so far: one that takes longer than that much of them is not reckoned with
MARGIN = 10.0  # seconds for files, beside twice the grace: tasks end in the first, STOP commands in the second
ENDS = "the allocation ends"
_STEP = 1.05  # the estimate is right to 5 %


class Lengths:
    """How long tasks took: counts by length, so that a million of them cost as much as ten."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        step = math.ceil(math.log(max(seconds, 0.001), _STEP))
        self._counts[step] = self._counts.get(step, 0) + 1
        self.total += 1

    def quantile(self, share: float) -> float | None:
        """A length that this share of them did not exceed; None when there are none."""
        wanted = share * self.total
        for step in sorted(self._counts):
            wanted -= self._counts[step]
            if wanted <= 1e-9:
                return float(_STEP**step)
        return None


class Walltime:
    """`end`: when the system ends everything, inf for never. `task_time`: seconds a task takes, if that was said. `grace`: TERM to KILL."""

    def __init__(self, end: float, task_time: float | None, grace: float) -> None:
        self.stop_at = end - 2 * grace - MARGIN  # the run is told to stop
        self.task_time = task_time
        self.grace = grace
        self.state: State = "open"
        self._lengths = Lengths()
        #: When the state changes, unless other lengths are measured.
        self.deadline: float | None = self._closing_time()

    def move(self, end: float) -> None:
        """It is another one now. Where nothing starts any more nothing will: engines are on their way out."""
        self.stop_at = end - 2 * self.grace - MARGIN
        self._set_deadline()

    def overslept(self, seconds: float) -> None:
        """The clock that `end` is told in has stood still for so long."""
        self.stop_at -= seconds
        self._set_deadline()

    def measured(self, seconds: float) -> None:
        """A task has ended. Cheap: the estimate is made anew only now and then."""
        if self.task_time is None:
            self._lengths.add(seconds)
            total = self._lengths.total
            if total < 20 or total % 20 == 0:
                self._set_deadline()

    @property
    def needs(self) -> float:
        """Seconds that a task is given; 0 while nobody knows."""
        if self.task_time is not None:
            return self.task_time
        return self._lengths.quantile(SHARE) or 0.0

    def look(self, now: float) -> State:
        """open: tasks may start · closing: none that starts now could end, and none will · over: what runs must stop."""
        if now >= self.stop_at:
            self.state = "over"
        elif self.state == "open" and now >= self._closing_time():
            self.state = "closing"
        self._set_deadline()
        return self.state

    @property
    def why(self) -> str:
        """Why nothing starts, or '' if something may."""
        if self.state == "open":
            return ""
        if not self.needs or self.state == "over":
            return ENDS
        known = "a task takes" if self.task_time is not None else "of 20 tasks 19 took up to"
        return f"the allocation ends too soon for another task: {known} {length(self.needs)}"

    def _set_deadline(self) -> None:
        self.deadline = None if self.state == "over" else self.stop_at if self.state == "closing" else self._closing_time()

    def _closing_time(self) -> float:
        return self.stop_at - self.needs


def length(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
