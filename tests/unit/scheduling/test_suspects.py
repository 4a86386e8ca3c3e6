"""truth.md, section 2: suspects. Whom a death is charged to, and where suspects run."""

from __future__ import annotations

import pytest
from unit.scheduling.script import Script, barrier, task

from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import ONE_BY_ONE


def charges(script: Script) -> dict[int, int]:
    return script.scheduler._suspects.charges


def blamed(script: Script) -> list[tuple[int, str]]:
    return [(each.task.id, each.blame) for each in script.kind(m.Attempted)]


def last(script: Script, engine: str) -> list[tuple[str, int, int]]:
    return sorted(script.assigned(engine))


def test_the_first_death_makes_suspects_and_charges_nobody() -> None:
    script = Script(task(0), task(1), slots=2)
    script.taken(0, 1)
    script.dies()
    assert blamed(script) == [(0, "suspect"), (1, "suspect")]
    assert charges(script) == {0: 0, 1: 0}


def test_an_engine_holds_one_suspect_at_a_time_beside_what_is_none() -> None:
    script = Script(*map(task, range(6)), slots=2)
    script.taken(0, 1)
    script.dies()
    script.join("e1")
    assert last(script, "e1") == [("task", 0, 2), ("task", 2, 2), ("task", 3, 2), ("task", 4, 1)]
    script.ends(("task", 2, 2), engine="e1")
    assert ("task", 1, 2) not in script.assigned("e1")
    script.ends(("task", 0, 2), engine="e1")
    assert script.assigned("e1")[-1] == ("task", 1, 2), "the first has ended well: it is cleared, and the next has its turn"
    assert charges(script) == {1: 0}


def test_a_death_with_a_single_suspect_is_charged_to_it_alone() -> None:
    script = Script(*map(task, range(4)), slots=2)
    script.taken(0, 1)
    script.dies()
    script.join("e1")
    script.taken(("task", 0, 2), ("task", 2, 2), engine="e1")
    script.dies("e1")
    assert charges(script) == {0: 1, 1: 0}
    assert blamed(script)[2:] == [(0, "charged"), (2, "")]


def test_a_suspect_that_was_queued_is_not_charged() -> None:
    script = Script(*map(task, range(4)), slots=2)
    script.taken(0, 1)
    script.dies()
    script.join("e1")
    script.taken(("task", 2, 2), ("task", 3, 2), engine="e1")  # before the suspect, which any slot may take
    script.dies("e1")
    assert charges(script) == {0: 0, 1: 0, 2: 0, 3: 0}


def charged(script: Script) -> None:
    """Task 0 has a charge; e2 has joined."""
    script.join("e0", slots=1, node="n")
    script.taken(0)
    script.dies()
    script.join("e1", node="n")
    script.taken(("task", 0, 2), engine="e1")
    script.dies("e1")
    script.join("e2", node="n")


def test_one_that_was_charged_runs_alone_after_a_result_of_others() -> None:
    script = Script(*map(task, range(8)), engines=0)
    charged(script)
    assert ("task", 0, 3) not in script.assigned("e2"), "others first: they show whether the node is in order"
    held = script.assigned("e2")
    script.taken(*held[:2], engine="e2")
    actions = script.ends(held[0], engine="e2")
    assert script.kind(m.Recall, actions) == [m.Recall("e2", 3)]
    assert script.assigned(actions=actions) == []
    script(m.Recalled("e2", held[2:]))
    actions = script.ends(held[1], engine="e2")
    assert script.assigned(actions=actions) == [("task", 0, 3)]
    script.taken(("task", 0, 3), engine="e2")
    script.after(1)
    assert script.scheduler.waiting == "task 0 runs alone: its engine has died with it"
    actions = script.ends(("task", 0, 3), engine="e2")
    assert script.recorded(actions) == [(0, "ok", 0)]
    assert len(script.assigned(actions=actions)) == 4, "the others go on"
    assert 0 not in charges(script)


