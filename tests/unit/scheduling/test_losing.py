"""truth.md, section 2: who may run a task again, and when; and what becomes of the engine."""

from __future__ import annotations

from unit.scheduling.script import Script, barrier, result, start, stop, task

from taskrun.scheduling import messages as m
from taskrun.scheduling.policy import Policy


def test_a_silent_engine_is_given_up_after_b() -> None:
    script = Script(task(0))
    script.taken(0)
    script.after(179)
    script(m.Heard("e0"))
    assert script.kind(m.GiveUp, script.after(179.9)) == []
    actions = script.after(0.2)
    assert [each.engine for each in script.kind(m.GiveUp, actions)] == ["e0"]
    assert script.kind(m.Replace, actions) == [m.Replace("c", "e0", [("task", 0, 1)])]
    script.join("e1")
    assert script.assigned("e1") == [("task", 0, 2)]


def test_whatever_an_engine_says_is_a_sign_of_life() -> None:
    script = Script(task(0))
    script.now += 500  # the driver itself was stopped: what came meanwhile is looked at first
    assert script.recorded(script.ends(0)) == [(0, "ok", 0)]
    assert script.kind(m.GiveUp) == []


def test_b_is_never_before_the_slots_have_ended_their_tasks() -> None:
    assert Policy().silence == 180
    assert Policy(lost_after=3.0).silence >= 3.0 * 2 / 3 + 2


def test_a_closed_link_is_waited_for_grace_and_2_s() -> None:
    script = Script(task(0), engines=2, slots=1)
    script.taken(0)
    script(m.LinkClosed("e0", "reset"))
    assert script.assigned(actions=script.after(6.9)) == []
    assert script.assigned("e1", script.after(0.2)) == [("task", 0, 2)]


def test_what_a_closed_link_still_says_in_time_counts() -> None:
    script = Script(task(0))
    script(m.LinkClosed("e0", "reset"))
    assert script.recorded(script.ends(0)) == [(0, "ok", 0)]


def lose_silently(script: Script) -> None:
    script.after(181)


def test_a_late_result_counts_while_the_task_has_not_started_again() -> None:
    script = Script(task(0), barrier(1), task(2))
    script.taken(0)
    lose_silently(script)
    actions = script.ends(0)
    assert script.recorded(actions) == [(0, "ok", 0)]
    assert script.kind(m.RecordBarrier, actions)
    assert script.recorded(script.ends(0)) == []
    script.join("e1")
    assert script.assigned("e1") == [("task", 2, 1)]
    assert script.scheduler.counts.done == 1


def test_a_late_result_is_an_event_once_the_task_was_handed_out_again() -> None:
    script = Script(task(0), barrier(1), task(2))
    script.taken(0)
    lose_silently(script)
    script.join("e1")
    actions = script.ends(0)
    assert [(each.engine, each.result.n) for each in script.kind(m.Late, actions)] == [("e0", 1)]
    assert script.recorded() == []
    assert script.kind(m.RecordBarrier) == []
    script.ends(("task", 0, 2), engine="e1")
    assert script.recorded() == [(0, "ok", 0)]


def test_a_late_result_that_looks_like_the_loss_itself_does_not_count() -> None:
    script = Script(task(0))
    lose_silently(script)
    script.ends(0, "signal", -15)
    script.ends(0, "engine-lost", -15)
    assert script.recorded() == []
    assert len(script.kind(m.Late)) == 2


def test_results_of_what_the_engine_does_not_hold_are_events() -> None:
    script = Script(task(0), engines=2, slots=1)
    holder = script.kind(m.Assign)[0].engine
    other = "e1" if holder == "e0" else "e0"
    actions = script(m.Results(other, [result(0), result(9), result(("start", 0, 0)), result(("task", 0, 2))]))
    assert [type(each) for each in actions] == [m.Late] * 4
    actions = script(m.Results(holder, [result(0), result(0)]))
    assert script.recorded(actions) == [(0, "ok", 0)]
    assert len(script.kind(m.Late, actions)) == 1
    for event in (m.Taken(other, [("task", 0, 1)]), m.Recalled(other, [("task", 0, 1)]), m.SlotsLost(other, [("task", 0, 1)])):
        assert script.assigned(actions=script(event)) == []
    assert script(m.Results("nobody", [result(3)])) == [m.Late("nobody", result(3))]


