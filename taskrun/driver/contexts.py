"""Which engines a run has: what was asked for, or what is sensible where it was started."""

from __future__ import annotations

import os
import socket
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
    local: dict[str, int] = {}
    for host, count in hosts.items():
        if host != "localhost" and host.partition(".")[0] != here.partition(".")[0]:
            raise Refused(f"-s {host}:{count}: engines on other hosts (SSH) are not there yet; this machine is {here} or localhost")
        name = here if host == "localhost" else host
        if name in local:
            warnings.append(f"{name} is named more than once: its cores are added up")
        local[name] = local.get(name, 0) + count
    requests = divide(local, options.cpus_per_task, options.tasks_per_node)
    label = options.label or ("SSH0" if lists else "local0")
    return Engines(label, requests, {"kind": "local", "label": label, "hosts": local, "limit": max(0, options.task_limit)}), warnings
