"""Hosts that fail what they are given, in the model of the world: the run ends, nothing is lost, and few tasks fail for a host's sake."""

from __future__ import annotations

from itertools import count

from hypothesis import event, given, settings
from hypothesis import strategies as st
from property.test_scheduler import CHUNK, GRACE, LOST_AFTER, World

from taskrun.model import NO_REPEAT, Barrier, Planned, Task
from taskrun.scheduling.scheduler import Policy

#: So far away that a run which only probes carry on does not end.
NEVER = 1e6


def world_of(seed: int, does: list[str], sick: list[bool], limit: int, pause: float, barrier: int) -> World:
    items: list[Planned] = [Task(number, 1, NO_REPEAT, b"") for number in range(len(does))]
    if 0 < barrier < len(items):
        items[barrier] = Barrier(barrier, 1, False, None, b"")
    policy = Policy(grace=GRACE, lost_after=LOST_AFTER, sick_after=limit, probe_pause=pause)
    world = World(seed, items, {("task", number): what for number, what in enumerate(does)}, policy)
    world.context(0, len(sick))
    nodes = sorted({node for _, node, _ in world.to_join})
    world.sick = {node for node, is_sick in zip(nodes, sick, strict=False) if is_sick}
    return world


def to_the_end(world: World, trouble: bool) -> None:
    for turn in count():
        if world.finished:
            break
        assert turn < 600, f"it does not end: {world.waits}"
        world.supply(100)
        world.end_supply()
        world.join(0)
        if trouble and turn < 40:
            agents = [agent for agent in world.agents.values() if not agent.dead]
            match world.random.randrange(12), agents:
                case 0, [agent, *_]:
                    world.sick ^= {agent.node}
                case 1, [*_, agent]:
                    agent.orphan("it was killed", len(agent.out))
                case 2, [_, agent, *_]:
                    agent.orphan("it was killed", len(agent.out))
        if not world.agents and not world.to_join:
            world.context_gone("c0")
        world.elapse(world.random.choice((0.1, 0.5, CHUNK)))
    for where in world.aside:
        event(f"set aside at the end: {where}")


small = st.lists(st.booleans(), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32), small, st.sampled_from((0.0, 0.0, 0.1, 0.5, 1.0)), st.sampled_from((1, 2, 5)), st.sampled_from((3.0, NEVER)),
    st.sampled_from((0, 40)),
)  # fmt: skip
def test_every_run_ends_and_nobody_is_set_aside_without_a_reason(
    seed: int, sick: list[bool], failing: float, limit: int, pause: float, barrier: int
) -> None:
    """Reasons are checked in World._Judged."""
    world = world_of(seed, ["ok"] * 120, sick, limit, pause, barrier)
    for key in world.does:
        if world.random.random() < failing:
            world.does[key] = "fail"
    to_the_end(world, trouble=True)
    assert len(world.recorded) == 120 or not world.agents
    nodes = {node for _, node in world.place_of.values()}
    ever_aside = any(verdict == "set-aside" for verdict in world.verdicts)
    assert not ever_aside or len(nodes) > 1
    if ever_aside:
        event("set aside")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.sampled_from((1, 2, 5)))
def test_one_sick_host_costs_a_few_tasks(seed: int, hosts: int, limit: int) -> None:
    world = world_of(seed, ["ok"] * 120, [True] + [False] * (hosts - 1), limit, NEVER, 0)
    while world.to_join:
        world.join(0)
    to_the_end(world, trouble=False)
    assert len(world.recorded) == 120
    nodes = {node for _, node in world.place_of.values()}
    failed = sum(code != 0 for code in world.recorded.values())
    slots = sum(world.slots_of[name] for name, (_, node) in world.place_of.items() if node in world.sick)
    if len(nodes) > 1:
        assert failed <= limit - 1 + 2 * slots, "what it was given before anybody could know, and no more"