def test_one_that_is_alone_there_anyhow_is_given_up_after_three_charges() -> None:
    script = Script(task(0), engines=0)
    for number in range(4):
        script.join(f"e{number}", node="n")
        script.taken(("task", 0, number + 1), engine=f"e{number}")
        script.dies(f"e{number}")
    assert script.recorded() == [(0, "crash-limit", -100)]
    assert [blame for _, blame in blamed(script)] == ["suspect", "charged", "charged", "charged"]
    assert script.kind(m.SetAside) == []


def test_other_engines_go_on_while_one_is_emptied() -> None:
    script = Script(engines=0, ended=False)
    script.join("e0", slots=1)
    script.supply(task(0))
    script(m.SlotsLost("e0", [("task", 0, 1)]))
    script(m.SlotsLost("e0", [("task", 0, 2)]))  # charged, and where it was lost there is nobody else
    script.join("e1", slots=1)
    script.join("e2", slots=1)
    script.supply(*map(task, range(1, 9)))
    (kept,) = (name for name, engine in script.scheduler.engines.items() if engine.alone == 0)
    for name, engine in script.scheduler.engines.items():
        assert (len(engine.live) == 2) == (name != kept)


def test_a_suspect_waits_for_an_elsewhere_if_there_is_one() -> None:
    script = Script(engines=0, ended=False)
    script.join("e0", slots=2)
    script.join("e1", slots=1)
    script.supply(*map(task, range(6)), ended=True)  # both engines are full
    (lost,) = [key for key in script.assigned("e0") if key[1] == 0]
    assert ("task", 0, 2) not in script.assigned(actions=script(m.SlotsLost("e0", [lost])))
    assert ("task", 0, 2) in script.assigned("e1", script.ends(script.assigned("e1")[0], engine="e1"))


def test_suspects_of_one_node_do_not_hold_up_those_of_another() -> None:
    script = Script(engines=0, ended=False)
    script.join("e0", slots=1)
    script.join("e1", slots=1)
    script.supply(*map(task, range(4)), ended=True)
    first, second = script.assigned("e0")[0], script.assigned("e1")[0]
    script(m.SlotsLost("e0", [first]))
    script(m.SlotsLost("e1", [second]))
    assert script.assigned("e1")[2:] == [("task", first[1], 2)]
    assert script.assigned("e0")[2:] == [("task", second[1], 2)]


def two_hosts() -> Script:
    """Host e1 has one slot and runs task 2 for hours; e0 is ready again after it has died with 0 and 1."""
    script = Script(engines=0, ended=False)
    script.join("e0", node="a")
    script.supply(task(0), task(1))
    script.taken(0, 1)
    script.join("e1", slots=1, node="b")
    script.supply(task(2))
    script.taken(2, engine="e1")
    script.dies()
    return script


def test_a_suspect_does_not_wait_behind_a_long_task_while_a_slot_is_free() -> None:
    script = two_hosts()
    assert script.assigned("e1")[1:] == [("task", 0, 2)], "no slot is free: it is the next there"
    script.join("e2", node="a")
    assert script.assigned("e2") == [("task", 1, 2)]
    assert script.scheduler.waiting == ""
    script.supply(ended=True)
    script.ends(("task", 1, 2), engine="e2")
    script.after(0.1)
    assert script.kind(m.Recall)[-1] == m.Recall("e1", 1)
    script(m.Recalled("e1", [("task", 0, 2)]))
    assert script.assigned("e2")[1:] == [("task", 0, 2)]


def test_what_waits_behind_a_running_suspect_is_asked_back() -> None:
    script = two_hosts()
    script.ends(2, engine="e1")
    script.taken(("task", 0, 2), engine="e1")
    script.supply(task(3), ended=True)
    assert script.assigned("e1")[-1] == ("task", 3, 1)
    script.join("e2", node="a")
    script.after(0.1)
    assert script.kind(m.Recall)[-1] == m.Recall("e1", 1)


def test_free_slots_say_why_suspects_do_not_get_them() -> None:
    script = Script(*map(task, range(3)), slots=4)
    script.taken(0, 1, 2)
    script.dies()
    script.join("e1", slots=4)
    assert script.assigned("e1") == [("task", 0, 2)]
    assert script.scheduler.waiting == ONE_BY_ONE
    script.ends(("task", 0, 2), engine="e1")
    script.ends(("task", 1, 2), engine="e1")
    assert script.scheduler.waiting == ""


