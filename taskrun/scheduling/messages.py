"""What the scheduler is told (events) and what it wants done (actions). Values only: a race is a list of these in a test."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from taskrun.model import Barrier, Cause, Kind, PerEngine, Planned, Result, Skipped, Task
from taskrun.scheduling.suspects import Blame

Key: TypeAlias = tuple[Kind, int, int]  # kind, id, attempt number: one attempt
How: TypeAlias = Literal["drain", "preempt", "cancel", "kill"]

# --- events


class Supply(NamedTuple):
    """The next items of the plan, in order."""

    items: list[Planned]


class SupplyEnd(NamedTuple):
    """There are no more. `broken`: the rest cannot be used, so what was read is drained.

    `open`: before the run is over, who reads is asked once more.
    """

    broken: bool = False
    open: bool = False


class SupplyGrows(NamedTuple):
    """There are more, after all."""


class ContextJoined(NamedTuple):
    context: str
    limit: int = 0  # attempts it takes at most, 0 for any number
    expected: int = 0  # engines it is about to offer, 0 when nobody knows
    end: float | None = None  # when the system ends it all
    task_time: float | None = None  # seconds a task takes, where the person said so
    gives_back: bool = False  # an engine with nothing more to do leaves while others work
    keep: str = ""  # but not the one on this node
    one_fate: bool = False  # an engine that the system tells to stop is the system's taking all of it back: none takes its place


class ContextEnds(NamedTuple):
    """The system has changed its mind about when it ends a context."""

    context: str
    end: float


class EngineMissing(NamedTuple):
    """An engine that was expected cannot be had, for now; should it join later, it is welcome."""

    context: str
    node: str
    why: str


class ContextGone(NamedTuple):
    """The context will offer no more engines."""

    context: str
    why: str


class EngineJoined(NamedTuple):
    """The agent is there and its slots can be used."""

    engine: str
    context: str
    rank: int
    slots: int
    node: str = ""  # the machine it is on; its own name if not told
    boot: str = ""  # the machine's boot id, if it is known


class Heard(NamedTuple):
    engine: str


class Taken(NamedTuple):
    """Slots of the engine have started these attempts."""

    engine: str
    keys: list[Key]


class Results(NamedTuple):
    engine: str
    results: list[Result]


class SlotsLost(NamedTuple):
    """Slots died with these attempts; the agent has made sure that nothing of them is left."""

    engine: str
    keys: list[Key]


class Recalled(NamedTuple):
    """The agent gave these back unstarted."""

    engine: str
    keys: list[Key]


class LinkClosed(NamedTuple):
    engine: str
    why: str
    heard: float | None = None  # when its agent was last heard, if it may live on without its link; None: it ends its tasks now
    died: bool = False  # its host has said that the agent is dead, and is up itself: a task may have caused it


class AgentTold(NamedTuple):
    """The system told the agent's node to stop (SIGTERM and its kin)."""

    engine: str
    signal: int


class EngineUseless(NamedTuple):
    """The agent cannot run anything any more, but has lost nothing."""

    engine: str
    why: str


class Told(NamedTuple):
    """The run was told to stop: by the person (drain, cancel) or the system (preempt, kill)."""

    how: How
    why: str


class Detach(NamedTuple):
    """An engine, or a context with all its engines, is to leave: after what it runs, or at once."""

    name: str
    now: bool


class Suspend(NamedTuple):
    """The run is suspended (`on`): nothing new starts; or it goes on. Running tasks go on in any case."""

    on: bool


class Absent(NamedTuple):
    """The driver did not run for so long: what it waited for had no chance to be seen."""

    seconds: float  # by which `now` went on meanwhile
    asleep: float = 0.0  # seconds that `now` does not count, because the machine slept


class Tick(NamedTuple):
    """Time has passed."""


Event: TypeAlias = (
    Supply
    | SupplyEnd
    | SupplyGrows
    | ContextJoined
    | ContextEnds
    | ContextGone
    | EngineMissing
    | EngineJoined
    | Heard
    | Taken
    | Results
    | SlotsLost
    | Recalled
    | LinkClosed
    | AgentTold
    | EngineUseless
    | Told
    | Detach
    | Suspend
    | Absent
    | Tick
)

# --- actions


class Assign(NamedTuple):
    """Give these attempts to the engine's agent."""

    engine: str
    attempts: list[tuple[Key, Task | PerEngine]]


class Recall(NamedTuple):
    """Ask for up to `count` unstarted attempts back. Each one is answered by one Recalled."""

    engine: str
    count: int  # type: ignore[assignment]  # tuple has a method of that name, which nobody uses here


class End(NamedTuple):
    """End all that the engine runs, give back what it has not started."""

    engine: str
    how: Cause
    grace: float  # seconds from TERM to KILL


class Leave(NamedTuple):
    """Nothing more for this engine: let it go."""

    engine: str


class GiveUp(NamedTuple):
    """The engine is lost: drop its link; nothing it says later counts, but for results of what has not started again."""

    engine: str
    why: str


class Replace(NamedTuple):
    """The context has lost an engine: it may offer another, on which nothing of `keys` may be left."""

    context: str
    engine: str
    keys: list[Key]


class SetAside(NamedTuple):
    """Too many engines of this node were lost in a row: it is asked for no more."""

    context: str
    node: str
    failures: int


Verdict: TypeAlias = Literal["held", "doubted", "set-aside", "probe-failed", "restored", "needed"]


class Judged(NamedTuple):
    """The last tasks of a host failed within seconds, and that has consequences, or has them no more.

    held: what happens elsewhere is waited for · doubted: a probe failed meanwhile · set-aside: tasks succeed elsewhere · probe-failed ·
    restored: a probe did not fail · needed: no other host is left
    """

    context: str
    node: str
    engines: tuple[str, ...]
    verdict: Verdict
    row: int  # failures, one after another
    pause: float  # seconds to the next probe
    last: Result | None  # of those failures


class Unfit(NamedTuple):
    """A START CHECK failed: the engine is not used, and none takes its place."""

    context: str
    engine: str
    node: str
    command: PerEngine
    result: Result


class Record(NamedTuple):
    """Final attempts: their status lines are written before anything else is done."""

    engine: str
    ended: list[tuple[Task | PerEngine, Result, float]]  # with when it was assigned


class RecordSkipped(NamedTuple):
    skipped: list[Skipped]


class RecordBarrier(NamedTuple):
    barrier: Barrier
    ok: bool
    since: float  # when it became the next in line


class Attempted(NamedTuple):
    """An attempt that writes no status line: an event."""

    engine: str
    task: Task | PerEngine
    result: Result
    blame: Blame = ""


class Late(NamedTuple):
    """A result that came too late: the task had been given to somebody else."""

    engine: str
    result: Result


class Wait(NamedTuple):
    """Why nothing starts, said once per change; '' when something can again."""

    why: str


class Finish(NamedTuple):
    """The run is over."""


Action: TypeAlias = (
    Assign
    | Recall
    | End
    | Leave
    | GiveUp
    | Replace
    | SetAside
    | Judged
    | Unfit
    | Record
    | RecordSkipped
    | RecordBarrier
    | Attempted
    | Late
    | Wait
    | Finish
)
