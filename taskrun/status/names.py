"""The names of a run's files, all made from one prefix; the single place that knows how they end."""

from __future__ import annotations

from pathlib import Path

STATUS = "_status.txt"
SIDECAR = "_run.json"
EVENTS = "_events.jsonl"
LOCK = ".lock"
ATTACH = "_attach.json"
DBUTIL = "_dbUtil.sh"
UNWRITTEN = ".unwritten"


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
