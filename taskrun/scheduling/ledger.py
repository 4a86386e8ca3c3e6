"""What has ended for good: counts, and what the next BARRIER CHECK will say."""

from __future__ import annotations

from collections.abc import Callable

from taskrun.model import Barrier, PerEngine, Result, Skipped, Task
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.suspects import Suspects


class Counts:
    """Records so far."""

    __slots__ = ("barriers", "done", "failed", "given_up", "per_engine", "per_engine_failed", "skipped", "skipped_failed")

    def __init__(self) -> None:
        self.done = 0  # tasks that ended in this run
        self.failed = 0  # of them, not with 0
        self.given_up = 0  # of these, for the engines that died with them (-100)
        self.skipped = 0
        self.skipped_failed = 0
        self.barriers = 0
        self.per_engine = 0
        self.per_engine_failed = 0

    @property
    def any_failed(self) -> bool:
        return bool(self.failed or self.skipped_failed or self.per_engine_failed)


class Ledger:
    def __init__(self, out: Outbox, suspects: Suspects) -> None:
        self.out = out
        self.suspects = suspects
        self.counts = Counts()
        self.failed_since_barrier = False
        self.check_failed: Barrier | None = None
        self.on_ended: Callable[[str, Result], None] = lambda *_: None  # a task, on an engine

    def ended(self, engine: str, task: Task | PerEngine, result: Result, assigned: float) -> None:
        """The final attempt of a task, or a PERENGINE command."""
        self.out.ended(engine, task, result, assigned)
        counts, suspects = self.counts, self.suspects
        failed = result.code != 0 and not (type(task) is PerEngine and task.check)  # a check costs its engine, and nothing else
        if failed:
            self.failed_since_barrier = True
        if result.kind == "task":
            counts.done += 1
            counts.failed += failed
            self.on_ended(engine, result)
            if result.cause == "crash-limit":
                counts.given_up += 1
            else:
                suspects.row = 0
            if suspects.nodes or suspects.charges:
                suspects.ended(task.id)
        else:
            counts.per_engine += 1
            counts.per_engine_failed += failed

    def skip(self, item: Skipped) -> None:
        self.out.skipped(item)
        self.counts.skipped += 1
        if item.code:
            self.counts.skipped_failed += 1
            self.failed_since_barrier = True

    def barrier(self, barrier: Barrier, since: float) -> bool:
        """All before it has ended: met, or its check fails."""
        ok = not (barrier.check and self.failed_since_barrier)
        self.out.barrier(barrier, ok, since)
        self.counts.barriers += 1
        self.failed_since_barrier = False
        if not ok:
            self.check_failed = barrier
        return ok
