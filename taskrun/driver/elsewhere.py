"""What earlier runs may have left alive on other hosts: nothing is started before it has ended there.

A host that this run reaches itself is asked: its agent waits for those of the earlier run, and says so. One that cannot be reached (it is
cut off, or is not among the hosts of this run) is waited for: what hears nothing from its driver ends by itself after its silence. So is
one that was attached, whoever attaches now: nobody can know that it is the same.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.driver import held
from taskrun.driver.contexts import is_here
from taskrun.driver.lineage import host_key
from taskrun.engines import controller
from taskrun.errors import Refused
from taskrun.scheduling.policy import Policy
from taskrun.status import names, owner, sidecar

KEY = "elsewhere"  # of the sidecar
TOUCH_SHARE = 1 / 18  # a driver touches its lock after this share of --lost-after: every 10 s
TOUCHES = 3  # touches that it may have lived longer than the last one: a slow disk
LEAST_SLACK = 3.0  # seconds, at least
_TRACES = (names.LOCK, names.EVENTS, names.STATUS)  # what a driver that lives writes to


class Elsewhere(NamedTuple):
    """`runs` of which something may live, on `hosts`: host, as in `lineage.host_key` -> until when at the latest, epoch seconds.

    Older sidecars name all hosts by their address. `anybody`: processes of theirs may be those of another user than this one.
    """

    runs: list[str]
    hosts: dict[str, float]
    anybody: bool = False

    def to_plain(self) -> dict[str, Any]:
        return {"runs": self.runs, "hosts": self.hosts, "anybody": self.anybody}


def left_by(statuses: list[Path], now: float) -> Elsewhere:
    """What the runs that wrote these files may have left. To be asked before their locks are taken over."""
    runs: list[str] = []
    hosts: dict[str, float] = {}
    anybody = False
    for status in statuses:
        with contextlib.suppress(Refused):  # disBatch's, or of a run that left no sidecar
            run = sidecar.load(sidecar.find(status))
            found = _left_by(run, status, now)
            runs += [each for each in found.runs if each not in runs]
            for address, until in found.hosts.items():
                hosts[address] = max(hosts.get(address, 0.0), until)
            anybody = anybody or found.anybody or held.users_of(run, status) != held.own_user()
    return Elsewhere(runs, hosts, anybody) if hosts else Elsewhere([], {})


def _left_by(run: sidecar.Sidecar, status: Path, now: float) -> Elsewhere:
    found = _read(run.extra.get(KEY))
    lost_after = _lost_after(run.options)
    patience = Policy(lost_after=lost_after).silence + max(TOUCHES * lost_after * TOUCH_SHARE, LEAST_SLACK)
    hosts = dict(found.hosts)
    if run.ended is None and not _was_other_start(run):
        until = _last_sign(run, status) + patience
        for context in run.contexts:
            if isinstance(context, dict) and context.get("kind") == "slurm" and controller.is_over(str(context.get("job"))):
                continue  # SLURM has ended what was left of it
            if isinstance(context, dict) and "left" in context:
                continue  # it was over long before
            if isinstance(context, dict) and context.get("kind") != "local" and isinstance(context.get("hosts"), dict):
                kind, label = context.get("kind"), context.get("label")
                hosts |= {
                    host_key(kind, label, address): until
                    for address in context["hosts"]
                    if context.get("here") is False or not is_here(address.rpartition("@")[2], run.host)
                }
    hosts = {address: min(until, now + patience) for address, until in hosts.items() if until > now}
    return Elsewhere([run.run_id, *found.runs], hosts, found.anybody)


def _read(plain: Any) -> Elsewhere:
    match plain:
        case {"runs": list(runs), "hosts": dict(hosts)}:
            return Elsewhere(
                [each for each in runs if isinstance(each, str)],
                {address: float(until) for address, until in hosts.items() if isinstance(until, int | float)},
                bool(runs) and plain.get("anybody") is not False,  # an older version does not say
            )
    return Elsewhere([], {})


def _lost_after(options: dict[str, Any]) -> float:
    match options.get("lost_after"):
        case {"value": int(seconds) | float(seconds)}:
            return float(seconds)
    return Policy().lost_after


def _was_other_start(run: sidecar.Sidecar) -> bool:
    """It was an earlier start of this SLURM job, which is over: SLURM starts a job again only then."""
    before, job = owner.SlurmJob.from_plain(run.extra.get("slurm")), owner.slurm_job()
    return bool(job.id) and before.id == job.id and before.start < job.start


def _last_sign(run: sidecar.Sidecar, status: Path) -> float:
    """When its driver lived for certain, epoch seconds."""
    signs = [run.started]
    for suffix in _TRACES:
        with contextlib.suppress(OSError):
            signs.append(names.with_suffix(names.prefix_of(status), suffix).stat().st_mtime)
    return max(signs)


def shown(host: str) -> str:
    """A key of `Elsewhere.hosts`, for a person."""
    context, comma, address = host.rpartition(",")
    return f"{address} (attached as {context})" if comma else address


def after(own: str, earlier: Elsewhere, may_live_on: dict[str, float]) -> Elsewhere:
    """Return what the run `own` leaves at its end. `may_live_on`: host -> until when, epoch seconds."""
    hosts = {address: until for address, until in may_live_on.items() if until > time.time()}
    return Elsewhere([own, *earlier.runs], hosts, earlier.anybody) if hosts else Elsewhere([], {})
