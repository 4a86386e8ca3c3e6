"""truth.md, section 1: how an attempt ends."""

from __future__ import annotations

import pytest
from unit.scheduling.script import Script, barrier, result, skipped, start, stop, task

from taskrun.scheduling import messages as m


@pytest.mark.parametrize(
    ("cause", "code"),
    [("ok", 0), ("exit", 3), ("signal", -11), ("start", 7), ("timeout", 124), ("memory", -9), ("stage-in", 74), ("stage-out", 74)],
)
def test_the_tasks_own_ends_are_recorded_at_once_and_final(cause: str, code: int) -> None:
    script = Script(task(0))
    assert script.recorded(script.ends(0, cause, code)) == [(0, cause, code)]
    script.leaves()
    assert script.code() == 0
    assert script.code(count_failures=True) == (1 if code else 0)
    assert script.assigned() == [("task", 0, 1)]


def test_engine_lost_has_no_record_and_runs_again() -> None:
    script = Script(task(0))
    actions = script(m.SlotsLost("e0", [("task", 0, 1)]))
    assert script.recorded(actions) == []
    assert script.attempted(actions) == [(0, "engine-lost")]
    assert script.assigned(actions=actions) == [("task", 0, 2)]


def test_crash_limit_writes_one_record_after_three_charges() -> None:
    """The first loss makes a suspect."""
    script = Script(task(0))
    for n in (1, 2, 3):
        script(m.SlotsLost("e0", [("task", 0, n)]))
    assert script.recorded() == []
    actions = script(m.SlotsLost("e0", [("task", 0, 4)]))
    assert script.recorded(actions) == [(0, "crash-limit", -100)]
    assert [each.blame for each in script.kind(m.Attempted)] == ["suspect", "charged", "charged", "charged"]
    assert script.recorded(script(m.SlotsLost("e0", [("task", 0, 4)]))) == []
    assert script.scheduler.counts.given_up == script.scheduler.counts.failed == 1
    script.leaves()
    assert script.code(count_failures=True) == 1


def test_only_attempts_that_may_have_started_are_suspects() -> None:
    """The agent has two slots: it may have started the second attempt without saying so in time, and the third not."""
    script = Script(task(0), task(1), task(2))
    script.taken(0)
    assert script.attempted(script.dies()) == [(0, "engine-lost")]
    assert script.scheduler._suspects.charges == {0: 0, 1: 0}
    script.join("e1")
    assert sorted(script.assigned("e1")) == [("task", 0, 2), ("task", 2, 2)], "one suspect, and what is none"
    script.ends(("task", 0, 2), engine="e1")
    assert script.assigned("e1")[-1] == ("task", 1, 2)


def test_preempted_has_no_record_and_is_left_for_a_resume() -> None:
    script = Script(task(0), task(1))
    actions = script(m.Told("preempt", "SIGTERM"))
    assert [(each.how, each.grace) for each in script.kind(m.End, actions)] == [("preempted", 5.0)]
    script.ends(0, "preempted", -15)
    script.ends(1, "signal", -15)
    assert script.recorded() == []
    assert script.attempted() == [(0, "preempted"), (1, "preempted")]
    script.leaves()
    assert script.code() == 3
    assert script.scheduler.left == 2


def test_what_ends_by_itself_while_it_is_told_to_stop_is_recorded() -> None:
    script = Script(task(0), task(1))
    script(m.Told("preempt", "SIGTERM"))
    script.ends(0)
    script.ends(1, "exit", 3)
    assert script.recorded() == [(0, "ok", 0), (1, "exit", 3)]
    script.leaves()
    assert script.code() == 0, "nothing is left"
    assert script.code(count_failures=True) == 1


def test_cancelled_by_the_person() -> None:
    script = Script(task(0), task(1))
    script(m.Told("drain", "SIGINT"))
    actions = script(m.Told("cancel", "SIGINT"))
    assert [each.how for each in script.kind(m.End, actions)] == ["cancelled"]
    script.ends(0, "cancelled", -15)
    script.ends(1, "exit", 143)
    assert script.attempted() == [(0, "cancelled"), (1, "cancelled")]
    script.leaves()
    assert script.code() == 130


def test_throttled_runs_again_uncharged() -> None:
    script = Script(task(0), crash_limit=1)
    for n in range(1, 6):
        script.ends(("task", 0, n), "throttled", -15)
    assert script.recorded() == []
    assert script.assigned()[-1] == ("task", 0, 6)


def test_skipped_repeats_its_record() -> None:
    script = Script(skipped(0), skipped(1, 3), task(2))
    assert [[item.task.id for item in each.skipped] for each in script.kind(m.RecordSkipped)] == [[0, 1]]
    script.ends(2)
    script.leaves()
    assert script.code() == 0
    assert script.code(count_failures=True) == 1


def test_a_suspect_waits_for_the_news_and_is_preempted() -> None:
    script = Script(task(0), task(1))
    for number in (0, 1):
        assert script.recorded(script.ends(number, "signal", -15)) == []
    script.now += 0.1
    actions = script(m.AgentTold("e0", 15))
    assert script.attempted(actions) == [(0, "preempted"), (1, "preempted")]
    assert script.recorded() == []