def test_lost_elsewhere_if_there_is_an_elsewhere() -> None:
    script = Script(engines=2, slots=2, ended=False)
    script.supply(task(0), ended=True)
    (first,) = script.kind(m.Assign)
    script(m.SlotsLost(first.engine, [("task", 0, 1)]))
    second = script.kind(m.Assign)[-1]
    assert second.engine != first.engine


def test_a_node_that_loses_four_engines_gets_no_other() -> None:
    script = Script(start(), task(0), engines=0)
    for number in range(4):
        script.join(f"e{number}", node="n")
        script.dies(f"e{number}")
    assert len(script.kind(m.Replace)) == 3
    assert script.code() == 3
    assert script.scheduler.stop_why == "no engine is left"


def test_a_useless_engine_finishes_what_it_runs_and_four_are_enough() -> None:
    script = Script(start(), *map(task, range(4)), engines=0)
    for number in range(4):
        engine = f"e{number}"
        script.join(engine, node="n")
        script.ends(("start", 0, number), engine=engine)  # not a task's result: no proof that it is of use
        actions = script(m.EngineUseless(engine, "no process"))
        assert script.kind(m.Recall, actions)
        script(m.Recalled(engine, script.assigned(engine)[1:]))
        script.leaves(engine)
    assert len(script.kind(m.Replace)) == 3
    assert script.code() == 3


def test_a_result_of_a_task_makes_up_for_earlier_losses() -> None:
    script = Script(*map(task, range(20)), engines=0)
    for number in range(6):
        engine = f"e{number}"
        script.join(engine, node="n", slots=1)
        script.ends(script.assigned(engine)[0], engine=engine)
        script.dies(engine)
    assert len(script.kind(m.Replace)) == 6


def test_a_start_lost_with_its_slot_runs_again_up_to_the_crash_limit() -> None:
    script = Script(start(), task(0))
    for _ in range(2):
        script(m.SlotsLost("e0", [("start", 0, 0)]))
    assert script.assigned() == [("start", 0, 0)] * 3
    assert script.recorded() == []
    script(m.SlotsLost("e0", [("start", 0, 0)]))
    assert script.recorded() == [(0, "crash-limit", -100)]
    assert script.assigned()[-1] == ("task", 0, 1)


def test_a_lost_engine_gets_no_stop_and_its_successor_start_again() -> None:
    script = Script(start(), stop(), task(0))
    script.ends(("start", 0, 0))
    script.taken(0)
    script(m.LinkClosed("e0", "gone"))
    script.after(7.1)
    assert ("stop", 0, 0) not in script.assigned()
    script.join("e1")
    assert script.assigned("e1") == [("start", 0, 1)]
    script.ends(("start", 0, 1), engine="e1")
    assert script.assigned("e1")[1:] == [("task", 0, 2)]


def test_start_waits_for_the_whole_header_and_for_the_news_of_a_stop() -> None:
    script = Script(start(0), ended=False)
    assert script.assigned() == []
    script.supply(start(1), task(0))
    script.ends(("start", 0, 0), "signal", -15)
    assert script.recorded() == []
    assert script.assigned() == [("start", 0, 0)]
    script.after(0.6)
    assert script.recorded() == [(0, "signal", -15)]
    assert script.assigned()[-1] == ("start", 1, 0)


