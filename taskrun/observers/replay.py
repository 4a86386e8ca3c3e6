"""A run as its files tell of it: the same picture that a run that lives shows of itself."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from taskrun.errors import Refused
from taskrun.status import chain, names, sidecar, trust
from taskrun.status.forms import wrong

#: Endings of attempts that write no record: the task runs again.
_NO_RECORD = frozenset(("engine-lost", "preempted", "cancelled", "throttled"))
_COUNT, _NUMBER = (0, 1 << 53), (-1e15, 1e15)


def from_files(prefix: Path, *, alive: bool) -> dict[str, Any]:
    """The picture. `alive`: its driver may still be at work. Raises Refused: there are no files."""
    run = sidecar.load(names.with_suffix(prefix, names.SIDECAR), obeyed=False)
    fold = Fold()
    try:
        with trust.opened(names.with_suffix(prefix, names.EVENTS), obeyed=False) as file:
            for line in iter(lambda: file.readline(_LONGEST), b""):
                fold.take(line)
    except FileNotFoundError:
        pass  # a run that has only just begun
    except OSError as error:
        raise Refused(f"{names.with_suffix(prefix, names.EVENTS)} cannot be read: {os.strerror(error.errno or 0)}") from None
    over = run.ended is not None or not alive
    state = "running" if not over else "killed" if run.ended is None else f"ended with exit code {run.exit_code}"
    engines = list(fold.engines.values())
    for each in engines:
        if over and each["state"] in ("running", "draining", "set aside"):
            each["state"] = "ended"
    for context in fold.contexts.values():
        if over and context["state"] in ("running", "draining"):
            context["state"] = "ended"
    counts, before = run.counts, run.counts.get("skipped_failed", 0)
    finished, failed, left = counts.get("done", 0), counts.get("failed", 0), counts.get("left")
    if run.ended is None:  # the numbers of its beginning
        finished, failed = fold.finished, fold.failed
        left = None if left is None else max(0, left - finished)
    return {
        "run_id": run.run_id, "prefix": prefix.name, "status": run.status, "started": run.started, "ended": run.ended or fold.last,
        "state": state, "over": over, "now": time.time(), "done": max(0, finished - failed), "failed": failed + before,
        "skipped": max(0, counts.get("skipped", 0) - before), "running": 0, "left": left,
        "left_behind": run.counts.get("left_behind", fold.left_behind), "waiting": "" if over else fold.waiting,
        "stopping": fold.told, "newest": [_shown(each) for each in _newest(prefix.with_name(run.status))] if over else [],
        "contexts": list(fold.contexts.values()), "engines": engines,
    }  # fmt: skip


def _newest(status: Path) -> list[Path]:
    """The newest status files of the chain of this one; itself if nothing has carried it on."""
    return chain.newest_of(status) or [status]


def _shown(path: Path) -> str:
    """A path as the person can type it."""
    with contextlib.suppress(ValueError, OSError):
        relative = str(path.relative_to(Path.cwd()))
        return f"./{relative}" if relative.startswith("-") else relative
    return str(path)


_TIME = (0.0, 1e11)  # epoch seconds
_LONGEST = 8 << 20  # bytes of an event
#: The fields that are used of an event, by its kind.
_EVENTS = {
    "run": {"what": str, "stopped?": str},
    "told": {"signal": str, "how?": str},
    "wait": {"why": str},
    "context": {"context": str, "what": str, "guest?": str},
    "engine": {"engine": str, "what": str},
    "sample": {"engine": str, "load": _NUMBER, "memory": _COUNT},
    "attempt": {"engine": str, "cause": str, "code": (-(1 << 31), 1 << 31), "left_behind?": bool},
}
_JOINED = {"context": str, "host?": str, "rank": _COUNT, "slots": _COUNT}


class Fold:
    """The events of a run, one after another."""

    def __init__(self) -> None:
        self.last = 0.0
        self._begin()

    def _begin(self) -> None:
        """A run that goes on with the same files counts anew."""
        self.contexts: dict[str, dict[str, Any]] = {}
        self.engines: dict[str, dict[str, Any]] = {}
        self._samples: dict[str, int] = {}  # engine -> how many of it
        self.finished = self.failed = self.left_behind = 0  # tasks
        self.waiting = self.told = ""

    def take(self, line: bytes) -> None:
        """Take one line; pass over one that is torn or of another kind."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if wrong(event, {"t": _TIME, "kind": str}, "event"):
            return
        self.last = max(self.last, event["t"])
        form = _EVENTS.get(event["kind"])
        if form is not None and not wrong(event, form, "event"):
            getattr(self, f"_{event['kind']}")(event)

    def _run(self, event: dict[str, Any]) -> None:
        if event["what"] == "start":
            self._begin()
        else:
            self.told = event.get("stopped") or self.told

    def _told(self, event: dict[str, Any]) -> None:
        if event.get("how") not in ("suspend", "continue"):  # then it waits, which is an event of its own
            self.told = event["signal"]

    def _wait(self, event: dict[str, Any]) -> None:
        self.waiting = event["why"]

    def _context(self, event: dict[str, Any]) -> None:
        name, what = event["context"], event["what"]
        if what == "joined":
            self.contexts[name] = {"name": name, "state": "running", "limit_left": None, "from": event.get("guest", "")}
        elif name in self.contexts:
            self.contexts[name]["state"] = what

    def _engine(self, event: dict[str, Any]) -> None:
        name, what = event["engine"], event["what"]
        if what == "joined" and not wrong(event, _JOINED, "event"):
            self.waiting = ""
            self.engines[name] = {
                "name": name, "context": event["context"], "host": event.get("host") or name, "rank": event["rank"],
                "slots": event["slots"],
                "state": "running", "running": 0, "held": 0, "finished": 0, "failed": 0, "load": None, "memory": None, "quiet": None,
            }  # fmt: skip
            self._samples[name] = 0
        elif name in self.engines:
            self.engines[name]["state"] = {"restored": "running", "set-aside": "set aside"}.get(what, what)

    def _sample(self, event: dict[str, Any]) -> None:
        """Load: the mean of a run; memory: the least there was left."""
        engine = self.engines.get(event["engine"])
        if engine is not None:
            load, memory, before = event["load"], event["memory"], self._samples[engine["name"]]
            self._samples[engine["name"]] = before + 1
            engine["load"] = ((engine["load"] or 0.0) * before + load) / (before + 1)
            if memory:
                engine["memory"] = min(memory, engine["memory"] or memory)

    def _attempt(self, event: dict[str, Any]) -> None:
        if event["cause"] in _NO_RECORD or "per_engine" in event:
            return
        failed = int(event["code"] != 0)
        self.finished += 1
        self.failed += failed
        self.left_behind += event.get("left_behind") is True
        engine = self.engines.get(event["engine"])
        if engine is not None:
            engine["finished"] += 1
            engine["failed"] += failed
