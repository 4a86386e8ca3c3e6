"""Limits of what events files of earlier runs may claim: the times and hosts that their sidecars state.

One line of an events file can be added by whoever may write there, and --clean removes files by what it says.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.errors import Refused
from taskrun.status import names, sidecar

_ANYWHERE = "."
_VARIABLE = re.compile(r"\$(?:\w+|\{\w+\})")
KEY = "before"  # of the sidecar: limits of the earlier starts that wrote the same files


class Limits(NamedTuple):
    """One prefix: from its first start to its end, epoch seconds. `hosts`: see `host_key`; `workdirs`: as they were asked for."""

    began: float
    ended: float
    hosts: frozenset[str] = frozenset()
    workdirs: frozenset[str] = frozenset()

    def allow(self, address: str, path: str) -> bool:
        """Return whether tasks of the run may have worked in `path` (absolute) on a host."""
        context, comma, host = address.rpartition(",")
        name, _, number = context.rpartition(".")  # a second folder of one attached host
        known = address in self.hosts or (number.isdecimal() and f"{name}{comma}{host}" in self.hosts)
        return known and any(_is_at(path, wanted) for wanted in self.workdirs)

    def to_plain(self) -> dict[str, Any]:
        return {"began": self.began, "hosts": sorted(self.hosts), "workdirs": sorted(self.workdirs)}


def host_key(kind: object, label: object, address: str) -> str:
    """The host of a context in records: CONTEXT,ADDRESS where somebody attached it, who chose the address; else ADDRESS."""
    return f"{label},{address}" if kind == "attached" else address


def limits(statuses: Iterable[Path]) -> dict[str, Limits]:
    """By prefix, of the runs that wrote these files and all that they carry on. A run without a sidecar is not among them."""
    found: dict[str, Limits] = {}
    left = [(status, time.time()) for status in statuses]
    while left:
        status, until = left.pop()
        prefix = str(names.prefix_of(status))
        if prefix in found:
            continue
        try:
            run = sidecar.load(sidecar.find(status))
        except Refused:
            continue
        found[prefix] = of(run, until)
        left += [(Path(each), run.started) for each in run.resumed_from]
    return found


def of(run: sidecar.Sidecar, until: float) -> Limits:
    """Of one run. `until`: when another one took over from it, at the latest; it counts for a run that was killed."""
    hosts: set[str] = set()
    workdirs: set[str] = {_text(run.options.get("workdir"), "value")}
    for context in run.contexts:
        if isinstance(context, dict) and isinstance(context.get("hosts"), dict):
            hosts |= {host_key(context.get("kind"), context.get("label"), address) for address in context["hosts"]}
            attached_before = context.get("kind") == "attached" and "workdir" not in context  # by a taskrun that kept no word of it
            workdirs.add(_ANYWHERE if attached_before else _text(context, "workdir"))
    began = run.started
    before = run.extra.get(KEY)
    if isinstance(before, dict):
        first = before.get("began")
        if isinstance(first, int | float) and math.isfinite(first):
            began = min(began, first)
        hosts |= _texts(before.get("hosts"))
        workdirs |= _texts(before.get("workdirs"))
    return Limits(began, until if run.ended is None else min(run.ended, time.time()), frozenset(hosts), frozenset(workdirs - {""}))


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _texts(value: Any) -> set[str]:
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


def _is_at(path: str, wanted: str) -> bool:
    """Return whether a host may have made `path` of --workdir: homes and values of variables are not known."""
    first, *rest = _VARIABLE.split(os.path.normpath(wanted))
    if rest:
        first = first.partition("/")[2] if first.startswith("~") else first
        start = re.escape(first) if first.startswith("/") else f"/(?:.*/)?{re.escape(first)}" if first else ""
        return re.fullmatch(start + "".join(f".+{re.escape(each)}" for each in rest), path) is not None
    if wanted.startswith("/"):
        return path == os.path.normpath(wanted)
    below = os.path.normpath(f"/{wanted.partition('/')[2] if wanted.startswith('~') else wanted}")
    return below == "/" or path.endswith(below)