def test_an_engine_told_to_stop_gives_its_tasks_to_others() -> None:
    script = Script(task(0), task(1), engines=2, slots=1)
    actions = script(m.AgentTold("e0", 15))
    assert [(each.engine, each.how) for each in script.kind(m.End, actions)] == [("e0", "preempted")]
    (key,) = script.assigned("e0")
    script.ends(key, "preempted", -15)
    assert script.assigned("e1")[-1] == (key[0], key[1], 2)
    assert script.kind(m.Leave)[0].engine == "e0"
    script.leaves()
    assert script.kind(m.Replace) == [m.Replace("c", "e0", [])]


def test_detach_softly_and_now() -> None:
    script = Script(task(0), task(1), engines=2, slots=1)
    (key,) = script.assigned("e0")
    actions = script(m.Detach("e0", now=False))
    assert script.kind(m.Recall, actions)
    assert script.kind(m.End, actions) == []
    actions = script(m.Detach("e0", now=True))
    assert [each.how for each in script.kind(m.End, actions)] == ["cancelled"]
    script.ends(key, "signal", -15)
    assert script.attempted()[-1] == (key[1], "cancelled")
    assert script.assigned("e1")[-1] == (key[0], key[1], 2)
    script.leaves()
    assert script.kind(m.Replace) == []


def test_detach_a_context() -> None:
    script = Script(task(0))
    script(m.Detach("c", now=False))
    script.ends(0)
    script.leaves()
    assert script.code() == 0
    script = Script(task(0), task(1), slots=1, engines=1)
    script(m.Detach("c", now=False))
    script(m.Recalled("e0", [("task", 1, 1)]))
    script.ends(0)
    script.leaves()
    assert script.code() == 3
    script = Script(task(0), engines=0, wait_for_engines=60.0)
    script(m.Detach("c", now=True))
    script.join("e5")
    assert script.kind(m.Leave) == [m.Leave("e5")]


def test_an_engine_detached_now_that_hangs_keeps_its_tasks_until_it_is_silent_for_b() -> None:
    script = Script(task(0), engines=2, slots=1)
    holder = script.kind(m.Assign)[0].engine
    other = "e1" if holder == "e0" else "e0"
    script(m.Detach(holder, now=True))
    assert script.assigned(other, script.after(30)) == []
    script(m.Heard(other))
    script.after(149)
    script(m.Heard(other))
    assert script.assigned(other, script.after(2)) == [("task", 0, 2)]


def test_the_task_limit_counts_what_was_handed_out_and_kept() -> None:
    script = Script(start(), *map(task, range(5)), limit=3, slots=1)
    script.ends(("start", 0, 0))
    assert script.assigned()[1:] == [("task", 0, 1), ("task", 1, 1)]
    script(m.Recalled("e0", [("task", 1, 1)]))
    for number in range(3):
        script.ends(number)
    assert ("task", 3, 1) not in script.assigned()
    script.leaves()
    assert script.code() == 3
    assert script.scheduler.stop_why == "the task limit is reached"
    assert script.scheduler.left == 2


def test_the_task_limit_of_one_context_is_not_that_of_another() -> None:
    script = Script(engines=0, limit=1, ended=False)
    script(m.ContextJoined("d", 0))
    script.join("e0", slots=1)
    script.join("e1", slots=1, context="d")
    script.supply(*map(task, range(4)), ended=True)
    script.ends(script.assigned("e0")[0])
    assert script.kind(m.Leave) == [m.Leave("e0")]
    script.leaves()
    for number in range(3):
        script.ends(script.assigned("e1")[number], engine="e1")
    script.leaves("e1")
    assert len(script.assigned("e0")) == 1
    assert script.code() == 0


def test_no_engine_left_ends_after_the_wait() -> None:
    script = Script(task(0), engines=0, wait_for_engines=300.0)
    assert script.scheduler.waiting == "waiting for an engine"
    script(m.ContextGone("c", "no host"))
    assert script.scheduler.deadline == script.now + 300
    script.after(299)
    assert not script.scheduler.finished
    script.after(2)
    assert script.code() == 3


