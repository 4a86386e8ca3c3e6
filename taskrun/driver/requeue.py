"""A SLURM job that was started again goes on with its own status file: nobody is there to type -r."""

from __future__ import annotations

import contextlib
from itertools import chain, count
from pathlib import Path

from taskrun.driver import files
from taskrun.errors import Refused
from taskrun.status import names, owner, sidecar


def own_status(given: str | None, task_name: str, job: str, argv: list[str], cwd: Path) -> Path | None:
    """The status file that the same command wrote in an earlier start of this job; None if this is the first, or it wrote none.

    `given`, `task_name`, `job`: as for files.choose_prefix. One job may run the same command several times, one after the other:
    each then finds the file of its own turn, since a file that was gone on with has the number of this start.
    """
    me = owner.slurm_job()
    if not me.start:
        return None
    folder = cwd if given is None else cwd / given
    if given is not None and not folder.is_dir():
        candidates = iter((folder,))
    else:
        base = folder / f"{task_name}_{job}"
        candidates = chain((base,), (base.with_name(f"{base.name}.{number}") for number in count(2)))
    for prefix in candidates:
        status, where = names.with_suffix(prefix, names.STATUS), names.with_suffix(prefix, names.SIDECAR)
        if not status.exists() and not where.exists():
            return None
        with contextlib.suppress(Refused):
            run = sidecar.load(where)
            earlier = owner.SlurmJob.from_plain(run.extra.get("slurm"))
            if status.exists() and earlier.id == me.id and earlier.start < me.start and run.argv == argv and run.cwd == str(cwd):
                return files.absolute(status)
    return None