@pytest.mark.parametrize("how", ["silent", "cut", "left", "told", "detached", "stopped"])
def test_what_no_task_can_have_caused_makes_no_suspects_however_often(how: str) -> None:
    script = Script(*map(task, range(4)), engines=0)
    for number in range(6):
        engine = f"e{number}"
        script.join(engine, node="n")
        script.taken(*script.assigned(engine)[:2], engine=engine)
        if how == "silent":
            script.after(181)
        elif how == "cut":
            script(m.LinkClosed(engine, "reset", script.now))
            script.after(181)
        elif how == "left":
            script(m.LinkClosed(engine, "who attached it has gone"))
            script.after(8)
        else:
            if how == "stopped":
                script(m.Told("drain", "SIGINT"))
            else:
                script(m.AgentTold(engine, 15) if how == "told" else m.Detach(engine, now=False))
            script.dies(engine)
    assert not charges(script)
    assert script.recorded() == []
    assert script.kind(m.SetAside) == []


def test_a_host_that_comes_back_after_a_boot_clears_what_its_last_death_has_said() -> None:
    script = Script(*map(task, range(4)), engines=0)
    script.join("e0", node="n", boot="a")
    script.taken(*script.assigned("e0")[:2])
    script.dies("e0")
    assert charges(script) == {0: 0, 1: 0}
    script.join("e1", node="n", boot="b")
    assert charges(script) == {}
    assert sorted(key[1] for key in script.assigned("e1")) == [0, 1, 2, 3]


def test_a_charge_is_taken_back_after_a_boot_and_kept_without() -> None:
    for boot, left in (("b", {0: 0}), ("a", {0: 1}), ("", {0: 1})):
        script = Script(task(0), engines=0)
        script.join("e0", node="n", boot="a")
        script.taken(0)
        script.dies("e0")
        script.join("e1", node="n", boot="a")
        script.taken(("task", 0, 2), engine="e1")
        script.dies("e1")
        assert charges(script) == {0: 1}
        script.join("e2", node="n", boot=boot)
        assert charges(script) == left
        assert script.assigned("e2") == [("task", 0, 3)]


def test_a_task_that_ended_by_a_signal_as_its_engine_died_is_a_suspect_too() -> None:
    script = Script(task(0), task(1))
    script.taken(0, 1)
    script.ends(0, "signal", -9)
    script.dies()
    assert charges(script) == {0: 0, 1: 0}


def test_slots_that_die_at_once_with_one_suspect_are_charged_to_it() -> None:
    script = Script(task(0), task(1), task(2), slots=3)
    script(m.SlotsLost("e0", [("task", 0, 1), ("task", 1, 1), ("task", 2, 1)]))
    assert charges(script) == {0: 0, 1: 0, 2: 0}
    assert script.assigned()[3:] == [("task", 0, 2)]
    script.supply()
    script(m.SlotsLost("e0", [("task", 0, 2)]))
    assert charges(script) == {0: 1, 1: 0, 2: 0}


def test_a_barrier_waits_for_suspects() -> None:
    script = Script(task(0), task(1), barrier(2), task(3))
    script.taken(0, 1)
    script.dies()
    script.join("e1")
    script.ends(("task", 0, 2), engine="e1")
    assert script.kind(m.RecordBarrier) == []
    script.ends(("task", 1, 2), engine="e1")
    assert script.kind(m.RecordBarrier)
    assert script.assigned("e1")[-1] == ("task", 3, 1)


def test_a_late_result_clears_a_suspect() -> None:
    script = Script(task(0))
    script.taken(0)
    script.dies()
    assert script.recorded(script.ends(0)) == [(0, "ok", 0)]
    assert charges(script) == {}
    script.join("e1")
    script.leaves("e1")
    assert script.code() == 0


def test_a_node_that_is_often_silent_is_set_aside_in_the_end() -> None:
    script = Script(task(0), engines=0)
    for number in range(20):
        script.join(f"e{number}", node="n")
        script.after(181)
    assert len(script.kind(m.Replace)) == 19
    assert [each.failures for each in script.kind(m.SetAside)] == [20]
    assert script.code() == 3
