"""Placement of suspects: one an engine at a time, and one that was charged alone on its engine.

An engine that is kept for a task that is to run alone takes nothing more and gives back what it has not started; the task comes when it is
empty. Half of the engines at most are kept so, at least one. On a node that has just lost an engine to a suspect other tasks come first, as
long as there are any: a result of theirs shows that the node is in order, and without one it is set aside before a second task is blamed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Engine
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.placement import Placement
from taskrun.scheduling.plan import Again, Plan
from taskrun.scheduling.suspects import Suspects

PATIENCE = 6  # charges in a row, without one task's end, after which suspects are followed up one by one instead of each tried once


class Isolation:
    def __init__(self, suspects: Suspects, plan: Plan, placement: Placement, engines: Mapping[str, Engine], out: Outbox) -> None:
        self.suspects = suspects
        self.plan = plan
        self.placement = placement
        self.engines = engines
        self.out = out
        self._kept: dict[int, Engine] = {}  # task -> engine that is being emptied for it

    def place(self, give: Callable[[Engine, Again], None], *, last: bool) -> None:
        """Give engines the suspects that they can take. `last`: all other tasks have been handed out."""
        self._forget()
        for task, engine in list(self._kept.items()):
            if _is_empty(engine):
                self._give(task, engine, give)
        charged = list(self.suspects.waiting_charged(self.plan.again))
        if not charged or self.suspects.row < PATIENCE:
            while uncharged := self.suspects.waiting_uncharged(self.plan.again):
                if not self._place_one(uncharged, give, last):
                    return
        self._place_charged(charged, give, last)

    @property
    def alone(self) -> int | None:
        """A task that runs alone, or is about to, on the only engines there are."""
        ready = [engine for engine in self.engines.values() if _takes(engine)]
        return ready[0].alone if ready and all(engine.alone is not None for engine in ready) else None

    # --- suspects

    def _place_one(self, tasks: list[int], give: Callable[[Engine, Again], None], last: bool) -> bool:
        """Give one of these to an engine without a suspect: to a free slot elsewhere, any free slot, or ahead of the slots elsewhere."""
        free = [engine for engine in self.placement.free if self._may_have_one(engine, last)]
        found = self._elsewhere(tasks, free)
        if found is None and free:
            found = tasks[0], free[0]
        if found is None and not self.may_give_free_slot:  # else that engine has it when others have had their turn
            found = self._elsewhere(tasks, [engine for engine in self.placement.ahead if self._may_have_one(engine, last)])
        if found is not None:
            give(found[1], self.plan.take(found[0]))
        return found is not None

    def _elsewhere(self, tasks: list[int], engines: list[Engine]) -> tuple[int, Engine] | None:
        for task in tasks if engines else ():
            nodes = self._nodes(task)
            for engine in engines:
                if engine.node not in nodes:
                    return task, engine
        return None

    @property
    def may_give_free_slot(self) -> bool:
        """Return whether a suspect gets a free slot, if there is no other task for it."""
        return any(self._may_have_one(engine, last=True) for engine in self.placement.free)

    def _may_have_one(self, engine: Engine, last: bool) -> bool:
        return engine.suspect is None and engine.context.open and self._in_order(engine, last)

    @staticmethod
    def _in_order(engine: Engine, last: bool) -> bool:
        """Return whether its node may have a suspect: if it has lost an engine to one, other tasks come first."""
        losses = engine.context.losses.get(engine.node)
        return (last and not engine.live) or losses is None or not losses.charged

    def _nodes(self, task: int) -> Collection[str]:
        """Nodes where it is not to run: those where it was lost, if there is another."""
        nodes = self.suspects.nodes.get(task, ())
        elsewhere = any(_takes(engine) and engine.node not in nodes for engine in self.engines.values())
        return nodes if elsewhere else ()

    # --- those that run alone

    def _place_charged(self, tasks: list[int], give: Callable[[Engine, Again], None], last: bool) -> None:
        for task in tasks:
            nodes = self._nodes(task)
            engine = self._empty(nodes, last)
            if engine is not None:
                self._give(task, engine, give)
            elif task not in self._kept and not last:
                self._keep(task, nodes)

    def _give(self, task: int, engine: Engine, give: Callable[[Engine, Again], None]) -> None:
        self._let_go(task)
        engine.alone = task
        give(engine, self.plan.take(task))

    @property
    def _room(self) -> bool:
        """Return whether another engine may be kept for one task."""
        ready = [engine for engine in self.engines.values() if _takes(engine)]
        return sum(engine.alone is not None for engine in ready) < max(1, len(ready) // 2)

    def _empty(self, nodes: Collection[str], last: bool) -> Engine | None:
        if self._room:
            for engine in self.placement.free:
                if _is_empty(engine) and engine.node not in nodes and engine.context.open and self._in_order(engine, last):
                    return engine
        return None

    def _keep(self, task: int, nodes: Collection[str]) -> None:
        """Empty the engine that will be empty first, as far as can be told."""
        if not self._room:
            return
        able = [
            engine
            for engine in self.engines.values()
            if _takes(engine) and engine.alone is None and engine.node not in nodes and self._in_order(engine, last=False)
        ]  # fmt: skip
        if able:
            engine = min(able, key=lambda each: (len(each.live), each.rank))
            engine.alone = task
            self._kept[task] = engine
            self.placement.update(engine)
            engine.recalling = True
            self.out.add(m.Recall(engine.name, len(engine.live)))

    def _forget(self) -> None:
        """Engines are not kept that have left, or whose task has found another."""
        for task, engine in list(self._kept.items()):
            if not _takes(engine) or task not in self.plan.again or not self.suspects.charges.get(task):
                self._let_go(task)

    def _let_go(self, task: int) -> None:
        engine = self._kept.pop(task, None)
        if engine is not None:
            engine.alone = None
            self.placement.update(engine)


def _takes(engine: Engine) -> bool:
    """Return whether it may get tasks, now or when it has room: one that is set aside may not."""
    return engine.phase == "ready" and engine.context.open and engine.room > 0


def _is_empty(engine: Engine) -> bool:
    """Return whether nothing runs there, and the end of its last suspect is known."""
    return not engine.live and engine.suspect is None
