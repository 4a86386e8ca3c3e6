"""Counts of the tasks of a run: each task is in one number, so that the numbers add up to all tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from taskrun.scheduling.scheduler import Scheduler


class OnRecord(NamedTuple):
    """The tasks of a regular file as they were before the run."""

    skipped: int  # have a record and do not run again
    failed: int  # of them, not with 0
    to_run: int

    def counts(self) -> dict[str, int]:
        """Return the counts for the sidecar while nothing has ended."""
        return {"done": 0, "failed": 0, "skipped": self.skipped, "skipped_failed": self.failed, "left": self.to_run}


class Account(NamedTuple):
    done: int  # ended in this run, with 0
    failed: int  # ended otherwise, in this run or before it and are not run again
    skipped: int  # ended before it, with 0
    left: int | None  # have not ended; None: of a stream, nobody knows yet
    finished: int  # ended in this run, whatever their code

    def counts(self, failed: int) -> dict[str, int]:
        """Return the counts for the sidecar, where `done` and `failed` are those of this run and `skipped` all that were skipped."""
        before = self.failed - failed
        known = {} if self.left is None else {"left": self.left}
        return {"done": self.finished, "failed": failed, "skipped": self.skipped + before, "skipped_failed": before, **known}


def account(scheduler: Scheduler, before: OnRecord | None, *, over: bool) -> Account:
    """`before`: None of a stream, whose tasks on record are those that were read. `over`: nothing more is read or run."""
    counts = scheduler.counts
    if before is None:
        skipped, skipped_failed = counts.skipped, counts.skipped_failed
        left = scheduler.left if over else None
    else:
        skipped, skipped_failed = before.skipped, before.failed
        left = max(0, before.to_run - counts.done)
    return Account(counts.done - counts.failed, counts.failed + skipped_failed, skipped - skipped_failed, left, counts.done)
