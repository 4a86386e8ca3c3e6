"""The files of a run: their prefix, and which of them exist while it goes on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from taskrun.errors import Refused
from taskrun.status import names

TASKS, FILES = names.TASKS, names.FILES


def job_id(environ: Mapping[str, str], now: float) -> str:
    """SLURM's job id (A_t of an array), else the time as yymmddHHMMSS."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    return environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or time.strftime("%y%m%d%H%M%S", time.localtime(now))


def run_name(taskfile: str | Path) -> str:
    """What the names of a run's files begin with: the task file's name, `stdin` for what comes from a descriptor or a device."""
    path = absolute(taskfile)
    unnamed = str(taskfile) == "-" or (path.parts[1:2] in (("dev",), ("proc",)) and path.parts[2:3] != ("shm",))
    return "stdin" if unnamed else path.name


def choose_prefix(given: str | None, task_name: str, job: str, folder: Path) -> tuple[Path, bool]:
    """(prefix, whether the person named it whole): `-p` if it is a path, else TASKFILE_JOBID in `-p`'s folder or `folder`.

    A made name that is taken gets `.2`, `.3` … Raises Refused when the folder is missing.
    """
    if given == "":
        raise Refused("-p: an empty prefix names no file; leave -p out for TASKFILE_JOBID")
    if given is not None:
        path = folder / given
        if ".." in path.parts:  # it stays where it is now, should a folder on the way be removed
            path = Path(os.path.realpath(path.parent)) / path.name if path.name != ".." else Path(os.path.realpath(path))
        try:
            folder_is_there = path.parent.is_dir()
            is_folder = path.is_dir()
        except OSError as error:
            raise Refused(f"-p {given}: {os.strerror(error.errno or 0)}") from None
        if not is_folder:
            if given.endswith("/") or not folder_is_there:
                missing = path if given.endswith("/") else path.parent
                raise Refused(f"-p {given}: the folder {missing} does not exist; make it first")
            return path, True
        folder = path
    base = folder / f"{task_name}_{job}"
    number = 1
    path = base
    while any(os.path.lexists(names.with_suffix(path, suffix)) for suffix in (names.STATUS, names.SIDECAR, names.EVENTS, names.LOCK)):
        number += 1
        path = base.with_name(f"{base.name}.{number}")
    return path, False


def shown(path: Path, folder: str) -> str:
    """An absolute path as it can be typed in a folder."""
    with contextlib.suppress(ValueError):
        relative = str(path.relative_to(folder))
        return f"./{relative}" if relative.startswith("-") else relative
    return str(path)


def absolute(path: str | Path) -> Path:
    """Absolute without following links: what the person typed stays recognisable."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
