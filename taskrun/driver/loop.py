"""The driver's loop: one thread owns all state; links, signals, the stream and the clock only post events to it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from taskrun import job
from taskrun.driver.absence import Absence, Missed
from taskrun.driver.crew import Crew
from taskrun.driver.gate import Gate
from taskrun.driver.porter import Porter
from taskrun.driver.recorder import Recorder
from taskrun.driver.supply import StreamSupply, Supply
from taskrun.driver.verdicts import Verdicts
from taskrun.errors import Refused
from taskrun.model import Planned, Supplied
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Scheduler

TICK = 1.0  # seconds
BATCH = 2000  # items of the plan taken in one go, so that the loop stays awake during a long resume


class Watcher(Protocol):
    """Who is told after the records are written: progress, views."""

    def tick(self, scheduler: Scheduler) -> None: ...

    def wait(self, why: str) -> None: ...

    def told(self, told: m.Told) -> None: ...


class Signals:
    """Signals as events: the first INT drains, the second cancels; TERM, HUP, USR1 give tasks back, the second kills; TSTP suspends.

    USR1 only if it is not `warned` of: then it may be SLURM's warning that the job ends soon.

    The end of the front that stands for this process is one HUP, unless it was told to stop before.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP, signal.SIGCONT)
    IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTSTP)  # if who started it has had them ignored: nohup, `taskrun … &` in a script

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.came: deque[int] = deque()
        self.suspended = False
        self.warned: Callable[[], bool] = lambda: False  # True: USR1 is a warning, and somebody finds out when the end is
        self._ended = 0
        self._interrupted = 0
        self._selector = selector
        self._old = {}
        for number in self.NUMBERS:
            if number in self.IGNORED and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._old[number] = signal.signal(number, lambda number, _: self.came.append(number))
        self._old_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        selector.register(self.read_fd, selectors.EVENT_READ, self._drain)
        if job.front is not None:
            selector.register(job.front.life_fd, selectors.EVENT_READ, self._front_ended)

    def _drain(self, *_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.read_fd, 512)

    def _front_ended(self, *_: object) -> None:
        """Post a HUP: the front was killed, and nobody sees this process any more."""
        self._forget_front()
        if not self._ended:
            self.came.append(signal.SIGHUP)

    def _forget_front(self) -> None:
        if job.front is not None:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(job.front.life_fd)

    @property
    def told_to_stop(self) -> bool:
        """A signal that has not been looked at wants an end."""
        return any(number not in (signal.SIGTSTP, signal.SIGCONT) for number in self.came)

    def events(self) -> list[m.Told | m.Suspend]:
        told: list[m.Told | m.Suspend] = []
        while self.came:
            number = self.came.popleft()
            name = signal.Signals(number).name
            if number in (signal.SIGTSTP, signal.SIGCONT):
                self.suspended = number == signal.SIGTSTP and not (self.suspended and job.toggles())
                told.append(m.Suspend(self.suspended))
            elif number == signal.SIGINT:
                self._interrupted += 1
                told.append(m.Told("drain" if self._interrupted == 1 and not self._ended else "cancel", name))
            elif number == signal.SIGUSR1 and not self._ended and self.warned():
                continue
            else:
                self._ended += 1
                told.append(m.Told("preempt" if self._ended == 1 else "kill", name))
        return told

    def close(self) -> None:
        if self.suspended and job.front is not None:
            job.front.wake()
        self._forget_front()
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self.read_fd)
        os.close(self._write_fd)


def call_ready(selector: selectors.BaseSelector, seconds: float) -> None:
    """Call what each descriptor that is ready was registered with, unless an earlier one of them has let go of it meanwhile."""
    for key, _ in selector.select(seconds):
        if selector.get_map().get(key.fd) is key:
            key.data()


def _over(scheduler: Scheduler) -> bool:
    return scheduler.finished


