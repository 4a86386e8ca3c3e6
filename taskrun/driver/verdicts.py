"""Verdicts of the scheduler about hosts, passed on to the events, the log, and the person where that matters."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskrun.observers import verdict
from taskrun.scheduling import messages as m
from taskrun.status.events import EventsWriter


class Verdicts:
    def __init__(self, note: Callable[[str, str, str], None], say: Callable[[str], None], events: EventsWriter) -> None:
        """`note(level, text, host)`: to the log, and to the person from a warning on; `say`: to the person, unless quiet."""
        self._note = note
        self._say = say
        self._events = events

    def judged(self, action: m.Judged) -> None:
        row, pause, last = action.row, action.pause, action.last
        match action.verdict:
            case "held":
                self._note("info", verdict.held(row, pause, last), action.node)
            case "doubted":
                self._note("warning", verdict.held(row, pause, last), action.node)
            case "set-aside":
                self._note("warning", verdict.set_aside(row, pause, last), action.node)
                self._tell(action.engines, "set-aside", failures=row, pause=pause)
            case "probe-failed":
                self._note("info", verdict.probe_failed(pause, last), action.node)
            case "restored":
                self._say(f"{action.node}: {verdict.restored()}")
                self._tell(action.engines, "restored")
            case "needed":
                self._note("warning", verdict.needed(), action.node)
                self._tell(action.engines, "restored", why="no other host is left")

    def unfit(self, action: m.Unfit) -> None:
        why = verdict.unfit(action.command, action.result)
        self._note("error", why, action.node)
        self._tell((action.engine,), "unfit", why=why)

    def _tell(self, engines: tuple[str, ...], what: str, **fields: object) -> None:
        for engine in engines:
            self._events.event("engine", time.time(), what=what, engine=engine, **fields)
