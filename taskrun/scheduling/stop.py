"""Whether and why the run is to end, how hard, and what its exit code will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskrun.errors import ExitCode
from taskrun.scheduling.messages import How

if TYPE_CHECKING:
    from taskrun.model import Cause

_ORDER: tuple[How, ...] = ("drain", "preempt", "cancel", "kill")
_FORCED = {"cancel": ExitCode.INTERRUPTED, "kill": ExitCode.TERMINATED}


class Stop:
    def __init__(self) -> None:
        self.how: How | None = None
        self.why = ""  # of the first
        self.code = ExitCode.OK
        self.work_over = False  # everything was read and has ended

    @property
    def closing(self) -> bool:
        """No engine is given another task."""
        return self.work_over or self.how is not None

    @property
    def takes_back(self) -> bool:
        """Running tasks were told to end: what ends by a signal now has not failed."""
        return self.how is not None and self.how != "drain"

    @property
    def cause(self) -> Cause:
        """How the attempts that the stop ends have ended."""
        return "cancelled" if self.how == "cancel" else "preempted"

    def told(self, how: How, why: str) -> bool:
        """By a signal or a person. True if it is harder than what was asked before."""
        return self._harder(how, why, _FORCED.get(how, ExitCode.STOPPED), forced=True)

    def failed(self, how: How, why: str) -> bool:
        """A failure ends the run: fail-fast, or a BARRIER CHECK. A stop that was under way keeps its exit code."""
        return self._harder(how, why, ExitCode.TASKS_FAILED, forced=False)

    def stuck(self, why: str) -> bool:
        """Nothing can run what is left."""
        return self._harder("drain", why, ExitCode.STOPPED, forced=False)

    def _harder(self, how: How, why: str, code: ExitCode, *, forced: bool) -> bool:
        if self.how is not None and _ORDER.index(how) <= _ORDER.index(self.how):
            return False
        if self.how is None or (forced and how in _FORCED):
            self.code = code
        self.why = self.why or why
        self.how = how
        return True

    def exit_code(self, *, undone: bool, failures_count: bool) -> ExitCode:
        """`undone`: not all has a record; `failures_count`: something failed, and that was asked to count."""
        if self.code in _FORCED.values() or self.code == ExitCode.TASKS_FAILED:
            return self.code
        if undone:
            return ExitCode.STOPPED
        return ExitCode.TASKS_FAILED if failures_count else ExitCode.OK
