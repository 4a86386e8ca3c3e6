"""What a SLURM allocation offers: its environment and what scontrol says of it -> nodes, slots, cores, GPUs, its end. Pure.

Slots are those that disBatch would make of the same job, whatever `-c`, `-t` and `--fill` say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from taskrun.engines.request import EngineRequest, slots_in
from taskrun.errors import Refused

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_NODES_MOST = 100_000  # of one allocation: more is a damaged variable
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_COMMENT = re.compile(r" Comment=(.*?)(?:\s+\w[\w/:]*=|\s*$)")
_GPU = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")

#: Who asked for GPUs task by task gets them so, slot by slot.
_GPUS_EACH = ("SLURM_GPUS_PER_TASK",)


class Wanted(NamedTuple):
    """The options that say how a node is cut into slots."""

    cpus_per_task: float = -1.0  # -c, -1.0 if not given
    tasks_per_node: int = -1  # -t, 0 or -1 if not given
    fill: bool = False


class Job(NamedTuple):
    """What `scontrol show job -d -o` says of a running job."""

    nodes: str = ""  # those it still has, as a list that `scontrol show hostnames` expands
    end: float | None = None  # epoch seconds; None: no limit, or none that could be read
    gpus: tuple[tuple[str, int], ...] = ()  # (list of nodes, GPUs of the job on each of them)
    state: str = ""  # RUNNING, COMPLETED …
    batch: bool = False  # it has a script, which SLURM can start again
    preempted: bool = False  # SLURM has told it to make room for another, and ends it soon
    requeues: bool = False  # SLURM starts it again by itself after that

    @property
    def running(self) -> bool:
        """Not cancelled, requeued or over."""
        return self.state == "RUNNING"


def inside(environ: Mapping[str, str]) -> bool:
    """Whether this environment is that of an allocation."""
    return bool(job_id(environ))


def job_id(environ: Mapping[str, str]) -> str:
    return environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or ""


class Array(NamedTuple):
    """The job array that a job is an element of."""

    job: str
    number: str  # of this element
    size: int
    elements: str  # as `--array` takes them


def array(environ: Mapping[str, str]) -> Array | None:
    """The array of this environment, if it has several elements. A task of a run that such a job brings nodes to is in none."""
    index, first, last = (environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "MIN", "MAX"))
    count = _number(environ, "SLURM_ARRAY_TASK_COUNT") or (2 if first != last else 1)
    if not index or count < 2 or "TASKRUN_ATTEMPT" in environ:
        return None
    return Array(environ.get("SLURM_ARRAY_JOB_ID", ""), index, count, f"1-{count}")


def check_copy(environ: Mapping[str, str]) -> None:
    """One that srun has started many of would run the same tasks as the others. Raises Refused for all but the first."""
    if _number(environ, "SLURM_PROCID"):
        copies = environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or "several"
        raise Refused(
            f"srun has started {copies} taskruns, and the first of them uses the whole job: this one runs nothing; "
            "start taskrun without srun, which it calls itself"
        )


def node_list(environ: Mapping[str, str]) -> str:
    """The allocation's nodes, as a list that `scontrol show hostnames` expands. Raises Refused."""
    nodes = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
    if not nodes:
        raise Refused("this is a SLURM job without SLURM_JOB_NODELIST, so its nodes are not known: name them with -s HOST:COUNT")
    return nodes


def counts(text: str, variable: str) -> list[int]:
    """`5(x3),2` -> 5, 5, 5, 2. Raises Refused."""
    found: list[int] = []
    for item in text.split(","):
        match = _COUNT.fullmatch(item.strip())
        if match is None or int(match[2] or 1) + len(found) > _NODES_MOST:
            raise Refused(f"{variable}={text} cannot be read: `{item}` is no count like 5 or 5(x3); name the nodes with -s HOST:COUNT")
        found += [int(match[1])] * int(match[2] or 1)
    return found


