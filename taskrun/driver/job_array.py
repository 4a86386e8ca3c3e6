"""Elements of a SLURM job array: each would run the whole task file, so that every task ran as often as there are elements."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping

from taskrun.driver import files
from taskrun.engines import allocation, controller
from taskrun.errors import Refused
from taskrun.options import Options


def check(taskfile: str | None, options: Options, environ: Mapping[str, str]) -> None:
    """Raises Refused in an element of an array whose task file is everybody's. `taskfile`: as typed, None to carry on with -r.

    A file is the element's own if its number is in the name, or in that of a folder which the script has entered.
    """
    array = allocation.array(environ)
    if array is None or options.each_element or (taskfile is None and options.append):
        return
    names = [taskfile] if taskfile is not None else options.resume_from
    if taskfile != "-" and all(is_own(name, array.number, environ) for name in names):
        return
    if not options.dry_run and not _is_element(allocation.job_id(environ)):
        return
    raise Refused(refusal(taskfile, array))


def is_own(name: str, index: str, environ: Mapping[str, str]) -> bool:
    """Return whether the path, seen from where the array was submitted, has the number of the element."""
    path = os.path.relpath(files.absolute(name), environ.get("SLURM_SUBMIT_DIR") or "/")
    return re.search(rf"(?<!\d)0*{re.escape(index)}(?!\d)", path) is not None


def _is_element(job: str) -> bool:
    """A job that was submitted from within an element has the variables of the array, and is no part of it."""
    try:
        return " ArrayJobId=" in controller.show_job(job).partition(" JobName=")[0]
    except controller.Unanswered:
        return True


def refusal(taskfile: str | None, array: allocation.Array) -> str:
    """The sentences, with the commands that would work."""
    named = shlex.quote(taskfile) if taskfile and taskfile != "-" else "tasks.txt"
    what = "its whole input" if taskfile == "-" else "the whole task file" if taskfile is None else f"the whole of {named}"
    return (
        f"each of the {array.size} elements of job array {array.job} would run {what}; "
        "run it in one job, and when that runs add nodes by an array:\n"
        f"  sbatch --wrap {shlex.quote(f'exec taskrun {named} -p run')}\n"
        f"  sbatch --array={array.elements} --wrap 'exec taskrun attach run'\n"
        "or give each element a file of its own, with its number in the name (tasks_$SLURM_ARRAY_TASK_ID.txt); "
        "--each-element runs all in each"
    )
