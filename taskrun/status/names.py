"""The names of a run's files, all made from one prefix; the single place that knows how they end."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

STATUS = "_status.txt"
SIDECAR = "_run.json"
EVENTS = "_events.jsonl"
LOCK = ".lock"
ATTACH = "_attach.json"
DBUTIL = "_dbUtil.sh"
UNWRITTEN = ".unwritten"
MANIFEST = "_manifest.json"
DRIVER_LOG = "_driver.log"
BEFORE = "_before.jsonl"
TASKS = "_tasks.txt"
FILES = "_files.txt"
RECORDS = (STATUS, SIDECAR, EVENTS, LOCK, ATTACH, DBUTIL, MANIFEST, DRIVER_LOG, BEFORE)

#: By which a later `-r` goes.
_OBEYED = (STATUS, SIDECAR, EVENTS)
#: What follows a prefix in the name of a file of its run: also logs of engines, and what is put beside a file before it takes its place.
_OF_RUN = (
    "|".join([re.escape(each.casefold()) for each in (*RECORDS, TASKS, FILES, STATUS + UNWRITTEN)] + [r"_.+_\d+\.log"])
    + rf"|(?:{re.escape(LOCK)}|{re.escape(ATTACH)})\..*"
)


def prefix_of(status: Path) -> Path:
    """The prefix of the run that wrote a status file: its path without `_status.txt`, or the whole path if it is called otherwise.

    Lines saved beside a status file (`X_status.txt.unwritten`) belong to the same run.
    """
    name = status.name.removesuffix(UNWRITTEN)
    if name.endswith(STATUS) and name != STATUS:
        return status.with_name(name[: -len(STATUS)])
    return status.with_name(name) if name else status


def with_suffix(prefix: Path, suffix: str) -> Path:
    """The file of a prefix, for one of the endings above."""
    return prefix.with_name(prefix.name + suffix)


def of_live_runs(found: Collection[str]) -> set[str]:
    """Of the names in one folder those that belong to a run which goes on, or was killed: its lock lies beside its sidecar."""
    prefixes = [name.removesuffix(LOCK) for name in found if name.endswith(LOCK)]
    return {f"{prefix}{suffix}" for prefix in prefixes if f"{prefix}{SIDECAR}" in found for suffix in RECORDS}


def is_of_run(prefix: str, name: str) -> bool:
    """Return whether a file beside a prefix belongs to its run, by its name. Case is ignored, as some file systems do."""
    name, prefix = name.casefold(), prefix.casefold()
    return name.startswith(prefix) and re.fullmatch(_OF_RUN, name[len(prefix) :], re.DOTALL) is not None


def runs_of(name: str) -> list[str]:
    """The prefixes that a file of this name may belong to."""
    return [name[:at] for at in range(1, len(name)) if name[at] in "_." and is_of_run(name[:at], name)]


def is_obeyed(name: str) -> bool:
    """Return whether a later `-r` would go by a file of this name."""
    return name.casefold().endswith(_OBEYED)
