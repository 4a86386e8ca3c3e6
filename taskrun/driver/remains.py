"""What a killed run has left beside its records, and would have removed at its end: the run that carries it on does."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from taskrun.engines import invitation
from taskrun.errors import Refused
from taskrun.status import names, opening, sidecar, trust

#: What an agent says in its log when its driver was killed: the log of a run that ends has no such line.
_ORPHANED = re.compile(rb"(?:taskrun agent: (?:the link is closed|nothing was heard from the driver for \d+ s), ending its tasks\n)*")
_READ_MOST = 1 << 16


def remove(statuses: Iterable[Path], locks: Collection[Path]) -> list[Path]:
    """Remove what killed runs that wrote these files have left, as far as their locks are held; return the files.

    Those are known by the run's id, or by what is in them. Logs of engines that say something stay, as at the end of a run.
    """
    ours = {_place(path) for path in locks}
    removed = []
    for status in statuses:
        prefix = names.prefix_of(Path(os.path.realpath(status)))
        if _place(names.with_suffix(prefix, names.LOCK)) not in ours:
            continue
        with contextlib.suppress(OSError, Refused, trust.Untrusted):
            run = sidecar.load(names.with_suffix(prefix, names.SIDECAR))
            if run.ended is None:
                removed += [path for path in _left_by(run, prefix) if _is_removed(path)]
    return removed


def _left_by(run: sidecar.Sidecar, prefix: Path) -> list[Path]:
    """The files that are the run's own for certain."""
    attach, script = (names.with_suffix(prefix, suffix) for suffix in (names.ATTACH, names.DBUTIL))
    found = []
    with contextlib.suppress(OSError, Refused, trust.Untrusted):
        if invitation.load(attach).run_id == run.run_id:
            found.append(attach)
    end = f' attach {shlex.quote(str(prefix))} "$@"\n'
    text = _read(script)
    if text.startswith(b'#!/bin/sh\n[ "$1" = --mon ] && exec ') and text.endswith(os.fsencode(end)):
        found.append(script)
    hosts = [address.rpartition("@")[2] for context in run.contexts for address in context.get("hosts") or {}]
    log = re.compile(rf"{re.escape(prefix.name)}_(?:{'|'.join(map(re.escape, hosts))})_\d+\.log")
    logs = [path for path in prefix.parent.iterdir() if log.fullmatch(path.name)]
    return found + [path for path in logs if _ORPHANED.fullmatch(_read(path, instead=b"?"))]


def _read(path: Path, instead: bytes = b"") -> bytes:
    """The beginning of a file of ours; `instead` where there is none, or nothing to be removed."""
    try:
        fd = opening.to_read(path)
    except OSError:
        return instead
    try:
        return os.read(fd, _READ_MOST)
    finally:
        os.close(fd)


def _is_removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _place(lock: Path) -> tuple[str, str]:
    """One lock, whatever links its folder is named by."""
    return os.path.realpath(lock.parent), lock.name
