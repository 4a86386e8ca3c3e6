"""`taskrun TASKFILE …`: the default command."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.errors import Refused, told
from taskrun.options import BY_NAME, Options, parse
from taskrun.status import trust
from taskrun.visible import visible

if TYPE_CHECKING:
    from taskrun.status.sidecar import Sidecar


def run(argv: list[str]) -> int:
    """Runs a task file, or carries a run on. Raises Handled."""
    taskfile, options = parse(argv)
    typed_in = _here()
    trust.trust_everybody(options.trust_records)
    earlier: Sidecar | None = None
    name = None
    if not taskfile and not options.resume_from:
        raise Refused("which task file? `taskrun tasks.txt`, `taskrun -` for standard input, `taskrun -r STATUS` to carry on")
    if options.resume_from:
        from taskrun.driver import resumed

        options.set("resume_from", resumed.statuses(options.resume_from), options.origins["resume_from"])
    if "SLURM_ARRAY_TASK_ID" in os.environ and typed_in:
        from taskrun.driver import job_array

        job_array.check(taskfile, options, os.environ)
    if not taskfile:
        taskfile, name, earlier = _from_earlier(options, typed_in)
    elif taskfile == "-" and options.resume_from:
        name = _stream_again(options, typed_in)
    if options.dry_run:
        from taskrun.driver.dry_run import dry_run

        return dry_run(taskfile, options, typed_in, name, earlier)
    from taskrun.driver import surroundings

    surroundings.check()
    from taskrun.driver.run import Run

    return int(Run(taskfile, options, ["taskrun", *argv], earlier, name, typed_in).go())


def _here() -> str:
    """The folder of the person's shell; empty if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109 - a name that is not UTF-8 stays as it is
    except OSError:
        return ""


def _stream_again(options: Options, typed_in: str) -> str | None:
    """The whole stream of an earlier run is given again: it goes on as that run did. The stream's name; None if it was no run of ours."""
    try:
        earlier, where, status = _newest(options)
    except Refused:
        return None  # disBatch's, or without its sidecar: this command line says all
    if earlier.task_file is not None:
        return None
    _inherit(options, earlier)
    _enter(earlier, status)
    _tell_inherited(options, earlier, where, typed_in)
    return _name(earlier)


def _newest(options: Options) -> tuple[Sidecar, Path, Path]:
    """(sidecar, where it is, its status file) of the newest of the `-r` runs. Raises Refused."""
    from taskrun.driver import files
    from taskrun.status import sidecar

    statuses = [files.absolute(name) for name in options.resume_from]
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


def _tell_inherited(options: Options, earlier: Sidecar, where: Path, typed_in: str) -> None:
    """One line about programs and files that nobody has named on this command line, before any of them is used."""
    named = [
        f"{BY_NAME[name].flags[-1]} {shlex.quote(getattr(options, name))}"
        for name in _PROGRAMS
        if options.origins.get(name) == "inherited" and getattr(options, name) != BY_NAME[name].default
    ]
    parts = ", ".join(named), f"runs in {earlier.cwd}" if earlier.cwd != typed_in else ""
    if any(parts) and not options.quiet:
        sys.stderr.write(told(visible(f"inherited from {where.name}: {'; '.join(filter(None, parts))}")) + "\n")


#: Options that make a run start programs, hand over secrets or remove files.
_PROGRAMS = ("ssh", "retire_cmd", "rclone_config", "passphrase_file", "clean")


def _enter(earlier: Sidecar, status: Path) -> None:
    try:
        os.chdir(earlier.cwd)
    except OSError as error:
        raise Refused(f"{visible(earlier.cwd)}, where {status.name} was made, cannot be entered: {os.strerror(error.errno or 0)}") from None


def _name(earlier: Sidecar) -> str | None:
    label = earlier.extra.get("name")
    return label if isinstance(label, str) else None


def _without_torn(path: Path, dry_run: bool) -> str:
    """Of a stream that was cut off nobody knows whether its last line is whole: one without a line end is not run.

    The file to read: `path`, cut, or for --dry-run, which changes no file, a copy in memory.
    """
    from taskrun.status import opening

    try:
        with path.open("rb") if dry_run else os.fdopen(opening.own(path, make=False), "r+b") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end:
                at = max(0, end - (1 << 16))
                file.seek(at)
                newline = file.read(end - at).rfind(b"\n")
                end = at + newline + 1
                if newline >= 0:
                    break
                end = at
            if end < size and dry_run:
                copy = os.memfd_create(path.name[:200], os.MFD_CLOEXEC)
                done = 0
                while done < end and (sent := os.sendfile(copy, file.fileno(), done, end - done)):
                    done += sent
                return f"/proc/self/fd/{copy}"
            if end < size:
                file.truncate(end)
    except OSError as error:
        raise Refused(f"{path}, the copy of the stream, cannot be cut after its last whole line: {error.strerror}") from None
    return str(path)


def _check_copy(path: Path) -> None:
    """The lines that the earlier run read are its records, too; a task file is the person's own. Raises Refused, Untrusted."""
    try:
        trust.opened(path).close()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None


def _check_there(path: str, what: str, advice: str) -> None:
    """Raises Refused."""
    try:
        os.stat(path)  # noqa: PTH116 - a name that is not UTF-8 stays as it is
    except FileNotFoundError:
        raise Refused(f"{visible(path)}, {what}, is gone: {advice}") from None
    except OSError as error:
        raise Refused(f"{visible(path)}, {what}, cannot be read: {os.strerror(error.errno or 0)}") from None


def _from_earlier(options: Options, typed_in: str) -> tuple[str, str | None, Sidecar]:
    """(task file, its name, sidecar) of the newest of the `-r` runs; its options and working directory become ours."""
    from taskrun.driver import files
    from taskrun.status import names

    earlier, where, status = _newest(options)
    again = f"-r {shlex.quote(str(status))}"
    _inherit(options, earlier)
    if earlier.task_file is not None:
        task_file = earlier.task_file.path
        _check_there(task_file, f"the task file of {status.name}", f"put it back, or name it: taskrun TASKFILE {again}")
    else:
        if not earlier.stream_complete and not options.as_is:
            raise Refused(
                f"{status.name} is of a stream whose end was not read: give the whole stream again (generate | taskrun - {again}), "
                "or --as-is for what was read of it"
            )
        task_file = str(names.with_suffix(names.prefix_of(where.with_name(earlier.status)), files.TASKS))
        _check_there(task_file, f"the copy of the stream of {status.name}", f"give the stream again with {again}")
        _check_copy(Path(task_file))
        if not earlier.stream_complete:
            task_file = _without_torn(Path(task_file), options.dry_run)
    _enter(earlier, status)
    _tell_inherited(options, earlier, where, typed_in)
    return task_file, _name(earlier), earlier
