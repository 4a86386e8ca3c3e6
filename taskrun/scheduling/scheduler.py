"""The scheduler: what runs where, what ran for good, when the run is over. A pure state machine.

`handle(event, now) -> actions`: no clock, file, thread, socket or process. `now` is monotonic seconds. The rules are
truth.md's, each in the module of its noun; here is what every event sets in motion, and the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from taskrun.errors import ExitCode
from taskrun.model import Barrier, Skipped
from taskrun.scheduling import messages as m
from taskrun.scheduling.attempts import Attempts
from taskrun.scheduling.engine import Context, Engine
from taskrun.scheduling.fleet import Fleet
from taskrun.scheduling.health import Health
from taskrun.scheduling.isolation import Isolation
from taskrun.scheduling.ledger import Counts, Ledger
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.placement import Placement
from taskrun.scheduling.plan import Again, Plan
from taskrun.scheduling.policy import STEAL_PAUSE, Policy
from taskrun.scheduling.stop import Stop
from taskrun.scheduling.suspects import Suspects
from taskrun.scheduling.walltime import Walltime

AT_HAND = 64  # items of the plan kept at hand, whatever the engines hold
AT_HAND_MOST = 8192  # and at most, with many engines
TASK_LIMIT = "the task limit is reached"
NO_ENGINE = "waiting for an engine"
SUSPENDED = "suspended: nothing new starts"
UNFIT = "START CHECK has failed on every host"
ALL_ASIDE = "on every host that is ready the last tasks failed within seconds"
ONE_BY_ONE = "of the tasks that ran when an engine died, each engine runs one at a time: one of them may be the cause"
_MOVES_NOTHING = (m.Heard, m.Taken)
_WHOLE = ("ok", "exit", "signal")  # ends of tasks that nobody cut short


class Scheduler:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.finished = False
        self.waiting = ""
        self._out = Outbox()
        self._plan = Plan()
        self._stop = Stop()
        self._suspects = Suspects(policy.crash_limit)
        self._ledger = Ledger(self._out, self._suspects)
        self._placement = Placement()
        self._attempts = Attempts(self._plan, self._ledger, self._suspects, self._stop, self._out)
        self._fleet = Fleet(policy, self._plan, self._attempts, self._placement, self._stop, self._out)
        self._isolation = Isolation(self._suspects, self._plan, self._placement, self._fleet.engines, self._out)
        self._health = Health(policy, self._plan, self._placement, self._fleet.contexts, self._out)
        self._ledger.on_ended = self._health.ended
        self._barrier_since: float | None = None  # when a barrier became the next in line
        self._no_engine_since: float | None = None
        self._had_engine = False
        self._evened_out = 0.0
        self._even_out_at: float | None = None
        self._leftover = False  # see Fleet.leftover
        self._of_engine: dict[type, Callable[[Engine, Any, float], None]] = {
            m.Heard: lambda *_: None,
            m.Taken: self._taken,
            m.Results: self._results,
            m.SlotsLost: lambda engine, event, _: self._attempts.lose_slots(engine, event.keys),
            m.Recalled: self._recalled,
            m.LinkClosed: self._fleet.link_closed,
            m.AgentTold: lambda engine, _, now: self._fleet.told(engine, now),
            m.EngineUseless: lambda engine, event, _: self._fleet.useless(engine, event.why),
        }
        self._of_run: dict[type, Callable[[Any, float], Any]] = {
            m.Supply: self._supply,
            m.SupplyEnd: self._supply_end,
            m.SupplyGrows: self._supply_grows,
            m.ContextJoined: self._context_joined,
            m.ContextEnds: self._context_ends,
            m.ContextGone: self._context_gone,
            m.EngineMissing: self._engine_missing,
            m.EngineJoined: self._engine_joined,
            m.Told: self._told,
            m.Detach: lambda event, now: self._fleet.detach(event.name, event.now, now),
            m.Suspend: self._suspend,
            m.Absent: self._absent,
            m.Tick: self._tick,
        }

    # --- the interface

    def handle(self, event: m.Event, now: float) -> list[m.Action]:
        """Take one event; what is to be done, in this order."""
        kind = type(event)
        of_engine = self._of_engine.get(kind)
        if self.finished:
            self._after_the_end(event)
        elif of_engine is None:
            self._advance(self._of_run[kind](event, now), now)  # an engine that joined, or None
        else:
            engine = self._fleet.engines.get(event.engine)  # type: ignore[union-attr]
            if engine is not None:
                engine.heard = now
                of_engine(engine, event, now)
                if kind in _MOVES_NOTHING:
                    return []
                self._placement.update(engine)
                self._advance(engine, now)
            elif kind is m.Results:
                for result in event.results:  # type: ignore[union-attr]
                    self._attempts.late(event.engine, result)  # type: ignore[union-attr]
                self._advance(None, now)
        return self._out.take()

    @property
    def wanted(self) -> int:
        """How many more items of the plan it has room for."""
        plan = self._plan
        if plan.ended or self._stop.how is not None:
            return 0
        return max(0, AT_HAND + min(2 * self._placement.windows, AT_HAND_MOST) - len(plan.pending))

    @property
    def asks(self) -> bool:
        """All that was read has ended: the run is over unless there is more now."""
        return self._plan.open and self._plan.exhausted and not self._attempts.tasks and self._stop.how is None

    @property
    def deadline(self) -> float | None:
        """When it wants a Tick at the latest (monotonic seconds); silence is looked for at every Tick, so give one a second."""
        times = [self._fleet.deadline, self._even_out_at]
        if self._stop.how is None and not self._fleet.suspended:
            times.append(self._health.deadline)
        times += [context.walltime.deadline for context in self._fleet.contexts.values() if context.walltime is not None]
        if self._attempts.held:
            times.append(self._attempts.held[0].due)
        if self._no_engine_since is not None:
            times.append(self._no_engine_since + self.policy.wait_for_engines)
        return min((time for time in times if time is not None), default=None)

    @property
    def counts(self) -> Counts:
        return self._ledger.counts

    @property
    def contexts(self) -> Mapping[str, Context]:
        """All there have been, by name. To be looked at only."""
        return self._fleet.contexts

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Those that are there, by name. To be looked at only."""
        return self._fleet.engines

    def state_of(self, engine: str) -> str:
        """State of an engine's host: `set aside`, `on hold`, or ''."""
        return self._health.state_of(engine)

    @property
    def left(self) -> int:
        """Tasks read and not ended, whoever has them now. Looks at all of them: for the end of a run."""
        return self._plan.tasks_left + self._attempts.tasks

    @property
    def running(self) -> int:
        """Attempts that are running, as far as can be told without asking: at most one a slot."""
        return self._attempts.running

    @property
    def check_failed(self) -> Barrier | None:
        return self._ledger.check_failed

    @property
    def stop_why(self) -> str:
        """Why the run was stopped, '' if it was not."""
        return self._stop.why

    @property
    def takes_back(self) -> bool:
        """Running tasks were told to end."""
        return self._stop.takes_back

    @property
    def ends(self) -> bool:
        """An allocation ends before another task would."""
        return any(context.ends for context in self._fleet.contexts.values())

    def exit_code(self, *, count_failures: bool) -> ExitCode:
        """What the run's end means (truth.md); `count_failures` is -e."""
        plan = self._plan
        undone = not plan.exhausted or plan.broken or self._attempts.tasks > 0
        return self._stop.exit_code(undone=undone, failures_count=(count_failures or self.policy.fail_fast) and self.counts.any_failed)

    # --- the plan

    def _supply(self, event: m.Supply, now: float) -> None:
        header_done = self._plan.header_done
        self._plan.add(event.items)
        if self._plan.header_done and not header_done:
            self._fleet.step_all(now)

    def _supply_end(self, event: m.SupplyEnd, now: float) -> None:
        header_done = self._plan.header_done
        self._plan.end(event.broken, event.open)
        if not header_done and not (self._is_work_over() or self.asks):
            self._fleet.step_all(now)

    def _supply_grows(self, _: m.SupplyGrows, now: float) -> None:
        self._plan.reopen()
        self._fleet.step_all(now)

    # --- contexts and engines

    def _context_joined(self, event: m.ContextJoined, _: float) -> None:
        walltime = None if event.end is None else Walltime(event.end, event.task_time, self.policy.grace)
        context = self._fleet.contexts.setdefault(event.context, Context(event.context, event.limit, event.expected, walltime))
        context.gives_back, context.keep, context.one_fate = event.gives_back, event.keep, event.one_fate
        self._no_engine_since = None  # who comes now is given time to start

    def _context_ends(self, event: m.ContextEnds, _: float) -> None:
        context = self._fleet.contexts.get(event.context)
        if context is not None and context.walltime is not None:
            context.walltime.move(event.end)
        elif context is not None:
            context.walltime = Walltime(event.end, None, self.policy.grace)

    def _context_gone(self, event: m.ContextGone, _: float) -> None:
        context = self._fleet.contexts.get(event.context)
        if context is not None:
            context.alive = False

    def _engine_missing(self, event: m.EngineMissing, _: float) -> None:
        context = self._fleet.contexts.get(event.context)
        if context is not None:
            context.asked = max(0, context.asked - 1)

    def _engine_joined(self, event: m.EngineJoined, now: float) -> Engine | None:
        engine = self._fleet.join(event, now)
        if engine is not None:
            self._health.joined(engine)
        return engine

    @staticmethod
    def _taken(engine: Engine, event: m.Taken, now: float) -> None:
        for key in event.keys:
            attempt = engine.live.get(key)
            if attempt is not None:
                attempt.started = True
                attempt.began = now

    def _results(self, engine: Engine, event: m.Results, now: float) -> None:
        walltime = engine.context.walltime
        if walltime is not None:
            for result in event.results:
                if result.kind == "task" and result.cause in _WHOLE:
                    walltime.measured(result.elapsed)
        self._attempts.results(engine, event.results, now)

    def _recalled(self, engine: Engine, event: m.Recalled, _: float) -> None:
        engine.recalling = False
        self._attempts.recalled(engine, event.keys)

    def _told(self, event: m.Told, now: float) -> None:
        if self._stop.told(event.how, event.why):
            self._fleet.stop_all(now)

    def _suspend(self, event: m.Suspend, now: float) -> None:
        if event.on != self._fleet.suspended and self._stop.how is None:
            self._fleet.suspend(event.on, now)

    def _absent(self, event: m.Absent, now: float) -> None:
        self._fleet.absent(event, now)
        self._attempts.absent(event.seconds)
        self._health.absent(event.seconds, now)
        if self._no_engine_since is not None:
            self._no_engine_since += event.seconds

    def _tick(self, _: m.Tick, now: float) -> None:
        self._fleet.look_for_silence(now)

    # --- what follows from it

    def _advance(self, engine: Engine | None, now: float) -> None:
        """Everything that can happen now; `engine`: the only one that the event can have moved."""
        fleet, stop = self._fleet, self._stop
        fleet.overdue(now)
        fleet.look_at_walltimes(now)
        if self._attempts.held:
            for each in self._attempts.settle_held(now):
                self._placement.update(each)
                self._move(each, now)
        if engine is not None:
            self._move(engine, now)
        self._fail_fast(now)
        if stop.how is None and not fleet.suspended:
            self._health.look(now, [each.attempt for each in self._attempts.held])
            self._hand_out(now)
            if self._ledger.check_failed is not None and stop.failed("drain", "a BARRIER CHECK failed"):
                fleet.stop_all(now)
            self._fail_fast(now)
        if not stop.work_over and self._is_work_over():
            stop.work_over = True
            fleet.limit_starts(now)
            fleet.step_all(now)
        if fleet.leftover != self._leftover:
            self._leftover = not self._leftover
            if self._leftover and not stop.closing:
                fleet.step_all(now)
        self._even_out(now)
        self._look_for_the_end(now)

    def _is_work_over(self) -> bool:
        return self._plan.exhausted and not self._attempts.tasks and not self._plan.open

    def _move(self, engine: Engine, now: float) -> None:
        if engine.context.spent:
            self._fleet.step_context(engine.context, now)
        else:
            self._fleet.step(engine, now)

    def _fail_fast(self, now: float) -> None:
        if self.policy.fail_fast and self._stop.how in (None, "drain") and self.counts.any_failed:
            of_earlier = not (self.counts.failed or self.counts.per_engine_failed)
            if self._stop.failed("cancel", "a skipped task had failed" if of_earlier else "a task failed"):
                self._fleet.stop_all(now)

    def _hand_out(self, now: float) -> None:
        """Skipped tasks and barriers as they come first in line; tasks to engines with room."""
        plan, placement, attempts = self._plan, self._placement, self._attempts
        pending = plan.pending
        given: dict[str, list[tuple[m.Key, Any]]] = {}
        if self._suspects.any_waiting:
            self._hand_out_suspects(given, now, last=False)
        if plan.any_again:
            self._hand_out_again(given, now)
        while pending:
            item = pending[0]
            kind = type(item)
            if kind is Skipped:
                self._ledger.skip(item)  # type: ignore[arg-type]
                pending.popleft()
                if self.policy.fail_fast and self.counts.any_failed:
                    break
            elif kind is Barrier:
                if not self._pass_barrier(item, now):  # type: ignore[arg-type]
                    break
            else:
                engine = placement.choose()
                if engine is None:
                    break
                pending.popleft()
                key = attempts.hand_out(engine, item, 1, now)  # type: ignore[arg-type]
                placement.update(engine)
                try:
                    given[engine.name].append((key, item))
                except KeyError:
                    given[engine.name] = [(key, item)]
        if self._suspects.any_waiting:
            self._hand_out_suspects(given, now, last=True)
        for name, rows in given.items():
            self._out.add(m.Assign(name, rows))

    def _hand_out_again(self, given: dict[str, list[tuple[m.Key, Any]]], now: float) -> None:
        """What came back comes first; what was lost, elsewhere if there is an elsewhere."""
        plan, placement = self._plan, self._placement
        while placement.any_room and (again := plan.take_again()) is not None:
            nodes = self._suspects.nodes.get(again.task.id)
            engine = placement.choose() if nodes is None else placement.choose_elsewhere(nodes)
            if engine is None:
                plan.put_back(again)
                break
            self._give(engine, again, given, now)

    def _hand_out_suspects(self, given: dict[str, list[tuple[m.Key, Any]]], now: float, *, last: bool) -> None:
        self._isolation.place(lambda engine, again: self._give(engine, again, given, now), last=last)

    def _give(self, engine: Engine, again: Again, given: dict[str, list[tuple[m.Key, Any]]], now: float) -> None:
        key = self._attempts.hand_out(engine, again.task, again.n, now)
        self._placement.update(engine)
        given.setdefault(engine.name, []).append((key, again.task))

    def _pass_barrier(self, barrier: Barrier, now: float) -> bool:
        """True when everything before it has ended and the plan goes on behind it."""
        if self._barrier_since is None:
            self._barrier_since = now
        if self._plan.again or self._attempts.tasks:
            return False
        self._plan.pending.popleft()
        ok = self._ledger.barrier(barrier, self._barrier_since)
        self._barrier_since = None
        return ok

    def _even_out(self, now: float) -> None:
        """At the end, and before a barrier, no slot stays free while another engine holds what it has not started."""
        self._even_out_at = None
        plan = self._plan
        if self._stop.closing or len(self._fleet.engines) < 2 or plan.any_again or (plan.pending and self._barrier_since is None):
            return
        if not self._placement.any_free or self._attempts.holding <= self._attempts.running:
            return
        if now - self._evened_out < STEAL_PAUSE:
            self._even_out_at = self._evened_out + STEAL_PAUSE
            return
        self._evened_out = now
        suspects = not self._suspects.charges or self._isolation.may_give_free_slot
        self._placement.even_out(self._fleet.engines.values(), self._out, suspects=suspects)

    # --- the end

    def _look_for_the_end(self, now: float) -> None:
        fleet, stop = self._fleet, self._stop
        if fleet.engines:
            self._had_engine = True
            self._no_engine_since = None
        elif stop.closing and not self._attempts.tasks:
            self.finished = True
            self._out.add(m.Finish())
            return
        elif stop.how is None:
            self._without_engines(now)
        self._say_wait()

    def _without_engines(self, now: float) -> None:
        """Nothing can run now. Somebody may come: a context that is still to offer an engine, or in time a new one.

        Hosts that were asked for are waited for as long as connecting to them takes; once there was an engine, the wait is as long as
        was said, whatever is being tried meanwhile. With no wait at all only what is being tried is waited for.
        """
        contexts = self._fleet.contexts
        expected = self._fleet.promising or (not contexts and not self._plan.ended)
        if expected and not (self._had_engine and self.policy.wait_for_engines):
            self._no_engine_since = None
            return
        if self._no_engine_since is None:
            self._no_engine_since = now
        limited = bool(contexts) and all(context.spent or context.taken or context.is_unfit for context in contexts.values())
        if (limited and not self.policy.open_ended) or now >= self._no_engine_since + self.policy.wait_for_engines:
            limited = limited or any(context.spent for context in contexts.values())
            self._stop.stuck(self._why_stuck(limited))
            self._look_for_the_end(now)

    def _why_stuck(self, limited: bool) -> str:
        contexts = self._fleet.contexts.values()
        for context in contexts:
            if context.walltime is not None and context.ends:
                return context.walltime.why
        if contexts and all(context.is_unfit for context in contexts):
            return UNFIT
        if any(context.taken for context in contexts):
            return "the allocation is taken back"
        return TASK_LIMIT if limited else "no engine is left"

    def _say_wait(self) -> None:
        why = ""
        if not self._stop.closing and (self._plan.pending or self._plan.again):
            ending = next((context.walltime for context in self._fleet.contexts.values() if context.ends), None)
            if self._fleet.suspended:
                why = SUSPENDED
            elif ending is not None and not self._placement.any_ready:
                why = ending.why
            elif not self._fleet.engines:
                why = NO_ENGINE
            elif self._suspects.charges and (alone := self._isolation.alone) is not None:
                why = f"task {alone} runs alone: its engine has died with it"
            elif self._barrier_since is not None and not self._plan.again:
                why = "waiting at a barrier"
            elif not self._placement.any_ready and all(engine.phase == "start" for engine in self._fleet.engines.values()):
                why = "waiting for PERENGINE START commands"
            elif self._suspects.any_waiting and self._placement.any_free and self._plan.again:
                why = ONE_BY_ONE
            elif self._health.stalled and not self._attempts.tasks:
                why = ALL_ASIDE
        if why != self.waiting:
            self.waiting = why
            self._out.add(m.Wait(why))

    def _after_the_end(self, event: m.Event) -> None:
        if isinstance(event, m.Results):
            for result in event.results:
                self._out.add(m.Late(event.engine, result))
        elif isinstance(event, m.EngineJoined):
            self._out.add(m.Leave(event.engine))


__all__ = ["TASK_LIMIT", "Counts", "Policy", "Scheduler"]
