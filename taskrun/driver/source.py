"""Where the tasks come from: a regular file, scanned whole before anything runs, or a stream."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from taskrun.driver import files
from taskrun.driver.foreach import FileLists, take_all
from taskrun.driver.task_text import TaskText
from taskrun.errors import Refused, WrongTasks
from taskrun.language import Scan, render_all
from taskrun.options import Options
from taskrun.status import names, sidecar


class Source(NamedTuple):
    """Where the tasks come from."""

    path: Path | None  # a regular file, None for a stream
    fd: int  # of a stream
    shown: str  # as the person typed it
    name: str  # basename, `stdin` for -
    scan: Scan | None
    lists: FileLists  # of FOREACH
    text: TaskText | None = None  # of a regular file


def open_source(taskfile: str, options: Options, *, dry: bool = False) -> Source:
    """The task file, scanned if it is a regular one, the files of FOREACH taken. Raises Refused, with every problem of the file.

    `dry`: no program is started, and no store asked.
    """
    lists = FileLists(None if options.match == "command" else earlier_lists(options.resume_from))
    if taskfile == "-":
        if sys.stdin is None:  # closed by `<&-`
            raise Refused("-: standard input is closed")
        return Source(None, 0, "-", "stdin", None, lists)
    path = files.absolute(taskfile)
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = stat.S_IFREG
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode) or str(path).startswith(("/dev/", "/proc/")):
        try:
            return Source(None, os.open(path, os.O_RDONLY | os.O_CLOEXEC), taskfile, files.run_name(path), None, lists)
        except OSError as error:
            raise Refused(f"{taskfile}: cannot be read: {os.strerror(error.errno or 0)}") from None
    text = TaskText(path, taskfile, ignore_unknown=options.ignore_unknown, strict=options.strict)
    scan = text.scan
    if scan.stages and not scan.errors:
        from taskrun.driver.inspection import inspect

        scan = inspect(scan, options.rclone_config or "", options.passphrase_file or "", dry=dry)
    if not scan.errors:
        scan = take_all(scan, lists)
        if options.match == "command" and options.resume_from:
            lists.tell_nameless(scan)
    if scan.errors:
        raise WrongTasks(render_all(scan.diagnostics, taskfile, scan.errors, scan.warnings, color_wanted()).rstrip("\n"))
    text.scan = scan
    return Source(path, -1, taskfile, path.name, scan, lists, text)


def earlier_lists(statuses: list[str]) -> Path | None:
    """Where the newest of the runs that are carried on has the files of FOREACH, if it has any."""
    found = []
    for status in map(files.absolute, statuses):
        with contextlib.suppress(Refused):  # disBatch's has none
            where = sidecar.find(status)
            run = sidecar.load(where)
            found.append((run.started, names.with_suffix(names.prefix_of(where.with_name(run.status)), files.FILES)))
    return max(found)[1] if found else None


def color_wanted() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
