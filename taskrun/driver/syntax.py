"""`taskrun check --syntax`: what bash says of each line, without running any.

Many lines go to one `bash -n`. Between them stands what is right only where a new command may begin, so that a quote one line leaves
open is not closed by another; and all lines stand there twice, the second time each in brackets, which a bracket left open would not fit.
Only a batch that bash refuses is halved, until its wrong lines are alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from taskrun.errors import Refused
from taskrun.language.diagnostics import CAP, Diagnostic
from taskrun.language.items import Foreach, Item, Lines, PerEngine, Prefix, Repeat, Suffix

_BATCH = 1000  # lines
_BATCH_SIZE = 1 << 20  # bytes
_SHOWN = 200  # bytes of a command in a hint
_BETWEEN = b"\n: '))' \"))\" '`))' # )))\n"
_told = re.compile(r"[^:\n]*: (?:line [0-9]+: )?(.*)").match


class Row(NamedTuple):
    """One line as it is run."""

    line: int
    text: bytes  # as written
    command: bytes  # with its prefix and suffix


def rows(items: Iterable[Item]) -> Iterator[Row]:
    """Every command of a task file, those of REPEAT and FOREACH once."""
    prefix = suffix = b""
    for item in items:
        if isinstance(item, Prefix):
            prefix = item.text
        elif isinstance(item, Suffix):
            suffix = item.text
        elif isinstance(item, Lines):
            yield from (Row(line, text, prefix + text + suffix) for line, text in item.commands())
        elif isinstance(item, Repeat | Foreach | PerEngine):
            yield Row(item.line, item.command, prefix + item.command + suffix)


def syntax_errors(found: Iterator[Row]) -> tuple[list[Diagnostic], int]:
    """An error for each distinct command that bash refuses; the line at which the look was ended because there were too many, or 0."""
    errors: dict[bytes, Diagnostic] = {}
    batches = _batches(found, errors)
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        while window := list(islice(batches, 2 * workers)):
            for wrong in pool.map(refused, window):
                for row, why in wrong:
                    errors.setdefault(row.command, _error(row, why))
                    if len(errors) >= CAP:
                        return list(errors.values()), row.line
    return list(errors.values()), 0


def refused(batch: list[Row]) -> list[tuple[Row, str]]:
    """The rows that bash refuses, and why; no more of them once there are too many to be shown."""
    if len(batch) == 1:
        why = _bash(batch[0].command)
        return [(batch[0], why)] if why else []
    if not any(map(_greedy, batch)):
        apart = b"".join(row.command + _BETWEEN for row in batch)
        enclosed = b"".join(b"{ (\n:\n%b\n) }\n" % row.command for row in batch)
        if not _bash(apart + enclosed):
            return []
    half = len(batch) // 2
    first = refused(batch[:half])
    return first if len(first) >= CAP else first + refused(batch[half:])


def _greedy(row: Row) -> bool:
    """Whether bash would take the next line for a part of this one."""
    return b"<<" in row.command or row.command.endswith(b"\\")


def _batches(found: Iterator[Row], known: dict[bytes, Diagnostic]) -> Iterator[list[Row]]:
    """The rows in lots, each command once; those that are known are left out."""
    batch: dict[bytes, Row] = {}
    size = 0
    for row in found:
        if row.command in known or row.command in batch:
            continue
        if _greedy(row):
            yield [row]
            continue
        batch[row.command] = row
        size += len(row.command)
        if len(batch) >= _BATCH or size >= _BATCH_SIZE:
            yield list(batch.values())
            batch, size = {}, 0
    if batch:
        yield list(batch.values())


def _bash(script: bytes) -> str:
    """What bash says of a script that it only reads; '' if nothing is wrong. Some errors it tells without an exit code."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(script)
        stdin.seek(0)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # no functions of the caller's, no BASH_ENV
        try:
            done = subprocess.run(
                ["bash", "--norc", "--noprofile", "-n"], stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
                check=False,
            )  # fmt: skip
        except OSError as error:
            raise Refused(f"bash: cannot be started: {os.strerror(error.errno or 0)}; --syntax asks it about every line") from None
    for line in done.stderr.decode("utf-8", "surrogateescape").splitlines():
        said = _told(line)
        if said and not said[1].startswith("warning:"):
            return said[1]
    return f"bash -n ended with {done.returncode}" if done.returncode else ""


def _error(row: Row, why: str) -> Diagnostic:
    hint = None
    if row.command != row.text:
        shown = row.command[:_SHOWN].decode("utf-8", "surrogateescape")
        hint = f"as it is run: {shown}{'...' if len(row.command) > _SHOWN else ''}"
    return Diagnostic.at("error", row.line, 1, len(row.text), f"bash: {why}", hint, row.text)
