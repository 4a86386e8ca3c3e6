"""How a run is, as lines of text: from what its driver shows while it lives, or from its files at any time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.errors import Refused
from taskrun.observers.progress import clock
from taskrun.status import names, sidecar, trust
from taskrun.status.forms import wrong
from taskrun.visible import visible

HEAD = ("ENGINE", "CONTEXT", "HOST", "STATE", "SLOTS", "RUNNING", "FINISHED", "FAILED", "LOAD", "FREE", "HEARD")
CONTEXT_HEAD = ("CONTEXT", "STATE", "ENGINES", "SLOTS", "RUNNING", "FINISHED", "FAILED", "LEFT TO TAKE", "FROM")
_NUMBERS = frozenset(("SLOTS", "RUNNING", "FINISHED", "FAILED", "LOAD", "FREE", "HEARD", "ENGINES", "LEFT TO TAKE"))
#: Endings of attempts that write no record: the task runs again.
_NO_RECORD = frozenset(("engine-lost", "preempted", "cancelled", "throttled"))


class Row(NamedTuple):
    """One line of the table. `engine` '' for its heading."""

    text: str
    engine: str = ""
    context: str = ""
    state: str = ""


def headlines(picture: dict[str, Any]) -> list[str]:
    """What there is to say of the run as a whole."""
    begun = picture.get("started") or 0.0
    until = picture.get("ended") or picture.get("now") or begun
    state = picture.get("state") or ("stopping" if picture.get("stopping") else "running")
    counts = [f"{picture.get('done') or 0:,} done", f"{picture.get('running') or 0:,} running", f"{picture.get('failed') or 0:,} failed"]
    if picture.get("skipped"):
        counts.append(f"{picture['skipped']:,} skipped")
    if picture.get("left") is not None:
        counts.append(f"{picture['left']:,} left")
    lines = [f"{picture.get('prefix') or '-'}: {state} · {clock(max(0.0, until - begun))}", " · ".join(counts)]
    why = picture.get("waiting") or ""
    if why:
        lines.append(why)
    return [visible(line) for line in lines]


def context_rows(picture: dict[str, Any]) -> list[str]:
    rows = []
    for context in picture.get("contexts") or []:
        own = [each for each in picture.get("engines") or [] if each["context"] == context["name"]]
        sums = [sum(each[name] or 0 for each in own) for name in ("slots", "running", "finished", "failed")]
        sums[2:] = [context.get(name, seen) for name, seen in zip(("finished", "failed"), sums[2:], strict=True)]  # engines may have gone
        left = context.get("limit_left")
        rows.append((context["name"], context["state"], len(own), *sums, left, context.get("from") or "-"))
    return _aligned([CONTEXT_HEAD, *rows])


def engine_rows(picture: dict[str, Any]) -> list[Row]:
    engines = picture.get("engines") or []
    cells: list[tuple[object, ...]] = [HEAD]
    for each in engines:
        load, memory, quiet = each.get("load"), each.get("memory"), each.get("quiet")
        free = f"{memory / 1e9:.1f} GB" if memory else None
        last = (None if load is None else f"{load:.1f}", free, None if quiet is None else clock(quiet))
        cells.append((*(each[name.lower()] for name in ("name", *HEAD[1:8])), *last))
    first, *rest = _aligned(cells)
    return [Row(first), *(Row(text, each["name"], each["context"], each["state"]) for text, each in zip(rest, engines, strict=True))]


def text(picture: dict[str, Any]) -> str:
    """All of it, for `--once`."""
    lines = [*headlines(picture), ""]
    if picture.get("contexts"):
        lines += [*context_rows(picture), ""]
    lines += [row.text for row in engine_rows(picture)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _aligned(rows: list[Any]) -> list[str]:
    head = rows[0]
    table = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(cell.rjust(width) if name in _NUMBERS else cell.ljust(width) for cell, width, name in zip(row, widths, head, strict=True))
        for row in table
    ]


def _shown(cell: object) -> str:
    if cell is None or cell == "":
        return "-"
    return visible(str(cell))


#: What the values of a picture are, as a run shows it; those of `?` may be missing or null.
_COUNT, _NUMBER = (0, 1 << 53), (-1e15, 1e15)
_ENGINE = {
    "name": str, "context": str, "host": str, "state": str, "rank": _COUNT, "slots": _COUNT, "running": _COUNT, "finished": _COUNT,
    "failed": _COUNT, "load?": _NUMBER, "memory?": _NUMBER, "quiet?": _NUMBER,
}  # fmt: skip
_CONTEXT = {"name": str, "state": str, "finished?": _COUNT, "failed?": _COUNT, "limit_left?": _COUNT, "from?": str}
_PICTURE = {
    "prefix?": str, "state?": str, "waiting?": str, "stopping?": str, "started?": _NUMBER, "ended?": _NUMBER, "now?": _NUMBER,
    "done?": _COUNT, "failed?": _COUNT, "skipped?": _COUNT, "running?": _COUNT, "left?": _COUNT, "contexts?": [_CONTEXT],
    "engines?": [_ENGINE],
}  # fmt: skip


def checked(picture: dict[str, Any]) -> dict[str, Any]:
    """A picture that came from elsewhere. Raises Refused where it has what none can have."""
    found = wrong(picture, _PICTURE, "picture")
    if found:
        raise Refused(f"the run shows a {visible(found[:100])} that it cannot have: it is something else, or a newer taskrun")
    return picture


# --- from files


def from_files(prefix: Path, *, alive: bool) -> dict[str, Any]:
    """The same picture, as the files of the run tell it. `alive`: its driver may still be at work. Raises Refused: there are none."""
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
        if over and each["state"] in ("running", "draining"):
            each["state"] = "ended"
    for context in fold.contexts.values():
        if over and context["state"] in ("running", "draining"):
            context["state"] = "ended"
    return {
        "run_id": run.run_id, "prefix": prefix.name, "started": run.started, "ended": run.ended or fold.last, "state": state,
        "now": time.time(), "done": run.counts.get("done", fold.done), "failed": run.counts.get("failed", fold.failed),
        "skipped": run.counts.get("skipped"), "running": 0, "left": None, "waiting": "" if over else fold.waiting, "stopping": fold.told,
        "contexts": list(fold.contexts.values()), "engines": engines,
    }  # fmt: skip


_TIME = (0.0, 1e11)  # epoch seconds
_LONGEST = 8 << 20  # bytes of an event
#: What the fields are that are used of an event, by its kind.
_EVENTS = {
    "run": {"what": str},
    "told": {"signal": str},
    "wait": {"why": str},
    "context": {"context": str, "what": str, "guest?": str},
    "engine": {"engine": str, "what": str},
    "sample": {"engine": str, "load": _NUMBER, "memory": _COUNT},
    "attempt": {"engine": str, "cause": str, "code": (-(1 << 31), 1 << 31)},
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
        self.done = self.failed = 0
        self.waiting = self.told = ""

    def take(self, line: bytes) -> None:
        """One line; one that is torn or of another kind is passed over."""
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

    def _told(self, event: dict[str, Any]) -> None:
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
            self.engines[name]["state"] = what

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
        if event["cause"] in _NO_RECORD:
            return
        failed = int(event["code"] != 0)
        if "per_engine" not in event:
            self.done += 1
            self.failed += failed
        engine = self.engines.get(event["engine"])
        if engine is not None:
            engine["finished"] += 1
            engine["failed"] += failed
