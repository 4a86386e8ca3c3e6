"""A context, an engine and an attempt as the scheduler sees them, and how much an engine is given ahead of its free slots."""

from __future__ import annotations

from typing import Literal, TypeAlias

from taskrun.model import PerEngine, Task
from taskrun.scheduling.messages import Key
from taskrun.scheduling.suspects import Blame
from taskrun.scheduling.walltime import Walltime

#: start: START commands · ready: takes tasks · drain: takes none · stop: STOP commands · leaving: let go · closed: its link is · gone
Phase: TypeAlias = Literal["start", "ready", "drain", "stop", "leaving", "closed", "gone"]

AHEAD = 0.2  # seconds of short tasks an agent holds unstarted, at least one a slot
AHEAD_MOST = 200  # unstarted tasks a slot, at most


class Losses:
    """Engines of one node that were lost since a task has ended there."""

    __slots__ = ("charged", "died", "silent")

    def __init__(self) -> None:
        self.charged = 0  # they died, and a task was charged
        self.died = 0  # they died or were of no use, and nobody was charged
        self.silent = 0  # what else there is: silence, a connection or a host that is gone, a node that was told to stop

    @property
    def total(self) -> int:
        return self.charged + self.died + self.silent


class Context:
    """One request for machines."""

    __slots__ = (
        "alive", "asked", "detached", "engines", "gives_back", "keep", "left", "limited", "live", "losses", "name", "one_fate", "taken",
        "unfit", "unknown", "walltime",
    )  # fmt: skip

    def __init__(self, name: str, limit: int, expected: int, walltime: Walltime | None = None) -> None:
        self.name = name
        self.walltime = walltime  # None: it does not end by itself
        self.gives_back = False  # an engine with nothing more to do leaves while others work,
        self.keep = ""  # unless it is on this node
        self.one_fate = False  # see ContextJoined
        self.taken = False  # the system takes it back
        self.limited = limit > 0
        self.left = limit  # attempts it still takes
        self.live = 0  # attempts of tasks its engines hold
        self.alive = True  # it may offer engines
        self.detached = False
        self.unfit = False  # an engine of it was not used, since a START CHECK failed
        self.unknown = not expected  # nobody has told how many engines it will offer, and none has come
        self.asked = expected  # those that have not joined yet, replacements too
        self.engines: dict[str, Engine] = {}
        self.losses: dict[str, Losses] = {}  # by node

    @property
    def open(self) -> bool:
        """It takes another attempt."""
        return (not self.limited or self.left > 0) and (self.walltime is None or self.walltime.state == "open")

    @property
    def ends(self) -> bool:
        """What starts now would not end before it does."""
        return self.walltime is not None and self.walltime.state != "open"

    @property
    def spent(self) -> bool:
        """It starts nothing more, and nothing can come back unstarted."""
        return ((self.limited and self.left <= 0) or self.ends) and not self.live

    @property
    def is_unfit(self) -> bool:
        """START CHECK has failed on the last of its engines."""
        return self.unfit and not self.engines and not self.asked

    @property
    def promising(self) -> bool:
        """It has engines, or may offer some that are of use. One that never offered any is only given up by ContextGone."""
        if self.engines:
            return True
        return self.alive and not self.taken and not self.detached and not self.spent and (self.asked > 0 or self.unknown)


class Engine:
    """One node of a context, with its slots."""

    __slots__ = (
        "alone", "began", "boot", "context", "counted", "crashes", "cut", "death", "detached", "due", "ended", "excused", "heard", "live",
        "mean", "most", "name", "node", "phase", "rank", "recalling", "slots", "step", "suspect", "told", "unfit", "useless", "why",
        "window",
    )  # fmt: skip

    def __init__(self, name: str, context: Context, rank: int, slots: int, node: str, now: float) -> None:
        self.name = name
        self.context = context
        self.rank = rank
        self.slots = slots
        self.node = node
        self.phase: Phase = "start"
        self.step = 0  # next PERENGINE command of the phase
        self.began = False  # a START command was handed to it, or it was ready: it gets its STOP commands
        self.crashes = 0  # slots lost with the PERENGINE command that is its turn
        self.live: dict[Key, Attempt] = {}
        self.heard = now
        self.due: float | None = None  # when our patience with this phase ends
        self.mean = 1.0  # seconds a task takes, smoothed
        self.window = 2 * slots  # attempts it may hold
        self.most: int | None = None  # and what the health of its host allows, None for any number
        self.counted = 0  # of them, those in Placement.windows
        self.recalling = False
        self.told = False  # the system told its agent to stop
        self.ended = False  # it was told to end what it runs
        self.cut = False  # the time for its STOP commands is over
        self.detached = False
        self.useless = False
        self.excused = 0.0  # until then its loss is the driver's doing, which did not run: not 0
        self.unfit = False  # a START CHECK failed
        self.why = ""  # why it is lost
        self.boot = ""  # boot id of its host
        self.death: Literal["", "died", "charged"] = ""  # its agent is dead and its host is up; a task is charged with that
        self.suspect: Key | None = None  # the attempt of a suspect that it holds
        self.alone: int | None = None  # the task that it is kept for, or runs: nothing else comes here meanwhile

    @property
    def room(self) -> int:
        """Attempts that it may hold."""
        return self.window if self.most is None else min(self.window, self.most)

    @property
    def idle(self) -> int:
        """Slots without a task that may get one."""
        return min(self.slots, self.room) - len(self.live)

    def measured(self, seconds: float, count: int) -> None:
        """Learn from `count` results that took `seconds` together; the window is one attempt a slot, and what its slots end in AHEAD."""
        mean = self.mean
        mean += (seconds / count - mean) * min(0.5, count * 0.05)
        self.mean = mean = max(mean, 0.0005)
        slots = self.slots
        self.window = slots + max(slots, min(int(AHEAD * slots / mean), AHEAD_MOST * slots))


class Attempt:
    """One try of a task (or of a PERENGINE command), held by an engine."""

    __slots__ = ("assigned", "began", "blame", "engine", "held", "key", "started", "task")

    def __init__(self, key: Key, task: Task | PerEngine, engine: Engine, assigned: float) -> None:
        self.key = key
        self.task = task
        self.engine = engine
        self.assigned = assigned
        self.started = False
        self.began = 0.0  # when its agent said that it has started
        self.held = False  # its result waits for news
        self.blame: Blame = ""  # for the death of its engine or slot
