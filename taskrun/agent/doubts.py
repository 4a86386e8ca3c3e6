"""Results in doubt: how a task ended just before a batch system told this agent to stop.

A batch system tells each process of a job, one after the other, a task often before its slot and its agent (SLURM 22.05 with
proctrack/linuxproc; with 16 slots on 2 cores up to 0.2 s before). What such a task returns may be its answer to that signal.
So within a job results wait for a moment, and those that wait when the news comes are given back. Results of brief tasks wait only
where such tasks are not usual: an engine has too few of them ahead, and its slots would be idle.
"""

import collections
import os
import time

from . import slot
from .losses import Loss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Tuple

    from .losses import Losses

    Row = Tuple[Any, ...]

#: Variables of a job: of SLURM, PBS, LSF, SGE.
OF_A_JOB = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
BRIEF = 0.5  # seconds: a task that took less is a brief one
USUAL = 2.0  # seconds after the end of a brief task, in which others do not wait
SHORT = 0.15  # seconds that a result waits
LONG = 0.5  # of a task that took LONG_TASK: it has more to lose
LONG_TASK = 2.0  # seconds
LOOK = 0.05  # seconds between two looks at what is left of tasks
_OWN = ("ok", "exit", "signal", "leftovers")  # endings that may be answers


class Doubts(object):
    def __init__(self, config: "Dict[str, Any]", losses: "Losses", environ: "Mapping[str, str]" = os.environ) -> None:
        """`losses`: knows the marks of attempts."""
        self.on = any(name in environ for name in OF_A_JOB)
        self.grace = config["grace"]
        self.stopped_ok = config.get("stopped_ok", False)
        self.losses = losses
        self.told = False
        self.brief_until = 0.0  # brief tasks are usual now
        self.queues: "List[Tuple[float, collections.deque]]" = [(hold, collections.deque()) for hold in (SHORT, LONG)]
        self.leaving: "List[Tuple[Loss, Row]]" = []  # given back as soon as nothing of them lives any more
        self.settled: "List[Row]" = []

    def keep(self, row: "Row") -> bool:
        """Return whether this result waits; then `take` returns it."""
        kind, cause, code, elapsed = row[0], row[3], row[4], row[9]
        if not self.on or kind != "task" or cause not in _OWN or (self.stopped_ok and not code):
            return False
        if self.told:
            self.give_back(row)
            return True
        now = time.monotonic()
        if elapsed < BRIEF and now < self.brief_until:
            self.brief_until = now + USUAL
            return False
        hold, queue = self.queues[elapsed >= LONG_TASK]
        queue.append((now + hold, row))
        return True

    def tell(self) -> None:
        """The system has told this agent to stop."""
        self.told = True
        for _, queue in self.queues:
            while queue:
                self.give_back(queue.popleft()[1])

    def give_back(self, row: "Row") -> None:
        given = (*row[:3], "preempted", *row[4:])
        if not row[17]:
            self.settled.append(given)
            return
        loss = Loss(row[:3], self.losses.mark(row[:3]), row[5])
        loss.kill_at = slot.clock() + self.grace  # what is left of it was told as well, and may be writing a checkpoint
        self.leaving.append((loss, given))

    def take(self) -> "List[Row]":
        """Return the results that wait no more."""
        now = time.monotonic()
        taken, self.settled = self.settled, []
        for _, queue in self.queues:
            while queue and queue[0][0] <= now:
                row = queue.popleft()[1]
                taken.append(row)
                if row[9] < BRIEF:
                    self.brief_until = now + USUAL
        if self.leaving:
            gone = [each for each in self.leaving if each[0].step(slot.clock())]
            self.leaving = [each for each in self.leaving if each not in gone]
            taken += [row for _, row in gone]
        return taken

    def wait(self) -> float:
        """Return the seconds until `take` is to be called, at most a minute."""
        if self.settled:
            return 0.0
        due = min((queue[0][0] for _, queue in self.queues if queue), default=time.monotonic() + 60.0)
        left = max(0.0, due - time.monotonic())
        return min(left, LOOK) if self.leaving else left
