"""`taskrun TASKFILE …`: the default command."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.errors import Refused
from taskrun.options import Options, parse

if TYPE_CHECKING:
    from taskrun.status.sidecar import Sidecar


def run(argv: list[str]) -> int:
    """Runs a task file, or carries a run on. Raises Handled."""
    taskfile, options = parse(argv)
    typed_in = _here()
    earlier: Sidecar | None = None
    name = None
    if not taskfile:
        if not options.resume_from:
            raise Refused("which task file? `taskrun tasks.txt`, `taskrun -` for standard input, `taskrun -r STATUS` to carry on")
        taskfile, name, earlier = _from_earlier(options)
    elif taskfile == "-" and options.resume_from:
        name = _stream_again(options)
    from taskrun.driver.run import Run

    if options.dry_run:
        from taskrun.driver.dry_run import dry_run

        return dry_run(taskfile, options)
    return int(Run(taskfile, options, ["taskrun", *argv], earlier, name, typed_in).go())


def _here() -> str:
    """The folder of the person's shell; empty if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109 - a name that is not UTF-8 stays as it is
    except OSError:
        return ""


def _stream_again(options: Options) -> str | None:
    """The whole stream of an earlier run is given again: it goes on as that run did. The stream's name; None if it was no run of ours."""
    try:
        earlier, _, status = _newest(options)
    except Refused:
        return None  # disBatch's, or without its sidecar: this command line says all
    if earlier.task_file is not None:
        return None
    _inherit(options, earlier)
    _enter(earlier, status)
    return _name(earlier)


def _newest(options: Options) -> tuple[Sidecar, Path, Path]:
    """(sidecar, where it is, its status file) of the newest of the `-r` runs. Raises Refused."""
    from taskrun.driver import files
    from taskrun.status import sidecar

    statuses = [files.absolute(name) for name in options.resume_from]
    for status in statuses:
        if not os.path.lexists(status):
            raise Refused(f"{status} cannot be read: {os.strerror(errno.ENOENT)}")
    found = [(sidecar.load(where), where, status) for status in statuses for where in [sidecar.find(status)]]
    return max(found, key=lambda each: each[0].started)


def _inherit(options: Options, earlier: Sidecar) -> None:
    """The options of the earlier run become ours; names on this command line stay those of the folder where it was typed."""
    from taskrun.driver import files

    for name in ("prefix", "logfile"):
        value = getattr(options, name)
        if value:
            options.set(name, str(files.absolute(value)) + ("/" if value.endswith("/") else ""), options.origins[name])
    options.set("resume_from", [str(files.absolute(name)) for name in options.resume_from], "flag")
    options.inherit(earlier.options)


def _enter(earlier: Sidecar, status: Path) -> None:
    try:
        os.chdir(earlier.cwd)
    except OSError as error:
        raise Refused(f"{earlier.cwd}, where {status.name} was made, cannot be entered: {os.strerror(error.errno or 0)}") from None


def _name(earlier: Sidecar) -> str | None:
    label = earlier.extra.get("name")
    return label if isinstance(label, str) else None


def _cut_torn(path: Path) -> None:
    """Of a stream that was cut off nobody knows whether its last line is whole: one without a line end is not run."""
    try:
        with path.open("r+b") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end:
                at = max(0, end - (1 << 16))
                file.seek(at)
                newline = file.read(end - at).rfind(b"\n")
                end = at + newline + 1
                if newline >= 0:
                    break
                end = at
            if end < size:
                file.truncate(end)
    except OSError as error:
        raise Refused(f"{path}, the copy of the stream, cannot be cut after its last whole line: {os.strerror(error.errno or 0)}") from None


def _from_earlier(options: Options) -> tuple[str, str | None, Sidecar]:
    """(task file, its name, sidecar) of the newest of the `-r` runs; its options and working directory become ours."""
    from taskrun.driver import files
    from taskrun.status import names

    earlier, where, status = _newest(options)
    again = f"-r {shlex.quote(str(status))}"
    _inherit(options, earlier)
    if earlier.task_file is not None:
        task_file = earlier.task_file.path
        if not Path(task_file).exists():
            raise Refused(f"{task_file}, the task file of {status.name}, is gone: put it back, or name it: taskrun TASKFILE {again}")
    else:
        if not earlier.stream_complete and not options.as_is:
            raise Refused(
                f"{status.name} is of a stream whose end was not read: give the whole stream again (generate | taskrun - {again}), "
                "or --as-is for what was read of it"
            )
        task_file = str(names.with_suffix(names.prefix_of(where.with_name(earlier.status)), files.TASKS))
        if not Path(task_file).exists():
            raise Refused(f"{task_file}, the copy of the stream of {status.name}, is gone: give the stream again with {again}")
        if not earlier.stream_complete:
            _cut_torn(Path(task_file))
    _enter(earlier, status)
    return task_file, _name(earlier), earlier