def test_a_suspect_nobody_was_told_about_is_the_tasks_own_end() -> None:
    script = Script(task(0))
    script.ends(0, "exit", 137)
    assert script.scheduler.deadline == script.now + 0.5
    assert script.recorded(script.after(0.4)) == []
    assert script.recorded(script.after(0.2)) == [(0, "exit", 137)]


def test_a_suspect_of_a_link_that_closes_is_lost_with_it() -> None:
    script = Script(task(0), task(1))
    script.ends(0, "signal", -9)
    actions = script(m.LinkClosed("e0", "gone"))
    assert script.attempted(actions) == [(0, "engine-lost")]
    assert script.recorded() == []


def test_a_slot_told_to_stop_by_nobody_we_know_is_a_loss() -> None:
    script = Script(task(0), crash_limit=2)
    for n in (1, 2, 3):
        script.ends(("task", 0, n), "preempted", -15)
        script.after(0.6)
    assert script.recorded() == [(0, "crash-limit", -100)]


def test_attempts_of_a_told_engine_are_never_charged() -> None:
    script = Script(task(0), crash_limit=1)
    script.taken(0)
    script(m.AgentTold("e0", 15))
    assert script.attempted(script.dies()) == [(0, "preempted")]
    assert script.recorded() == []
    assert not script.scheduler._suspects.charges


def test_met_and_failed_barriers() -> None:
    script = Script(task(0), barrier(1), task(2), barrier(3, check=True), task(4))
    assert script.assigned() == [("task", 0, 1)]
    script.now += 3
    actions = script.ends(0, "exit", 1)
    assert [type(each) for each in actions[:2]] == [m.Record, m.RecordBarrier]
    assert [(each.ok, each.since) for each in script.kind(m.RecordBarrier)] == [(True, 1000.0)]
    assert script.assigned(actions=actions) == [("task", 2, 1)], "a plain barrier forgives what was before it"
    actions = script.ends(2, "exit", 1)
    assert [each.ok for each in script.kind(m.RecordBarrier, actions)] == [False]
    assert script.assigned(actions=actions) == []
    script.leaves()
    assert script.code() == 1
    assert script.scheduler.check_failed == barrier(3, check=True)
    assert script.scheduler.left == 1


def test_check_counts_skipped_and_per_engine_failures() -> None:
    script = Script(skipped(0, 1), barrier(1, check=True), task(2))
    assert script.assigned() == []
    script.leaves()
    assert script.code() == 1
    script = Script(start(), task(0), barrier(1, check=True), task(2))
    script.ends(("start", 0, 0), "exit", 1)
    actions = script.ends(0)
    assert [each.ok for each in script.kind(m.RecordBarrier, actions)] == [False]


def test_engine_lost_never_fails_a_check_crash_limit_does() -> None:
    for losses, ok in ((3, True), (4, False)):
        script = Script(task(0), barrier(1, check=True), task(2))
        for n in range(1, losses + 1):
            script(m.SlotsLost("e0", [("task", 0, n)]))
        if ok:
            script.ends(("task", 0, 4))
        assert [each.ok for each in script.kind(m.RecordBarrier)] == [ok]


def test_fail_fast_ends_what_runs_and_exits_1() -> None:
    script = Script(task(0), task(1), task(2), task(3), task(4), task(5), fail_fast=True)
    actions = script.ends(0, "exit", 1)
    assert [each.how for each in script.kind(m.End, actions)] == ["cancelled"]
    assert script.assigned(actions=actions) == []
    script(m.Recalled("e0", [("task", 2, 1), ("task", 3, 1)]))
    script.ends(1, "cancelled", -15)
    script.leaves()
    assert script.code() == 1
    assert script.scheduler.left == 5


def test_fail_fast_by_the_last_task() -> None:
    script = Script(task(0), fail_fast=True)
    script.ends(0, "exit", 1)
    script.leaves()
    assert script.code() == 1


def test_a_failure_while_draining_stays_resumable() -> None:
    script = Script(task(0), task(1), task(2), fail_fast=True)
    script(m.Told("drain", "SIGINT"))
    script(m.Recalled("e0", [("task", 2, 1)]))
    actions = script.ends(0, "exit", 1)
    assert [each.how for each in script.kind(m.End, actions)] == ["cancelled"]
    script.ends(1)
    script.leaves()
    assert script.code() == 3


def test_broken_supply_drains_and_exits_3() -> None:
    script = Script(task(0), ended=False)
    script(m.SupplyEnd(broken=True))
    script.ends(0)
    script.leaves()
    assert script.code() == 3


def test_a_plan_that_grows_when_its_last_task_has_ended() -> None:
    script = Script(start(), stop(), task(0), barrier(1), ended=False)
    script(m.SupplyEnd(open=True))
    script.ends(("start", 0, 0))
    assert not script.scheduler.asks
    script.ends(0)
    assert script.scheduler.asks, "nothing is left, and nobody leaves before there is an answer"
    assert not script.kind(m.Leave)
    script(m.SupplyGrows())
    script.supply(task(2))
    script(m.SupplyEnd(open=True))
    script.ends(2)
    actions = script(m.SupplyEnd())
    assert script.assigned(actions=actions) == [("stop", 0, 0)]
    script.ends(("stop", 0, 0))
    script.leaves()
    assert script.code() == 0


