"""Which engine gets the next task: a free slot first, each engine in turn; then room ahead of the slots."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Engine
from taskrun.scheduling.outbox import Outbox


class Placement:
    """Only engines that have room are looked at, whatever their number. `update` after each change of an engine."""

    def __init__(self) -> None:
        self.windows = 0  # attempts that all ready engines may hold together
        self._free: OrderedDict[Engine, None] = OrderedDict()  # with a free slot
        self._ahead: OrderedDict[Engine, None] = OrderedDict()  # with room ahead only
        self._nodes: dict[str, int] = {}  # node -> ready engines

    def ready(self, engine: Engine) -> None:
        self._nodes[engine.node] = self._nodes.get(engine.node, 0) + 1
        self.update(engine)

    def unready(self, engine: Engine) -> None:
        left = self._nodes[engine.node] - 1
        if left:
            self._nodes[engine.node] = left
        else:
            del self._nodes[engine.node]
        self.windows -= engine.counted
        engine.counted = 0
        self.update(engine)

    @property
    def any_ready(self) -> bool:
        return bool(self._nodes)

    @property
    def any_free(self) -> bool:
        """There may be a free slot."""
        return bool(self._free)

    @property
    def any_room(self) -> bool:
        return bool(self._free or self._ahead)

    def update(self, engine: Engine) -> None:
        held = len(engine.live)
        free, ahead = self._free, self._ahead
        ready = engine.phase == "ready"
        if ready and engine.window != engine.counted:
            self.windows += engine.window - engine.counted
            engine.counted = engine.window
        if not ready or held >= engine.window or not engine.context.open:
            if engine in free:
                del free[engine]
            elif engine in ahead:
                del ahead[engine]
        elif held < engine.slots:
            if engine not in free:
                ahead.pop(engine, None)
                free[engine] = None
        elif engine not in ahead:
            free.pop(engine, None)
            ahead[engine] = None

    def choose(self) -> Engine | None:
        """The engine whose turn it is."""
        for queue in (self._free, self._ahead):
            while queue:
                engine = next(iter(queue))
                if engine.context.open:
                    queue.move_to_end(engine)
                    return engine
                del queue[engine]  # another engine of its context took the last attempt
        return None

    def choose_elsewhere(self, nodes: Collection[str], *, only: bool) -> Engine | None:
        """An engine for a task that was lost on `nodes`: a free slot elsewhere; else any, but with `only` if there is no elsewhere."""
        for engine in self._free:
            if engine.node not in nodes and engine.context.open:
                self._free.move_to_end(engine)
                return engine
        if only and len(self._nodes) > sum(1 for node in set(nodes) if node in self._nodes):
            return None  # it waits for a free slot there: what is given ahead could be asked back and come here
        return self.choose()

    def even_out(self, engines: Iterable[Engine], out: Outbox) -> None:
        """Engines have free slots and nothing is left to hand out, while others hold what they have not started: it is asked back."""
        idle = sum(engine.slots - len(engine.live) for engine in self._free if engine.context.open)
        if not idle:
            return
        for engine in engines:
            spare = len(engine.live) - engine.slots
            if spare > 0 and engine.phase == "ready" and not engine.recalling:
                engine.recalling = True
                out.add(m.Recall(engine.name, min(spare, idle)))
                idle -= min(spare, idle)
                if not idle:
                    return
