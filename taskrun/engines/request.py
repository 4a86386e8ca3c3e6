"""What `-s`, `-c` and `-t` ask for: hosts and slots. Pure."""

from __future__ import annotations

import itertools
import math
import re
from typing import Literal, NamedTuple, TypeAlias

from taskrun.errors import Refused

SLOTS_MOST = 65_536  # of one engine: more processes than a node takes
CORES_MOST = 1 << 31
HOSTS_MOST = 10_000  # of one -s: more is a mistake in a range

#: How its agent is reached: a child of the driver, over SSH, by a job step of SLURM, through who attached its context.
Reach: TypeAlias = Literal["local", "ssh", "slurm", "relay"]

_RANGE = re.compile(r"\[([0-9, -]*)\]")
_BETWEEN = r",(?![^\[]*\])"  # commas that are not in a range
#: What no name of a host has, and what could be an option or mean something to a shell (a ProxyCommand's) where it goes on to a program.
_NOT_IN_NAMES = r"\s@/,\[\]$`'\";&|<>(){}*?!"
_ADDRESS = re.compile(rf"(?:[^:{_NOT_IN_NAMES}-][^:{_NOT_IN_NAMES}]*@)?[^\\{_NOT_IN_NAMES}-][^\\{_NOT_IN_NAMES}]*")


class EngineRequest(NamedTuple):
    """One node of a context, before anything is started on it."""

    host: str
    cores: int
    slots: int
    cores_per_task: int  # as disBatch counts it: 0 when slots share cores
    reach: Reach = "local"
    address: str = ""  # `me@gpu01` where the host is reached as another user; else as `host`


def is_address(text: str) -> bool:
    """Return whether the text can be a host, or USER@HOST."""
    return _ADDRESS.fullmatch(text) is not None and text.isprintable()


def parse_hosts(lists: list[str]) -> tuple[dict[str, int], list[str]]:
    """(address -> cores in order, warnings) of `HOST:COUNT[,HOST:COUNT…]` lists. Raises Refused.

    A HOST may be `me@gpu01`, and `node[01-16]` is sixteen of them. A number alone is that of cores of this machine: a host that is
    called `4` is written `4:1`.
    """
    hosts: dict[str, int] = {}
    warnings = []
    for item in re.split(_BETWEEN, ",".join(lists)):
        text = item.strip()
        if not text:
            continue
        if "://" in text:
            raise Refused(_no_url(text))
        if text.isascii() and text.isdecimal():
            text = f"localhost:{text}"
        name, colon, number = text.rpartition(":")
        name = name.strip()
        number = number.strip()
        if colon and not name:
            raise Refused(f"-s {text}: the host is missing; write localhost:4 for four cores of this machine")
        if not colon or not number or "]" in number:
            raise Refused(f"-s {text}: the number of cores is missing; write {text.rstrip(':')}:4 for four")
        try:
            cores = int(number)
        except ValueError:
            raise Refused(f"-s {text}: `{number}` is not a number of cores; write {name}:4 for four") from None
        if cores < 1:
            raise Refused(f"-s {text}: an engine needs at least one core; write {name}:1")
        if cores >= CORES_MOST:
            raise Refused(f"-s {text[:100]}: no machine has so many cores")
        for address in _expand(name, text):
            if not is_address(address):
                raise Refused(f"-s {text}: `{address}` is no name of a host; write HOST:{number} or USER@HOST:{number}")
            if address in hosts:
                warnings.append(f"{address} is named more than once: its cores are added up")
            hosts[address] = hosts.get(address, 0) + cores
            if len(hosts) > HOSTS_MOST:
                raise Refused(f"-s {text}: that makes more than {HOSTS_MOST} hosts; is the range meant so?")
    if not hosts:
        raise Refused("-s names no host; write -s localhost:4 for four slots on this machine")
    return hosts, warnings


def _no_url(text: str) -> str:
    """Return the refusal of `ssh://ann@gpu01:2222` as a host of -s, with the form to write."""
    scheme, _, rest = text.partition("://")
    found = re.match(r"([^/\[\]]*@)?(\[[^/\]]*\]|[^:/]*)(?::([0-9]+))?(?=[/:]|$)", rest)
    if scheme.lower() != "ssh" or found is None or not found[2]:
        return f"-s {text}: an engine's host is no URL; write HOST:CORES or USER@HOST:CORES"
    address, port = f"{found[1] or ''}{found[2]}", int(found[3] or 22)
    host = address.rpartition("@")[2].strip("[]")
    where = "" if port == 22 else f", with `Host {host}` and `Port {port}` in ~/.ssh/config or with --ssh 'ssh -p {port}'"
    return f"-s {text}: a host is followed by its number of cores, and a port is ssh's; write -s {address}:4 for four{where}"


def expand_hosts(nodes: str) -> list[str]:
    """The names in a list of nodes as SLURM writes it, `node[01-03,7],other`. Raises Refused."""
    return [name for item in re.split(_BETWEEN, nodes) for name in _expand(item.strip(), nodes)]


def _expand(name: str, text: str) -> list[str]:
    """`node[01-03,7]` -> node01, node02, node03, node7. `[::1]` is an address, not a range."""
    if name.startswith("[") and name.endswith("]") and ":" in name:
        return [name[1:-1]]
    parts = _RANGE.split(name)  # text, range, text, range, …
    choices: list[list[str]] = []
    for index, part in enumerate(parts):
        choices.append(_numbers(part, text) if index % 2 else [part])
    if math.prod(map(len, choices)) > HOSTS_MOST:
        raise Refused(f"-s {text}: that makes more than {HOSTS_MOST} hosts; is the range meant so?")
    return ["".join(each) for each in itertools.product(*choices)]


def _numbers(ranges: str, text: str) -> list[str]:
    found = []
    for each in ranges.split(","):
        first, dash, last = (part.strip() for part in each.partition("-"))
        last = last if dash else first
        if not first.isdigit() or not last.isdigit() or int(last) < int(first) or int(last) - int(first) > HOSTS_MOST:
            raise Refused(f"-s {text}: `[{ranges}]` is no range of numbers; write it as [01-16] or [1-4,7]")
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return found


def slots_in(cores: int, each: float) -> int:
    """How many tasks of so many cores fit, by the number as it was written: 1.0 // 0.1 is 9."""
    if each.is_integer():
        return cores // int(each)
    from fractions import Fraction  # 10 ms

    return cores // Fraction(repr(each))


def divide(hosts: dict[str, int], cpus_per_task: float, tasks_per_node: int) -> list[EngineRequest]:
    """Slots of each host: `-t` if given (not 0 or -1), else cores / `-c` rounded down. Raises Refused when none is left."""
    if cpus_per_task != -1.0 and not (0 < cpus_per_task < math.inf):
        raise Refused(f"-c {cpus_per_task:g}: a task needs more than 0 cores; leave -c out for one")
    each = 1.0 if cpus_per_task == -1.0 else cpus_per_task
    requests = []
    for address, cores in hosts.items():
        slots = tasks_per_node if tasks_per_node > 0 else slots_in(cores, each)
        if slots > SLOTS_MOST:
            raise Refused(f"{slots} slots on {address}: an engine has at most {SLOTS_MOST}; -t and -c say how many")
        if slots > 0:
            requests.append(EngineRequest(address.rpartition("@")[2], cores, slots, cores // slots, address=address))
    if not requests:
        most = max(hosts.values())
        raise Refused(f"-c {each:g}: no host has that many cores; at most -c {most} fits")
    return requests
