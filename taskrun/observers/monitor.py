"""How a run is, as lines of text: from what its driver shows while it lives, or from its files at any time."""

from __future__ import annotations

from typing import Any, NamedTuple

from taskrun.errors import Refused
from taskrun.observers.columns import Column, table
from taskrun.observers.progress import clock, fit
from taskrun.observers.summary import command_line
from taskrun.sizes import size_text
from taskrun.status.forms import wrong
from taskrun.visible import visible

ENGINE_COLUMNS = (
    Column("ENGINE"), Column("CONTEXT", goes=3), Column("HOST", goes=4), Column("STATE", goes=7), Column("SLOTS", number=True, goes=6),
    Column("RUNNING", number=True, goes=8), Column("DONE", number=True, goes=9), Column("FAILED", number=True),
    Column("LOAD", number=True, goes=2), Column("FREE", number=True, goes=1), Column("HEARD", number=True, goes=5),
)  # fmt: skip
CONTEXT_COLUMNS = (
    Column("CONTEXT"), Column("STATE", goes=5), Column("ENGINES", number=True, goes=3), Column("SLOTS", number=True, goes=4),
    Column("RUNNING", number=True, goes=6), Column("DONE", number=True, goes=7), Column("FAILED", number=True),
    Column("LEFT TO TAKE", number=True, goes=2), Column("FROM", goes=1),
)  # fmt: skip


class Row(NamedTuple):
    """One line of the table. `engine` '' for its heading."""

    text: str
    engine: str = ""
    context: str = ""
    state: str = ""


def headlines(picture: dict[str, Any], width: int | None = None, between: str = " · ") -> list[str]:
    """Return the lines about the run as a whole. Where there is no room for all numbers, the least needed go."""
    begun = picture.get("started") or 0.0
    until = picture.get("ended") or picture.get("now") or begun
    over, stopping = picture.get("over"), picture.get("stopping")
    state = picture.get("state") or ("stopping" if stopping else "running")
    counts = {"done": f"{picture.get('done') or 0:,} done"}
    if not over:
        counts["running"] = f"{picture.get('running') or 0:,} running"
    counts["failed"] = f"{picture.get('failed') or 0:,} failed"
    if picture.get("skipped"):
        counts["skipped"] = f"{picture['skipped']:,} skipped"
    if picture.get("left_behind"):
        counts["left_behind"] = f"{picture['left_behind']:,} left processes behind"
    if picture.get("left") is not None:
        counts["left"] = f"{picture['left']:,} {'not run' if over else 'left'}"
    fit(counts, width, between)
    lines = [f"{picture.get('prefix') or '-'}: {state}{between}{clock(max(0.0, until - begun))}", between.join(counts.values())]
    if over and picture.get("left"):
        lines += [f"stopped: {stopping}"] if stopping else []
        newest = [word for status in picture.get("newest") or [] for word in ("-r", status)]
        lines += [f"run what is left: {command_line(['taskrun', *newest])}"] if newest else []
    elif picture.get("waiting"):
        lines.append(picture["waiting"])
    return [visible(line) for line in lines]


def context_rows(picture: dict[str, Any], width: int | None = None, cut: str = "…") -> list[str]:
    """The heading and a line for each context."""
    rows = []
    for context in picture.get("contexts") or []:
        own = [each for each in picture.get("engines") or [] if each["context"] == context["name"]]
        slots, running = (sum(each[name] or 0 for each in own) for name in ("slots", "running"))
        seen = {name: sum(each[name] or 0 for each in own) for name in ("finished", "failed")}
        finished, failed = (seen[name] if context.get(name) is None else context[name] for name in seen)  # engines may have gone
        numbers = (len(own), slots, running, max(0, finished - failed), failed, context.get("limit_left"))
        rows.append((context["name"], context["state"], *numbers, context.get("from")))
    return table(CONTEXT_COLUMNS, rows, width, cut=cut)


def engine_rows(picture: dict[str, Any], width: int | None = None, cut: str = "…") -> list[Row]:
    """The heading and a line for each engine."""
    engines = picture.get("engines") or []
    rows = []
    for each in engines:
        load, memory, quiet = each.get("load"), each.get("memory"), each.get("quiet")
        words = tuple(each[name] for name in ("name", "context", "host", "state", "slots", "running"))
        seen = (None if load is None else f"{load:.1f}", size_text(memory) if memory else None, None if quiet is None else clock(quiet))
        rows.append((*words, max(0, each["finished"] - each["failed"]), each["failed"], *seen))
    first, *rest = table(ENGINE_COLUMNS, rows, width, cut=cut)
    return [Row(first), *(Row(text, each["name"], each["context"], each["state"]) for text, each in zip(rest, engines, strict=True))]


def text(picture: dict[str, Any], width: int | None = None, height: int | None = None) -> str:
    """All of it, as far as there is room, for --once and for a run that is over."""
    lines = headlines(picture, width)
    contexts = context_rows(picture, width) if picture.get("contexts") else []
    engines = [row.text for row in engine_rows(picture, width)]
    if height is not None:
        room = max(1, height - len(lines) - 2)
        if len(contexts) + len(engines) + 1 > room:
            contexts = []
        if len(engines) > room:
            engines[room - 1 :] = [f"and {len(engines) - room + 1} more engines: taskrun monitor {picture.get('prefix') or '-'} --once"]
    return "\n".join([*lines, "", *(["", *contexts, ""][1:] if contexts else []), *engines]) + "\n"


#: What the values of a picture are, as a run shows it; those of `?` may be missing or null.
_COUNT, _NUMBER = (0, 1 << 53), (-1e15, 1e15)
_ENGINE = {
    "name": str, "context": str, "host": str, "state": str, "rank": _COUNT, "slots": _COUNT, "running": _COUNT, "finished": _COUNT,
    "failed": _COUNT, "load?": _NUMBER, "memory?": _NUMBER, "quiet?": _NUMBER,
}  # fmt: skip
_CONTEXT = {"name": str, "state": str, "finished?": _COUNT, "failed?": _COUNT, "limit_left?": _COUNT, "from?": str}
_PICTURE = {
    "prefix?": str, "state?": str, "waiting?": str, "stopping?": str, "over?": bool, "status?": str, "newest?": [str],
    "started?": _NUMBER, "ended?": _NUMBER, "now?": _NUMBER,
    "done?": _COUNT, "failed?": _COUNT, "skipped?": _COUNT, "running?": _COUNT, "left?": _COUNT, "left_behind?": _COUNT,
    "contexts?": [_CONTEXT], "engines?": [_ENGINE],
}  # fmt: skip


def checked(picture: dict[str, Any]) -> dict[str, Any]:
    """A picture that came from elsewhere. Raises Refused where it has what none can have."""
    found = wrong(picture, _PICTURE, "picture")
    if found:
        raise Refused(f"the run shows a {visible(found[:100])} that it cannot have: it is something else, or a newer taskrun")
    return picture
