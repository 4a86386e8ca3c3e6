"""START CHECK: an engine on which it fails is not used, and the run goes on without it."""

from __future__ import annotations

import pytest
from unit.scheduling.script import Script, barrier, start, stop, task

from taskrun.model import PerEngine
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import UNFIT


def check(number: int = 0) -> PerEngine:
    return start(number)._replace(check=True)


def test_an_engine_that_fails_it_leaves_and_nobody_takes_its_place() -> None:
    script = Script(check(), start(1), stop(), task(0), barrier(1, check=True), task(2), engines=2, fail_fast=True)
    script.ends(("start", 0, 1), "exit", 3, engine="e1")
    assert script.recorded() == [(0, "exit", 3)]
    (unfit,) = script.kind(m.Unfit)
    assert (unfit.context, unfit.engine, unfit.node, unfit.result.code) == ("c", "e1", "e1", 3)
    assert script.assigned("e1") == [("start", 0, 1), ("stop", 0, 1)], "what other START commands did is undone"
    script.ends(("stop", 0, 1), engine="e1")
    assert [each.engine for each in script.kind(m.Leave)] == ["e1"]
    script.leaves("e1")
    assert script.kind(m.Replace) == []
    for key in (("start", 0, 0), ("start", 1, 0), ("task", 0, 1), ("task", 2, 1), ("stop", 0, 0)):
        script.ends(key)
    script.leaves()
    assert script.code(count_failures=True) == 0, "nothing counts it as a failure"


def test_losing_its_slot_three_times_fails_it_too() -> None:
    script = Script(check(), task(0))
    for _ in range(3):
        script(m.SlotsLost("e0", [("start", 0, 0)]))
    assert script.recorded() == [(0, "crash-limit", -100)]
    assert len(script.kind(m.Unfit)) == 1
    script.leaves()
    assert script.code() == 3


@pytest.mark.parametrize("patience", [0.0, 300.0])
def test_with_no_engine_left_the_run_ends_at_once(patience: float) -> None:
    script = Script(check(), task(0), engines=2, wait_for_engines=patience)
    for number in (0, 1):
        script.ends(("start", 0, number), "exit", 1, engine=f"e{number}")
        script.leaves(f"e{number}")
    assert (script.code(), script.scheduler.stop_why) == (3, UNFIT)
    assert script.scheduler.waiting == ""


def test_a_lost_engine_has_another_try_and_is_waited_for() -> None:
    script = Script(check(), task(0), engines=2, wait_for_engines=300.0)
    script.ends(("start", 0, 0), "exit", 1)
    script.leaves()
    script(m.LinkClosed("e1", "it was killed"))
    script.after(8.0)
    assert [each.engine for each in script.kind(m.Replace)] == ["e1"]
    script.join("e2", node="e1")
    script.ends(("start", 0, 2), engine="e2")
    script.ends(0, engine="e2")
    script.leaves("e2")
    assert script.code() == 0


def test_where_contexts_may_still_attach_they_are_waited_for() -> None:
    script = Script(check(), task(0), open_ended=True, wait_for_engines=300.0)
    script.ends(("start", 0, 0), "exit", 1)
    script.leaves()
    assert not script.scheduler.finished
    script(m.ContextJoined("d"))
    script(m.EngineJoined("e1", "d", 1, 1))
    script.ends(("start", 0, 1), engine="e1")
    script.ends(0, engine="e1")
    script.leaves("e1")
    assert script.code() == 0


def test_a_check_that_hangs_does_not_keep_the_run() -> None:
    script = Script(check(), stop(), task(0), engines=2)
    for key in (("start", 0, 0), ("task", 0, 1), ("stop", 0, 0)):
        script.ends(key)
    script.leaves()
    assert script.kind(m.End) == [], "it may be about to end"
    script.after(5.1)
    assert script.kind(m.End) == [m.End("e1", "cancelled", 5.0)]
    script.ends(("start", 0, 1), "cancelled", -15, engine="e1")
    script.ends(("stop", 0, 1), engine="e1")
    script.leaves("e1")
    assert script.code() == 0
