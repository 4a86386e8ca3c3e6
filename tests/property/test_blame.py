"""Blame in a model of the world: some tasks kill their agent or slots whenever they run, hosts lose power, networks are cut, agents told.

Hosts may be sick, too, the run suspended, and the driver stopped for a while. Whatever the order: only guilty tasks are given up,
nothing but a death of an agent or slot is charged, no task runs beside itself, an engine holds one suspect at most, one that was
charged runs alone, nothing stays queued beside an engine that is free, and the run ends.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskrun.model import NO_REPEAT, Planned, Result, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler

LOST_AFTER = 30.0
GRACE = 1.0
LONG = 100.0
END = 100_000.0  # seconds in which every run ends
GUILTY = ("agent", "slot", "slots")
FAULTS = ("power", "cut", "left", "told", "boot")


def result(key: m.Key, cause: Any = "ok", code: int = 0) -> Result:
    kind, number, n = key
    return Result(kind, number, n, cause, code, 1, 0, 1.0, 2.0, 1.0, 0.0, 0.0, 0, 0, b"", 0, b"", False)


class Agent:
    def __init__(self, node: int, rank: int, slots: int) -> None:
        self.node = node
        self.name = f"n{node}_{rank}"
        self.slots = slots
        self.queue: deque[m.Key] = deque()
        self.running: dict[m.Key, float] = {}  # attempt -> when it ends
        self.silent = False


class World:
    """`does`: task -> how it kills, '' if it does not."""

    def __init__(
        self,
        seed: int,
        does: list[str],
        engines: int,
        slots: int,
        faults: list[tuple[str, int]],
        *,
        sick_after: int = 5,
        more: bool = False,
    ) -> None:
        """`more`: some tasks are long, hosts are sick, the run is suspended, the driver does not run for a while."""
        self.random = random.Random(seed)
        self.does = does
        self.slots = slots
        self.faults = faults
        self.now = 100.0
        self.boots = [0] * engines
        self.agents: dict[str, Agent] = {}
        self.old: list[Agent] = []  # that were lost: what runs there ends soon, or when nobody has heard of it for long enough
        self.joining: list[tuple[float, int]] = [(self.now, node) for node in range(engines)]
        self.ranks = 0
        self.recorded: dict[int, int] = {}
        self.set_aside = 0
        self.finished = False
        self.booted = False
        self.more = more
        self.long = {number for number in range(len(does)) if more and self.random.random() < 0.2}
        self.sick: set[int] = set()
        self.suspended = False
        self.queued_since: float | None = None  # beside an engine that is free
        self.scheduler = Scheduler(Policy(grace=GRACE, lost_after=LOST_AFTER, sick_after=sick_after))
        self.handle(m.ContextJoined("c", expected=engines))
        items: list[Planned] = [Task(number, number + 1, NO_REPEAT, b"") for number in range(len(does))]
        self.handle(m.Supply(items))
        self.handle(m.SupplyEnd())

    def run(self) -> None:
        fault_at = self.now + self.random.uniform(0.0, 5.0)
        while not self.finished:
            assert self.now < 100.0 + END, f"it does not end: {self.scheduler.waiting}"
            self.now += self.random.choice((0.05, 0.3, 1.0))
            if self.faults and self.now >= fault_at:
                fault_at = self.now + self.random.uniform(0.0, 20.0)
                self.fault(*self.faults.pop())
            if self.more:
                self.trouble()
            for due, node in [each for each in self.joining if each[0] <= self.now]:
                self.joining.remove((due, node))
                self.join(node)
            for agent in list(self.agents.values()):
                self.live(agent)
            for agent in self.old:
                agent.running = {key: end for key, end in agent.running.items() if end > self.now}
            self.handle(m.Tick())
            self.look_for_queues()

    def trouble(self) -> None:
        chance = self.random.random()
        if self.now > 100.0 + 50.0:
            self.sick.clear()
            if self.suspended:
                self.suspend(False)
        elif chance < 0.02:
            self.sick ^= {self.random.randrange(len(self.boots))}
        elif chance < 0.05:
            self.suspend(not self.suspended)
        elif chance < 0.07:
            seconds = self.random.choice((3.0, 12.0, 100.0))
            self.now += seconds
            self.handle(m.Absent(seconds))
            for agent in list(self.agents.values()) if seconds > LOST_AFTER else ():
                self.dies(agent)

    def suspend(self, on: bool) -> None:
        self.suspended = on
        self.handle(m.Suspend(on))

    def look_for_queues(self) -> None:
        """Fail when queued tasks are not asked back while an engine is free."""
        free = [
            engine
            for engine in self.scheduler.engines.values()
            if engine.phase == "ready" and engine.room and engine.alone is None and engine.suspect is None and not engine.live
        ]
        queued = any(agent.queue for agent in self.agents.values() if not agent.silent)
        if not (free and queued) or self.suspended:
            self.queued_since = None
        elif self.queued_since is None:
            self.queued_since = self.now
        else:
            assert self.now < self.queued_since + 5.0, f"{[each.name for each in free]} are free, and tasks are queued elsewhere"

    def join(self, node: int) -> None:
        agent = Agent(node, self.ranks, self.slots)
        self.ranks += 1
        self.agents[agent.name] = agent
        self.handle(m.EngineJoined(agent.name, "c", self.ranks, self.slots, f"n{node}", f"boot {self.boots[node]}"))

    def live(self, agent: Agent) -> None:
        if agent.silent:
            agent.running = {key: end for key, end in agent.running.items() if end > self.now}
            return
        self.handle(m.Heard(agent.name))
        ends = sorted((end, key) for key, end in agent.running.items() if end <= self.now)
        done: list[Result] = []
        for _, key in ends:
            what = self.does[key[1]]
            if key not in agent.running:
                continue
            if what == "agent":
                if self.random.random() < 0.5:  # else what was gathered dies with it
                    self.handle(m.Results(agent.name, done))
                self.dies(agent, died=True)
                return
            if what:
                lost = [key] if what == "slot" else list(agent.running)
                for each in lost:
                    del agent.running[each]
                if self.random.random() < 0.5:  # slots that die at once may be told of one by one
                    self.handle(m.SlotsLost(agent.name, lost))
                else:
                    for each in lost:
                        self.handle(m.SlotsLost(agent.name, [each]))
            else:
                del agent.running[key]
                done.append(result(key, "exit", 127)._replace(elapsed=0.01) if agent.node in self.sick else result(key))
        if done:
            self.handle(m.Results(agent.name, done))
        if agent.name in self.agents:
            self.start(agent)

    def start(self, agent: Agent) -> None:
        while agent.queue and len(agent.running) < agent.slots:
            key = agent.queue.popleft()
            for other in (*self.agents.values(), *self.old):
                assert not any(each[1] == key[1] and end > self.now for each, end in other.running.items()), f"{key} runs beside itself"
            assert key[1] not in self.recorded
            seconds = LONG if key[1] in self.long else self.random.choice((0.001, 0.5, 3.0))
            agent.running[key] = self.now + (0.01 if agent.node in self.sick else seconds)
            if key[2] > 1 or self.random.random() < 0.5:  # an attempt that comes back is announced before it starts
                self.handle(m.Taken(agent.name, [key]))

    def dies(self, agent: Agent, *, died: bool = False, heard: float | None = None) -> None:
        agent.running = dict.fromkeys(agent.running, self.now + 2.0 if heard is None else heard + LOST_AFTER)
        agent.queue.clear()
        self.old.append(agent)
        del self.agents[agent.name]
        self.handle(m.LinkClosed(agent.name, "it is gone", heard, died))

    def fault(self, what: str, index: int) -> None:
        agents = [agent for agent in self.agents.values() if not agent.silent]
        if not agents:
            return
        agent = agents[index % len(agents)]
        if what == "power":
            agent.silent = True
            agent.running.clear()
            self.boots[agent.node] += 1
        elif what == "cut":
            if index % 2:
                self.dies(agent, heard=self.now)
            else:
                agent.silent = True
                agent.running = dict.fromkeys(agent.running, self.now + 2 / 3 * LOST_AFTER)
        elif what == "left":
            self.dies(agent)
        elif what == "boot" and not self.booted:  # it says in time that the agent has died, and boots
            self.booted = True
            self.boots[agent.node] += 1
            self.dies(agent, died=True)
        elif what == "told":
            self.handle(m.AgentTold(agent.name, 15))
            if agent.running:
                ended = [result(key, "preempted", -15) for key in agent.running]
                agent.running.clear()
                self.handle(m.Results(agent.name, ended))
            if agent.name in self.agents:
                self.dies(agent)

    # --- what the scheduler does about it

    def handle(self, event: m.Event) -> None:
        for action in self.scheduler.handle(event, self.now):
            act = getattr(self, "_" + type(action).__name__, None)
            if act is not None:
                act(action)
        suspects = self.scheduler._suspects
        for task, charges in suspects.charges.items():
            assert self.does[task] or charges <= 1 + self.booted, f"{task} was charged {charges} times"
        for engine in self.scheduler.engines.values():
            if engine.phase == "closed":  # what it held has become suspect, and waits for the end of it
                continue
            held = [key for key in engine.live if key[1] in suspects.charges]
            assert len(held) <= 1, f"{engine.name} holds suspects {held}"
            if engine.phase == "ready" and not self.booted and any(suspects.charges[key[1]] for key in held):
                assert len(engine.live) == 1, f"{held} does not run alone"

    def _Assign(self, action: m.Assign) -> None:  # noqa: N802
        assert not self.suspended
        self.agents[action.engine].queue.extend(key for key, _ in action.attempts)

    def _Recall(self, action: m.Recall) -> None:  # noqa: N802
        agent = self.agents.get(action.engine)
        if agent is not None and not agent.silent:
            keys = [agent.queue.pop() for _ in range(min(action.count, len(agent.queue)))]
            self.handle(m.Recalled(agent.name, keys))

    def _End(self, action: m.End) -> None:  # noqa: N802
        agent = self.agents.get(action.engine)
        if agent is not None and agent.queue:
            self.handle(m.Recalled(agent.name, [agent.queue.pop() for _ in range(len(agent.queue))]))

    def _Leave(self, action: m.Leave) -> None:  # noqa: N802
        agent = self.agents.get(action.engine)
        if agent is not None and not agent.silent:
            self.dies(agent)

    def _GiveUp(self, action: m.GiveUp) -> None:  # noqa: N802
        agent = self.agents.pop(action.engine, None)
        if agent is not None:
            self.old.append(agent)

    def _Replace(self, action: m.Replace) -> None:  # noqa: N802
        self.joining.append((self.now + self.random.choice((0.1, 2.0)), int(action.engine[1:].partition("_")[0])))

    def _SetAside(self, _: m.SetAside) -> None:  # noqa: N802
        self.set_aside += 1

    def _Record(self, action: m.Record) -> None:  # noqa: N802
        for task, ended, _ in action.ended:
            assert task.id not in self.recorded
            self.recorded[task.id] = ended.code
            assert (ended.code == -100) == (ended.cause == "crash-limit")
            assert self.does[task.id] or ended.code in (0, 127), f"{task.id} is innocent"
            assert ended.code != 127 or self.more

    def _Finish(self, _: m.Finish) -> None:  # noqa: N802
        self.finished = True


faults = st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 7)), max_size=6)
many_faults = st.lists(st.tuples(st.sampled_from(FAULTS[:4]), st.integers(0, 7)), min_size=10, max_size=30)
seeds = st.integers(0, 2**32)
engines = st.integers(1, 4)
slots = st.integers(1, 8)


def plan(count: int, guilty: list[tuple[int, str]]) -> list[str]:
    does = [""] * count
    for place, what in guilty:
        does[place % count] = what
    return does


@settings(max_examples=300, deadline=None)
@given(seeds, st.integers(1, 24), st.lists(st.tuples(st.integers(0, 23), st.sampled_from(GUILTY)), max_size=3), engines, slots, faults)
def test_only_the_guilty_are_given_up_and_all_others_end(
    seed: int, count: int, guilty: list[tuple[int, str]], engines: int, slots: int, faults: list[tuple[str, int]]
) -> None:
    does = plan(count, guilty)
    world = World(seed, does, engines, slots, faults)
    world.run()
    assert not world.set_aside
    assert world.recorded == {number: -100 if what else 0 for number, what in enumerate(does)}


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 16))
def test_guilty_ones_in_all_slots_do_not_end_the_run_for_the_others(seed: int, slots: int, innocent: int) -> None:
    world = World(seed, ["agent"] * slots + [""] * innocent, 1, slots, [])
    world.run()
    assert all(world.recorded.get(slots + number) == 0 for number in range(innocent))
    assert len(world.recorded) >= innocent + min(slots, 3)


@settings(max_examples=150, deadline=None)
@given(seeds, st.lists(st.sampled_from(("", "", *GUILTY)), min_size=1, max_size=30), engines, slots, faults)
@example(0, ["agent"] * 40, 1, 8, [])
@example(0, ["agent"] * 6 + [""] * 10, 1, 8, [])
def test_with_any_number_of_guilty_ones_the_run_ends_and_no_other_is_given_up(
    seed: int, does: list[str], engines: int, slots: int, faults: list[tuple[str, int]]
) -> None:
    world = World(seed, does, engines, slots, faults)
    world.run()
    if not world.set_aside:
        assert world.recorded == {number: -100 if what else 0 for number, what in enumerate(does)}


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 24), engines, slots, many_faults)
def test_nothing_is_charged_however_often_hosts_and_connections_are_lost(
    seed: int, count: int, engines: int, slots: int, faults: list[tuple[str, int]]
) -> None:
    world = World(seed, [""] * count, engines, slots, faults)
    world.run()
    assert not world.scheduler._suspects.charges
    assert world.recorded == dict.fromkeys(range(count), 0)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 40), engines, slots)
def test_where_every_agent_dies_few_tasks_are_blamed_and_the_run_ends(seed: int, count: int, engines: int, slots: int) -> None:
    """Each node gives up four tasks at most, whatever runs there."""
    world = World(seed, ["agent"] * count, engines, slots, [])
    world.run()
    assert len(world.recorded) <= 4 * engines + 1


@settings(max_examples=80, deadline=None)
@given(
    seeds, st.integers(1, 24), st.lists(st.tuples(st.integers(0, 23), st.sampled_from(GUILTY)), max_size=2), engines, slots, faults,
    st.sampled_from((0, 1, 2, 5)),
)  # fmt: skip
def test_sick_hosts_suspensions_and_absences_change_nothing_about_blame(
    seed: int, count: int, guilty: list[tuple[int, str]], engines: int, slots: int, faults: list[tuple[str, int]], sick_after: int
) -> None:
    does = plan(count, guilty)
    world = World(seed, does, engines, slots, faults, sick_after=sick_after, more=True)
    world.run()
    if not world.set_aside:
        assert world.recorded.keys() == set(range(count))
        assert all(world.recorded[number] in ((-100, 127) if what else (0, 127)) for number, what in enumerate(does))
