"""The values that every part of taskrun passes around. No behaviour lives here."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

NO_REPEAT = -1  # repeat index of a task that does not come from a REPEAT

#: How an attempt ended (the rows of truth.md, section 1). Each says whose fault it was.
Cause: TypeAlias = Literal[
    "ok", "exit", "signal", "start", "timeout", "memory", "stage-in", "stage-out", "leftovers",
    "engine-lost", "crash-limit", "preempted", "cancelled", "throttled", "skipped",
]  # fmt: skip

#: Which command an attempt runs: a task's, or a PERENGINE command of one engine.
Kind: TypeAlias = Literal["task", "start", "stop"]


class Encryption(NamedTuple):
    """For whom a file is encrypted when it leaves, and with whose key it is signed ('' for nobody's)."""

    recipients: tuple[str, ...]
    sign: str


class Staging(NamedTuple):
    """Data that is fetched before tasks start, or delivered when they have ended: one STAGE-IN or STAGE-OUT line."""

    line: int
    way: Literal["in", "out"]
    scope: Literal["RUN", "ENGINE", "TASK"]
    source: str  # a location or a glob; what was quoted in it stands in brackets
    dest: str  # '' for the working directory
    encryption: Encryption | None  # None: as it is


class Task(NamedTuple):
    """One expanded command with an id."""

    id: int
    line: int  # 1-based line of the task file
    repeat: int  # repeat index, NO_REPEAT if none
    command: bytes  # prefix + line + suffix, to the byte
    file: bytes | None = None  # of a FOREACH: the path it is for
    staging: tuple[Staging, ...] = ()  # what is fetched and delivered for each attempt of it


class Barrier(NamedTuple):
    """Nothing after it starts until everything before it has ended."""

    id: int
    line: int
    check: bool  # also: the run stops when something failed since the previous barrier
    key: bytes | None
    text: bytes  # the raw line: the Command column of its record


class PerEngine(NamedTuple):
    """A command that every engine runs before its first task (START) or when it leaves (STOP)."""

    id: int  # START and STOP count from 0 each, apart from the tasks' ids
    line: int
    when: Literal["START", "STOP"]
    command: bytes
    check: bool = False  # START: an engine on which it fails is not used


class Skipped(NamedTuple):
    """A task that is not run because an earlier run ended it."""

    task: Task
    code: int  # return code on record
    record: bytes  # the S line to write, with its newline


#: What the scheduler is handed, in the order of the task file.
Planned: TypeAlias = "Task | Barrier | PerEngine | Skipped"
#: The same with what the scheduler never sees: data that is to be there first.
Supplied: TypeAlias = "Planned | Staging"


class Result(NamedTuple):
    """How one attempt ended, as its slot saw it. Times are the driver's clock, epoch seconds."""

    kind: Kind
    id: int
    n: int  # attempt number, from 1 (PERENGINE: the engine's rank)
    cause: Cause
    code: int  # ReturnCode column: exit code, -N for signal N, errno when it could not start
    pid: int  # of the task's bash, -1 if it never started
    slot: int  # slot number on its engine, -1 for PERENGINE
    start: float
    end: float
    elapsed: float  # monotonic, seconds
    utime: float  # CPU seconds
    stime: float
    maxrss: int  # bytes, the largest single process
    out_bytes: int
    out: bytes  # snippet of stdout: first 40 bytes, then `...` and the last 40 of the remainder
    err_bytes: int
    err: bytes
    left_behind: bool  # processes of the task live on after its bash ended
    tail: bytes = b""  # of a task that failed and wrote more than the begin of a snippet: the last TAIL bytes of stderr, else of stdout


TAIL = 1024  # bytes of an error text, for the screen


class HostSeen(NamedTuple):
    """What a look at one host has shown; what is not known is '' or 0 or None."""

    address: str
    slots: int
    why: str  # it cannot be used; '' if it can
    notes: tuple[str, ...]
    python: str
    parallel: str  # version of GNU Parallel there
    perl: bool
    cores: int
    memory: int  # bytes
    ahead: float | None  # seconds that its clock is ahead of the driver's
    latency: float | None  # seconds there and back
    shared: bool | None  # it sees the driver's working directory
