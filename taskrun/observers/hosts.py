"""What `taskrun hosts` shows: a table for a person, plain values for a program. Pure."""

from __future__ import annotations

from typing import Any

from taskrun.model import HostSeen
from taskrun.sizes import size_text
from taskrun.visible import visible

CLOCK_NOTED = 2.0  # seconds of difference that are worth a remark
_HEAD = ("host", "usable", "slots", "python", "GNU Parallel", "cores", "memory", "clock", "latency", "this folder")
_RIGHT = frozenset(("slots", "cores", "memory", "clock", "latency"))


def table(hosts: list[HostSeen], workdir: str) -> list[str]:
    """Lines: a row for each host, then a sentence for each that cannot be used or has something to be said of."""
    rows = [_HEAD, *(tuple(map(visible, _row(host, workdir))) for host in hosts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(_cell(text, width, head) for text, width, head in zip(row, widths, _HEAD, strict=True)).rstrip() for row in rows]
    for host in hosts:
        lines += [visible(f"{host.address}: {text}") for text in ([host.why] if host.why else []) + remarks(host)]
    return lines


def _cell(text: str, width: int, head: str) -> str:
    return text.rjust(width) if head in _RIGHT else text.ljust(width)


def _row(host: HostSeen, workdir: str) -> tuple[str, ...]:
    if not host.python:
        return (host.address, "no", str(host.slots), *["-"] * (len(_HEAD) - 3))
    folder = "?" if host.shared is None else "shared" if host.shared else f"no: {workdir}" if workdir else "not there"
    parallel = host.parallel or ("sent along" if host.perl else "no: built-in")
    return (
        host.address,
        "no" if host.why else "yes",
        str(host.slots),
        host.python,
        parallel,
        str(host.cores),
        size_text(host.memory) if host.memory else "?",
        "" if host.ahead is None else f"{round(host.ahead, 1) + 0.0:+.1f} s",
        "" if host.latency is None else f"{host.latency * 1000:.1f} ms",
        folder,
    )


def remarks(host: HostSeen) -> list[str]:
    """What does not keep it from being used."""
    found = list(host.notes)
    if host.ahead is not None and abs(host.ahead) >= CLOCK_NOTED:
        found.append(f"its clock is {abs(host.ahead):.0f} s {'fast' if host.ahead > 0 else 'slow'}; records have the time of this machine")
    if host.python and host.slots > host.cores:
        found.append(f"{host.slots} slots on {host.cores} core{'' if host.cores == 1 else 's'}")
    return found


def plain(host: HostSeen) -> dict[str, Any]:
    """For --json. What is not known is null."""
    known = bool(host.python)
    return {
        "host": host.address,
        "usable": not host.why,
        "why": host.why or None,
        "slots": host.slots,
        "python": host.python or None,
        "parallel": host.parallel or None,
        "perl": host.perl if known else None,
        "cores": host.cores if known else None,
        "memory": host.memory or None,
        "clock_ahead": None if host.ahead is None else round(host.ahead, 3),
        "latency": None if host.latency is None else round(host.latency, 6),
        "shared": host.shared,
        "remarks": remarks(host),
    }
