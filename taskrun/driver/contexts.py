"""Which engines a run has: what was asked for, or what is sensible where it was started."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.agent import probe
from taskrun.engines.request import EngineRequest, divide, parse_hosts
from taskrun.errors import Refused
from taskrun.options import Options


class Engines(NamedTuple):
    label: str
    requests: list[EngineRequest]
    given: dict[str, Any]


def choose_engines(options: Options) -> tuple[Engines, list[str]]:
    """(engines, warnings). Raises Refused with what would work."""
    here = socket.gethostname()
    cores = probe.cores()
    lists = list(options.hosts)
    environ = os.environ
    if not lists:
        if environ.get("SLURM_JOBID") or environ.get("SLURM_JOB_ID"):
            raise Refused(f"engines of a SLURM allocation are not there yet; -s localhost:{cores} runs on this node alone")
        variable = environ.get("TASKRUN_OPT_SSH_NODELIST") or environ.get("DISBATCH_SSH_NODELIST")
        if variable:
            lists = [variable]
    warnings: list[str] = []
    if lists:
        hosts, warnings = parse_hosts(lists)
    elif any(os.access(Path(folder) / "sbatch", os.X_OK) for folder in environ.get("PATH", "").split(os.pathsep) if folder):
        raise Refused(
            f"this machine submits to SLURM, and nobody fills a login node by accident: "
            f"-s localhost:{cores} to run here, or sbatch -n {cores} --wrap 'exec taskrun …'"
        )
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
    label = options.label or ("SSH0" if lists else "local0")
    kind = "local" if all(each.reach == "local" for each in requests) else "ssh"
    return Engines(label, requests, {"kind": kind, "label": label, "hosts": merged, "limit": max(0, options.task_limit)}), warnings


def is_here(address: str, here: str) -> bool:
    """Whether an address of `-s` is this machine, by its name up to the first dot, as disBatch decides it."""
    return address == "localhost" or address.partition(".")[0] == here.partition(".")[0]


def carried_environment(wanted: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What `--env NAME` and `--env NAME=VALUE` give the tasks on other hosts. Raises Refused."""
    env = {}
    for item in ",".join(wanted).split(",") if not any("=" in item for item in wanted) else wanted:
        name, equals, value = item.strip().partition("=")
        if not name:
            continue
        if equals:
            env[name] = value
        elif name in environ:
            env[name] = environ[name]
        else:
            raise Refused(f"--env {name}: there is no such variable here; --env {name}=VALUE sets one")
    return env
