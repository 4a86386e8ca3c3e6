"""Contexts that come and go while the run goes on; a run that begins with none."""

from __future__ import annotations

import math
from typing import Any

from unit.scheduling.script import Script, start, task

from taskrun.scheduling import messages as m


def empty(*items: Any, **policy: Any) -> Script:
    """A run with -S: its first context is gone before it has offered anything."""
    script = Script(*items, engines=0, wait_for_engines=math.inf, open_ended=True, **policy)
    script(m.ContextGone("c", "there is none"))
    return script


def test_it_waits_without_limit() -> None:
    script = empty(task(0))
    script.after(1e6)
    assert not script.scheduler.finished
    assert script.scheduler.waiting == "waiting for an engine"
    assert script.scheduler.deadline == math.inf
    script(m.ContextJoined("later", 0, 1))
    script.join("e0", context="later")
    assert script.assigned() == [("task", 0, 1)]
    script.ends(0)
    script.leaves()
    assert script.code() == 0


def test_with_nothing_to_do_it_ends() -> None:
    script = empty()
    assert script.code() == 0


def test_a_limit_that_is_reached_is_no_end() -> None:
    script = empty(task(0), task(1))
    script(m.ContextJoined("small", 1, 1))
    script.join("e0", context="small", slots=1)
    script.ends(0)
    script.leaves()
    script.after(1e6)
    assert not script.scheduler.finished
    script(m.ContextJoined("next", 0, 1))
    script.join("e1", context="next", slots=1)
    assert script.assigned("e1") == [("task", 1, 1)]


def test_a_limit_that_is_reached_is_the_end_of_other_runs() -> None:
    script = Script(task(0), task(1), slots=1, limit=1, wait_for_engines=300.0)
    script.ends(0)
    script.leaves()
    assert script.code() == 3
    assert script.scheduler.stop_why == "the task limit is reached"


def test_wait_for_engines_still_says_how_long() -> None:
    script = Script(task(0), task(1), slots=1, limit=1, wait_for_engines=60.0, open_ended=True)
    script.ends(0)
    script.leaves()
    script.after(59.0)
    assert not script.scheduler.finished
    script.after(2.0)
    assert script.code() == 3


def test_a_context_that_comes_works_at_once_and_starts_first() -> None:
    script = Script(start(), *(task(number) for number in range(8)), slots=1)
    script.ends(("start", 0, 0))
    script(m.ContextJoined("friend", 0, 1))
    script.join("e1", context="friend", slots=1)
    assert script.assigned("e1") == [("start", 0, 1)]
    script.ends(("start", 0, 1), engine="e1")
    assert [key[0] for key in script.assigned("e1")] == ["start", "task", "task"]


def test_who_brought_a_context_has_gone() -> None:
    """Its engines' links close with it; what they ran runs elsewhere, and nobody is asked for others."""
    script = Script(*(task(number) for number in range(4)), slots=1)
    script(m.ContextJoined("friend", 0, 1))
    script.join("e1", context="friend", slots=1)
    held = script.assigned("e1")
    script.taken(held[0], engine="e1")
    script(m.ContextGone("friend", "killed"))
    script(m.LinkClosed("e1", "killed"))
    script.after(10.0)
    assert script.kind(m.Replace) == []
    for _ in range(6):
        for key in script.assigned("e0"):
            script.ends(key)
    assert sorted(number for number, *_ in script.recorded()) == [0, 1, 2, 3]


def test_what_a_detached_context_held_runs_elsewhere() -> None:
    script = Script(*(task(number) for number in range(4)), slots=1)
    script(m.ContextJoined("friend", 0, 1))
    script.join("e1", context="friend", slots=1)
    held = script.assigned("e1")
    script.taken(held[0], engine="e1")
    actions = script(m.Detach("friend", now=True))
    assert [each.how for each in script.kind(m.End, actions)] == ["cancelled"]
    script(m.Recalled("e1", held[1:]))
    actions = script.ends(held[0], "cancelled", -15, engine="e1")
    assert script.attempted(actions) == [(held[0][1], "cancelled")]
    assert [each.engine for each in script.kind(m.Leave, actions)] == ["e1"]
    script.leaves("e1")
    assert not script.scheduler.contexts["friend"].promising
