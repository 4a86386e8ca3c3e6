"""What a stopped run says that it waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver.awaited import Longest, longest, sentence, view
from taskrun.model import NO_REPEAT, PerEngine, Task
from taskrun.scheduling import messages as m

TASK = Task(17, 12, NO_REPEAT, b"sleep 100 # " + 60 * b"x")
FIRST = Longest(TASK, "node1", 125.0)


@pytest.mark.parametrize(
    ("told", "running", "may_run", "first", "text"),
    [
        (("drain", "SIGINT"), 3, 3, FIRST, "SIGINT: nothing new starts; waiting for 3 running tasks, a second Ctrl-C ends them; "
         "the longest has run for 2:05 on node1: task 17, line 12: sleep 100 # xxxxxxxxxxxxxxxxxxxxxxxxxxx…"),
        (("drain", "SIGINT"), 1, 1, FIRST._replace(task=TASK._replace(command=b"a")),
         "SIGINT: nothing new starts; waiting for 1 running task, a second Ctrl-C ends it; it has run for 2:05 on node1: task 17, line 12: a"),
        (("drain", "SIGINT"), 0, 0, None, "SIGINT: nothing new starts, and no task runs"),
        (("drain", "SIGINT"), 0, 2, None, "SIGINT: nothing new starts, and what has just started ends"),
        (("drain", "disk"), 2, 2, None, "disk: nothing new starts; waiting for 2 running tasks"),
        (("preempt", "SIGTERM"), 2, 2, FIRST, "SIGTERM: what runs is given back, and runs again when the run is carried on; "
         "waiting at most 5 s for 2 running tasks, a second SIGTERM ends them at once"),
        (("cancel", "SIGINT"), 1, 1, FIRST, "SIGINT: what runs is ended; waiting at most 5 s for 1 running task"),
        (("kill", "SIGTERM"), 1, 1, FIRST, "SIGTERM: what runs is ended now"),
    ],
)  # fmt: skip
def test_a_sentence(told: tuple[Any, str], running: int, may_run: int, first: Longest | None, text: str) -> None:
    assert sentence(m.Told(*told), running, may_run, first, 5.0) == text


def test_the_longest_is_what_started_first_not_what_was_assigned_first() -> None:
    engine: Any = SimpleNamespace(node="node1", live={})
    for number, (started, began) in enumerate([(False, 0.0), (True, 30.0), (True, 20.0)]):
        engine.live[number] = SimpleNamespace(task=TASK._replace(id=number), started=started, began=began, engine=engine)
    found = longest([engine], 50.0)
    assert found is not None
    assert (found.name, found.host, found.seconds) == ("task 2", "node1", 30.0)
    assert longest([SimpleNamespace(live={})], 50.0) is None  # type: ignore[list-item]
    assert Longest(PerEngine(0, 1, "START", b"x"), "a", 1.0).name == "PERENGINE START 0"


def test_the_view() -> None:
    assert view("", FIRST) == ""
    assert view("SIGINT", None) == "stopping: SIGINT"
    assert view("SIGINT", FIRST) == "stopping: SIGINT, task 17 has run the longest, 2:05"
