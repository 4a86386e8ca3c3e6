"""The chain of a run and the resumes that carry it on: names of their files (`run`, `run.2` …), and which of them is the newest."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from taskrun.errors import Refused
from taskrun.status import names, sidecar, trust

#: In the sidecar of a resume that was named by its chain: the name of the first run's prefix.
KEY = "base"
_NUMBER = r"\.([1-9][0-9]{0,8})"
_OF_RUN = (names.STATUS, names.SIDECAR, names.EVENTS, names.LOCK)
_ENDINGS = "|".join(map(re.escape, _OF_RUN))


def base_of(statuses: Iterable[Path]) -> Path | None:
    """The prefix of the first run of the chain that the newest of these status files belongs to; None without one.

    Of files without a sidecar the last one counts. Raises Untrusted.
    """
    base, newest = None, -1.0
    for status in statuses:
        started, prefix = _first(status)
        if started >= newest:
            base, newest = prefix, started
    return base


def _first(status: Path) -> tuple[float, Path]:
    """When a run started, and the first prefix of its chain."""
    try:
        where = sidecar.find(status)
        run = sidecar.load(where)
    except Refused:
        return 0.0, names.prefix_of(status)
    prefix = where.with_name(where.name.removesuffix(names.SIDECAR))
    base = run.extra.get(KEY)
    if isinstance(base, str) and re.fullmatch(re.escape(base) + _NUMBER, prefix.name):
        return run.started, prefix.with_name(base)
    return run.started, prefix


def taken(base: Path) -> list[int]:
    """The numbers of the prefixes BASE.N that have files, the smallest first."""
    file_of = re.compile(re.escape(base.name) + _NUMBER + f"(?:{_ENDINGS})").fullmatch
    with contextlib.suppress(OSError):
        return sorted({int(found[1]) for name in os.listdir(base.parent) if (found := file_of(name))})
    return []


def numbered(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.{number}")


def next_prefix(base: Path) -> Path:
    """The prefix of the next resume: numbers only grow, so that the highest one is the newest."""
    number = max([1, *taken(base)]) + 1
    while any(os.path.lexists(names.with_suffix(numbered(base, number), suffix)) for suffix in _OF_RUN):
        number += 1  # has more digits than `taken` reads
    return numbered(base, number)


def superseded(statuses: Sequence[Path]) -> list[tuple[Path, list[Path]]]:
    """Those that later runs, which are not given, have carried on, each with the newest of these."""
    given = set(map(_real, statuses))
    found = [(status, [each for each in newest_of(status) if _real(each) not in given]) for status in statuses]
    return [(status, newer) for status, newer in found if newer]


def newest_of(status: Path) -> list[Path]:
    """The newest status files that carry this one on, as far as they lie in its folder; none if nothing was run since.

    Files that cannot be read, or that somebody else may have written, are passed over.
    """
    left, seen, found = [status], {_real(status)}, []
    while left:
        last = left.pop()
        later = _carried_on_by(last)
        if not later and last is not status:
            found.append(last)
        left += [each for each in later if _real(each) not in seen]
        seen.update(map(_real, later))
    return found


def _carried_on_by(status: Path) -> list[Path]:
    """Status files of runs that began with this one, and have run something."""
    folder, found = status.parent, []
    began = 0.0
    with contextlib.suppress(trust.Untrusted):
        began, _ = _first(status)
    wanted = {str(status), str(_real(status))}
    told = [json.dumps(each)[1:-1].encode("ascii") for each in wanted]
    for where in sorted(folder.glob(f"*{names.SIDECAR}")):
        with contextlib.suppress(OSError, Refused, trust.Untrusted):
            with trust.opened(where, obeyed=False) as file:
                data = file.read(sidecar.LONGEST)
            if not any(each in data for each in told):  # most are of other runs: they are not parsed
                continue
            run = sidecar.load(where)
            other = where.with_name(run.status)
            named = {*run.resumed_from, *map(os.path.realpath, run.resumed_from)}
            if run.started > began and not wanted.isdisjoint(named) and _has_run(other):
                found.append(other)
    return found


def _has_run(status: Path) -> bool:
    """Return whether a status file has a record of a task that ended in its own run. Raises OSError, Untrusted."""
    with trust.opened(status) as file:
        return any(line[:1] in b" R" and line[3:5] in (b" \t", b"Z\t") for line in file)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
