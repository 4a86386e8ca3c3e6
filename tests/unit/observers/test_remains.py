"""What is said at the end of a run of processes that tasks have left behind."""

from __future__ import annotations

from taskrun.observers.monitor import headlines
from taskrun.observers.remains import Outliver, Remains, remains_lines
from taskrun.observers.replay import Fold
from taskrun.status.events import event_line

HERE = Outliver("", 11, "task 3", "sleep \x1b[2J" + "9" * 100)
THERE = Outliver("gpu 1", 12, "task 4", "sleep 9", by_ssh=True)
STEP = Outliver("node1", 13, "PERENGINE START", "server")


def test_nothing() -> None:
    assert remains_lines(Remains()) == []


def test_one_that_was_ended() -> None:
    assert remains_lines(Remains(1, True, events="run_events.jsonl")) == [
        "taskrun: 1 task left processes behind, which were ended (left_behind in run_events.jsonl)"
    ]


def test_some_that_live() -> None:
    lines = remains_lines(Remains(3, False, 3, (HERE, THERE, STEP), "e"))
    assert lines[0] == "taskrun: 3 tasks left processes behind (left_behind in e); --leftovers end ends them"
    assert lines[1] == "taskrun: 3 processes of tasks still run:"
    assert lines[2].startswith("  11, task 3: sleep ")
    assert lines[2].isprintable()
    assert lines[2].endswith("9…")
    assert lines[3:] == [
        "  12 on gpu 1, task 4: sleep 9",
        "  13 on node1, PERENGINE START: server",
        "end them: kill 11; ssh 'gpu 1' kill 12; `kill 13` on node1",
    ]


def test_many() -> None:
    lines = remains_lines(Remains(9, False, 4000, (HERE,) * 20, "e"))
    assert lines[-2:] == ["  … and 3995 more", "end those named: kill 11 11 11 11 11"]


def test_events_are_counted() -> None:
    fold = Fold()
    for extra in ({"left_behind": True}, {"left_behind": False}, {}, {"left_behind": True, "per_engine": "START"}):
        fold.take(event_line("attempt", 1.0, engine="e", cause="ok", code=0, **extra))
    assert (fold.finished, fold.left_behind) == (3, 1)


def test_the_monitor() -> None:
    assert headlines({"done": 3, "left_behind": 2})[1] == "3 done · 0 running · 0 failed · 2 left processes behind"
    assert headlines({"done": 3, "left_behind": 0})[1] == "3 done · 0 running · 0 failed"