def test_an_engine_that_may_be_given_back_stays_until_there_is_an_answer() -> None:
    script = Script(ended=False)
    script(m.ContextJoined("c", gives_back=True))
    script.supply(task(0))
    script(m.SupplyEnd(open=True))
    script.ends(0)
    assert not script.kind(m.Leave)
    script(m.SupplyEnd())
    assert script.kind(m.Leave)


def test_nothing_to_do() -> None:
    script = Script()
    assert script.kind(m.Leave)
    script.leaves()
    assert script.code() == 0
    script = Script(start(), stop())
    assert script.assigned() == [], "no PERENGINE command without a task"


def test_sigint_drains_and_gives_back_what_has_not_started() -> None:
    script = Script(*map(task, range(6)))
    assert len(script.assigned()) == 4
    actions = script(m.Told("drain", "SIGINT"))
    assert script.kind(m.Recall, actions) == [m.Recall("e0", 4)]
    script(m.Recalled("e0", [("task", 3, 1), ("task", 2, 1)]))
    assert script.assigned(actions=script.ends(0)) == []
    script.ends(1)
    script.leaves()
    assert script.code() == 3
    assert script.scheduler.left == 4
    assert script.scheduler.stop_why == "SIGINT"


def test_a_drained_run_that_had_started_all_has_ended() -> None:
    script = Script(task(0))
    script(m.Told("drain", "SIGINT"))
    script.ends(0)
    script.leaves()
    assert script.code() == 0


def test_second_sigterm_kills_now_whatever_runs() -> None:
    script = Script(stop(), task(0), task(1))
    script(m.Told("preempt", "SIGTERM"))
    actions = script(m.Told("kill", "SIGTERM"))
    assert [each.grace for each in script.kind(m.End, actions)] == [0.0]
    script(m.Results("e0", [result(0, "preempted", -9), result(1, "preempted", -9)]))
    assert ("stop", 0, 0) not in script.assigned()
    script.leaves()
    assert script.code() == 143


def test_an_engine_that_does_not_end_its_tasks_does_not_hold_the_end_up() -> None:
    script = Script(task(0))
    script(m.Told("kill", "SIGTERM"))
    deadline = script.scheduler.deadline
    assert deadline is not None
    actions = script.after(deadline - script.now)
    assert script.kind(m.GiveUp, actions)
    assert script.code() == 143


def test_stop_commands_run_within_the_grace_of_a_stop() -> None:
    script = Script(stop(), task(0))
    script(m.Told("preempt", "SIGTERM"))
    script.ends(0, "preempted", -15)
    assert script.assigned()[-1] == ("stop", 0, 0)
    actions = script.after(5.1)
    assert [each.grace for each in script.kind(m.End, actions)] == [0.0]
    script.ends(("stop", 0, 0), "preempted", -9)
    assert script.attempted()[-1] == (0, "preempted")
    assert script.kind(m.Leave)
    script.leaves()
    assert script.code() == 3


def test_kill_reaches_stop_commands() -> None:
    script = Script(stop(), task(0))
    script.ends(0)
    assert script.assigned()[-1] == ("stop", 0, 0)
    actions = script(m.Told("kill", "SIGTERM"))
    assert [each.grace for each in script.kind(m.End, actions)] == [0.0]


@pytest.mark.parametrize("how", ["drain", "preempt", "cancel", "kill"])
def test_stopped_while_no_engine_has_joined(how: str) -> None:
    script = Script(task(0), engines=0)
    assert not script.scheduler.finished
    script(m.Told(how, "SIG"))  # type: ignore[arg-type]
    assert script.code() == {"drain": 3, "preempt": 3, "cancel": 130, "kill": 143}[how]
    assert script.kind(m.Leave, script(m.EngineJoined("e1", "c", 1, 2))) == [m.Leave("e1")]


def test_stopped_while_start_commands_run() -> None:
    script = Script(start(), stop(), task(0))
    assert script.assigned() == [("start", 0, 0)]
    script(m.Told("drain", "SIGINT"))
    script.ends(("start", 0, 0))
    assert script.assigned() == [("start", 0, 0), ("stop", 0, 0)]
    script.ends(("stop", 0, 0))
    script.leaves()
    assert script.code() == 3


def test_stopped_at_a_barrier() -> None:
    script = Script(task(0), barrier(1), task(2))
    script(m.Told("drain", "SIGINT"))
    script.ends(0)
    script.leaves()
    assert script.code() == 3
    assert script.kind(m.RecordBarrier) == []


def test_only_a_barrier_is_left_when_it_is_stopped() -> None:
    script = Script(task(0), barrier(1))
    script(m.Told("drain", "SIGINT"))
    script.ends(0)
    script.leaves()
    assert script.code() == 3, "the barrier has no record"
