"""Engines on the nodes of a SLURM allocation: one job step each, whose standard input and output are the link.

What srun needs for that, found out on a real cluster, is in docs/slurm.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.engines import allocation, bootstrap, controller
from taskrun.engines.allocation import Wanted
from taskrun.engines.command import CommandAgent, said_since
from taskrun.engines.request import EngineRequest
from taskrun.engines.streams import ProgramStream, What, words
from taskrun.errors import Refused

RESCUE_TRIES, RESCUE_PAUSE = 90, 10  # and seconds between them
GUARDS = 3  # agents that look after the job when the driver is silent: a thousand would keep the controller busy

OPTIONS_FILE = "DISBATCH_SLURM_SRUN_OPTIONS_FILE"

#: What srun would take from a job's environment to shape the step: it would be for all tasks of the job, not for one agent on one node
#: (two agents with SLURM_NTASKS_PER_GPU, one GPU of four with SLURM_GPUS_PER_TASK, lines with numbers before them with SLURM_LABELIO).
SHAPING = frozenset(
    (
        "SLURM_CORE_SPEC", "SLURM_CPUS_PER_GPU", "SLURM_CPUS_PER_TASK", "SLURM_CPU_BIND", "SLURM_CPU_BIND_LIST", "SLURM_CPU_BIND_TYPE",
        "SLURM_CPU_BIND_VERBOSE", "SLURM_DISTRIBUTION", "SLURM_DIST_PLANESIZE", "SLURM_EXACT", "SLURM_EXCLUSIVE", "SLURM_GPUS",
        "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_SOCKET", "SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_GRES", "SLURM_HINT",
        "SLURM_LABELIO", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE", "SLURM_NPROCS", "SLURM_NTASKS",
        "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_GPU", "SLURM_NTASKS_PER_NODE", "SLURM_NTASKS_PER_SOCKET", "SLURM_NTASKS_PER_TRES",
        "SLURM_OPEN_MODE", "SLURM_OVERCOMMIT", "SLURM_REMOTE_CWD", "SLURM_RESERVATION", "SLURM_SPREAD_JOB", "SLURM_STDERRMODE",
        "SLURM_STDINMODE", "SLURM_STDOUTMODE", "SLURM_STEP_GRES", "SLURM_THREADS_PER_CORE", "SLURM_TIMELIMIT", "SLURM_TRES_PER_TASK",
        "SLURM_WORKING_DIR", "SRUN_CPUS_PER_TASK",
    )
)  # fmt: skip
#: Of these, what would be untrue in a task: its step has one task, bound to nothing.
_NOT_OF_TASKS = frozenset(
    name for name in SHAPING if re.search("NPROCS|NTASKS$|CPUS_PER_TASK|CPU_BIND|STDINMODE|STDOUTMODE|STDERRMODE", name)
)

#: srun's words when SLURM has lost a node (its exit code is 0 then). The network may be cut, and the node go on.
_NODE_LOST = re.compile(r"node failure", re.IGNORECASE)
#: Words of srun and slurmstepd when it is SLURM that has ended a step, or has lost sight of it.
_ENDED_BY_SLURM = re.compile(r"cancelled|aborted|node failure|io error|terminated|revoked", re.IGNORECASE)
_SIGNAL = 128  # exit codes above are signals, as the shell around an agent tells them; others may be srun's own
#: srun's words when there is no such step to be had, now or later.
_NEVER = re.compile(
    r"not in (this job|allocation)|invalid job id|already complet|has been revoked|configuration is not available|invalid node",
    re.IGNORECASE,
)


class Steps(NamedTuple):
    """What the steps of one allocation have in common, and what differs from node to node."""

    job: str
    env: Mapping[str, str]  # srun's
    bind: bool  # --cpu-bind=none is said: this SLURM binds tasks to CPUs
    gpus: Mapping[str, int]  # node -> GPUs of the job there
    for_tasks: Mapping[str, str]  # variables of the job that tasks see, although srun must not
    share: Mapping[str, Any]  # see agent/share.py
    end: float | None  # of the allocation, epoch seconds
    alone: str  # what an agent does, in /bin/sh, when the driver has fallen silent,
    guards: tuple[str, ...]  # on these nodes


def engines(environ: Mapping[str, str], wanted: Wanted) -> tuple[list[EngineRequest], Steps, list[str]]:
    """(engines, their steps, warnings) of the allocation that this environment is of. Asks scontrol. Raises Refused."""
    names = controller.hostnames(allocation.node_list(environ))
    found, warnings = allocation.requests(environ, names, wanted)
    job_id = allocation.job_id(environ)
    try:
        job = allocation.parse_job(controller.show_job(job_id))
    except controller.Unanswered as error:
        warnings.append(f"SLURM does not say when this job ends and which GPUs it has: {error}")
        job = allocation.Job()
    if job.nodes:
        kept = set(controller.hostnames(job.nodes))
        gone = [each.host for each in found if each.host not in kept]
        if gone:
            warnings.append(f"{', '.join(gone)}: no longer {'nodes' if len(gone) > 1 else 'a node'} of this job")
            found = [each for each in found if each.host in kept]
    if not found:
        raise Refused(f"job {job_id} has no node left that it began with")
    gpus = {name: count for group, count in job.gpus for name in controller.hostnames(group)}
    own = srun_options(environ)
    binding = own.get("SLURM_CPU_BIND")
    share = {
        "bound": (binding or environ.get("SLURM_CPU_BIND", "")).rpartition(",")[2] != "none",
        "gpus": "" if environ.get("SLURM_GPU_BIND") == "none" else "auto",
        "gpus_each": allocation.gpus_each(environ),
    }
    env = {**{name: value for name, value in environ.items() if name not in SHAPING}, **own}
    for_tasks = {name: environ[name] for name in sorted(SHAPING - _NOT_OF_TASKS) if name in environ}
    bind = binding is None and controller.binds_tasks()
    alone = rescue(job_id, requeues=job.requeues) if job.batch else ""
    guards = tuple(each.host for each in found if each.host != environ.get("SLURMD_NODENAME"))[:GUARDS]
    return found, Steps(job_id, env, bind, gpus, for_tasks, share, job.end, alone, guards), warnings


def rescue(job: str, *, requeues: bool) -> str:
    """With --no-kill a job goes on without the node of its script, and nobody is there to use it: this starts it again, or ends it.

    SLURM may call the node lost minutes later than the agent does the driver.
    """
    last = "scontrol requeue" if requeues else "scancel"
    lost = (  # the node of the script is none of the job any more
        f'host=$(squeue -h -j {job} -O BatchHost:256 | tr -d " ") && nodes=$(squeue -h -j {job} -o %N) && '
        '[ -n "$host" ] && [ -n "$nodes" ] && names=$(scontrol show hostnames "$nodes") && ! echo "$names" | grep -qxF -e "$host"'
    )
    return f"n=0; while [ $n -lt {RESCUE_TRIES} ]; do {lost} && exec {last} {job}; sleep {RESCUE_PAUSE}; n=$((n + 1)); done"


def alone(request: EngineRequest, steps: Steps) -> str:
    """What the agent on this node does when the driver has fallen silent, '' for nothing."""
    return steps.alone if request.host in steps.guards else ""


def srun_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for srun: those in a file of the user's, as disBatch reads it; else no MPI for the agent. Raises Refused."""
    file = environ.get(OPTIONS_FILE)
    if not file:
        return {"SLURM_MPI_TYPE": "none"}
    try:
        text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Refused(f"{OPTIONS_FILE}: {file}: {os.strerror(error.errno or 0)}") from None
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        name, equals, value = line.partition("=")
        if equals and name.strip() and "\0" not in line:
            found[name.strip()] = value
        elif line.strip():
            said = line.strip().replace("\0", "\\0")
            raise Refused(f"{file}:{number}: `{said}` is no NAME=VALUE, as lines of {OPTIONS_FILE} are")
    return found


