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
    """How many there were in a row, and how many tasks were on record then."""

    number: int = 0
    records: int = 0

    @property
    def is_hopeless(self) -> bool:
        """There is no reason to believe that another start would end a task."""
        return self.number >= MOST

    def after(self, *, ended: bool, at_limit: bool) -> IdleStarts:
        """What this start makes of it. `ended`: a task has; `at_limit`: the job's time was over, and tasks had run in it."""
        if ended:
            return IdleStarts()
        return self._replace(number=self.number + 1) if at_limit else self

    def to_plain(self) -> dict[str, int]:
        return {"number": self.number, "records": self.records}


def before(status: Path | None, records: int) -> IdleStarts:
    """Those before this start. `status`: the file it goes on with, None at the first; `records`: tasks on record there."""
    found = None
    if status is not None:
        with contextlib.suppress(Refused):
            found = sidecar.load(names.with_suffix(names.prefix_of(status), names.SIDECAR)).extra.get(KEY)
    if found is None or found["records"] != records:  # tasks have ended since, in a start that was killed
        return IdleStarts(0, records)
    return IdleStarts(found["number"], records)
