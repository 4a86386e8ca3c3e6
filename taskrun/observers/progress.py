"""How far a run is: what a view is made from, and the same as one plain line."""

from __future__ import annotations

from typing import NamedTuple

from taskrun.model import PerEngine, Result, Task

#: Where there is no room for all numbers, these go, one after another.
DISPENSABLE = ("skipped", "left_behind", "elapsed", "slots", "data", "rate", "running", "left", "waiting", "failed")

#: A task that failed, and how.
Failure = tuple["Task | PerEngine", Result]


class Progress(NamedTuple):
    """A run at one moment, as its driver counts it."""

    done: int = 0  # tasks that ended in this run, with 0
    failed: int = 0  # that ended otherwise, in this run or on record
    skipped: int = 0  # on record, with 0
    running: int = 0
    left: int | None = None  # the others; None of a stream
    finished: int = 0  # ended in this run, whatever their code
    slots: int = 0
    stopping: bool = False  # nothing starts any more
    ending: bool = False  # what runs was told to end
    oldest: float = 0.0  # when nothing starts any more: seconds that the longest of the running tasks has run; 0.0: not known
    waiting: str = ""  # why nothing starts, '' when something does
    data: str = ""  # what is moved for tasks: bytes, rate, time left
    ended: tuple[float, ...] = ()  # seconds that some of the tasks took that ended last
    failures: tuple[Failure, ...] = ()  # the last few


class Times(NamedTuple):
    """What a view says about time, in seconds."""

    elapsed: float
    rate: float | None = None  # tasks a second; None: nothing has ended yet
    left: float | None = None  # until the end; None: not known


def counted(progress: Progress, times: Times) -> dict[str, str]:
    """The numbers in words, in the order in which they are read."""
    parts = {"done": f"{progress.done:,} done", "running": f"{progress.running:,} running"}
    if progress.failed:
        parts["failed"] = f"{progress.failed:,} failed"
    if progress.skipped:
        parts["skipped"] = f"{progress.skipped:,} skipped"
    if progress.left is not None:
        parts["left"] = f"{progress.left:,} left"
    if times.rate is not None:
        parts["rate"] = speed(times.rate)
    return parts


def fit(parts: dict[str, str], width: int | None, between: str) -> None:
    """Take out what there is no room for."""
    for name in DISPENSABLE:
        if width is None or len(between.join(parts.values())) <= width:
            break
        parts.pop(name, None)


def plain_line(progress: Progress, times: Times) -> str:
    """One line for where nothing can move."""
    parts = [*counted(progress, times).values(), f"{clock(times.elapsed)} so far"]
    if times.left is not None:
        parts.append(f"about {clock(times.left)} to go")
    if progress.waiting:
        parts.append(progress.waiting)
    elif progress.data:
        parts.append(f"data {progress.data}")
    return "taskrun: " + " · ".join(parts)


def speed(rate: float) -> str:
    """Tasks in a unit of time in which there is at least one."""
    if rate >= 10:
        return f"{rate:,.0f}/s"
    for per, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * per >= 1 or unit == "h":
            break
    return f"{rate * per:.1f}/{unit}"


def clock(seconds: float) -> str:
    """`7 s`, `12:05`, `3:07:20`, `2 d 03 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{whole:02}"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minutes:02}:{whole:02}"
    return f"{hours // 24} d {hours % 24:02} h"
