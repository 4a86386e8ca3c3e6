"""The scheduler in a model of the world: agents are slow, die, hang and return, links close, signals come at any moment.

After every action list the world checks what truth.md promises: no task lost, none recorded twice, none alive twice at
once, barriers in order, limits kept, no host set aside without a success elsewhere, nobody charged but a single suspect whose engine or
slot has died, no free slot beside tasks that wait without a reason given. When the trouble ends, so does the run.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskrun.errors import ExitCode
from taskrun.model import NO_REPEAT, Barrier, PerEngine, Planned, Result, Skipped, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler

LOST_AFTER = 30.0  # B
LIFE = 20.0  # A
GRACE = 5.0
CHUNK = 3.0  # seconds between two beats
TASK_DOES = (*["ok"] * 8, "fail", "fail", "signal", "slot", "slot once", "agent", "agent once", "told", "checkpoint", "long", "start")
COMMAND_DOES = ("ok", "ok", "ok", "fail", "slot", "agent", "signal", "told")


Place: TypeAlias = tuple[str, str]  # context, node


class Run:
    """A task that is alive on an engine."""

    def __init__(self, ends: float, result: Result | None) -> None:
        self.ends = ends
        self.result = result  # None: its slot dies with it
        self.charged = True  # that may be its own doing


class Agent:
    def __init__(self, world: World, context: str, node: str, rank: int, slots: int) -> None:
        self.world = world
        self.context = context
        self.node = node
        self.rank = rank
        self.name = f"{node}_{rank}"
        self.slots = slots
        self.queue: deque[tuple[m.Key, Task | PerEngine]] = deque()
        self.running: dict[m.Key, Run] = {}
        self.inbox: deque[m.Action] = deque()
        self.out: deque[m.Event] = deque()
        self.unsaid: deque[m.Event] = deque()  # what its slots say while it is stopped
        self.stopped_at: float | None = None
        self.dead = False
        self.done_starts: set[int] = set()
        self.assigned: set[m.Key] = set()  # what the scheduler gave and has not heard of

    def say(self, event: m.Event) -> None:
        if not self.dead:
            (self.out if self.stopped_at is None else self.unsaid).append(event)

    def listen(self) -> None:
        while self.inbox and self.stopped_at is None and not self.dead:
            action = self.inbox.popleft()
            if isinstance(action, m.Assign):
                self.queue.extend(action.attempts)
            elif isinstance(action, m.Recall):
                self.give_back(action.count)
            elif isinstance(action, m.End):
                self.give_back(len(self.queue))
                for key, run in self.running.items():
                    if run.result is not None and run.ends > self.world.now:
                        ends = self.world.now + self.world.random.choice((0.1, 1.0, 2.0)) * action.grace / 2
                        if ends < run.ends:
                            run.ends = ends
                            run.result = result(key, action.how, self.world.random.choice((-15, 0, 1)))
            elif isinstance(action, m.Leave):
                assert not self.running, "let go while it runs something"
                assert not self.queue
                self.say(m.LinkClosed(self.name, "it left"))
                self.dead = True
        self.start()

    def give_back(self, count: int) -> None:
        keys = []
        while self.queue and len(keys) < count:
            keys.append(self.queue.pop()[0])
        self.say(m.Recalled(self.name, keys))

    def start(self) -> None:
        """Free slots take what is queued, even of a stopped agent, for as long as a slot lives without hearing of it."""
        if self.dead or (self.stopped_at is not None and self.world.now >= self.stopped_at + LIFE):
            return
        while self.queue and len(self.running) < self.slots:
            key, task = self.queue.popleft()
            self.running[key] = run = self.world.starts(self, key, task)
            if self.stopped_at is not None and run.ends > self.stopped_at + LIFE:
                run.ends = self.stopped_at + LIFE + self.world.random.choice((0.0, 2.0))
                run.result = None
            if self.world.random.random() < 0.8:
                self.say(m.Taken(self.name, [key]))

    def finish(self, key: m.Key, run: Run) -> None:
        del self.running[key]
        if run.result is None:
            if run.charged:
                self.world.lost(key)
            self.say(m.SlotsLost(self.name, [key]))
        else:
            self.say(m.Results(self.name, [run.result]))
        self.start()

    def orphan(self, why: str, said: int, *, died: bool = False, charged: bool = True) -> None:
        """It dies, or its link does: of what it said last only a part arrives, its tasks end within two seconds."""
        if self.dead:
            return
        while len(self.out) > said:
            self.out.pop()
        self.stopped_at = None
        self.unsaid.clear()
        self.say(m.LinkClosed(self.name, why, None, died))
        self.dead = True
        self.queue.clear()
        for key, run in self.running.items():
            run.result = None
            run.ends = min(run.ends, self.world.now + 2.0)
            run.charged = charged
            if charged:
                self.world.lost(key)

    def cut(self) -> None:
        """Its link closes, and it lives on: its tasks end by their own clocks."""
        if not self.dead:
            self.say(m.LinkClosed(self.name, "reset", self.world.now))
            self.ends_alone()

    def power_cut(self) -> None:
        """Nothing is heard any more; the host boots."""
        self.out.clear()
        self.unsaid.clear()
        self.running.clear()
        self.queue.clear()
        self.dead = True

    def ends_alone(self) -> None:
        self.dead = True
        self.queue.clear()
        for run in self.running.values():
            run.result = None
            run.charged = False
            run.ends = min(run.ends, self.world.now + LIFE + self.world.random.choice((0.0, 2.0)))

    def stop(self) -> None:
        if self.stopped_at is None and not self.dead:
            self.stopped_at = self.world.now
            for run in self.running.values():
                if run.ends > self.world.now + LIFE:
                    run.ends = self.world.now + LIFE + self.world.random.choice((0.0, 1.0, 2.0))
                    run.result = None

    def go_on(self) -> None:
        if self.stopped_at is not None and not self.dead:
            self.stopped_at = None
            self.out.extend(self.unsaid)
            self.unsaid.clear()
            self.listen()


def result(key: m.Key, cause: Any, code: int, elapsed: float = 1.0) -> Result:
    kind, number, n = key
    return Result(kind, number, n, cause, code, 1, 0, 1.0, 2.0, elapsed, 0.0, 0.0, 0, 0, b"", 0, b"", False)


class World:
    def __init__(self, seed: int, items: list[Planned], does: dict[Any, str], policy: Policy) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.items = items
        self.does = does
        self.policy = policy
        self.scheduler = Scheduler(policy)
        self.agents: dict[str, Agent] = {}
        self.given_up: list[Agent] = []
        self.limits: dict[str, int] = {}
        self.gone_contexts: set[str] = set()
        self.counted: set[str] = set()  # contexts that told how many engines they would offer
        self.to_join: list[tuple[str, str, Agent | None]] = []
        self.ranks = 0
        self.supplied = 0
        self.supply_ended = False
        self.open = False  # it has ended as far as anybody knows
        self.broken = False
        self.places = {
            item.id if not isinstance(item, Skipped) else item.task.id: i for i, item in enumerate(items) if not isinstance(item, PerEngine)
        }
        self.recorded: dict[int, int] = {}  # id -> code of its record (barriers, too)
        self.barriers = [(place, item.id) for place, item in enumerate(items) if isinstance(item, Barrier)]
        self.failed = False  # since the last barrier
        self.any_failed = False
        self.started: set[m.Key] = set()
        self.started_in: dict[str, int] = {}
        self.losses: dict[int, int] = {}
        self.check_failed = False
        self.told: list[str] = []
        self.suspended = False
        self.waits: list[str] = []
        self.finished = False
        self.sick: set[str] = set()  # nodes on which every task fails at once
        self.place_of: dict[str, Place] = {}  # engine -> where
        self.slots_of: dict[str, int] = {}
        self.verdicts: list[str] = []
        self.history: list[tuple[int, Place, bool | None]] = []  # (turn, where, True: ok, False: failed within seconds, None: neither)
        self.turn = 0
        self.aside: dict[Place, m.Key | None] = {}  # with the last probe there
        self.unfit: set[str] = set()
        self.boots: dict[str, int] = {}  # by node
        self.charged: dict[int, int] = {}  # charges, but for those taken back

    # --- what happens

    def starts(self, agent: Agent, key: m.Key, task: Task | PerEngine) -> Run:
        what = self.does[key[0], key[1]]
        length = self.random.choice((0.001, 0.5, 2.0, 6.0))
        if key[0] == "task":
            assert key not in self.started, f"{key} started twice"
            self.started.add(key)
            for other in [*self.agents.values(), *self.given_up]:
                assert not any(each[:2] == key[:2] for each in other.running), f"{key} runs beside itself"
            assert key[1] not in self.recorded, f"{key} runs although it has a record"
            self.started_in[agent.context] = self.started_in.get(agent.context, 0) + 1
            limit = self.limits[agent.context]
            assert not limit or self.started_in[agent.context] <= limit
            if agent.node in self.sick:
                return Run(self.now + 0.01, result(key, "exit", 127, 0.01))
        if what == "long":
            length = 100.0
        first = key[2] == 1 if key[0] == "task" else False
        if what == "slot" or (what == "slot once" and first):
            return Run(self.now + length, None)
        if what == "agent" or (what == "agent once" and first):
            agent.world.doomed.append((self.now + length, agent))
            return Run(self.now + length + 2, result(key, "ok", 0))
        cause, code = {
            "fail": ("exit", 3),
            "signal": ("signal", -9),
            "told": ("preempted", -15),
            "checkpoint": ("preempted", 0),
            "start": ("start", 2),
        }.get(what, ("ok", 0))
        return Run(self.now + length, result(key, cause, code, length))

    @property
    def doomed(self) -> list[tuple[float, Agent]]:
        return self.__dict__.setdefault("_doomed", [])

    def lost(self, key: m.Key) -> None:
        if key[0] == "task":
            self.losses[key[1]] = self.losses.get(key[1], 0) + 1

    def elapse(self, seconds: float) -> None:
        """Time passes: tasks end, agents beat and are heard, the scheduler is given its ticks."""
        end = self.now + seconds
        while not self.finished and self.now < end:
            chunk = min(end, self.now + CHUNK)
            deadline = self.scheduler.deadline
            if deadline is not None and self.now < deadline < chunk:
                chunk = deadline
            self._live_until(chunk)
            for agent in list(self.agents.values()):
                if not agent.dead and agent.stopped_at is None:
                    agent.say(m.Heard(agent.name))
                    agent.listen()
                late = len(agent.out) > 12 or sum(isinstance(event, m.Heard) for event in agent.out) > 3
                if late or self.random.random() < 0.8:
                    self.deliver(agent, len(agent.out))
            self.handle(m.Tick())

    def _live_until(self, end: float) -> None:
        while True:
            soonest = min(
                ((run.ends, agent.name, key) for agent in self.everybody for key, run in agent.running.items()),
                default=(end + 1, "", ("task", 0, 0)),
            )
            doom = min(self.doomed, key=lambda each: each[0], default=(end + 1, None))
            if min(soonest[0], doom[0]) > end:
                break
            if doom[0] <= soonest[0]:
                self.doomed.remove(doom)  # type: ignore[arg-type]
                self.now = max(self.now, doom[0])
                assert doom[1] is not None
                doom[1].orphan("it was killed", len(doom[1].out), died=True)
                continue
            self.now = max(self.now, soonest[0])
            agent = next(each for each in self.everybody if each.name == soonest[1])
            agent.finish(soonest[2], agent.running[soonest[2]])
        self.now = end

    @property
    def everybody(self) -> list[Agent]:
        return [*self.agents.values(), *self.given_up]

    def deliver(self, agent: Agent, count: int) -> None:
        for _ in range(min(count, len(agent.out))):
            if self.finished:
                return
            event = agent.out.popleft()
            if isinstance(event, m.Results):
                for each in event.results:
                    agent.assigned.discard(each[:3])
                    if each.kind == "start":
                        agent.done_starts.add(each.id)
            elif isinstance(event, (m.SlotsLost, m.Recalled)):
                agent.assigned.difference_update(event.keys)
            self.handle(event)
            if isinstance(event, m.LinkClosed):
                self.agents.pop(agent.name, None)
                if agent not in self.given_up:
                    self.given_up.append(agent)
                return

    def supply(self, count: int) -> None:
        """A part of the plan; perhaps it ends with that as far as anybody knows, and goes on later."""
        if self.open and self.supplied < len(self.items) and not self.scheduler.stop_why and not self.finished:
            self.open = False
            self.handle(m.SupplyGrows())
        count = min(count, self.scheduler.wanted)
        items = self.items[self.supplied : self.supplied + count]
        if items and not self.supply_ended:
            self.supplied += len(items)
            self.handle(m.Supply(items))
            if self.random.random() < 0.3 and self.scheduler.wanted:
                self.open = True
                self.handle(m.SupplyEnd(open=True))

    def end_supply(self, *, broken: bool = False) -> None:
        wanted = self.scheduler.wanted or (self.open and not self.scheduler.stop_why)
        if not self.supply_ended and wanted and (broken or self.supplied == len(self.items)):
            self.open = False
            self.supply_ended = True
            self.broken = broken
            self.handle(m.SupplyEnd(broken))

    def context(self, limit: int, engines: int, *, may_end: bool = False) -> None:
        name = f"c{len(self.limits)}"
        self.limits[name] = limit
        expected = self.random.choice((0, engines))
        if expected:
            self.counted.add(name)
        end = self.random.choice((None, None, None, self.now + 100.0, self.now + 400.0)) if may_end else None
        gives_back, one_fate = (may_end and self.random.random() < 0.2 for _ in range(2))
        self.handle(m.ContextJoined(name, limit, expected, end, gives_back=gives_back, one_fate=one_fate))
        shared = self.random.choice((1, 2))  # engines a node
        self.to_join += [(name, f"{name}n{number // shared}", None) for number in range(engines)]

    def join(self, index: int) -> None:
        if not self.to_join:
            return
        context, node, before = self.to_join.pop(index % len(self.to_join))
        if before is not None and before.running:
            self.to_join.append((context, node, before))
            return
        agent = Agent(self, context, node, self.ranks, self.random.choice((1, 2, 3)))
        self.ranks += 1
        self.agents[agent.name] = agent
        self.place_of[agent.name] = (context, node)
        self.slots_of[agent.name] = agent.slots
        self.handle(m.EngineJoined(agent.name, context, agent.rank, agent.slots, node, f"boot {self.boots.get(node, 0)}"))

    def miss(self, index: int, *, again: bool) -> None:
        """An engine that was expected cannot be had. `again`: it is tried again."""
        if not self.to_join:
            return
        one = self.to_join.pop(index % len(self.to_join))
        if again or one[2] is not None:
            self.to_join.append(one)
        self.handle(m.EngineMissing(one[0], one[1], "its host is away"))

    def context_gone(self, context: str) -> None:
        self.to_join = [each for each in self.to_join if each[0] != context]
        self.gone_contexts.add(context)
        self.handle(m.ContextGone(context, "no more"))

    def driver_stops(self, seconds: float) -> None:
        """It does not run for so long; agents that hear nothing of it end their tasks."""
        if self.finished:
            return
        began = self.now
        self._live_until(began + min(seconds, LIFE))
        for agent in list(self.agents.values()) if seconds >= LIFE else ():
            agent.orphan("nothing was heard of the driver", len(agent.out), charged=False)
        self._live_until(began + seconds)
        self.handle(m.Absent(seconds))

    def suspend(self, on: bool) -> None:
        if not self.finished:
            self.suspended = on
            self.handle(m.Suspend(on))

    # --- what the scheduler does about it, and whether it may

    def handle(self, event: m.Event) -> None:
        if self.finished:
            return
        charges = dict(self.scheduler._suspects.charges)
        doubtful = any(each.result.cause == "preempted" for each in self.scheduler._attempts.held)
        actions = self.scheduler.handle(event, self.now)
        self.look_at_charges(event, charges, doubtful)
        self.look_for_stalls(event)
        self.turn += 1
        others = False
        for action in actions:
            records = isinstance(action, (m.Record, m.RecordSkipped, m.RecordBarrier))
            assert not (records and others), "records come first"
            others = others or not records
            getattr(self, "_" + type(action).__name__)(action)

    def look_at_charges(self, event: m.Event, before: dict[int, int], doubtful: bool) -> None:
        """Only a single suspect is charged, and only for the death of its engine or slot."""
        scheduler = self.scheduler
        charges = scheduler._suspects.charges
        for task, count in charges.items():
            assert task not in self.recorded
            if count > before.get(task, 0):
                assert task in before, "it has become a suspect first"
                assert not self.told
                assert doubtful or isinstance(event, m.SlotsLost) or (isinstance(event, m.LinkClosed) and event.died)
                if not doubtful:
                    assert count == before[task] + 1
                    held = {key[1] for key in self.agents[event.engine].assigned if key[0] == "task"}  # type: ignore[union-attr]
                    assert held & before.keys() <= {task}
            if task in before:
                self.charged[task] = self.charged.get(task, 0) + count - before[task]
        for engine in scheduler.engines.values():
            suspects = [key for key in engine.live if key[0] == "task" and key[1] in charges]
            if engine.phase != "closed":
                assert len(suspects) <= 1, f"{engine.name} holds suspects {suspects}"
                assert len(engine.live) == 1 or not any(charges[key[1]] for key in suspects), f"{suspects} does not run alone"

    def look_for_stalls(self, event: m.Event) -> None:
        scheduler = self.scheduler
        if scheduler.finished:
            return
        if isinstance(event, m.Tick):
            assert scheduler.deadline is None or scheduler.deadline > self.now - 1e-6, "the driver's loop would not pause"
        if self.suspended or scheduler._stop.how is not None:
            return
        plan, charges = scheduler._plan, scheduler._suspects.charges
        free = [engine for engine in scheduler.engines.values() if engine.phase == "ready" and engine.context.open and engine.idle > 0]
        if [engine for engine in free if engine.alone is None]:
            assert not (plan.pending and isinstance(plan.pending[0], Task)), "a slot is free"
            assert all(task in charges for task in plan.again), "a slot is free"
            assert scheduler.waiting or not plan.again, "nobody says why a slot is free"
        if [engine for engine in free if engine.alone is None and engine.suspect is None and not engine.live]:
            assert all(charges[task] for task in plan.again), "an engine is free"

    def _Record(self, action: m.Record) -> None:  # noqa: N802
        for task, ended, _ in action.ended:
            if isinstance(task, Task):
                good = None if ended.code and (ended.elapsed >= 10.0 or ended.cause == "crash-limit") else not ended.code
                self.history.append((self.turn, self.place_of[action.engine], good))
                self._record(task.id, ended.code)
                assert (ended.cause == "crash-limit") == (ended.code == -100)
                if ended.cause == "crash-limit":
                    assert self.charged[task.id] >= self.policy.crash_limit - 1, "it is recorded with the last one"
                    # ended by a signal just before its engine was lost, or told to end by nobody: the end of its slot, too
                    suspect = self.does["task", task.id] in ("told", "checkpoint", "signal")
                    suspected = sum(1 for key in self.started if key[1] == task.id) if suspect else 0
                    assert max(self.losses.get(task.id, 0), suspected) >= self.policy.crash_limit
            else:
                assert ended.cause in ("ok", "exit", "signal", "start", "crash-limit")
                if task.check:
                    if ended.code:
                        self.unfit.add(action.engine)
                    continue
            self._failed(ended.code)

    def _RecordSkipped(self, action: m.RecordSkipped) -> None:  # noqa: N802
        for skipped in action.skipped:
            self._record(skipped.task.id, skipped.code)
            self._failed(skipped.code)

    def _RecordBarrier(self, action: m.RecordBarrier) -> None:  # noqa: N802
        place = self.places[action.barrier.id]
        assert all(number in self.recorded for number, each in self.places.items() if each < place), "a barrier did not wait"
        self._record(action.barrier.id, 0)
        assert action.ok == (not (action.barrier.check and self.failed))
        self.failed = False
        self.check_failed = self.check_failed or not action.ok

    def _record(self, number: int, code: int) -> None:
        assert number not in self.recorded, f"{number} was recorded twice"
        place = self.places[number]
        assert place < self.supplied
        assert all(barrier in self.recorded for each, barrier in self.barriers if each < place), "it did not wait for a barrier"
        self.recorded[number] = code

    def _failed(self, code: int) -> None:
        self.failed = self.failed or code != 0
        self.any_failed = self.any_failed or code != 0

    def _Assign(self, action: m.Assign) -> None:  # noqa: N802
        agent = self.agents[action.engine]
        for key, task in action.attempts:
            assert key not in agent.assigned
            assert key[0] == "stop" or not (self.told or self.suspended), "nothing new starts"
            if key[0] == "task":
                assert isinstance(task, Task)
                assert agent.name not in self.unfit
                where = self.place_of[agent.name]
                if where in self.aside:
                    probe = self.aside[where]
                    assert probe is None or not any(probe in each.assigned for each in self.agents.values()), "one probe at a time"
                    self.aside[where] = key
                starts = {item.id for item in self.items[: self.supplied] if isinstance(item, PerEngine) and item.when == "START"}
                assert starts <= agent.done_starts | self.crashed_starts, "START commands come first"
                place = self.places[key[1]]
                assert all(barrier in self.recorded for each, barrier in self.barriers if each < place)
            elif key[0] == "stop":
                assert not agent.assigned, "STOP commands come last"
            agent.assigned.add(key)
        agent.inbox.append(action)
        if self.random.random() < 0.8:
            agent.listen()

    def _send(self, action: Any) -> None:
        agent = self.agents.get(action.engine)
        if agent is not None:
            agent.inbox.append(action)
            if self.random.random() < 0.8:
                agent.listen()

    _Recall = _End = _Leave = _send

    def _GiveUp(self, action: m.GiveUp) -> None:  # noqa: N802
        agent = self.agents.pop(action.engine, None)
        if agent is not None:
            agent.out.extend(agent.unsaid)
            agent.orphan("given up", len(agent.out))
            self.given_up.append(agent)

    def _Replace(self, action: m.Replace) -> None:  # noqa: N802
        assert action.engine not in self.unfit
        assert action.context not in self.gone_contexts
        before = next((each for each in self.everybody if each.name == action.engine), None)
        self.to_join.append((action.context, action.engine.rpartition("_")[0], before))

    def _SetAside(self, action: m.SetAside) -> None:  # noqa: N802
        assert action.context not in self.gone_contexts
        assert action.failures > self.policy.crash_limit

    def _Judged(self, action: m.Judged) -> None:  # noqa: N802
        where = (action.context, action.node)
        self.verdicts.append(action.verdict)
        if action.verdict == "set-aside":
            assert where not in self.aside
            rows = [(turn, good) for turn, place, good in self.history if place == where]
            began, _ = rows[-action.row]
            assert action.row >= self.policy.sick_after
            assert all(good is False for _, good in rows[-action.row :])
            assert any(good and turn >= began and place != where for turn, place, good in self.history), "nothing succeeded elsewhere"
            self.aside[where] = None
        elif action.verdict in ("restored", "needed"):
            del self.aside[where]

    def _Unfit(self, action: m.Unfit) -> None:  # noqa: N802
        assert action.engine in self.unfit
        assert action.command.check

    def _Attempted(self, action: m.Attempted) -> None:  # noqa: N802
        assert action.result.cause in ("engine-lost", "preempted", "cancelled", "throttled")

    def _Late(self, action: m.Late) -> None:  # noqa: N802
        pass

    def _Wait(self, action: m.Wait) -> None:  # noqa: N802
        assert not self.waits or self.waits[-1] != action.why
        self.waits.append(action.why)

    def _Finish(self, action: m.Finish) -> None:  # noqa: N802
        self.finished = True
        self.check_the_end()

    @property
    def crashed_starts(self) -> set[int]:
        """START commands may end without a result of their own: their slot was lost with them."""
        return {number for (kind, number), what in self.does.items() if kind == "start" and what in ("slot", "told", "agent")}

    def check_the_end(self) -> None:
        scheduler = self.scheduler
        assert scheduler.finished
        supplied = [item for item in self.items[: self.supplied] if not isinstance(item, PerEngine)]
        numbers = [item.task.id if isinstance(item, Skipped) else item.id for item in supplied]
        undone = [number for number in numbers if number not in self.recorded]
        tasks_undone = [item.id for item in supplied if isinstance(item, Task) and item.id not in self.recorded]
        assert scheduler.left == len(tasks_undone)
        assert scheduler.running == 0
        counts = scheduler.counts
        assert counts.done == sum(1 for item in supplied if isinstance(item, Task) and item.id in self.recorded)
        assert counts.any_failed == self.any_failed
        all_done = (self.supply_ended or self.open) and not self.broken and not undone
        code = scheduler.exit_code(count_failures=False)
        if "kill" in self.told or "cancel" in self.told:
            assert code in (ExitCode.TERMINATED, ExitCode.INTERRUPTED, ExitCode.TASKS_FAILED)
        elif self.check_failed or (self.policy.fail_fast and self.any_failed):
            assert code == ExitCode.TASKS_FAILED or (code == ExitCode.STOPPED and (self.told or not all_done))
            assert code == ExitCode.TASKS_FAILED or self.told or not self.check_failed
        else:
            assert code == (ExitCode.OK if all_done else ExitCode.STOPPED)
            if all_done:
                assert scheduler.exit_code(count_failures=True) == (ExitCode.TASKS_FAILED if self.any_failed else ExitCode.OK)


def make_plan(kinds: list[tuple[str, int]], starts: list[str], stops: list[str], checks: bool) -> tuple[list[Planned], dict[Any, str]]:
    items: list[Planned] = []
    does: dict[Any, str] = {}
    for when, commands in (("START", starts), ("STOP", stops)):
        for number, what in enumerate(commands):
            items.append(PerEngine(number, 1, when, b"", checks and when == "START"))  # type: ignore[arg-type]
            does[when.lower(), number] = what
    for number, (kind, value) in enumerate(kinds):
        if kind == "barrier":
            items.append(Barrier(number, 1, bool(value % 2), None, b""))
        elif kind == "skipped":
            items.append(Skipped(Task(number, 1, NO_REPEAT, b""), value % 2, b""))
        else:
            items.append(Task(number, 1, NO_REPEAT, b""))
            does["task", number] = TASK_DOES[value % len(TASK_DOES)]
    return items, does


small = st.integers(0, 7)
kinds = st.lists(st.tuples(st.sampled_from(["task"] * 8 + ["barrier", "skipped"]), st.integers(0, 63)), max_size=25)
commands = st.lists(st.sampled_from(COMMAND_DOES), max_size=2)


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 2**32),
        kinds=kinds,
        starts=commands,
        stops=commands,
        fail_fast=st.sampled_from((False, False, False, True)),
        wait=st.sampled_from((0.0, 20.0)),
        contexts=st.lists(st.tuples(st.sampled_from((0, 0, 0, 1, 3, 10)), st.integers(1, 3)), min_size=1, max_size=2),
        sick_after=st.sampled_from((0, 1, 2, 2, 5)),
        pause=st.sampled_from((3.0, 1e6)),
        checks=st.booleans(),
    )
    def begin(
        self,
        seed: int,
        kinds: Any,
        starts: Any,
        stops: Any,
        fail_fast: bool,
        wait: float,
        contexts: Any,
        sick_after: int,
        pause: float,
        checks: bool,
    ) -> None:
        items, does = make_plan(kinds, starts, stops, checks)
        policy = Policy(
            fail_fast=fail_fast, grace=GRACE, lost_after=LOST_AFTER, wait_for_engines=wait, sick_after=sick_after, probe_pause=pause
        )
        self.world = World(seed, items, does, policy)
        for limit, engines in contexts:
            self.world.context(limit, engines, may_end=True)

    def agent(self, index: int) -> Agent | None:
        agents = [agent for agent in self.world.agents.values() if not agent.dead]
        return agents[index % len(agents)] if agents else None

    @rule(count=st.integers(1, 30))
    def supply(self, count: int) -> None:
        self.world.supply(count)

    @rule()
    def end_supply(self) -> None:
        self.world.end_supply()

    @rule(index=small)
    def join(self, index: int) -> None:
        self.world.join(index)

    @rule(index=small, again=st.booleans())
    def miss(self, index: int, again: bool) -> None:
        self.world.miss(index, again=again)

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 1.0, 5.0, 5.0, 12.0, 40.0)))
    def elapse(self, seconds: float) -> None:
        self.world.elapse(seconds)

    @rule(index=small, count=st.integers(1, 4))
    def deliver(self, index: int, count: int) -> None:
        if agent := self.agent(index):
            self.world.deliver(agent, count)

    @rule(index=small, said=st.integers(0, 3), died=st.booleans())
    def kill_agent(self, index: int, said: int, died: bool) -> None:
        if agent := self.agent(index):
            agent.orphan("it was killed", said, died=died)

    @rule(index=small)
    def cut_link(self, index: int) -> None:
        if agent := self.agent(index):
            agent.cut()

    @rule(index=small, died=st.sampled_from((False, False, True)))
    def boot(self, index: int, died: bool) -> None:
        """A host loses power, and boots. `died`: before, it has said that the agent is dead."""
        if agent := self.agent(index):
            self.world.boots[agent.node] = self.world.boots.get(agent.node, 0) + 1
            if died:
                agent.orphan("it was killed", len(agent.out), died=True)
                self.world.deliver(agent, len(agent.out))
            for each in list(self.world.agents.values()):
                if each.node == agent.node:
                    each.power_cut()

    @rule(index=small)
    def system_kills_all(self, index: int) -> None:
        """Some of the news of the tasks' ends still comes, then the link closes."""
        if agent := self.agent(index):
            for key, run in agent.running.items():
                if run.result is not None:
                    run.ends = self.world.now + 0.01
                    run.result = result(key, "signal", -9)
                    self.world.lost(key)  # it may be charged: its end is held when the link closes
            self.world._live_until(self.world.now + 0.02)
            agent.orphan("it was killed", len(agent.out), died=True)
            self.world.deliver(agent, len(agent.out))

    @rule(index=small)
    def late(self, index: int) -> None:
        """What an engine had said before it was given up."""
        if self.world.given_up:
            agent = self.world.given_up[index % len(self.world.given_up)]
            self.world.deliver(agent, len(agent.out))

    @rule(index=small)
    def stop_agent(self, index: int) -> None:
        if agent := self.agent(index):
            agent.stop()

    @rule(index=small)
    def let_agent_go_on(self, index: int) -> None:
        if agent := self.agent(index):
            agent.go_on()

    @rule(index=small)
    def kill_slot(self, index: int) -> None:
        if agent := self.agent(index):
            for run in list(agent.running.values())[:1]:
                run.result = None
                run.ends = self.world.now

    @rule(index=small, first=st.booleans())
    def system_tells_agent(self, index: int, first: bool) -> None:
        if agent := self.agent(index):
            if not first:
                agent.say(m.AgentTold(agent.name, 15))
            for key, run in agent.running.items():
                if run.result is not None:
                    run.ends = self.world.now + 0.01
                    run.result = result(key, "signal", -15)
            if first:  # some of the news of the end comes before that of the signal
                self.world._live_until(self.world.now + 0.02)
                agent.say(m.AgentTold(agent.name, 15))

    @rule(index=small)
    def sicken(self, index: int) -> None:
        if agent := self.agent(index):
            self.world.sick ^= {agent.node}

    @rule(index=small)
    def useless(self, index: int) -> None:
        if agent := self.agent(index):
            agent.say(m.EngineUseless(agent.name, "no process can be started"))

    @precondition(lambda self: not self.world.to_join)
    @rule(index=small)
    def context_gone(self, index: int) -> None:
        self.world.context_gone(f"c{index % len(self.world.limits)}")

    @rule(seconds=st.sampled_from((3.0, 15.0, 25.0, 100.0)), often=small)
    def driver_stops(self, seconds: float, often: int) -> None:
        if often < 3:
            self.world.driver_stops(seconds)

    @rule(on=st.booleans())
    def suspend(self, on: bool) -> None:
        self.world.suspend(on)

    @rule(how=st.sampled_from(("drain", "drain", "drain", "preempt", "cancel", "kill")), often=small)
    def told(self, how: Any, often: int) -> None:
        if often == 0:
            self.tell(how)

    def tell(self, how: Any) -> None:
        if not self.world.finished:
            self.world.told.append(how)
            self.world.handle(m.Told(how, "SIG"))

    @rule(index=small, now=st.booleans(), often=small)
    def detach(self, index: int, now: bool, often: int) -> None:
        if often < 2 and (agent := self.agent(index)):
            self.world.handle(m.Detach(agent.name if often else agent.context, now))

    @rule(broken=st.booleans(), often=small)
    def broken_supply(self, broken: bool, often: int) -> None:
        if broken and often == 0:
            self.world.end_supply(broken=True)

    @rule(index=small, number=st.integers(0, 25), n=st.integers(0, 3), cause=st.sampled_from(("ok", "exit", "engine-lost", "skipped")))
    def hostile(self, index: int, number: int, n: int, cause: Any) -> None:
        """Things said of attempts that the engine does not hold."""
        agent = self.agent(index)
        name = agent.name if agent else "nobody"
        for kind in ("task", "start", "stop"):
            key: m.Key = (kind, number, n)  # type: ignore[assignment]
            if agent is None or key not in agent.assigned:
                lie = result(key, cause, 0)
                for event in (m.Results(name, [lie, lie]), m.Taken(name, [key]), m.SlotsLost(name, [key]), m.Recalled(name, [key])):
                    self.world.handle(event)

    @invariant()
    def what_is_counted_on_the_way_is_true(self) -> None:
        if not hasattr(self, "world"):
            return
        scheduler = self.world.scheduler
        engines = scheduler._fleet.engines.values()
        attempts = scheduler._attempts
        held = sum(each.attempt.key[0] == "task" for each in attempts.held)
        assert attempts.running == sum(min(len(engine.live), engine.slots) for engine in engines)
        assert attempts.holding == sum(len(engine.live) for engine in engines)
        assert attempts.tasks == held + sum(key[0] == "task" for engine in engines for key in engine.live)
        supplied = sum(isinstance(item, Task) for item in self.world.items[: self.world.supplied])
        assert scheduler.counts.done + scheduler.left == supplied, "each task has ended or is left"
        assert scheduler._placement.windows == sum(engine.window for engine in engines if engine.phase == "ready")
        for context in scheduler._fleet.contexts.values():
            assert context.live == sum(key[0] == "task" for engine in context.engines.values() for key in engine.live)

    def teardown(self) -> None:
        """The trouble is over: the run ends, and soon."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.suspend(False)
        for _ in range(400):
            if world.finished:
                return
            for agent in list(world.agents.values()):
                agent.go_on()
            world.supply(100)
            world.end_supply()
            world.join(0)
            if not world.agents and not world.to_join:
                for context in world.limits:
                    if context not in world.gone_contexts and context not in world.counted:
                        world.context_gone(context)
            world.elapse(CHUNK)
        raise AssertionError(f"it does not end: {world.waits}")


SchedulerMachine.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestScheduler = pytest.mark.timeout(180)(SchedulerMachine.TestCase)  # 20 s on a machine that does nothing else
