"""Which files of this machine a run obeys or writes: nothing that is staged may take their place."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.driver import files
from taskrun.errors import Refused
from taskrun.staging.guard import Guard
from taskrun.status import names, sidecar

if TYPE_CHECKING:
    from taskrun.driver.run import Run


def guard_of(run: Run) -> Guard:
    """Task file, status files, sidecars; what options name; all that is called by the run's prefix or one that it carries on."""
    options = run.options
    found: dict[Path, str] = {run.status_path: "the status file of this run"}
    if run.source.path is not None:
        found[files.absolute(run.source.path)] = "the task file of this run"
    prefixes = [run.prefix, names.prefix_of(run.status_path)]
    for status in map(files.absolute, options.resume_from):
        found[status] = "the status file of a run that this one carries on"
        prefixes += [names.prefix_of(status), names.prefix_of(Path(os.path.realpath(status)))]
        with contextlib.suppress(Refused):
            found[sidecar.find(status)] = "the sidecar of a run that this one carries on"
    for name in ("logfile", "rclone_config", "passphrase_file"):
        value = getattr(options, name)
        if value:
            found[files.absolute(value)] = f"the file of --{name.replace('_', '-')}"
    program = next(iter(shlex.split(options.ssh or "")), "")
    if "/" in program:
        found[files.absolute(program)] = "the program of --ssh"
    return Guard(found, prefixes)
