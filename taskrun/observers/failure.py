"""One failed task in words: where it stands, how it ended, and the end of what it wrote, where the error is. Pure."""

from __future__ import annotations

from textwrap import dedent

from taskrun.model import NO_REPEAT, TAIL, PerEngine, Result, Task
from taskrun.visible import visible

FILE_WIDTH = 60  # characters of the path of a FOREACH
LINE_WIDTH = 200  # of a line that a task wrote
REASON_WIDTH = 400  # of a sentence of ours, which names places first and what is wrong with them last
LINES = 3  # of the end of what it wrote
_OURS = ("start", "stage-in", "stage-out", "leftovers")  # their error text is a sentence of ours


def place(task: Task | PerEngine) -> str:
    """`line 3`, `line 3, index 4` of a REPEAT, `line 3, file data/x.txt` of a FOREACH."""
    if isinstance(task, Task) and task.file is not None:
        return f"line {task.line}, file {_end(visible(_text(task.file)), FILE_WIDTH)}"
    if isinstance(task, Task) and task.repeat != NO_REPEAT:
        return f"line {task.line}, index {task.repeat}"
    return f"line {task.line}"


def last_lines(result: Result, most: int = LINES) -> list[str]:
    """The last lines of stderr, or of stdout where that is blank, as far as its slot kept them; no blank ones.

    An old agent, or one of a task that wrote little, sends what stands in the status file and no more.
    """
    if result.cause in _OURS:
        return [shortened(result.err.strip(), REASON_WIDTH)] if result.err.strip() else []
    data = result.tail or (result.err if result.err.strip() else result.out)
    cut = len(data) >= TAIL
    if cut:
        data = data.lstrip(bytes(range(0x80, 0xC0)))  # the rest of a character
    lines = [_overwritten(line).expandtabs(4) for line in _text(data).split("\n")]
    if cut:
        lines[0] = f"…{lines[0]}"
    shown = [line.rstrip() for line in lines if line.strip()][-most:]
    return [_middle(visible(line), LINE_WIDTH) for line in dedent("\n".join(shown)).split("\n")] if shown else []


def last_line(result: Result) -> str:
    return next(iter(last_lines(result, 1)), "")


def shortened(data: bytes, width: int) -> str:
    text = visible(_text(data))
    return text if len(text) <= width else text[: width - 1] + "…"


def _overwritten(line: str) -> str:
    """The part of a line that a terminal would leave: a progress bar writes over itself, with CR before each state."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


def _middle(text: str, width: int) -> str:
    """The begin of a long line says which error it is, its end the details."""
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
