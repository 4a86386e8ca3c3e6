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
        self.free: OrderedDict[Engine, None] = OrderedDict()  # with a free slot
        self.ahead: OrderedDict[Engine, None] = OrderedDict()  # with room ahead only
        self._ready = 0  # engines

    def ready(self, engine: Engine) -> None:
        self._ready += 1
        self.update(engine)

    def unready(self, engine: Engine) -> None:
        self._ready -= 1
        self.windows -= engine.counted
        engine.counted = 0
        self.update(engine)

    @property
    def any_ready(self) -> bool:
        return self._ready > 0

    @property
    def any_free(self) -> bool:
        """There may be a free slot."""
        return bool(self.free)

    @property
    def any_room(self) -> bool:
        return bool(self.free or self.ahead)

    def update(self, engine: Engine) -> None:
        held = len(engine.live)
        free, ahead = self.free, self.ahead
        ready = engine.phase == "ready"
        if ready and engine.window != engine.counted:
            self.windows += engine.window - engine.counted
            engine.counted = engine.window
        most = engine.most
        full = held >= engine.window or (most is not None and held >= most)  # Engine.room, without a call
        if not ready or full or engine.alone is not None or not engine.context.open:
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
        for queue in (self.free, self.ahead):
            while queue:
                engine = next(iter(queue))
                context = engine.context
                if not context.limited or context.left > 0:  # engines of one that ends have left the queues
                    if len(queue) > 1:
                        queue.move_to_end(engine)
                    return engine
                del queue[engine]  # another engine of its context took the last attempt
        return None

    def choose_elsewhere(self, nodes: Collection[str]) -> Engine | None:
        """An engine for a task that was lost on `nodes`: a free slot elsewhere, else any."""
        for engine in self.free:
            if engine.node not in nodes and engine.context.open:
                self.free.move_to_end(engine)
                return engine
        return self.choose()

    def even_out(self, engines: Iterable[Engine], out: Outbox, *, suspects: bool) -> None:
        """Engines have free slots and nothing is left to hand out, while others hold what they have not started: it is asked back.

        `suspects`: one of the free slots may have a suspect; else one that is not started has nowhere else to go.
        """
        idle = sum(engine.idle for engine in self.free if engine.context.open)
        if not idle:
            return
        for engine in engines:
            spare = len(engine.live) - engine.slots
            if spare > 0 and not suspects and engine.suspect in engine.live and not engine.live[engine.suspect].started:
                spare -= 1
            if spare > 0 and engine.phase == "ready" and not engine.recalling:
                engine.recalling = True
                out.add(m.Recall(engine.name, min(spare, idle)))
                idle -= min(spare, idle)
                if not idle:
                    return
