"""The latest starts of a SLURM job that reached its time limit without the end of a task: one that is started for ever gets nowhere.

The count is in the sidecar. A start that ends in any other way (preemption, a lost node, a person) leaves it as it is.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from taskrun.errors import Refused
from taskrun.status import names, sidecar

KEY = "idle_starts"  # in the sidecar
MOST = 2
SAID = "no task ended in two starts: tasks need more than the job's time; raise --time"


class IdleStarts(NamedTuple):
    """The number of idle starts in a row, and the size of the status file after the last one."""

    number: int = 0
    size: int = 0

    @property
    def is_hopeless(self) -> bool:
        """Return whether another start would probably end no task either."""
        return self.number >= MOST

    def after(self, size: int, *, ended: bool, at_limit: bool) -> IdleStarts:
        """Return the count after this start. `ended`: a task has; `at_limit`: the job's time was over, and tasks had run in it."""
        return IdleStarts(0 if ended else self.number + at_limit, size)

    def to_plain(self) -> dict[str, int]:
        return {"number": self.number, "size": self.size}


def before(status: Path) -> IdleStarts:
    """Return the idle starts before this one, which goes on with this status file."""
    with contextlib.suppress(Refused):
        found = sidecar.load(names.with_suffix(names.prefix_of(status), names.SIDECAR)).extra.get(KEY)
        if found is not None and found["size"] == size_of(status):  # else a start that was killed has got on
            return IdleStarts(found["number"], found["size"])
    return IdleStarts()


def size_of(status: Path) -> int:
    try:
        return status.stat().st_size
    except OSError:
        return 0