def test_an_engine_that_comes_in_time_goes_on() -> None:
    script = Script(task(0), engines=0, wait_for_engines=300.0)
    script(m.ContextGone("c", "no host"))
    script.after(200)
    script(m.ContextJoined("d", 0))
    script.join("e7", context="d")
    assert script.assigned("e7") == [("task", 0, 1)]


def test_the_wait_counts_from_the_moment_no_engine_is_left() -> None:
    """Also while an agent is being started in the place of the lost one: connecting may take minutes."""
    script = Script(task(0), wait_for_engines=60.0)
    script(m.LinkClosed("e0", "the link is closed"))
    script.after(7.5)
    assert script.kind(m.Replace)
    assert script.scheduler.deadline == script.now + 60
    script.after(59)
    assert not script.scheduler.finished
    script.after(2)
    assert script.code() == 3
    assert script.scheduler.stop_why == "no engine is left"


def test_an_engine_that_is_replaced_is_waited_for_where_nobody_else_would_be() -> None:
    script = Script(task(0))
    script(m.LinkClosed("e0", "the link is closed"))
    script.after(7.5)
    script.after(30)
    assert not script.scheduler.finished
    assert script.scheduler.deadline is None
    script(m.EngineMissing("c", "vm", "it cannot be started"))
    assert script.code() == 3


def test_a_run_that_has_had_no_engine_yet_waits_for_those_it_asked_for() -> None:
    script = Script(task(0), engines=0, wait_for_engines=60.0)
    script(m.ContextJoined("d", 0, 1))
    script(m.ContextGone("c", "no host"))
    script.after(300)
    assert not script.scheduler.finished
    script.join("e7", context="d")
    assert script.assigned("e7") == [("task", 0, 1)]


def test_a_context_that_comes_is_given_the_whole_wait() -> None:
    script = Script(task(0), wait_for_engines=60.0)
    script(m.LinkClosed("e0", "the link is closed"))
    script.after(7.5)
    script.after(59)
    script(m.ContextJoined("friend", 0, 1))
    script.after(59)
    assert not script.scheduler.finished
    script.join("e7", context="friend")
    assert script.assigned("e7") == [("task", 0, 2)]


def test_tasks_go_round_and_free_slots_come_first() -> None:
    script = Script(engines=3, slots=2, ended=False)
    script.supply(*map(task, range(6)))
    assert [len(script.assigned(f"e{n}")) for n in range(3)] == [2, 2, 2]
    script.supply(*map(task, range(6, 12)))
    assert [len(script.assigned(f"e{n}")) for n in range(3)] == [4, 4, 4]
    script.supply(*map(task, range(12, 20)))
    assert len(script.assigned()) == 12, "one waits at each slot, no more"


def test_what_others_hold_unstarted_is_asked_back_for_free_slots() -> None:
    for items in ([], [barrier(90), task(91)]):
        script = Script(engines=2, slots=1, ended=False)
        script.supply(*map(task, range(4)), *items, ended=True)
        idle = script.assigned("e1")
        script.now += 1
        for key in idle:
            script.ends(key, engine="e1")
        script.after(0.06)
        assert script.kind(m.Recall) == [m.Recall("e0", 1)]
        script(m.Recalled("e0", script.assigned("e0")[1:]))
        assert script.assigned("e1")[2:] == script.assigned("e0")[1:]


def test_the_plan_is_asked_for_in_pieces() -> None:
    script = Script(engines=1000, slots=64, ended=False)
    assert 0 < script.scheduler.wanted <= 10_000
    fed = 0
    while (wanted := script.scheduler.wanted) and fed < 10**6:
        script.supply(*[task(fed + number) for number in range(wanted)])
        fed += wanted
    assert len(script.assigned()) == 128_000
    assert fed <= 128_000 + 10_000


def test_why_nothing_starts_is_said_once() -> None:
    script = Script(task(0), barrier(1), task(2), engines=0)
    script.join("e0")
    script.after(1)
    script.ends(0)
    assert [each.why for each in script.kind(m.Wait)] == ["waiting for an engine", "waiting at a barrier", ""]
