"""The life of an engine: START commands, ready, drained, STOP commands, let go; or lost, and perhaps replaced."""

from __future__ import annotations

from heapq import heappop, heappush

from taskrun.model import Cause
from taskrun.scheduling import messages as m
from taskrun.scheduling.attempts import Attempts
from taskrun.scheduling.engine import Context, Engine, Losses, Phase
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.placement import Placement
from taskrun.scheduling.plan import Plan
from taskrun.scheduling.policy import END_MARGIN, LOST_MARGIN, READ_SECONDS, SILENT_MOST, Policy
from taskrun.scheduling.stop import Stop


class Fleet:
    def __init__(self, policy: Policy, plan: Plan, attempts: Attempts, placement: Placement, stop: Stop, out: Outbox) -> None:
        self.policy = policy
        self.plan = plan
        self.attempts = attempts
        self.placement = placement
        self.stop = stop
        self.out = out
        self.contexts: dict[str, Context] = {}
        self.engines: dict[str, Engine] = {}
        self._timers: list[tuple[float, int, Engine]] = []  # may hold times that are no engine's any more
        self._timer_count = 0
        self.suspended = False  # nothing new starts

    @property
    def promising(self) -> bool:
        """There is an engine, or may be one."""
        return bool(self.engines) or any(context.promising for context in self.contexts.values())

    # --- coming

    def join(self, event: m.EngineJoined, now: float) -> Engine | None:
        context = self.contexts.get(event.context)
        if event.engine in self.engines:
            return None
        if context is None or event.slots < 1:
            self.out.add(m.GiveUp(event.engine, "it has no slots" if context is not None else "its context is unknown"))
            return None
        engine = Engine(event.engine, context, event.rank, event.slots, event.node or event.engine, now)
        engine.boot = event.boot
        for task in self.attempts.suspects.came_back((context.name, engine.node), engine.boot):
            self.plan.clear(task)
        self.engines[engine.name] = context.engines[engine.name] = engine
        context.unknown = False
        context.asked = max(0, context.asked - 1)
        if context.detached:
            engine.detached = True
        if context.detached or context.ends:
            self._set_phase(engine, "drain")
        return engine

    def step(self, engine: Engine, now: float) -> None:
        """Move it along, as far as it can go now."""
        if engine.live:
            return
        if engine.phase == "start":
            if self.stop.closing or engine.unfit:
                self._set_phase(engine, "drain")
            elif not self.plan.header_done or self.suspended:
                return
            elif engine.step < len(self.plan.starts):
                engine.began = True
                self.attempts.per_engine(engine, self.plan.starts[engine.step], now)
                return
            else:
                engine.began = True
                self._set_phase(engine, "ready")
        if engine.phase == "ready" and (self.stop.closing or engine.context.spent or self.is_spare(engine)):
            self._set_phase(engine, "drain")
        if engine.phase == "drain":
            engine.step = 0
            self._set_phase(engine, "stop")
            if self.stop.takes_back or engine.ended:
                self._set_due(engine, now + self.policy.grace)
        if engine.phase == "stop":
            stops = self.plan.stops
            if engine.began and not engine.useless and not engine.cut and engine.step < len(stops):
                self.attempts.per_engine(engine, stops[engine.step], now)
            else:
                self._set_phase(engine, "leaving")
                self._set_due(engine, now + self.policy.grace + LOST_MARGIN)
                self.out.add(m.Leave(engine.name))

    @property
    def leftover(self) -> bool:
        """All that is left of the plan is running: an engine without a task gets none, unless one is lost."""
        plan, attempts = self.plan, self.attempts
        return plan.exhausted and attempts.holding <= attempts.running and not (plan.open and not attempts.tasks)

    def is_spare(self, engine: Engine) -> bool:
        """It is not needed any more, and its context gives such engines back."""
        return engine.context.gives_back and self.leftover and engine.node != engine.context.keep

    # --- the driver itself

    def suspend(self, on: bool, now: float) -> None:
        """Suspend: nothing new starts, and agents give back what they hold unstarted; or go on."""
        self.suspended = on
        for engine in list(self.engines.values()):
            if not on:
                self.step(engine, now)
            elif engine.phase == "ready" and engine.live:
                engine.recalling = True
                self.out.add(m.Recall(engine.name, len(engine.live)))

    def absent(self, event: m.Absent, now: float) -> None:
        """The driver did not run: that was nobody's silence, and what an agent did for want of a driver is no fault of its tasks."""
        asleep = event.seconds + event.asleep
        for engine in self.engines.values():
            engine.heard = max(engine.heard + event.seconds, now + READ_SECONDS - self.policy.silence)
            if engine.due is not None:
                self._set_due(engine, engine.due + event.seconds)
            if asleep >= self.policy.orphaned_after:
                engine.excused = now + self.policy.silence
        for context in self.contexts.values():
            if context.walltime is not None:
                context.walltime.overslept(event.asleep)

    # --- going

    def end(self, engine: Engine, how: Cause, grace: float, now: float) -> None:
        """End what it runs, take back what it has not started."""
        engine.ended = True
        self.out.add(m.End(engine.name, how, grace))
        self._set_due(engine, now + grace + END_MARGIN)

    def drain(self, engine: Engine) -> None:
        """It takes no more, and gives back what it has not started."""
        if engine.phase in ("start", "ready"):
            self._set_phase(engine, "drain")
            if engine.live:
                self.out.add(m.Recall(engine.name, len(engine.live)))

    def stop_all(self, now: float) -> None:
        """The run is told to stop (or to stop harder)."""
        how = self.stop.how
        kill = how == "kill"
        for engine in list(self.engines.values()):
            engine.cut = kill
            if how == "drain":
                self.drain(engine)
            elif engine.phase in ("start", "ready", "drain"):
                if engine.phase != "drain":
                    self._set_phase(engine, "drain")
                if engine.live and (kill or not engine.ended):
                    self.end(engine, self.stop.cause, 0.0 if kill else self.policy.grace, now)
            elif engine.phase == "stop" and kill:
                self.end(engine, "preempted", 0.0, now)
            elif engine.phase == "stop" and engine.due is None:
                self._set_due(engine, now + self.policy.grace)
            elif engine.phase == "closed" and engine.due is not None:  # it may live on, but the run cannot wait for that
                self._set_due(engine, min(engine.due, now + (0.0 if kill else self.policy.grace) + LOST_MARGIN))
            elif kill and engine.due is not None:
                self._set_due(engine, min(engine.due, now + LOST_MARGIN))
            self.step(engine, now)

    def limit_starts(self, now: float) -> None:
        """No task is left: START commands that still run are ended after the grace, or one that hangs would keep the run."""
        for engine in self.engines.values():
            if engine.phase == "start" and engine.live:
                self._set_due(engine, now + self.policy.grace)

    def told(self, engine: Engine, now: float) -> None:
        """The system told the engine's agent to stop."""
        if engine.told:
            return
        engine.told = True
        engine.context.taken = engine.context.one_fate
        if engine.phase in ("start", "ready", "drain"):
            if engine.phase != "drain":
                self._set_phase(engine, "drain")
            if not engine.ended:
                self.end(engine, "preempted", self.policy.grace, now)
        elif engine.phase == "stop" and engine.due is None:
            self._set_due(engine, now + self.policy.grace)

    def useless(self, engine: Engine, why: str) -> None:
        """It ends what it runs and goes, as one that failed."""
        if engine.phase in ("start", "ready", "drain"):
            engine.useless = True
            engine.why = engine.why or why
            self.drain(engine)

    def detach(self, name: str, at_once: bool, now: float) -> None:
        context = self.contexts.get(name)
        if context is not None:
            context.detached = True
            engines = list(context.engines.values())
        else:
            engines = [self.engines[name]] if name in self.engines else []
        for engine in engines:
            engine.detached = True
            if at_once and not engine.ended and engine.phase in ("start", "ready", "drain"):
                self.drain(engine)
                self.end(engine, "cancelled", self.policy.grace, now)
            else:
                self.drain(engine)
            self.step(engine, now)

    def look_at_walltimes(self, now: float) -> None:
        """Contexts that the system ends soon: nothing starts there any more, or what runs there is given back."""
        for context in self.contexts.values():
            walltime = context.walltime
            if walltime is None or walltime.deadline is None or now < walltime.deadline:
                continue
            state = walltime.look(now)
            for engine in list(context.engines.values()) if state != "open" else ():
                if state == "over":
                    self.told(engine, now)
                else:
                    self.drain(engine)
                self.step(engine, now)

    def link_closed(self, engine: Engine, event: m.LinkClosed, now: float) -> None:
        """Close the engine. If its agent may live on, its tasks have ended when it has been silent for long enough."""
        if engine.phase == "closed":
            return
        if engine.phase == "leaving" and not engine.live:
            self._depart(engine, [], now)
            return
        why, heard = event.why, event.heard
        if event.died:
            self.attempts.engine_died(engine)
        self.attempts.lose_held(engine)
        engine.why = engine.why or why
        self._set_phase(engine, "closed")
        if engine.live:
            due = now + (0.0 if self.stop.how == "kill" else self.policy.grace) + LOST_MARGIN
            if heard is not None and not self.stop.takes_back:
                due = max(due, heard + self.policy.silence)
            self._set_due(engine, due)
        else:
            self.lose(engine, engine.why, now)

    def lose(self, engine: Engine, why: str, now: float) -> None:
        """It is given up, and its attempts with it."""
        self.out.add(m.GiveUp(engine.name, why))
        engine.why = engine.why or why
        self._depart(engine, self.attempts.lose_all(engine), now)

    def _depart(self, engine: Engine, keys: list[m.Key], now: float) -> None:
        """Remove the engine. Unless it was meant to go, its context may offer another."""
        self._set_phase(engine, "gone")
        context = engine.context
        del self.engines[engine.name]
        del context.engines[engine.name]
        if context.spent:
            self.step_context(context, now)
        context.unfit = context.unfit or engine.unfit
        if engine.detached or engine.unfit or not (engine.why or engine.told):
            return
        losses = self._count(engine)
        if context.alive and not context.detached and not context.taken and not self.stop.closing and not context.spent:
            if self._may_have_another(losses):
                context.asked += 1
                self.out.add(m.Replace(context.name, engine.name, keys))
            else:
                self.out.add(m.SetAside(context.name, engine.node, losses.total))

    @staticmethod
    def _count(engine: Engine) -> Losses:
        """Losses of its node, with this one unless the driver is to blame."""
        losses = engine.context.losses.setdefault(engine.node, Losses())
        if engine.excused:
            return losses
        if engine.death == "charged":
            losses.charged += 1
        elif engine.useless or (engine.death and not engine.told):
            losses.died += 1
        else:
            losses.silent += 1
        return losses

    def _may_have_another(self, losses: Losses) -> bool:
        """The node of these losses is not set aside."""
        policy = self.policy
        return losses.died < policy.node_failures and losses.charged < policy.charged_most and losses.silent < SILENT_MOST

    def step_context(self, context: Context, now: float) -> None:
        for engine in list(context.engines.values()):
            self.step(engine, now)

    def step_all(self, now: float) -> None:
        for engine in list(self.engines.values()):
            self.step(engine, now)

    # --- time

    @property
    def deadline(self) -> float | None:
        timers = self._timers
        while timers and timers[0][2].due != timers[0][0]:
            heappop(timers)
        return timers[0][0] if timers else None

    def overdue(self, now: float) -> None:
        """What an engine's patience with its phase was for has not happened in time."""
        while (deadline := self.deadline) is not None and deadline <= now:
            engine = self._timers[0][2]
            if engine.phase == "closed":
                self.lose(engine, engine.why, now)
            elif engine.phase == "leaving":
                self.lose(engine, "it did not leave", now)
            elif engine.phase == "start":
                self._set_phase(engine, "drain")
                self.end(engine, "cancelled", self.policy.grace, now)
            elif engine.phase == "stop" and not engine.cut:
                engine.cut = True
                self.end(engine, "preempted", 0.0, now)
                self.step(engine, now)
            elif self.stop.how is not None:
                self.lose(engine, engine.why or "it did not end its tasks in time", now)
            else:  # its tasks run, as far as we know: nobody else may have them before its silence or its link's end says that they don't
                engine.due = None

    def look_for_silence(self, now: float) -> None:
        heard_since = now - self.policy.silence
        for engine in list(self.engines.values()):
            if engine.excused <= now:
                engine.excused = 0.0
            if engine.heard <= heard_since and engine.phase not in ("closed", "leaving"):
                self.lose(engine, f"nothing was heard for {now - engine.heard:.0f} s", now)

    def _set_due(self, engine: Engine, due: float) -> None:
        engine.due = due
        self._timer_count += 1
        heappush(self._timers, (due, self._timer_count, engine))

    def _set_phase(self, engine: Engine, phase: Phase) -> None:
        """What was waited for in the phase before is not waited for any more."""
        before, engine.phase = engine.phase, phase
        engine.due = None
        if phase == "ready":
            self.placement.ready(engine)
        elif before == "ready":
            self.placement.unready(engine)
