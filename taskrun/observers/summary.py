"""What the person reads when a run has ended: counts, the first failures, and the command that runs again what is missing."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from taskrun.errors import ExitCode, told
from taskrun.model import Barrier, PerEngine, Result, Task
from taskrun.observers.failure import last_lines, place, shortened
from taskrun.observers.remains import Remains, remains_lines
from taskrun.observers.unevenness import uneven

COMMAND_WIDTH = 60


class Ending(NamedTuple):
    """The facts of a run that is over."""

    code: ExitCode
    done: int  # tasks that ended in this run, with 0
    skipped: int  # on record, with 0
    failed: int  # that ended otherwise, in this run or on record
    left: int  # have not ended
    finished: int  # ended in this run, whatever their code
    per_engine_failed: int
    seconds: float
    status: str  # the status file, as it is shown
    failures: list[tuple[Task | PerEngine, Result]]  # the first few of this run
    more_failures: int
    check_failed: Barrier | None
    stopped: str  # why it stopped before its end, '' if it did not
    broken: str  # why the rest of the plan could not be used
    unread: bool = False  # of a stream: its end was not read
    undelivered: bool = False  # data that was to be delivered is left
    variables: tuple[str, ...] = ()  # that were given with a value, which who carries on has to give again
    by_host: Mapping[str, tuple[int, int]] = MappingProxyType({})  # tasks that ended there in this run, and of them failed
    changed: bool = False  # the task file is not what it was when the run began
    remains: Remains = Remains()  # of its tasks
    given_up: int = 0  # of those that failed in this run: their engine died with them (-100)


def summary_lines(ending: Ending) -> list[str]:
    """The lines to print. Nothing to run is said, too."""
    lines = []
    if ending.broken:
        lines.append(told(ending.broken))
    if ending.code == ExitCode.OK and not (ending.done or ending.skipped or ending.failed):
        return [*lines, "taskrun: No tasks to run."]
    if not (ending.finished or ending.left or ending.broken or ending.unread):
        failed = f", {ending.failed} failed" if ending.failed else ""
        lines.append(f"taskrun: nothing is left to run: {ending.skipped} skipped{failed} · {_visible(ending.status)}")
        if ending.undelivered:
            lines.append(f"deliver what is left: {_again(ending)}")
        return lines if not ending.failed else [*lines, *_exit_code(ending), f"run again what failed: {_again(ending)}"]
    parts = [f"{ending.done} {'task' if ending.done == 1 else 'tasks'} done"]
    if ending.skipped:
        parts.append(f"{ending.skipped} skipped")
    parts.append(f"{ending.failed} failed" if ending.failed else "none failed")
    if ending.left:
        parts.append(f"{ending.left} not run")
    lines.append(f"taskrun: {', '.join(parts)} in {ending.seconds:.1f} s · {_visible(ending.status)}")
    if ending.given_up:
        one = ending.given_up == 1
        whose = "its engine died three times while it" if one else "their engine died three times while they"
        lines.append(f"taskrun: gave up on {ending.given_up} {'task' if one else 'tasks'}: {whose} ran alone")
    lines += failure_lines(ending.failures)
    if ending.more_failures > 0:
        lines.append(f"  … and {ending.more_failures} more (R in the first column of the status file)")
    if which := uneven(ending.by_host):
        lines.append(f"  {which}")
    lines += remains_lines(ending.remains)
    lines += _exit_code(ending)
    if ending.check_failed is not None:
        lines.append(f"taskrun: BARRIER CHECK in line {ending.check_failed.line} failed: nothing after it was run")
    elif ending.code != ExitCode.OK and ending.stopped:
        lines.append(f"taskrun: stopped: {ending.stopped}")
    if ending.unread:
        lines.append(f"the stream was not read to its end; give all of it again to go on: … | {_again(ending, '-')}")
    elif ending.changed:
        lines.append(
            "the task file is not what it was: restore it; or look at what was changed and go on with the file as it is: "
            f"{_again(ending)} --match command (or --force-resume)"
        )
    elif ending.failed or ending.left or ending.broken:
        lines.append(f"run again what is missing{' and what failed' if ending.failed else ''}: {_again(ending)}")
    elif ending.undelivered:
        lines.append(f"deliver what is left: {_again(ending)}")
    return lines


def _exit_code(ending: Ending) -> list[str]:
    """Failures that the exit code does not tell."""
    silent = ending.code == ExitCode.OK and (ending.failed or ending.per_engine_failed)
    return ["exit code 0; -e counts failures"] if silent else []


def _visible(path: str) -> str:
    return path if _can_be_shown(path) else command_line([path])


def _again(ending: Ending, *taskfile: str) -> str:
    again = [word for name in ending.variables for word in ("--env", name)]
    return command_line(["taskrun", *taskfile, "-r", ending.status, *(["-R"] if ending.failed else []), *again])


def failure_lines(failures: list[tuple[Task | PerEngine, Result]]) -> list[str]:
    """The first failed tasks, one line each, with the last lines that they wrote."""
    lines = []
    for task, result in failures:
        what = "task" if result.kind == "task" else f"PERENGINE {result.kind.upper()}"
        how = f"exit {result.code}" if result.code > 0 else f"signal {-result.code}"
        if result.cause not in ("exit", "signal"):
            how = f"{result.cause}, {how}" if result.cause != "crash-limit" else "given up, its engine died"
        lines.append(f"  {place(task)}, {what} {task.id}, {how}: {shortened(task.command, COMMAND_WIDTH)}")
        lines += [f"      {line}" for line in last_lines(result)]
    return lines


def command_line(words: list[str]) -> str:
    """Words as bash takes them back, on one line of printable characters."""
    return " ".join(shlex.quote(word) if _can_be_shown(word) else _ansi_quoted(word) for word in words)


def _can_be_shown(word: str) -> bool:
    """As it is, also where sentences are ASCII."""
    return word.isprintable() and (word.isascii() or (sys.stderr.encoding or "").lower().startswith("utf"))


def _ansi_quoted(word: str) -> str:
    data = "".join(c if " " <= c <= "~" else "".join(f"\\{byte:03o}" for byte in os.fsencode(c)) for c in word.replace("\\", "\\\\"))
    return "$'" + data.replace("'", "\\'") + "'"
