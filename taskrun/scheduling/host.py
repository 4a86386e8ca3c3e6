"""A host as its health is judged: what has ended there, its failures in a row, its probe; and how long a row chance makes."""

from __future__ import annotations

import math

from taskrun.model import Result
from taskrun.scheduling.engine import Context, Engine
from taskrun.scheduling.messages import Key

CHANCE = 0.01  # that some host of a run is set aside although it is like the others, about
ROW = 5  # failures, for that chance; where the person asks for others it is another one


class Host:
    """One node of a context."""

    __slots__ = (
        "bad", "bad_elsewhere", "context", "engines", "last", "name", "ok", "ok_elsewhere", "ok_then", "opened", "pause", "probe",
        "probe_at", "row", "said", "seen_there", "since", "state", "succeeded",
    )  # fmt: skip

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.engines: dict[str, Engine] = {}
        self.ok = 0  # tasks that succeeded there
        self.bad = 0  # those that failed, but for the row
        self.row = 0  # the last ones, if all of them failed within seconds
        self.ok_elsewhere = 0  # when the row began
        self.bad_elsewhere = 0
        self.last: Result | None = None  # of the row
        self.state = ""  # held: it waits for what happens elsewhere · aside
        self.since = 0.0  # when the row was long enough to look elsewhere
        self.said = False  # that it is held
        self.pause = 0.0  # seconds from one probe to the next
        self.ok_then = 0  # when it was used again
        self.probe_at = math.inf
        self.opened: Engine | None = None  # takes the next task as a probe
        self.seen_there: frozenset[Key] = frozenset()  # what it held then
        self.probe: Key | None = None
        self.succeeded: bool | None = None  # the probe, when it has ended

    def ready(self) -> list[Engine]:
        return [engine for engine in self.engines.values() if engine.phase == "ready" and engine.context.open]

    def is_probe(self, engine: str, key: Key) -> bool:
        """Tell whether the engine was given this since it was opened for a probe."""
        return self.opened is not None and engine == self.opened.name and key not in self.seen_there

    def is_coming(self) -> bool:
        return any(engine.phase in ("start", "closed") for engine in self.engines.values())


def share_of(bad: int, ok: int, before: float = 0.5) -> float:
    """Return the share of tasks that fail, where so many did. `before`: what is assumed without any."""
    return (bad + before) / (ok + bad + 1)


def longer(share: float, ended: int) -> float:
    """Return how many times longer a row is to be where this share of tasks fails anyway: of many some fail in a row by chance."""
    return max(1.0, math.log(CHANCE / max(1, ended)) / math.log(share) / ROW)
