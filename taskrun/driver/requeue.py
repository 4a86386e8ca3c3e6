"""A SLURM job that was started again goes on with its own status file: nobody is there to type -r. And how it comes to be started again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import chain, count, takewhile
from pathlib import Path

from taskrun.driver import files
from taskrun.engines import allocation, controller
from taskrun.errors import Refused
from taskrun.options import Options, without_values
from taskrun.status import chain as runs
from taskrun.status import names, owner, sidecar, trust


def own_status(options: Options, task_name: str, job: str, argv: list[str], cwd: Path) -> Path | None:
    """The status file that the same command wrote in an earlier start of this job; None if this is the first, or it wrote none.

    `task_name`, `job`: as for files.choose_prefix; `argv`: see options.without_values. One job may run the same command several
    times, one after the other: each then finds the file of its own turn, since a file that was gone on with has the number of this start.
    Raises Untrusted when a file that somebody else may have written could be the one, and no other is.
    """
    me = owner.slurm_job()
    if not me.start:
        return None
    given = options.prefix
    folder = cwd if given is None else cwd / given
    if given is not None and not folder.is_dir():
        candidates = iter((folder,))
    else:
        base = folder / f"{task_name}_{job}"
        made = chain((base,), (base.with_name(f"{base.name}.{number}") for number in count(2)))
        candidates = chain(_in_chain(options), takewhile(_is_taken, made))
    strange: trust.Untrusted | None = None
    for prefix in candidates:
        status, where = names.with_suffix(prefix, names.STATUS), names.with_suffix(prefix, names.SIDECAR)
        with contextlib.suppress(Refused):
            try:
                run = sidecar.load(where)
            except trust.Untrusted as error:  # somebody else has taken the name, unless no other file is ours
                strange = error
                continue
            earlier = owner.SlurmJob.from_plain(run.extra.get("slurm"))
            same = without_values(run.argv) == argv and run.cwd == str(cwd)
            if status.exists() and earlier.id == me.id and earlier.start < me.start and same:
                return files.absolute(status)
    if strange is not None:
        raise strange
    return None


def _in_chain(options: Options) -> list[Path]:
    """The prefixes of resumes that went on with what -r names."""
    base = None if options.append or options.prefix is not None else runs.base_of(map(files.absolute, options.resume_from))
    return [] if base is None else [runs.numbered(base, number) for number in runs.taken(base)]


def _is_taken(prefix: Path) -> bool:
    return any(names.with_suffix(prefix, suffix).exists() for suffix in (names.STATUS, names.SIDECAR))


TAKING_SECONDS = 120.0  # in which SLURM ends a job that it has preempted or requeued


def end_in_order(job: str, restarts: int | None, say: Callable[[str], object], hopeless: str = "") -> None:
    """The run was stopped before its end, in this SLURM job; its files are closed. May not return: SLURM ends the job meanwhile.

    A job that is preempted is started again only if it is still there when SLURM ends it: one that ends by itself has failed.
    `restarts`: how many times a job whose time is over may be started again, None without --requeue. `hopeless`: why that would be useless.
    """
    try:
        now = allocation.parse_job(controller.show_job(job))
    except controller.Unanswered as error:
        say(f"whether SLURM starts this job again is not known: {error}")
        return
    if not (now.running and now.batch):
        return  # cancelled, started again already, or without a script
    if now.preempted and now.requeues:
        say("SLURM takes this job's nodes for another one, and starts it again later")
        time.sleep(max(0.0, (now.end or 0.0) - time.time()) + TAKING_SECONDS)
    elif restarts is None:
        return
    elif hopeless:
        say(hopeless)
    elif (start := owner.slurm_job().start) >= restarts:
        again = f"{start} {'time' if start == 1 else 'times'}"
        say(f"SLURM has started this job again {again}, and --restarts {restarts} allows no more: submit it anew to carry on")
    else:
        say("SLURM is asked to start this job again (--requeue)")  # it ends this process before it answers
        try:
            controller.ask(["scontrol", "requeue", job])
        except controller.Unanswered as error:
            say(f"SLURM does not start this job again: {error}")
            return
        time.sleep(TAKING_SECONDS)
