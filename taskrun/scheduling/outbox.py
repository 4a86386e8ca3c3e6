"""The actions of one event, in their order: records come before everything else, a barrier's after all that came before it."""

from __future__ import annotations

from taskrun.model import Barrier, PerEngine, Result, Skipped, Task
from taskrun.scheduling import messages as m


class Outbox:
    def __init__(self) -> None:
        self._records: list[m.Action] = []
        self._actions: list[m.Action] = []
        self._ended: dict[str, list[tuple[Task | PerEngine, Result, float]]] = {}  # batches that can still grow
        self._skipped: list[Skipped] = []
        self.add = self._actions.append

    def ended(self, engine: str, task: Task | PerEngine, result: Result, assigned: float) -> None:
        """The status line of a final attempt."""
        batch = self._ended.get(engine)
        if batch is None:
            batch = self._ended[engine] = []
            self._records.append(m.Record(engine, batch))
        batch.append((task, result, assigned))

    def skipped(self, item: Skipped) -> None:
        if not self._skipped:
            self._records.append(m.RecordSkipped(self._skipped))
        self._skipped.append(item)

    def barrier(self, barrier: Barrier, ok: bool, since: float) -> None:
        self._records.append(m.RecordBarrier(barrier, ok, since))
        self._ended = {}
        self._skipped = []

    def take(self) -> list[m.Action]:
        """All of it; the outbox is empty then."""
        actions = self._actions
        if self._records:
            actions = self._records + actions
            self._records = []
            self._ended = {}
            self._skipped = []
        if self._actions:
            self._actions = []
            self.add = self._actions.append
        return actions
