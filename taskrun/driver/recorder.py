"""What the scheduler says has ended, written down: the status file first, then the events, then whoever watches."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from taskrun.model import Barrier, PerEngine, Result, Task
from taskrun.scheduling import messages as m
from taskrun.status.events import EventsWriter, attempt_line
from taskrun.status.record import barrier_line, task_line
from taskrun.status.writer import StatusWriter

FAILURES_SHOWN = 5
LATE_MOST = 1000  # events for results that an engine tells although nobody asks any more
TAILS_MOST = 10_000  # error texts in the events file: a million would fill a disk
FAILURES_LIVE = 3  # of the last ones, while the run goes on


@dataclass
class Recorder:
    """The only writer of records. Raises RecordsFailed."""

    status: StatusWriter
    events: EventsWriter
    node_of: Callable[[str], str]  # engine -> host
    carried: bool = False  # the status file began with the records of all that is skipped
    offset: float = field(default_factory=lambda: time.time() - time.monotonic())  # epoch minus monotonic
    failures: list[tuple[Task | PerEngine, Result]] = field(default_factory=list)  # the first few
    last_failures: deque[tuple[Task | PerEngine, Result]] = field(default_factory=lambda: deque(maxlen=FAILURES_LIVE))
    latest: list[tuple[Task | PerEngine, Result, float]] = field(default_factory=list)  # the last batch
    left_behind: int = 0  # tasks of which processes lived on
    tails: int = 0  # error texts that came with results
    tried: bool = False  # a task was begun
    saved: bool = False  # a task that was told to end, and runs again, has ended with 0: it saves its state
    by_engine: dict[str, tuple[int, int]] = field(default_factory=dict)  # tasks that ended there, and of them failed
    by_node: dict[str, tuple[int, int]] = field(default_factory=dict)  # host -> tasks that ended there, and of them failed
    late_of: Counter[str] = field(default_factory=Counter)  # by engine

    def record(self, action: m.Record) -> None:
        node = self.node_of(action.engine)
        offset = self.offset
        ended = [self._timed(each) for each in action.ended]
        self.status.write([task_line(task, result, node) for task, result, _ in ended])
        add = self.events.add
        tasks = tasks_failed = 0
        for task, result, assigned in ended:
            if result.tail:
                self.tails += 1
            add(attempt_line(result if self.tails <= TAILS_MOST else result._replace(tail=b""), action.engine, assigned + offset))
            if result.kind == "task":
                tasks += 1
                tasks_failed += result.code != 0
                self.left_behind += result.left_behind
            if result.code:
                if type(task) is PerEngine and task.check:
                    continue  # what it means for the host is told
                self.last_failures.append((task, result))
                if len(self.failures) < FAILURES_SHOWN:
                    self.failures.append((task, result))
        self.latest = ended
        if tasks:
            self.tried = True
            for counts, name in ((self.by_node, node), (self.by_engine, action.engine)):
                before = counts.get(name, (0, 0))
                counts[name] = before[0] + tasks, before[1] + tasks_failed

    def _timed(self, each: tuple[Task | PerEngine, Result, float]) -> tuple[Task | PerEngine, Result, float]:
        """A result that nobody saw (its engine was lost) has no times of its own."""
        task, result, assigned = each
        if not result.end:
            now = time.time()
            return task, result._replace(start=now, end=now), assigned
        return each

    def skipped(self, action: m.RecordSkipped) -> None:
        if not self.carried:
            self.status.write([skipped.record for skipped in action.skipped])  # none of those that the file has already

    def barrier(self, action: m.RecordBarrier) -> None:
        barrier: Barrier = action.barrier
        now = time.time()
        self.status.write([barrier_line(barrier, socket.gethostname(), os.getpid(), action.since + self.offset, now)])
        key = {} if barrier.key is None else {"key": barrier.key}
        self.events.event("barrier", now, id=barrier.id, check=barrier.check, ok=action.ok, **key)

    def attempted(self, action: m.Attempted) -> None:
        _, result, _ = self._timed((action.task, action.result, 0.0))
        if result.kind == "task":
            self.tried = True
            self.saved = self.saved or (result.cause == "preempted" and result.code == 0 and result.elapsed > 0)
        self.events.add(attempt_line(result, action.engine, result.start, blame=action.blame))

    def late(self, action: m.Late) -> None:
        """The last event for an engine has `more`: a hostile one would fill the disk."""
        result, engine = action.result, action.engine
        self.late_of[engine] += 1
        if self.late_of[engine] <= LATE_MOST:
            more = {"more": True} if self.late_of[engine] == LATE_MOST else {}
            self.events.event("late", time.time(), engine=engine, id=result.id, n=result.n, cause=result.cause, code=result.code, **more)
