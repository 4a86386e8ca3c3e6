"""SLURM's own commands, asked with patience: a busy controller answers the next time."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from taskrun.engines import allocation
from taskrun.errors import Refused

PATIENCE = 20.0  # seconds of one answer; the commands have their own, longer one
_GOING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between tries
_BUSY = re.compile(
    r"timed out|unable to contact|temporarily|try again|connection refused|connection reset|zero bytes|communication|"
    r"not responding|too many requests|transport endpoint|controller|DB index",
    re.IGNORECASE,
)


class Unanswered(Exception):
    """What the command said instead of an answer: one line."""


def ask(argv: list[str], pauses: tuple[float, ...] = PAUSES) -> str:
    """What the command prints. Asked again while the controller is busy. Raises Unanswered."""
    for pause in pauses:
        try:
            return _ask(argv)
        except Unanswered as error:
            if not _BUSY.search(str(error)):
                raise
        time.sleep(pause)
    return _ask(argv)


def _ask(argv: list[str], variables: Mapping[str, str] = MappingProxyType({})) -> str:
    env = {**os.environ, **variables, "SLURM_TIME_FORMAT": "%s"}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{argv[0]} timed out after {PATIENCE:.0f} s") from None
    except OSError as error:
        raise Unanswered(f"{argv[0]}: {os.strerror(error.errno or 0)}") from None
    if done.returncode:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip() and not line.startswith("Try ")]
        raise Unanswered(said[-1] if said else f"{argv[0]}: exit {done.returncode}")
    return done.stdout.decode("utf-8", "surrogateescape")


def hostnames(nodes: str) -> list[str]:
    """The names in a list of nodes, `node[01-03,7]`, in its order. Raises Refused."""
    if not re.search(r"[\[,]", nodes):
        return [nodes]
    try:
        found = ask(["scontrol", "show", "hostnames", nodes]).split()
    except Unanswered as error:
        raise Refused(f"the nodes {nodes} of this SLURM job cannot be listed: {error}") from None
    if not found:
        raise Refused(f"scontrol finds no node in {nodes}: name the nodes with -s HOST:COUNT")
    return found


def show_job(job: str, pauses: tuple[float, ...] = PAUSES) -> str:
    """One line about a job, times in epoch seconds. Raises Unanswered."""
    return ask(["scontrol", "show", "job", "-d", "-o", job], pauses)


def is_over(job: str) -> bool:
    """SLURM knows that this job is over. False if it does not answer, or is another one."""
    if not job.isdecimal():
        return False
    try:
        state = allocation.parse_job(show_job(job, PAUSES[:1])).state
    except Unanswered as error:
        return "invalid job id" in str(error).lower()
    return bool(state) and state not in _GOING


def binds_tasks() -> bool:
    """Whether this SLURM binds tasks to CPUs. One that does not complains about being told not to."""
    try:
        found = re.search(r"^TaskPlugin\s*=\s*(\S+)", ask(["scontrol", "show", "config"]), re.MULTILINE)
    except Unanswered:
        return True
    return found is None or found[1] not in ("task/none", "(null)")


def submit(script: Path, variables: Mapping[str, str]) -> str:
    """Return what sbatch prints; `variables` are in its environment, and so in the job's. Raises Unanswered.

    Not tried again once the controller may have taken the job.
    """
    argv = ["sbatch", str(script.absolute())]  # `-d.sbatch` would be an option
    for pause in PAUSES:
        try:
            return _ask(argv, variables)
        except Unanswered as error:
            if "timed out" in str(error):
                raise Unanswered(f"{error}; it may have been taken all the same: see squeue before you try again") from None
            if not _BUSY.search(str(error)):
                raise
        time.sleep(pause)
    return _ask(argv, variables)