class Loop:
    """Runs one scheduler to its end. Raises RecordsFailed when records cannot be kept."""

    def __init__(
        self, scheduler: Scheduler, supply: Supply, recorder: Recorder, watcher: Watcher, selector: selectors.BaseSelector
    ) -> None:
        self.scheduler = scheduler
        self.supply = supply
        self.recorder = recorder
        self.watcher = watcher
        self.selector = selector
        self.crew: Crew | Porter | None = None
        self.queue: deque[m.Event] = deque()
        self.failures: list[Exception] = []  # posted by the fsync threads
        self.every_second: list[Callable[[], None]] = []
        self.told: list[m.Told] = []
        self.on_told: Callable[[], None] = lambda: None  # each time somebody has told the run to stop, or to stop sooner
        self.suspended = False
        self.on_suspend: Callable[[bool, bool], None] = lambda *_: None  # whether it is now; whether to say so
        self.on_absent: Callable[[Missed], None] = lambda _: None  # this process did not run for a while, and goes on
        self.gate: Gate | None = None  # where data may have to be waited for
        self._absence = Absence()
        self._tick_at = 0.0
        self._listening = False
        self._supplied = False
        self._acts: dict[type, Callable[..., None]] = {
            m.Record: recorder.record,
            m.RecordSkipped: recorder.skipped,
            m.RecordBarrier: recorder.barrier,
            m.Attempted: recorder.attempted,
            m.Late: recorder.late,
            m.Wait: self._wait,
            m.Finish: lambda _: None,
        }

    def use(self, crew: Crew | Porter) -> None:
        self.crew = crew
        self._acts |= {
            m.Assign: crew.assign,
            m.Recall: crew.recall,
            m.End: crew.end,
            m.Leave: crew.leave,
            m.GiveUp: crew.give_up,
            m.Replace: crew.replace,
            m.SetAside: crew.set_aside,
        }

    def judge(self, verdicts: Verdicts) -> None:
        self._acts |= {m.Judged: verdicts.judged, m.Unfit: verdicts.unfit}

    def post(self, event: m.Event) -> None:
        self.queue.append(event)

    def run(self, signals: Signals) -> None:
        scheduler = self.scheduler
        self._absence.waits(time.monotonic())
        while not scheduler.finished:
            while self.queue:
                self._handle(self.queue.popleft())
            self._feed()
            self.recorder.events.flush()
            if self.failures:
                raise self.failures[0]
            if _over(scheduler):
                break
            self.watcher.tick(scheduler)
            now = time.monotonic()
            deadline = scheduler.deadline
            until = self._tick_at if deadline is None else min(self._tick_at, deadline)
            if self._more_at_hand():
                until = now
            self._absence.waits(until)
            call_ready(self.selector, max(0.0, until - now))
            for told in signals.events():
                if isinstance(told, m.Suspend):
                    self._suspend(told)
                    self.post(told)
                else:
                    self.tell(told)
            now = self._look_at_clock()
            if now >= self._tick_at:
                self._tick_at = now + TICK
                for each in self.every_second:
                    each()
                self.post(m.Tick())
            elif deadline is not None and now >= deadline:
                self.post(m.Tick())

    def tell(self, told: m.Told) -> None:
        """Take a demand to stop, or to stop sooner."""
        self.told.append(told)
        self.on_told()
        self.recorder.events.event("told", time.time(), signal=told.why, how=told.how)
        self.watcher.told(told)
        self.post(told)

    def linger(self, signals: Signals, done: Callable[[], bool], every_second: list[Callable[[], None]]) -> bool:
        """When no task is left: signals, view and records as before, until `done`. False when it was told to end at once."""
        tick_at = 0.0
        before = len(self.told)
        while not done():
            self.recorder.events.flush()
            if self.failures:
                raise self.failures[0]
            call_ready(self.selector, max(0.0, tick_at - time.monotonic()))
            for told in signals.events():
                if isinstance(told, m.Suspend):
                    self._suspend(told)
                else:
                    self.tell(told)
            if any(told.how != "drain" for told in self.told[before:]):
                return False
            if time.monotonic() >= tick_at:
                tick_at = time.monotonic() + TICK
                for each in every_second:
                    each()
            self.watcher.tick(self.scheduler)
        return True

    def _suspend(self, told: m.Suspend) -> None:
        if told.on != self.suspended:
            name, how = ("SIGTSTP", "suspend") if told.on else ("SIGCONT", "continue")
            self.recorder.events.event("told", time.time(), signal=name, how=how)
        changed, self.suspended = told.on != self.suspended and (told.on or not self.told), told.on
        self.on_suspend(told.on, changed)

    def _handle(self, event: m.Event) -> None:
        acts = self._acts
        for action in self.scheduler.handle(event, self._look_at_clock()):
            acts[type(action)](action)

    def _look_at_clock(self) -> float:
        """Return the time. Handles an absence of this process before anything is judged by the time that has passed."""
        now = time.monotonic()
        missed = self._absence.look(now)
        if missed is not None:
            self._tick_at = now + TICK  # what waits in the sockets is read first
            self.on_absent(missed)
            for action in self.scheduler.handle(m.Absent(*missed), now):
                self._acts[type(action)](action)
        return now

    def _more_at_hand(self) -> bool:
        if self.gate is not None and self.gate.waits:
            return False
        return not self._supplied and self.supply.always_ready and self.scheduler.wanted > 0

    def _admitted(self, items: list[Supplied]) -> list[Planned]:
        if self.gate is None:
            return cast("list[Planned]", items)
        try:
            return self.gate.admit(items)
        except Refused as error:
            if not isinstance(self.supply, StreamSupply):
                raise
            self.supply.give_up(str(error), len(items))
            return []

    def _kept(self) -> bool:
        return self.gate is not None and self.gate.keeps

    def _feed(self) -> None:
        """Hand the scheduler as much of the plan as it has room for."""
        supply = self.supply
        if self._supplied and not (supply.grows and self._has_grown()):
            return
        wanted = min(self.scheduler.wanted, BATCH)
        if wanted and self.gate is not None and self.gate.keeps:
            items = self.gate.admit([])
            if items:
                self._handle(m.Supply(items))
            if self.gate.waits:
                wanted = 0
        if wanted:
            items = self._admitted(supply.read(wanted))
            if items:
                self._handle(m.Supply(items))
            if supply.ended and not self._kept():
                if isinstance(supply, StreamSupply) and supply.broken and not supply.given:
                    raise Refused(supply.broken)
                self._supplied = True
                self._handle(m.SupplyEnd(bool(supply.broken), open=supply.grows and not supply.broken))
                if self.scheduler.asks:  # nothing of it was to be run
                    self._feed()
        if isinstance(supply, StreamSupply):
            self._listen(supply, wanted > 0 and supply.hungry and not self._supplied and not supply.drained)

    def _has_grown(self) -> bool:
        """Whether there is more, although all was read; asked for the last time when all that was read has ended."""
        supply, scheduler = self.supply, self.scheduler
        if scheduler.stop_why or supply.broken:
            return False
        last = scheduler.asks
        if supply.look(last=last):
            self._supplied = False
            self._handle(m.SupplyGrows())
            return True
        if last or supply.broken:
            supply.grows = False
            self._handle(m.SupplyEnd(bool(supply.broken)))
        return False

    def _listen(self, supply: StreamSupply, wanted: bool) -> None:
        """Look at the stream only while there is room for what it says."""
        if wanted and supply.always_ready:
            supply.readable()
        elif wanted != self._listening and not supply.always_ready:
            self._listening = wanted
            if wanted:
                self.selector.register(supply.fd, selectors.EVENT_READ, supply.readable)
            else:
                self.selector.unregister(supply.fd)

    def _wait(self, action: m.Wait) -> None:
        if action.why:
            self.recorder.events.event("wait", time.time(), why=action.why)
        self.watcher.wait(action.why)