def requests(environ: Mapping[str, str], nodes: list[str], wanted: Wanted) -> tuple[list[EngineRequest], list[str]]:
    """(engines, warnings) of an allocation with these nodes, in the order of its list. Raises Refused with what would fit."""
    warnings: list[str] = []
    cpus = _per_node(environ, "SLURM_JOB_CPUS_PER_NODE", nodes)
    tasks = _per_node(environ, "SLURM_TASKS_PER_NODE", nodes) if "SLURM_TASKS_PER_NODE" in environ else cpus
    each = _cores_each(environ, wanted.cpus_per_task, warnings)
    fixed = wanted.tasks_per_node if wanted.tasks_per_node > 0 else _number(environ, "SLURM_NTASKS_PER_NODE")
    fill = wanted.fill
    if fill and ("CUDA_VISIBLE_DEVICES" in environ or "GPU_DEVICE_ORDINAL" in environ):
        warnings.append("--fill is not for jobs with GPUs: the slots are those that SLURM was asked for")
        fill = False
    found = []
    for name, node_cpus, node_tasks in zip(nodes, cpus, tasks, strict=True):
        room = slots_in(node_cpus, each)
        slots = fixed or (room if fill else min(node_tasks, room))
        if slots > 0:
            cores = int(wanted.cpus_per_task) if wanted.cpus_per_task != -1.0 else node_cpus // slots
            found.append(EngineRequest(name, node_cpus, slots, cores, reach="slurm", address=name))
    if _number(environ, "SLURM_HET_SIZE") > 1:
        warnings.append("this job has several parts (`:` on its command line), and tasks run on the nodes of the first part alone")
    if not found:
        raise Refused(f"-c {each:g}: no node of this allocation has that many cores; at most -c {max(cpus)} fits")
    return found, warnings


def _per_node(environ: Mapping[str, str], variable: str, nodes: list[str]) -> list[int]:
    text = environ.get(variable)
    if not text:
        raise Refused(f"this SLURM job has no {variable}, so the cores of its nodes are not known: name them with -s HOST:COUNT")
    found = counts(text, variable)
    if len(found) != len(nodes):
        raise Refused(f"{variable}={text} is for {len(found)} nodes, but the job has {len(nodes)}: name them with -s HOST:COUNT")
    return found


def _number(environ: Mapping[str, str], variable: str) -> int:
    """A number of the environment, 0 if it is not there or is none."""
    text = environ.get(variable, "")
    return int(text) if text.isdecimal() else 0


def _cores_each(environ: Mapping[str, str], given: float, warnings: list[str]) -> float:
    asked = _number(environ, "SLURM_CPUS_PER_TASK")
    if given == -1.0:
        return float(asked or 1)
    if not 0 < given < math.inf:
        raise Refused(f"-c {given:g}: a task needs more than 0 cores; leave -c out for what SLURM was asked for")
    if asked and asked != given:
        warnings.append(f"-c {given:g} is what counts, not the {asked} core{'s'[: asked != 1]} a task that SLURM was asked for")
    return given


def gpus_each(environ: Mapping[str, str]) -> int:
    """GPUs that the job was asked for for each task, 0 if it was not asked so."""
    for variable in _GPUS_EACH:
        found = re.fullmatch(r"(?:[^:,]+:)?(\d+)", environ.get(variable, ""))
        if found:
            return int(found[1])
    return 0


def parse_job(text: str) -> Job:
    """Of `scontrol show job -d -o`, with SLURM_TIME_FORMAT=%s. What is not there, or not as known, is left out."""
    nodes = ""
    end = None
    gpus: list[tuple[str, int]] = []
    flags: dict[str, str] = {}
    group = ""
    text = text[text.find(" UserId=") + 1 :].partition(" Command=")[0]  # not its name, and not its command's words
    for name, value in _FIELD.findall(text):
        if name == "NodeList" and value != "(null)":
            nodes = value
        elif name == "EndTime" and value.isdecimal():
            end = float(value)
        elif name in ("JobState", "BatchFlag", "PreemptTime", "Requeue"):
            flags.setdefault(name, value)
        elif name == "Nodes":
            group = value
        elif name == "GRES" and group:
            count = sum(map(int, _GPU.findall(value)))
            if count:
                gpus.append((group, count))
            group = ""
    preempted = flags.get("PreemptTime", "None") not in ("None", "Unknown", "0")
    return Job(
        nodes,
        end,
        tuple(gpus),
        state=flags.get("JobState", ""),
        batch=flags.get("BatchFlag") == "1",
        preempted=preempted,
        requeues=flags.get("Requeue") == "1",
    )


def comment_of(text: str) -> str:
    """The comment of a job, of `scontrol show job -o`; '' for none. (Words of its command may look like one.)"""
    found = _COMMENT.search(text.partition(" Command=")[2])
    return found[1].strip() if found else ""
