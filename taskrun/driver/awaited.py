"""What a run that was told to stop still waits for: how many tasks, the longest of them, and what a second signal would do."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import NamedTuple

from taskrun.model import PerEngine, Task
from taskrun.observers.failure import shortened
from taskrun.observers.progress import clock
from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Engine

#: The consequence of a signal, by how the run is told to stop.
_STOPPING = {
    "drain": "nothing new starts",
    "preempt": "what runs is given back, and runs again when the run is carried on",
    "cancel": "what runs is ended",
    "kill": "what runs is ended now",
}
_COMMAND_WIDTH = 40


class Longest(NamedTuple):
    """The command that has run the longest."""

    task: Task | PerEngine
    host: str
    seconds: float

    @property
    def name(self) -> str:
        return f"task {self.task.id}" if isinstance(self.task, Task) else f"PERENGINE {self.task.when} {self.task.id}"


def longest(engines: Iterable[Engine], now: float) -> Longest | None:
    """None when no engine has said that something runs."""
    running = [attempt for engine in engines for attempt in engine.live.values() if attempt.started]
    if not running:
        return None
    first = min(running, key=lambda attempt: attempt.began)
    return Longest(first.task, first.engine.node, max(0.0, now - first.began))


def sentence(told: m.Told, running: int, may_run: int, first: Longest | None, grace: float) -> str:
    """What a signal means now. `running`: tasks that run for certain; `may_run`: with those that may have started just now."""
    text = f"{told.why}: {_STOPPING[told.how]}"
    if told.how == "kill":
        return text
    if not running:
        return f"{text}, and {'what has just started ends' if may_run else 'no task runs'}" if told.how == "drain" else text
    them = "it" if running == 1 else "them"
    tasks = f"{running} running task{'s'[: running != 1]}"
    if told.how == "drain":
        text += f"; waiting for {tasks}"
        if told.why == signal.SIGINT.name:
            text += f", a second Ctrl-C ends {them}"
        if first is not None:
            command = shortened(first.task.command, _COMMAND_WIDTH)
            whose = "it" if running == 1 else "the longest"
            text += f"; {whose} has run for {clock(first.seconds)} on {first.host}: {first.name}, line {first.task.line}: {command}"
        return text
    text += f"; waiting at most {grace:g} s for {tasks}"
    if told.how == "preempt" and told.why.startswith("SIG"):
        text += f", a second {told.why} ends {them} at once"
    return text


def view(why: str, first: Longest | None) -> str:
    """The same in a few words, for the live view and the monitor. `why`: the run stops, '' if it does not."""
    if first is None or not why:
        return f"stopping: {why}" if why else ""
    return f"stopping: {why}, {first.name} has run the longest, {clock(first.seconds)}"
