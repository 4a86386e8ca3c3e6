"""Hosts whose tasks fail within seconds while tasks succeed elsewhere: set aside, probed, used again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from unit.scheduling.script import Script, result, task

from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import ALL_ASIDE, NO_ENGINE

MINUTE = 60.0


class Hosts(Script):
    """Three hosts of two slots. `fail`, `succeed`: what an engine holds that has started does so."""

    def __init__(self, tasks: int, engines: int = 3, slots: int = 2, **policy: Any) -> None:
        self.queues: dict[str, list[m.Key]] = {}
        super().__init__(engines=engines, slots=slots, ended=False, **{"sick_after": 5, **policy})
        self.supply(*map(task, range(tasks)), ended=True)

    def __call__(self, event: m.Event) -> list[Any]:
        actions = super().__call__(event)
        if isinstance(event, m.EngineJoined):
            self.queues.setdefault(event.engine, [])
        for action in actions:
            if isinstance(action, m.Assign):
                self.queues[action.engine] += [key for key, _ in action.attempts]
        for action in self.kind(m.Recall, actions):
            queue = self.queues[action.engine]
            back = [queue.pop() for _ in range(min(action.count, max(0, len(queue) - 2)))]
            self(m.Recalled(action.engine, back))
        return actions

    def held(self, engine: str) -> int:
        return len(self.queues[engine])

    def fail(self, engine: str, count: int = 1, *, cause: Any = "exit", code: int = 127, elapsed: float = 0.01) -> int:
        """How many it had to fail."""
        for number in range(count):
            if not self.queues[engine]:
                return number
            self(m.Results(engine, [result(self.queues[engine].pop(0), cause, code, elapsed)]))
        return count

    def succeed(self, engine: str, count: int = 1) -> None:
        for _ in range(count):
            self(m.Results(engine, [result(self.queues[engine].pop(0))]))

    def verdicts(self) -> list[tuple[str, str]]:
        return [(each.node, each.verdict) for each in self.kind(m.Judged)]


def sick(**policy: Any) -> Hosts:
    """e0 is set aside."""
    run = Hosts(200, lost_after=1e6, **policy)
    run.fail("e0")
    run.succeed("e1")
    assert run.fail("e0", 100) == 5
    assert ("e0", "set-aside") in run.verdicts()
    assert run.held("e0") == 0
    return run


def test_a_sick_host_is_set_aside_after_five_failures() -> None:
    run = Hosts(40)
    run.fail("e0", 2)
    run.succeed("e1")
    failed = 2 + run.fail("e0", 100)
    (judged,) = run.kind(m.Judged)
    assert judged[:4] == ("c", "e0", ("e0",), "set-aside")
    assert (judged.row, judged.pause) == (5, MINUTE)
    assert judged.last is not None
    assert judged.last.code == 127
    assert failed <= 6, "two slots, none ahead"
    for _ in range(100):
        for engine in ("e1", "e2"):
            if run.queues[engine]:
                run.succeed(engine)
    assert run.scheduler.counts.done == 40
    assert run.scheduler.counts.failed == failed
    assert run.kind(m.Leave), "nothing waits for it"


def test_what_it_has_not_started_runs_elsewhere() -> None:
    run = Hosts(40)
    run.succeed("e0", 3)  # it is given some ahead, then
    run.succeed("e1")
    assert run.held("e0") == 4
    run.fail("e0", 5)
    assert run.kind(m.Recall)
    assert run.held("e0") <= 2


def test_it_is_held_until_a_task_has_ended_elsewhere() -> None:
    """Tasks of the other hosts take an hour: not one more is lost until then."""
    run = Hosts(40)
    assert run.fail("e0", 100) == 6
    assert run.verdicts() == [("e0", "held")]
    run.after(50.0)
    assert run.held("e0") == 0
    run.succeed("e2")
    assert run.verdicts() == [("e0", "held"), ("e0", "set-aside")]


def test_where_the_first_fails_elsewhere_too_it_goes_on_as_far() -> None:
    run = Hosts(200)
    assert run.fail("e0", 100) == 6
    run.fail("e1")
    run.fail("e2")
    assert run.fail("e0", 100) <= 2
    run.fail("e1", 5)
    run.fail("e2", 5)
    assert run.fail("e0", 50) == 50, "all fail everywhere"
    assert "set-aside" not in [verdict for _, verdict in run.verdicts()]


@pytest.mark.parametrize("engines", [1, 2])
def test_failures_everywhere_set_nobody_aside(engines: int) -> None:
    run = Hosts(60, engines=engines)
    for _ in range(60):
        for number in range(engines):
            run.fail(f"e{number}")
    assert run.scheduler.counts.failed == 60
    assert "set-aside" not in [verdict for _, verdict in run.verdicts()]


def test_a_single_host_is_never_set_aside() -> None:
    run = Hosts(30, engines=1)
    run.succeed("e0", 2)
    assert run.fail("e0", 28) == 28
    assert run.verdicts() == []


def test_two_engines_of_one_host_share_it() -> None:
    run = Hosts(100, engines=0)
    for name, node in (("e2", "b"), ("e0", "a"), ("e1", "a")):
        run.join(name, node=node)
    run.fail("e0", 3)
    run.succeed("e2")
    assert run.fail("e1", 100) + run.fail("e0", 100) <= 5
    assert run.verdicts() == [("a", "set-aside")]
    run.join("e3", node="a")
    assert run.held("e3") == 0, "the next one there, too"


def test_successes_of_hours_ago_say_nothing() -> None:
    run = Hosts(200)
    run.succeed("e1", 3)
    run.succeed("e2", 3)
    assert run.fail("e0", 100) == 6
    assert run.verdicts() == [("e0", "held")]


@pytest.mark.parametrize(
    ("bad", "aside"),
    [(0, True), (4, False)],
)
def test_many_failures_elsewhere_ask_for_a_longer_row(bad: int, aside: bool) -> None:
    run = Hosts(200)
    run.fail("e0")
    run.fail("e1", bad)
    run.succeed("e1")
    run.fail("e0", 4)
    assert (("e0", "set-aside") in run.verdicts()) is aside


def test_slow_failures_are_the_tasks_own() -> None:
    run = Hosts(100)
    run.succeed("e1")
    assert run.fail("e0", 20, elapsed=12.0) == 20
    assert run.verdicts() == []


def test_failures_that_may_be_the_systems_doing_are_counted_when_they_are_known() -> None:
    """Results come by the hundred while each of them is held for half a second."""
    run = Hosts(400)
    assert run.fail("e0", 100, cause="signal", code=-9) <= 6
    run.after(0.6)
    run.succeed("e1")
    assert ("e0", "set-aside") in run.verdicts()


def test_zero_disables_it() -> None:
    run = Hosts(60, sick_after=0)
    run.succeed("e1")
    assert run.fail("e0", 50) == 50
    assert run.verdicts() == []


def test_probes_come_ever_more_seldom() -> None:
    run = sick()
    for pause in (1, 2, 4, 8, 16, 32, 32):
        deadline = run.scheduler.deadline
        assert deadline is not None
        assert deadline - run.now == pytest.approx(pause * MINUTE, abs=10)
        run.after(pause * MINUTE - 1)
        assert run.held("e0") == 0
        run.after(1.5)
        assert run.fail("e0", 10) == 1
    assert run.verdicts().count(("e0", "probe-failed")) == 7


def test_a_probe_that_succeeds_restores_the_host() -> None:
    run = sick()
    run.after(MINUTE)
    assert run.held("e0") == 1
    run.after(5.0)
    assert run.held("e0") == 1, "one at a time"
    run.succeed("e0")
    assert run.verdicts()[-1] == ("e0", "restored")
    assert run.held("e0") >= 2


def test_a_probe_that_takes_its_time_restores_it_too() -> None:
    run = sick()
    run.after(MINUTE)
    run(m.Taken("e0", run.queues["e0"]))
    run.after(9.0)
    assert run.verdicts()[-1] == ("e0", "set-aside")
    run.after(1.5)
    assert run.verdicts()[-1] == ("e0", "restored")
    assert run.held("e0") >= 2


def test_a_probe_is_not_judged_by_the_time_in_which_the_driver_did_not_run() -> None:
    run = sick()
    run.after(MINUTE)
    run(m.Taken("e0", run.queues["e0"]))
    run.now += 100
    run(m.Absent(100))
    run.after(1)
    assert run.verdicts()[-1] == ("e0", "set-aside")
    assert run.fail("e0") == 1, "that waited to be read"
    assert run.verdicts()[-1] == ("e0", "probe-failed")
    assert run.held("e0") == 0


def test_nothing_is_due_while_the_run_is_suspended() -> None:
    run = sick()
    run(m.Suspend(True))
    run.after(2 * MINUTE)
    assert run.scheduler.deadline is None
    run(m.Suspend(False))
    assert run.held("e0") == 1


def test_one_that_fails_again_soon_is_probed_later() -> None:
    run = sick()
    run.after(MINUTE)
    run.succeed("e0")
    run.fail("e0", 3)
    run.succeed("e2")
    run.fail("e0", 4)
    assert [each.pause for each in run.kind(m.Judged)][-1] == 2 * MINUTE


def test_a_probe_that_came_back_is_no_verdict() -> None:
    run = sick()
    run.after(MINUTE)
    for _ in range(2):
        run.after(1.0)
        run(m.Recalled("e0", [run.queues["e0"].pop()]))
        assert run.held("e0") == 1, "another one, at once"
    assert run.verdicts()[-1] == ("e0", "set-aside")


def test_the_last_hosts_that_are_left_are_used_whatever_they_are() -> None:
    run = sick()
    for engine in ("e1", "e2"):
        run.queues[engine].clear()
        run(m.Detach(engine, True))
        run(m.LinkClosed(engine, "it left"))
        run.after(8.0)
    assert run.verdicts()[-1] == ("e0", "needed")
    assert run.held("e0") >= 2
    assert run.fail("e0", 20) == 20
    assert run.verdicts()[-1] == ("e0", "needed")


def test_one_is_waited_for_that_comes_back() -> None:
    """As long as for an engine where there is none, with probes meanwhile."""
    run = sick(wait_for_engines=200.0)
    for engine in ("e1", "e2"):
        run.queues[engine].clear()
        run(m.LinkClosed(engine, "it was killed"))
    run.after(8.0)
    assert len(run.kind(m.Replace)) == 2
    assert run.scheduler.waiting == ALL_ASIDE
    assert run.held("e0") == 0
    run(m.EngineMissing("c", "e1", "away"))
    run(m.EngineMissing("c", "e2", "away"))
    run.after(MINUTE)
    assert run.fail("e0", 10) == 1
    run.after(139.0)
    assert run.fail("e0", 10) == 1
    assert run.verdicts()[-1] == ("e0", "probe-failed")
    assert (run.scheduler.deadline or 0.0) - run.now == pytest.approx(1.0, abs=0.1)
    run.after(1.0)
    assert run.verdicts()[-1] == ("e0", "needed")


def test_nothing_is_due_when_the_run_is_told_to_stop() -> None:
    run = sick()
    run(m.Told("drain", "SIGINT"))
    run.leaves("e0")
    run.now += 2 * MINUTE
    assert run.scheduler.deadline is None


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_slots_are_used_where_tasks_fail_everywhere(share: float) -> None:
    """Tasks that search and often find nothing, say: exit 1."""
    dice = random.Random(3)
    run = Hosts(3000, engines=3, slots=8, lost_after=1e6)
    empty = 0
    for _ in range(1500):
        run.now += 0.1
        engine = f"e{dice.randrange(3)}"
        if dice.random() < share:
            run.fail(engine, code=1, elapsed=2.0)
        else:
            run.succeed(engine)
        empty += sum(max(0, 8 - run.held(each)) for each in run.queues)
    assert "set-aside" not in [verdict for _, verdict in run.verdicts()]
    assert empty / (1500 * 24) < 0.03


def test_a_host_that_is_still_coming_is_waited_for_a_moment() -> None:
    run = Hosts(100, engines=0)
    run(m.ContextJoined("d", expected=2))
    run(m.EngineJoined("x0", "d", 0, 2, "x"))
    assert run.fail("x0", 100) <= 6
    run.after(21.0)
    assert run.fail("x0", 20) == 20
    assert "set-aside" not in [verdict for _, verdict in run.verdicts()]


def test_a_limit_is_not_used_up_by_what_came_back() -> None:
    run = Hosts(100, engines=0)
    run(m.ContextJoined("d", limit=10))
    run(m.EngineJoined("x0", "d", 0, 2, "x"))
    run.join("e1")
    run.fail("x0")
    run.succeed("e1")
    run.fail("x0", 4)
    assert ("x", "set-aside") in run.verdicts()
    context = run.scheduler.contexts["d"]
    assert context.left == 10 - 5 - run.held("x0")


def test_it_needs_a_tick_only_when_something_is_due() -> None:
    run = sick()
    for engine in ("e1", "e2"):
        while run.queues[engine]:
            run.succeed(engine)
    assert run.scheduler.counts.done == 200
    run = Hosts(12)
    run.fail("e0")
    run.succeed("e1")
    run.fail("e0", 6)
    while run.held("e1") > 1:
        run.succeed("e1")
    while run.queues["e2"]:
        run.succeed("e2")
    run.after(2 * MINUTE)
    assert (run.scheduler.deadline or math.inf) > run.now


def test_waiting_for_an_engine_is_said_as_before() -> None:
    run = Hosts(5, engines=0, wait_for_engines=30.0)
    assert run.scheduler.waiting == NO_ENGINE