def step_command(node: str, gpus: int, *, bind: bool) -> list[str]:
    """The argument list of one agent's srun."""
    return [*_srun(node, bind=bind), *([f"--gpus={gpus}"] if gpus else []), *bootstrap.words(stay=True)]


def session_command(node: str, what: What, *, bind: bool) -> list[str]:
    """The argument list of the srun of one session with the node, for data."""
    return [*_srun(node, bind=bind), "--chdir=/", *words(what)]


def _srun(node: str, *, bind: bool) -> list[str]:
    found = ["srun", "-N1", "-n1", "-w", node, "--overlap", "--mem=0", "--no-kill", "--unbuffered", "--export=ALL"]
    return [*found, "--cpu-bind=none"] if bind else found


def share_of(request: EngineRequest, steps: Steps, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent on this node divides among its slots: what was `asked` for (-E, -g), and what SLURM would."""
    share = {**steps.share, **asked, "gpus": asked["gpus"] or steps.share["gpus"]}
    bound = share.pop("bound")
    return {**share, "cores": request.cores if bound else 0, "cores_per_task": request.cores_per_task}


def task_environment(request: EngineRequest, steps: Steps) -> dict[str, str]:
    """Variables of SLURM that tasks on this node see."""
    return {**steps.for_tasks, "SLURM_CPUS_PER_TASK": str(max(1, request.cores_per_task))}


class SlurmAgent(CommandAgent):
    """An agent in a job step."""

    def __init__(self, request: EngineRequest, steps: Steps, log: Path, log_fd: int) -> None:
        """`log_fd`: `log`, opened for appending. Raises OSError when srun cannot be started."""
        super().__init__(step_command(request.host, steps.gpus.get(request.host, 0), bind=steps.bind), log, log_fd, steps.env)

    @property
    def permanent(self) -> bool:
        said = said_since(self.log, self.log_start)
        return _NEVER.search(said) is not None or _NODE_LOST.search(said) is not None

    @property
    def lives_on(self) -> bool:
        # of an srun that was killed SLURM ends the step, but not while the controller is away
        return self.code < 0 or _NODE_LOST.search(said_since(self.log, self.log_start)) is not None

    @property
    def died(self) -> bool:
        return self.code > _SIGNAL and _ENDED_BY_SLURM.search(said_since(self.log, self.log_start)) is None


class StepHost:
    """A node that data goes to: each session is a job step of its own, with an agent there or without, until the allocation ends."""

    def __init__(self, node: str, steps: Steps) -> None:
        self._node = node
        self._steps = steps

    def session(self, what: What, silent: float) -> ProgramStream:
        """One more. Raises OSError."""
        steps = self._steps
        return ProgramStream(session_command(self._node, what, bind=steps.bind), what, silent, env=steps.env, never=_NEVER.pattern)
