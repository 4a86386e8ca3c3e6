"""Sentences about a host that is set aside, used again, or not used at all. Pure."""

from __future__ import annotations

from taskrun.model import PerEngine, Result
from taskrun.observers.failure import last_line


def set_aside(row: int, pause: float, last: Result | None) -> str:
    return (
        f"its last {row} tasks failed within seconds while others succeed elsewhere; it is set aside, "
        f"probed with one task in {length(pause)}{_last(last)}"
    )


def held(row: int, pause: float, last: Result | None) -> str:
    return (
        f"its last {row} tasks failed within seconds, and too few have ended elsewhere to tell whether that is the host's doing; "
        f"it gets one task in {length(pause)}{_last(last)}"
    )


def probe_failed(pause: float, last: Result | None) -> str:
    return f"the task that probed it failed within seconds, too; the next one is in {length(pause)}{_last(last)}"


def restored() -> str:
    return "the task that probed it did not fail within seconds: it is used again"


def needed() -> str:
    return "it is used again, although its last tasks failed within seconds: no other host is left"


def unfit(command: PerEngine, result: Result) -> str:
    said = error(result)
    return (
        f"PERENGINE START CHECK in line {command.line} failed there ({how(result)}), and it is not used"
        f"{f'; last error: {said}' if said else ''}"
    )


def _last(result: Result | None) -> str:
    if result is None:
        return ""
    return f"; last error: {error(result) or how(result)}"


def how(result: Result) -> str:
    """`exit 3`, `signal 9`."""
    if result.cause == "crash-limit":
        return "its slot was lost three times"
    return f"exit {result.code}" if result.code >= 0 else f"signal {-result.code}"


def error(result: Result) -> str:
    """The last line that it wrote, quoted; '' for none."""
    line = last_line(result)
    return f'"{line}"' if line else ""


def length(seconds: float) -> str:
    """`2 s`, `1 min`."""
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"
