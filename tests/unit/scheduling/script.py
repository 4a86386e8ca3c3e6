"""A scheduler and its clock, told what happens line by line; what it does is looked at by kind of action."""

from __future__ import annotations

from typing import Any, TypeVar

from taskrun.model import NO_REPEAT, Barrier, PerEngine, Planned, Result, Skipped, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler

Kind = TypeVar("Kind")


def task(number: int) -> Task:
    return Task(number, number + 1, NO_REPEAT, b"true")


def barrier(number: int, *, check: bool = False) -> Barrier:
    return Barrier(number, number + 1, check, None, b"")


def skipped(number: int, code: int = 0) -> Skipped:
    return Skipped(task(number), code, b"")


def start(number: int = 0) -> PerEngine:
    return PerEngine(number, 1, "START", b"")


def stop(number: int = 0) -> PerEngine:
    return PerEngine(number, 1, "STOP", b"")


def result(key: Any, cause: Any = "ok", code: int = 0, elapsed: float = 1.0) -> Result:
    kind, number, n = key if isinstance(key, tuple) else ("task", key, 1)
    return Result(kind, number, n, cause, code, 1, 0, 1.0, 2.0, elapsed, 0.0, 0.0, 0, 0, b"", 0, b"", False)


class Script:
    def __init__(self, *items: Planned, engines: int = 1, slots: int = 2, limit: int = 0, ended: bool = True, **policy: Any) -> None:
        self.now = 1000.0
        self.scheduler = Scheduler(Policy(**{"sick_after": 0, **policy}))
        self.actions: list[Any] = []
        self(m.ContextJoined("c", limit))
        for number in range(engines):
            self.join(f"e{number}", slots=slots)
        self.supply(*items, ended=ended)

    def __call__(self, event: m.Event) -> list[Any]:
        """What is done about it."""
        actions = self.scheduler.handle(event, self.now)
        self.actions += actions
        return actions

    def supply(self, *items: Planned, ended: bool = False) -> None:
        if items:
            self(m.Supply(list(items)))
        if ended:
            self(m.SupplyEnd())

    def join(self, name: str, *, slots: int = 2, node: str = "", context: str = "c", boot: str = "") -> None:
        self(m.EngineJoined(name, context, int(name[1:]), slots, node, boot))

    def ends(self, what: Any, cause: Any = "ok", code: int = 0, *, engine: str = "e0") -> list[Any]:
        """The engine's agent says how an attempt ended: a key, or the id of a task whose first attempt it is."""
        return self(m.Results(engine, [result(what, cause, code)]))

    def taken(self, *keys: Any, engine: str = "e0") -> None:
        self(m.Taken(engine, [("task", key, 1) if isinstance(key, int) else key for key in keys]))

    def after(self, seconds: float) -> list[Any]:
        """The actions of a tick so much later; engines that live are heard on the way."""
        self.now += seconds
        return self(m.Tick())

    def kind(self, kind: type[Kind], actions: list[Any] | None = None) -> list[Kind]:
        return [action for action in (self.actions if actions is None else actions) if isinstance(action, kind)]

    def assigned(self, engine: str = "", actions: list[Any] | None = None) -> list[Any]:
        return [key for each in self.kind(m.Assign, actions) if engine in ("", each.engine) for key, _ in each.attempts]

    def recorded(self, actions: list[Any] | None = None) -> list[tuple[int, str, int]]:
        return [(item.id, ended.cause, ended.code) for each in self.kind(m.Record, actions) for item, ended, _ in each.ended]

    def attempted(self, actions: list[Any] | None = None) -> list[tuple[int, str]]:
        return [(each.task.id, each.result.cause) for each in self.kind(m.Attempted, actions)]

    def dies(self, engine: str = "e0") -> list[Any]:
        """Its agent is killed, on a host that is up; what is done when its tasks have ended."""
        self(m.LinkClosed(engine, "killed", died=True))
        return self.after(7.1)

    def leaves(self, engine: str = "e0") -> None:
        self(m.LinkClosed(engine, "it left"))

    def code(self, *, count_failures: bool = False) -> int:
        assert self.scheduler.finished
        return int(self.scheduler.exit_code(count_failures=count_failures))
