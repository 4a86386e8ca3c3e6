"""The run that `-r` names: by its status file, its prefix, or another of its files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from taskrun.driver import files
from taskrun.errors import Refused
from taskrun.language import own_files
from taskrun.status import names, sidecar, trust

_OTHERS = (names.SIDECAR, names.EVENTS, names.MANIFEST, names.ATTACH, names.DRIVER_LOG, names.DBUTIL, names.LOCK, names.TASKS, names.FILES)
_BEGIN = 4096
_SHOWN = 3  # names that may have been meant


def statuses(given: list[str]) -> list[str]:
    """The status files of -r; one that is named itself stays as it was typed. Raises Refused, with the names that may have been meant."""
    found = [(name, files.absolute(name), status_of(name)) for name in given]
    return [name if status == path else str(status) for name, path, status in found]


def status_of(given: str) -> Path:
    """The status file of the run that is named so. Raises Refused."""
    path = files.absolute(given)
    try:
        there = path.lstat()
    except OSError:
        there = None
    if there is not None and (names.prefix_of(path) != path or _is_status(path)):
        return path
    prefixes = [path]
    prefixes += [path.with_name(path.name.removesuffix(each)) for each in _OTHERS if path.name.endswith(each) and path.name != each]
    for prefix in prefixes:
        status = _of_prefix(prefix)
        if status is not None:
            return status
    meant = _meant(path)
    if there is None:
        raise Refused(f"{path} cannot be read: {os.strerror(errno.ENOENT)}{meant}")
    if not stat.S_ISREG(there.st_mode) or not there.st_size:
        return path  # whoever reads it says what is wrong with it
    raise Refused(f"{path} is not a status file{meant}")


def _of_prefix(prefix: Path) -> Path | None:
    status = names.with_suffix(prefix, names.STATUS)
    if os.path.lexists(status):
        return status
    where = names.with_suffix(prefix, names.SIDECAR)
    if os.path.lexists(where):
        with contextlib.suppress(Refused, trust.Untrusted):  # whoever obeys it looks whose it is
            status = where.with_name(sidecar.load(where, obeyed=False).status)
    return status if os.path.lexists(status) else None


def _is_status(path: Path) -> bool:
    """By what it begins with."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and own_files.kind_of(os.pread(fd, _BEGIN, 0)) == own_files.STATUS
    except OSError:
        return False
    finally:
        os.close(fd)


def _meant(path: Path) -> str:
    """The status files that may have been meant, as the rest of a sentence: those that begin so, the newest first, or are near."""
    from difflib import get_close_matches  # only for a mistake

    folder = path if path.is_dir() else path.parent
    try:
        there = [name for name in os.listdir(folder) if name.endswith(names.STATUS)]
    except OSError:
        return ""
    if folder == path:
        found = there
    else:
        begin = path.name.removesuffix(names.STATUS)
        found = [name for name in there if name.startswith(begin)]
        if not found:
            by_prefix = {name.removesuffix(names.STATUS): name for name in there}
            found = [by_prefix[near] for near in get_close_matches(begin, by_prefix, _SHOWN)]
            found += [name for name in get_close_matches(path.name, there, _SHOWN, 0.8) if name not in found]
    if not found:
        return ""
    found.sort(key=lambda name: _age(folder / name))
    shown = ", ".join(found[:_SHOWN]) + (f" or one of {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    return f"; did you mean {shown}?"


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0
