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


BACK = "SIGTERM: what runs is given back, and runs again when the run is carried on; waiting at most 5 s for 2 running tasks"
SHOWN = "has run for 2:05 on node1: task 17, line 12: sleep 100 # xxxxxxxxxxxxxxxxxxxxxxxxxxx…"


@pytest.mark.parametrize(
    ("how", "why", "running", "text"),
    [
        ("drain", "SIGINT", 3, f"nothing new starts; waiting for 3 running tasks, a second Ctrl-C ends them; the longest {SHOWN}"),
        ("drain", "SIGINT", 1, f"nothing new starts; waiting for 1 running task, a second Ctrl-C ends it; it {SHOWN}"),
        ("drain", "disk", 2, f"nothing new starts; waiting for 2 running tasks; the longest {SHOWN}"),
        ("drain", "SIGINT", 0, "nothing new starts, and what has just started ends"),
        ("preempt", "SIGTERM", 2, f"{BACK.partition(': ')[2]}, a second SIGTERM ends them at once"),
        ("preempt", "the end", 2, BACK.partition(": ")[2]),
        ("cancel", "SIGINT", 1, "what runs is ended; waiting at most 5 s for 1 running task"),
        ("kill", "SIGTERM", 1, "what runs is ended now"),
    ],
)
def test_a_sentence(how: Any, why: str, running: int, text: str) -> None:
    assert sentence(m.Told(how, why), running, 2, FIRST, 5.0) == f"{why}: {text}"


def test_nothing_runs() -> None:
    assert sentence(m.Told("drain", "SIGINT"), 0, 0, None, 5.0) == "SIGINT: nothing new starts, and no task runs"


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
