"""The end of a SLURM job, asked for now and then: its time limit may be changed, and its nodes taken for another job."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from taskrun.engines import allocation, controller

FIRST, USUAL, MOST = 15.0, 60.0, 600.0  # seconds between questions: they double to USUAL, to MOST while the controller does not answer
LAST = 10.0  # seconds before something is done about the end: then it is asked once more
STOPPED = 5.0  # seconds without a step, after which the job may have been suspended: its end is another one then
WAIT = 10.0  # seconds that an answer is waited for then, and after a warning


class JobEnd:
    """Of one job. Times are epoch seconds, but for those of the scheduler."""

    def __init__(self, job: str, end: float | None, deadline: Callable[[], float | None], moved: Callable[[float], object]) -> None:
        """`deadline`: when something is done about the end (monotonic). `moved(end)` is called by `step` when the end is another one."""
        self.job = job
        self.end = end
        self.deadline = deadline
        self.moved = moved
        self.preempted = False  # as far as known: SLURM ends it soon, for another one
        self.on_warned: Callable[[float | None], None] = lambda _: None  # told the end after `warned`, None if none is known
        self.show = controller.show_job
        self.now = time.monotonic
        self._asked = self.now()
        self._stepped = math.inf  # not yet
        self._pause = FIRST
        self._answer: float | None = None
        self._asking: threading.Thread | None = None
        self._warned_at: float | None = None
        self._asked_since = False

    def warned(self) -> None:
        """SLURM says that the end is near, but not when it is: that is asked, and `step` calls `on_warned`."""
        if self._warned_at is None:
            self._warned_at = self.now()
            self._look_at_warning(self._warned_at, self._warned_at)

    def step(self) -> None:
        """Once a second, before the clock is looked at."""
        now = self.now()
        if now - self._stepped > STOPPED:
            self._ask_at(now).join(WAIT)
            now = self.now()
        self._stepped = now
        if self._warned_at is not None:
            self._look_at_warning(now, self._warned_at)
        if self._is_asking():
            return
        self._take_answer()
        deadline = self.deadline()
        pause = self._pause if deadline is None else min(self._pause, max(deadline - LAST - self._asked, LAST))
        if now - self._asked >= pause:
            self._ask_at(now)

    def _is_asking(self) -> bool:
        return self._asking is not None and self._asking.is_alive()

    def _look_at_warning(self, now: float, warned_at: float) -> None:
        """An answer to what was asked before the warning does not count. Without any the end is the one that was known."""
        asking = self._is_asking()
        if not asking and not self._asked_since:
            self._asked_since = True
            self._ask_at(now)
        elif not asking or now - warned_at > WAIT:
            self._warned_at, self._asked_since = None, False
            self._take_answer()
            self.on_warned(self.end)

    def _take_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and (self.end is None or abs(answer - self.end) > 1.0):
            self.end = answer
            self.moved(answer)

    def _ask_at(self, now: float) -> threading.Thread:
        self._asked = now
        self._asking = threading.Thread(target=self._ask, name="job end", daemon=True)
        self._asking.start()
        return self._asking

    def _ask(self) -> None:
        """In a thread of its own: a busy controller takes its time."""
        try:
            found = allocation.parse_job(self.show(self.job))
        except controller.Unanswered:
            self._pause = min(2 * self._pause, MOST)
            return
        self._pause = min(2 * self._pause, USUAL)
        if found.running:
            self._answer = found.end
            self.preempted = found.preempted
