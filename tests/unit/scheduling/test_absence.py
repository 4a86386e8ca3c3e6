"""A driver that did not run for a while, and one that is suspended: nobody's silence, nobody's loss, nothing new starts."""

from __future__ import annotations

import math

from unit.scheduling.script import Script, result, start, task

from taskrun.scheduling import messages as m


def absent(script: Script, seconds: float, asleep: float = 0.0) -> list[object]:
    script.now += seconds
    return script(m.Absent(seconds, asleep))


def test_time_in_which_the_driver_did_not_run_is_no_silence() -> None:
    script = Script(task(0))
    script.taken(0)
    script.after(100)
    absent(script, 3600)
    assert script.kind(m.GiveUp, script.after(79)) == []
    assert script.recorded(script.ends(0)) == [(0, "ok", 0)]


def test_what_waits_to_be_read_has_time_to_be_read() -> None:
    """It had been silent for nearly B."""
    script = Script(task(0))
    script.after(179.9)
    absent(script, 10)
    assert script.kind(m.GiveUp, script.after(4)) == []
    assert [each.engine for each in script.kind(m.GiveUp, script.after(2))] == ["e0"]


def test_a_closed_link_is_waited_for_as_long_as_ever() -> None:
    script = Script(task(0), engines=2, slots=1)
    script.taken(0)
    script(m.LinkClosed("e0", "reset"))
    assert script.assigned(actions=absent(script, 100)) == []
    assert script.assigned(actions=script.after(6.9)) == []
    assert script.assigned("e1", script.after(0.2)) == [("task", 0, 2)]


def test_news_of_suspects_may_still_wait_to_be_read() -> None:
    script = Script(task(0))
    script.taken(0)
    script.ends(0, "signal", -15)
    absent(script, 50)
    script(m.AgentTold("e0", 15))
    assert script.attempted() == [(0, "preempted")]
    assert script.recorded() == []


def test_what_agents_ended_for_want_of_a_driver_is_never_charged() -> None:
    script = Script(task(0), slots=1)
    for n in range(8):
        assert script.assigned(f"e{n}") == [("task", 0, n + 1)]
        script.taken(("task", 0, n + 1), engine=f"e{n}")
        absent(script, 200)
        script(m.LinkClosed(f"e{n}", "the agent's link is closed"))
        script.after(8)
        script.join(f"e{n + 1}", slots=1)
    assert script.recorded() == []
    assert script.kind(m.SetAside) == []
    script.ends(("task", 0, 9), engine="e8")
    assert script.recorded() == [(0, "ok", 0)]


def test_a_loss_long_after_is_a_loss_again() -> None:
    script = Script(*map(task, range(2)), slots=1, lost_after=30.0)
    absent(script, 60)
    script.after(10)
    script(m.Heard("e0"))
    assert script.scheduler.engines["e0"].excused
    script.after(25)
    assert not script.scheduler.engines["e0"].excused


def test_a_machine_that_slept() -> None:
    """The scheduler's clock stood still meanwhile; the system's, which ends the allocation, did not."""
    script = Script()
    script(m.ContextJoined("slurm", end=script.now + 3600))
    context = script.scheduler.contexts["slurm"]
    assert context.walltime is not None
    before = context.walltime.stop_at
    absent(script, 0, asleep=600)
    assert math.isclose(context.walltime.stop_at, before - 600)
    assert script.scheduler.engines["e0"].excused
    assert script.scheduler.engines["e0"].heard == script.now


def test_suspended() -> None:
    script = Script(*map(task, range(6)))
    assert script.assigned() == [("task", n, 1) for n in range(4)]
    script.taken(0, 1)
    assert script.kind(m.Recall, script(m.Suspend(True))) == [m.Recall("e0", 4)]
    assert script.scheduler.waiting.startswith("suspended")
    assert script(m.Suspend(True)) == []
    script(m.Recalled("e0", [("task", 2, 1), ("task", 3, 1)]))
    script.ends(0)
    script.join("e1")
    script.after(1)
    assert script.recorded() == [(0, "ok", 0)]
    assert len(script.assigned()) == 4, "nothing new starts"
    assert sorted(script.assigned(actions=script(m.Suspend(False)))) == [("task", n, 1) for n in range(2, 6)]


def test_suspended_before_start_commands() -> None:
    script = Script(start(), task(0), engines=0)
    script(m.Suspend(True))
    script.join("e0")
    assert script.assigned() == []
    script(m.Suspend(False))
    assert script.assigned() == [("start", 0, 0)]


def test_told_to_stop_while_it_is_suspended() -> None:
    script = Script(*map(task, range(6)))
    script.taken(0, 1)
    script(m.Suspend(True))
    script(m.Recalled("e0", [("task", 2, 1), ("task", 3, 1)]))
    assert script.kind(m.End, script(m.Told("preempt", "SIGTERM")))
    script(m.Results("e0", [result(0, "preempted", -15), result(1, "preempted", -15)]))
    script.leaves()
    assert script.code() == 3
    assert script.scheduler.left == 6
