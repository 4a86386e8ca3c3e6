"""Lines that are added to a task file while it is run: scanned as the file was, taken if nothing is wrong with them."""

from __future__ import annotations

from typing import NamedTuple

from taskrun.driver.foreach import FileLists, nothing, take_all
from taskrun.driver.globs import Glob
from taskrun.driver.task_text import TaskText
from taskrun.language import Diagnostic, Scan, render_all
from taskrun.language.source import scan_on

STAGED = "data is looked at before a run begins: end this run, and go on with `taskrun -r`"


class Addition(NamedTuple):
    """What was found after the text that was scanned."""

    scan: Scan | None  # of all of it now, with what is new in it; None: nothing that can be run
    lines: int  # whole lines that were added
    tasks: int  # more than before
    problems: str  # what is wrong with the lines or may be, as a person reads it
    line: int  # the first one that cannot be run, 0 if there is none
    torn: bool  # that one has no line end yet


def look(text: TaskText, lists: FileLists) -> Addition:
    """Look at what was added. Raises Refused, OSError."""
    before = text.scan
    more, torn = scan_on(before.end, text.added(), text.shown)
    if not more.errors:
        more = _without_stages(more)
    if not more.errors:
        more = _with_files(more, lists)
    problems = render_all(more.diagnostics, text.shown, more.errors, more.warnings).rstrip("\n")
    if more.errors:
        return Addition(None, 0, 0, problems, before.lines + 1, torn=False)
    if more.size <= before.size:
        return Addition(None, 0, 0, "", before.end.reader.lines + 1 if torn else 0, torn)
    tasks = more.tasks - (before.torn or 0)
    scan = before._replace(
        lines=more.lines,
        tasks=before.tasks + tasks,
        barriers=before.barriers + more.barriers,
        sha256=more.sha256,
        size=more.size,
        foreach=before.foreach + more.foreach,
        end=more.end,
        torn=None,
    )
    return Addition(scan, more.lines - before.lines, tasks, problems, more.lines + 1 if torn else 0, torn)


def extends(text: TaskText) -> bool:
    """Whether what was added goes on with a last line that had no line end."""
    if text.scan.torn is None:
        return False
    tail, there = text.scan.end.reader.tail, text.read(text.scan.size, 2)
    return bool(there) and not (there.startswith(b"\n") and not tail.endswith(b"\r")) and there not in (b"\r\n", b"\r")


def _without_stages(more: Scan) -> Scan:
    problems = [_staged(each.line, each.text) for each in more.stages]
    return more._replace(diagnostics=[*more.diagnostics, *problems], errors=len(problems))


def _staged(line: int, raw: bytes) -> Diagnostic:
    return Diagnostic.at("error", line, 1, len(raw), "this directive was added while the file is run", STAGED, raw)


def _with_files(more: Scan, lists: FileLists) -> Scan:
    """With the files of each FOREACH, taken now. One that names a single file which is not there is looked at again later."""
    missing = [item for item, _ in more.foreach if (glob := Glob(item.glob)).plain and next(glob.matches([]), None) is None]
    if missing:
        problems = [nothing(item) for item in missing]
        return more._replace(diagnostics=[*more.diagnostics, *problems], errors=len(problems))
    return take_all(more, lists)


def told_of(addition: Addition, shown: str) -> str:
    """Return the sentence about lines that are run."""
    one = addition.lines == 1
    count = "a line" if one else f"{addition.lines:,} lines"
    more = "it is" if one else "they are"
    return f"{shown} has grown by {count}: {more} run, and so is what is added until the last task has ended"


def left_out(addition: Addition, shown: str) -> str:
    """Return the sentence about the lines that are not run. `addition` has some."""
    place = f"{shown}:{addition.line}:1"
    if addition.torn:
        return f"{place}: this line was added during the run and was not run: without a line end it may not be whole; end it, and carry on"
    return f"{place}: the lines from here on were added during the run and have errors: they were not run; correct them, and carry on"
