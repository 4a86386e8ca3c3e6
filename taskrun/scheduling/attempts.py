"""The attempts that engines hold, and how each one ends: for good, given back to run again, or given up for what died with it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from taskrun.model import Cause, PerEngine, Result, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Attempt, Engine
from taskrun.scheduling.ledger import Ledger
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.plan import Plan
from taskrun.scheduling.policy import SUSPECT_HOLD
from taskrun.scheduling.stop import Stop
from taskrun.scheduling.suspects import Blame, Suspects

_SIGNALS = (1, 2, 9, 10, 15)
_BY_SYSTEM = frozenset([-n for n in _SIGNALS] + [128 + n for n in _SIGNALS])  # codes that the system's doing leaves behind
#: The task's own end.
OWN: frozenset[Cause] = frozenset(("ok", "exit", "signal", "start", "timeout", "memory", "stage-in", "stage-out", "leftovers"))
TAKEN_BACK: frozenset[Cause] = frozenset(("preempted", "cancelled"))


class _Held(NamedTuple):
    due: float
    attempt: Attempt
    result: Result


class Attempts:
    def __init__(self, plan: Plan, ledger: Ledger, suspects: Suspects, stop: Stop, out: Outbox) -> None:
        self.plan = plan
        self.ledger = ledger
        self.suspects = suspects
        self.stop = stop
        self.out = out
        self.tasks = 0  # attempts of tasks that have not ended, as far as we know
        self.holding = 0  # attempts that engines hold
        self.running = 0  # of them, those that can be running: at most one a slot
        self.held: deque[_Held] = deque()  # results that wait for the news that the system told the step to stop

    # --- begin and end of being held by an engine

    def hand_out(self, engine: Engine, task: Task, n: int, now: float) -> m.Key:
        key: m.Key = ("task", task.id, n)
        live = engine.live
        live[key] = Attempt(key, task, engine, now)
        if len(live) <= engine.slots:
            self.running += 1
        self.holding += 1
        self.tasks += 1
        if n > 1 and task.id in self.suspects.charges:
            engine.suspect = key
        context = engine.context
        context.live += 1
        context.left -= 1
        return key

    def per_engine(self, engine: Engine, command: PerEngine, now: float) -> None:
        key: m.Key = ("start" if command.when == "START" else "stop", command.id, engine.rank)
        engine.live[key] = Attempt(key, command, engine, now)
        self.holding += 1
        self.running += 1
        self.out.add(m.Assign(engine.name, [(key, command)]))

    def _release(self, attempt: Attempt) -> None:
        """Its engine does not hold it any more."""
        engine = attempt.engine
        live = engine.live
        del live[attempt.key]
        self.holding -= 1
        if len(live) < engine.slots:
            self.running -= 1
        if attempt.key[0] == "task":
            engine.context.live -= 1

    # --- what an agent says

    def results(self, engine: Engine, results: list[Result], now: float) -> None:
        seconds = 0.0
        count = 0
        live = engine.live
        for result in results:
            attempt = live.get(result[:3])
            if attempt is None or attempt.held:
                self.late(engine.name, result)
                continue
            cause = result.cause
            if cause != "ok":
                result = self._seen(attempt, result)  # noqa: PLW2901
                cause = result.cause
                if _may_be_systems(result) or (cause in TAKEN_BACK and not self._expected(engine)):
                    self._hold(attempt, result, now)
                    continue
            if cause in OWN and attempt.key[0] == "task":
                seconds += result.elapsed
                count += 1
            self._release(attempt)
            self._settle(attempt, result)
        if count:
            engine.measured(seconds, count)
            if engine.context.losses:
                engine.context.losses.pop(engine.node, None)

    def _expected(self, engine: Engine) -> bool:
        """Its attempts were told to end, by us or the system."""
        return engine.told or engine.ended or self.stop.takes_back

    def _cause_of_loss(self, engine: Engine) -> Cause:
        if engine.told:
            return "preempted"
        return "cancelled" if engine.detached and engine.ended else "engine-lost"

    def _seen(self, attempt: Attempt, result: Result) -> Result:
        """What ends by a signal after it was told to end has not failed."""
        if _may_be_systems(result) and self._expected(attempt.engine):
            cancelled = attempt.engine.detached or (self.stop.how == "cancel" and not attempt.engine.told)
            return result._replace(cause="cancelled" if cancelled else "preempted")
        return result

    def _hold(self, attempt: Attempt, result: Result, now: float) -> None:
        attempt.held = True
        if attempt.key[0] == "task":  # a PERENGINE command keeps its turn
            self._release(attempt)
        self.held.append(_Held(now + SUSPECT_HOLD, attempt, result))

    def settle_held(self, now: float) -> list[Engine]:
        """Settle results whose time is over, or whose engine or run was told to stop; return engines whose turn may have changed."""
        if not self.held:
            return []
        kept: deque[_Held] = deque()
        engines = []
        for each in self.held:
            engine = each.attempt.engine
            if each.due > now and not self._expected(engine):
                kept.append(each)
                continue
            result = self._seen(each.attempt, each.result)
            if result.cause in TAKEN_BACK and not self._expected(engine):
                result = result._replace(cause="engine-lost")  # its slot was told to stop by nobody we know
                self._blame([each.attempt])
            if each.attempt.key[0] != "task":
                if each.attempt.key not in engine.live:
                    continue
                self._release(each.attempt)
            self._settle(each.attempt, result)
            engines.append(engine)
        self.held = kept
        return engines

    def engine_died(self, engine: Engine) -> None:
        """Blame the tasks that ran, or may have run, when it died: its host is up, so one of them may have caused it."""
        engine.death = "died"
        if not self._is_blamed(engine):
            return
        ran = [each.attempt for each in self.held if each.attempt.engine is engine]
        ran += [attempt for attempt in engine.live.values() if attempt.started and not attempt.held]
        ran = [attempt for attempt in ran if attempt.key[0] == "task"]
        if not any(attempt.task.id in self.suspects.charges for attempt in ran):
            # the first attempt of a task may have started unannounced: slots take what they were given in this order
            unsaid = [attempt for key, attempt in engine.live.items() if key[0] == "task" and key[2] == 1 and not attempt.started]
            ran += unsaid[: max(0, engine.slots - len(ran))]
        blame = self.suspects.engine_died((engine.context.name, engine.node), engine.boot, [attempt.task.id for attempt in ran])
        if blame == "charged":
            engine.death = "charged"
        self._note_blame(ran, blame)

    def _blame(self, attempts: list[Attempt]) -> None:
        """Slots died with these attempts, and their engine goes on."""
        ran = [attempt for attempt in attempts if attempt.key[0] == "task"]
        if ran and self._is_blamed(ran[0].engine):
            self._note_blame(ran, self.suspects.slots_died([attempt.task.id for attempt in ran]))

    def _is_blamed(self, engine: Engine) -> bool:
        """Tasks are, for what dies there: nobody has told it to stop."""
        return self.stop.how is None and not (engine.told or engine.detached or engine.ended or engine.excused)

    def _note_blame(self, ran: list[Attempt], blame: Blame) -> None:
        for attempt in ran:
            if blame != "charged" or attempt.key == attempt.engine.suspect:
                attempt.blame = blame

    def absent(self, seconds: float) -> None:
        """The driver did not run for so long: what it waits to hear of suspects may still wait to be read."""
        self.held = deque(each._replace(due=each.due + seconds) for each in self.held)

    def lose_held(self, engine: Engine) -> None:
        """The engine's link closed: it was the system's doing."""
        lost = [each for each in self.held if each.attempt.engine is engine]
        if lost:
            self.held = deque(each for each in self.held if each.attempt.engine is not engine)
            for each in lost:
                if each.attempt.key[0] == "task":
                    self._settle(each.attempt, each.result._replace(cause=self._cause_of_loss(engine)))
                else:  # it is lost with its engine
                    each.attempt.held = False
                    each.attempt.started = True

    def lose_slots(self, engine: Engine, keys: list[m.Key]) -> None:
        """Slots died with these; nothing is left of them."""
        lost = [attempt for key in dict.fromkeys(keys) if (attempt := engine.live.get(key)) is not None and not attempt.held]
        self._blame(lost)
        for attempt in lost:
            self._release(attempt)
            self._settle(attempt, nothing_known(attempt.key, "engine-lost"))

    def recalled(self, engine: Engine, keys: list[m.Key]) -> None:
        """They came back unstarted."""
        for key in keys:
            attempt = engine.live.get(key)
            if attempt is not None and not attempt.held:
                self._release(attempt)
                self._unstarted(attempt, key[2])

    def lose_all(self, engine: Engine) -> list[m.Key]:
        """The engine is given up, and with it all it holds; what that was."""
        attempts = list(engine.live.values())
        for attempt in attempts:
            self._release(attempt)
            if attempt.started or attempt.held:
                self._settle(attempt, nothing_known(attempt.key, self._cause_of_loss(engine)), given_up=True)
            else:
                self._unstarted(attempt, attempt.key[2] + 1, given_up=True)
        return [attempt.key for attempt in attempts]

    def late(self, engine: str, result: Result) -> None:
        """A result of an attempt that its engine does not hold (any more).

        It counts only if the attempt was given up with the engine and its task has not been handed out again.
        """
        again = self.plan.again.get(result.id) if result.kind == "task" else None
        if again is not None and again.lost is not None and result.cause in OWN and not _may_be_systems(result):
            lost = again.lost
            if lost.key == result[:3] and lost.engine.name == engine:
                del self.plan.again[result.id]
                self.ledger.ended(engine, lost.task, result, lost.assigned)
                return
        self.out.add(m.Late(engine, result))

    # --- what becomes of it

    def _settle(self, attempt: Attempt, result: Result, *, given_up: bool = False) -> None:
        """An attempt has ended."""
        cause = result.cause
        engine = attempt.engine
        task = attempt.task
        if type(task) is not Task:
            self._per_engine_ended(attempt, result, given_up)
            return
        if engine.suspect is not None:
            self._let_go(attempt)
        if cause in OWN:
            self.tasks -= 1
            self.ledger.ended(engine.name, task, result, attempt.assigned)
            return
        if cause not in ("preempted", "cancelled", "throttled"):
            cause = "engine-lost"
            result = result._replace(cause=cause)
        self.tasks -= 1
        self.out.add(m.Attempted(engine.name, task, result, attempt.blame))
        if cause == "engine-lost" and self.stop.how is None and self.suspects.given_up(task.id):
            self.ledger.ended(engine.name, task, result._replace(cause="crash-limit", code=-100, pid=-1), attempt.assigned)
            return
        if cause == "engine-lost":
            self.suspects.lost(task.id, engine.node)
        self._give_back(task, attempt.key[2] + 1, attempt if given_up else None)

    def _give_back(self, task: Task, n: int, lost: Attempt | None) -> None:
        """Give the task back to the plan: with the suspects, if it is one."""
        suspect = task.id in self.suspects.charges
        self.plan.give_back(task, n, lost, suspect=suspect)
        if suspect:
            self.suspects.wait(task.id)

    @staticmethod
    def _let_go(attempt: Attempt) -> None:
        """Let its engine have another suspect, if this was one."""
        engine = attempt.engine
        if engine.suspect == attempt.key:
            engine.suspect = None
            if engine.alone == attempt.key[1]:
                engine.alone = None

    def _unstarted(self, attempt: Attempt, n: int, *, given_up: bool = False) -> None:
        """Never charged to the task. `n`: number of the next attempt. What came back does not count for its context's limit."""
        if type(attempt.task) is Task:
            self._let_go(attempt)
            self.tasks -= 1
            if attempt.blame:
                self.suspects.lost(attempt.task.id, attempt.engine.node)
            if not given_up:
                attempt.engine.context.left += 1
            self._give_back(attempt.task, n, attempt if given_up else None)

    def _per_engine_ended(self, attempt: Attempt, result: Result, given_up: bool) -> None:
        """The next command is its engine's turn, or this one again when it was lost with its slot."""
        engine = attempt.engine
        cause = result.cause
        if cause in OWN:
            self._per_engine_done(attempt, result)
        else:
            self.out.add(m.Attempted(engine.name, attempt.task, result))
            if cause == "throttled":
                return
            if cause not in TAKEN_BACK and not given_up:
                engine.crashes += 1
                if engine.crashes < self.suspects.limit and not self._expected(engine):
                    return
                if not self._expected(engine):
                    self._per_engine_done(attempt, result._replace(cause="crash-limit", code=-100, pid=-1))
        engine.crashes = 0
        engine.step += 1

    def _per_engine_done(self, attempt: Attempt, result: Result) -> None:
        engine, command = attempt.engine, attempt.task
        self.ledger.ended(engine.name, command, result, attempt.assigned)
        if result.code and type(command) is PerEngine and command.check:
            engine.unfit = True
            self.out.add(m.Unfit(engine.context.name, engine.name, engine.node, command, result))


def _may_be_systems(result: Result) -> bool:
    """It may be the system's doing."""
    return result.cause in ("signal", "exit") and result.code in _BY_SYSTEM


def nothing_known(key: m.Key, cause: Cause) -> Result:
    """The result of an attempt that ended out of our sight."""
    kind, number, n = key
    return Result(kind, number, n, cause, 0, -1, -1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, b"", 0, b"", False)
