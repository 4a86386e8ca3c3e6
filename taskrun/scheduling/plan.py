"""What is still to run: the plan as far as it was read, and the tasks that came back."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from taskrun.model import Barrier, PerEngine, Planned, Skipped, Task
from taskrun.scheduling.engine import Attempt


class Again(NamedTuple):
    """A task that came back."""

    task: Task
    n: int  # number of its next attempt
    lost: Attempt | None  # the attempt that was given up with its engine, if that is why


class Plan:
    def __init__(self) -> None:
        self.pending: deque[Task | Barrier | Skipped] = deque()
        self.again: dict[int, Again] = {}
        self.starts: list[PerEngine] = []
        self.stops: list[PerEngine] = []
        self.header_done = False  # all PERENGINE lines have been seen
        self.ended = False
        self.broken = False
        self.open = False  # it may go on after its end
        self._order: list[int] = []  # ids of `again` that any engine may take, the first first; may hold ids that have left it

    def add(self, items: list[Planned]) -> None:
        for item in items:
            if type(item) is PerEngine:
                (self.starts if item.when == "START" else self.stops).append(item)
            else:
                self.header_done = True
                self.pending.append(item)  # type: ignore[arg-type]

    def end(self, broken: bool, open_: bool) -> None:
        self.ended = True
        self.broken = broken
        self.open = open_
        self.header_done = True

    def reopen(self) -> None:
        """It goes on after its end."""
        self.ended = self.open = False

    @property
    def exhausted(self) -> bool:
        """Nothing is left to hand out, now or later, unless something comes back."""
        return self.ended and not self.pending and not self.again

    @property
    def tasks_left(self) -> int:
        """Tasks read and not handed out. Looks at all of them: for the end of a run."""
        return len(self.again) + sum(1 for item in self.pending if type(item) is Task)

    def give_back(self, task: Task, n: int, lost: Attempt | None = None, *, suspect: bool = False) -> None:
        """The task is to run again, as attempt `n`. Suspects are kept in a line of their own."""
        self.again[task.id] = Again(task, n, lost)
        if not suspect:
            heappush(self._order, task.id)

    def clear(self, task: int) -> None:
        """Clear a suspect: if it waits, any engine may take it."""
        if task in self.again:
            heappush(self._order, task)

    @property
    def any_again(self) -> bool:
        """Return whether `take_again` may find a task."""
        return bool(self._order)

    def take(self, task: int) -> Again:
        """Take this task of those that came back."""
        return self.again.pop(task)

    def take_again(self) -> Again | None:
        """The first task of those that came back and are no suspects."""
        while self._order:
            found = self.again.pop(heappop(self._order), None)
            if found is not None:
                return found
        return None

    def put_back(self, again: Again) -> None:
        self.again[again.task.id] = again
        heappush(self._order, again.task.id)
