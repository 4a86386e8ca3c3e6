"""What the scheduler wants of an engine, as frames for its agent. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskrun.model import NO_REPEAT, Task
from taskrun.planning.expand import safe_path
from taskrun.scheduling import messages as m

FRAME_SOFT = 1 << 20  # bytes of commands after which a frame is sent; a single command may be longer
NO_SLOT = -1  # PERENGINE commands run beside the slots
_TEXT = "utf-8", "surrogateescape"


def tasks(action: m.Assign) -> Iterator[dict[str, Any]]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    for (kind, number, n), task in action.attempts:
        if isinstance(task, Task):
            row = (kind, number, n, task.line, task.repeat, task.command.decode(*_TEXT), None)
            rows.append(row if task.file is None else (*row, safe_path(task.file, b"").decode(*_TEXT)))
        else:
            rows.append((kind, number, n, task.line, NO_REPEAT, task.command.decode(*_TEXT), NO_SLOT))
        size += len(task.command)
        if size > FRAME_SOFT:
            yield {"k": "tasks", "t": rows}
            rows, size = [], 0
    if rows:
        yield {"k": "tasks", "t": rows}


def recall(action: m.Recall) -> dict[str, Any]:
    return {"k": "recall", "n": action.count}


def end(action: m.End) -> dict[str, Any]:
    return {"k": "end", "how": action.how, "grace": action.grace, "keys": None}


def leave() -> dict[str, Any]:
    return {"k": "leave"}


def gone(keys: list[m.Key]) -> dict[str, Any]:
    """These attempts were lost with an earlier agent: nothing of them may be left."""
    return {"k": "gone", "keys": keys}
