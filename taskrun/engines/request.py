"""What `-s`, `-c` and `-t` ask for: hosts and slots. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from taskrun.errors import Refused


class EngineRequest(NamedTuple):
    """One node of a context, before anything is started on it."""

    host: str
    cores: int
    slots: int
    cores_per_task: int  # as disBatch counts it: 0 when slots share cores


def parse_hosts(lists: list[str]) -> tuple[dict[str, int], list[str]]:
    """(host -> cores in order, warnings) of `HOST:COUNT[,HOST:COUNT…]` lists. Raises Refused."""
    hosts: dict[str, int] = {}
    warnings = []
    for item in ",".join(lists).split(","):
        text = item.strip()
        if not text:
            continue
        host, colon, number = text.rpartition(":")
        host = host.strip()
        number = number.strip()
        if not colon or not host:
            raise Refused(f"-s {text}: the number of cores is missing; write {text.rstrip(':')}:4 for four")
        try:
            cores = int(number)
        except ValueError:
            raise Refused(f"-s {text}: `{number}` is not a number of cores; write {host}:4 for four") from None
        if cores < 1:
            raise Refused(f"-s {text}: an engine needs at least one core; write {host}:1")
        if host in hosts:
            warnings.append(f"{host} is named more than once: its cores are added up")
        hosts[host] = hosts.get(host, 0) + cores
    if not hosts:
        raise Refused("-s names no host; write -s localhost:4 for four slots on this machine")
    return hosts, warnings


def divide(hosts: dict[str, int], cpus_per_task: float, tasks_per_node: int) -> list[EngineRequest]:
    """Slots of each host: `-t` if given (not 0 or -1), else cores / `-c` rounded down. Raises Refused when none is left."""
    if cpus_per_task != -1.0 and not (0 < cpus_per_task < math.inf):
        raise Refused(f"-c {cpus_per_task:g}: a task needs more than 0 cores; leave -c out for one")
    each = 1.0 if cpus_per_task == -1.0 else cpus_per_task
    requests = []
    for host, cores in hosts.items():
        slots = tasks_per_node if tasks_per_node > 0 else int(cores // each)
        if slots > 0:
            requests.append(EngineRequest(host, cores, slots, cores // slots))
    if not requests:
        most = max(hosts.values())
        raise Refused(f"-c {each:g}: no host has that many cores; at most -c {most} fits")
    return requests
