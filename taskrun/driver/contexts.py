"""Which engines a run has: what was asked for, or what is sensible where it was started."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskrun.agent import probe
from taskrun.engines import allocation
from taskrun.engines.command import check_ssh
from taskrun.engines.request import EngineRequest, divide, expand_hosts, parse_hosts
from taskrun.errors import Refused
from taskrun.options import Options, split_variables

if TYPE_CHECKING:
    from taskrun.engines.slurm import Steps


class Engines(NamedTuple):
    label: str
    requests: list[EngineRequest]
    given: dict[str, Any]
    steps: Steps | None = None  # of a SLURM allocation


def choose_engines(options: Options, *, was_slurm: bool = False, dry: bool = False) -> tuple[Engines, list[str]]:
    """(engines, warnings). `was_slurm`: the run that is carried on had a SLURM allocation. `dry`: SLURM is not asked, and no engine is
    needed.

    Raises Refused with what would work.
    """
    if options.startup_only:
        if options.origins.get("hosts") == "flag":
            raise Refused("--startup-only starts no engine: leave out -s here, and give it to `taskrun attach`")
        return Engines("", [], {}), []
    here = socket.gethostname()
    cores = probe.cores()
    lists = list(options.hosts)
    environ = os.environ
    if not lists:
        if allocation.job_id(environ):
            return _planned_of_allocation(options, environ) if dry else _of_allocation(options, environ)
        variable = environ.get("TASKRUN_OPT_SSH_NODELIST") or environ.get("DISBATCH_SSH_NODELIST")
        if variable:
            lists = [variable]
    warnings: list[str] = []
    if lists:
        hosts, warnings = parse_hosts(lists)
    elif nowhere := _nowhere(cores, environ, was_slurm=was_slurm):
        if not dry:
            raise Refused(nowhere)
        return Engines("", [], {}), [nowhere]
    else:
        hosts = {here: cores}
    merged: dict[str, int] = {}
    for address, count in hosts.items():
        name = here if address == "localhost" else address
        if name in merged:
            warnings.append(f"{name} is named more than once: its cores are added up")
        merged[name] = merged.get(name, 0) + count
    requests = [
        each._replace(reach="local" if is_here(each.address, here) else "ssh")
        for each in divide(merged, options.cpus_per_task, options.tasks_per_node)
    ]
    if options.ssh and any(each.reach == "ssh" for each in requests):
        check_ssh(options.ssh)
    label = options.label or ("SSH0" if lists else "local0")
    kind = "local" if all(each.reach == "local" for each in requests) else "ssh"
    return Engines(label, requests, {"kind": kind, "label": label, "hosts": merged, "limit": max(0, options.task_limit)}), warnings


def _nowhere(cores: int, environ: Mapping[str, str], *, was_slurm: bool) -> str:
    """The sentence where nobody has said where tasks run, and this machine is not what is meant; '' where it may be."""
    if any(os.access(Path(folder) / "sbatch", os.X_OK) for folder in environ.get("PATH", "").split(os.pathsep) if folder):
        why, go = "this machine submits to SLURM, and nobody fills a login node by accident", "run"
    elif was_slurm:
        why, go = "that run had a SLURM job, and this is none", "carry on"
    else:
        return ""
    return f"{why}: -s localhost:{cores} to {go} here, or sbatch -n {cores} --wrap 'exec taskrun …'"


def _of_allocation(options: Options, environ: Mapping[str, str]) -> tuple[Engines, list[str]]:
    from taskrun.engines import slurm

    allocation.check_copy(environ)
    wanted = allocation.Wanted(options.cpus_per_task, options.tasks_per_node, options.fill)
    requests, steps, warnings = slurm.engines(environ, wanted)
    label = options.label or f"J{steps.job}"
    hosts = {each.host: each.cores for each in requests}
    given = {"kind": "slurm", "label": label, "hosts": hosts, "limit": max(0, options.task_limit), "job": steps.job}
    return Engines(label, requests, given, steps), warnings


def _planned_of_allocation(options: Options, environ: Mapping[str, str]) -> tuple[Engines, list[str]]:
    """The same by what the job's environment says, which knows nothing of nodes that were given back or lost."""
    allocation.check_copy(environ)
    wanted = allocation.Wanted(options.cpus_per_task, options.tasks_per_node, options.fill)
    requests, warnings = allocation.requests(environ, expand_hosts(allocation.node_list(environ)), wanted)
    return Engines(options.label or f"J{allocation.job_id(environ)}", requests, {}), warnings


def driver_node(requests: list[EngineRequest], environ: Mapping[str, str]) -> str:
    """The node among them on which this process runs, '' if there is none."""
    own = environ.get("SLURMD_NODENAME") or socket.gethostname()
    return next((each.host for each in requests if each.host == own or is_here(each.host, own)), "")


def is_here(address: str, here: str) -> bool:
    """Whether an address of `-s` is this machine, by its name up to the first dot, as disBatch decides it."""
    return address == "localhost" or address.partition(".")[0] == here.partition(".")[0]


def carried_environment(wanted: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that `--env NAME` and `--env NAME=VALUE` give the tasks. Raises Refused."""
    env = {}
    for item in split_variables(wanted):
        name, equals, value = item.partition("=")
        if equals:
            env[name] = value
        elif name in environ:
            env[name] = environ[name]
        else:
            raise Refused(f"--env {name}: there is no such variable here; --env {name}=VALUE sets one")
    return env
