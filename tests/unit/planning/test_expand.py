"""From items to tasks."""

from __future__ import annotations

from itertools import islice

from taskrun.language import items
from taskrun.language.reader import Reader
from taskrun.model import Barrier, PerEngine, Task
from taskrun.planning.expand import Expanded, Expander


def expand(text: bytes) -> list[Expanded]:
    expander = Expander()
    return [value for item in Reader("-").feed(text) for value in expander.expand(item)]


def test_tasks_and_barriers_count_together() -> None:
    assert expand(b"a\n# x\n b \n#BARRIER CHECK k\nc\n") == [
        Task(0, 1, -1, b"a"),
        Task(1, 3, -1, b" b "),
        Barrier(2, 4, True, b"k", b"#BARRIER CHECK k"),
        Task(3, 5, -1, b"c"),
    ]


def test_prefix_and_suffix_stand_around_every_command_from_there_on() -> None:
    text = b"a\n#PREFIX p \n#SUFFIX  s\nb\nc\n\n#BARRIER\n#REPEAT 1 d\n#REPEAT 1\n#PREFIX\n#SUFFIX \ne\n"
    commands = [value.command for value in expand(text) if isinstance(value, Task)]
    assert commands == [b"a", b"p b s", b"p c s", b"p d s", b"p  s", b"e"]
    assert Barrier(3, 7, False, None, b"#BARRIER") in expand(text)


def test_prefix_and_suffix_with_comments_between() -> None:
    assert expand(b"#PREFIX 100%\n\n# x\na\n#x\nb\n") == [Task(0, 4, -1, b"100%a"), Task(1, 6, -1, b"100%b")]


def test_repeat() -> None:
    assert expand(b"x\n#REPEAT 3 start 5 step 2 a\n#REPEAT 2 step 0\n#REPEAT 0 b\ny\n") == [
        Task(0, 1, -1, b"x"),
        Task(1, 2, 5, b"a"),
        Task(2, 2, 7, b"a"),
        Task(3, 2, 9, b"a"),
        Task(4, 3, 0, b""),
        Task(5, 3, 0, b""),
        Task(6, 5, -1, b"y"),
    ]


def test_per_engine_commands_have_counters_of_their_own() -> None:
    text = b"#PERENGINE START a\n#PREFIX p\n#PERENGINE START b\n#PERENGINE STOP c\n#SUFFIX s\n#PERENGINE STOP d\nx\n"
    assert expand(text) == [
        PerEngine(0, 1, "START", b"a"),
        PerEngine(1, 3, "START", b"pb"),
        PerEngine(0, 4, "STOP", b"pc"),
        PerEngine(1, 6, "STOP", b"pds"),
        Task(0, 7, -1, b"pxs"),
    ]


def test_a_huge_repeat_begins_at_once() -> None:
    expander = Expander()
    row = expander.expand(items.Repeat(1, 10**12, 2**62, 2**62, b"x"))
    assert list(islice(row, 2)) == [Task(0, 1, 2**62, b"x"), Task(1, 1, 2**63, b"x")]
    assert list(expander.expand(items.Lines(2, b"y", 1))) == [Task(10**12, 2, -1, b"y")]


def test_ids_do_not_depend_on_when_a_row_is_used() -> None:
    expander = Expander()
    first, second = expander.expand(items.Lines(1, b"a\nb", 2)), expander.expand(items.Lines(3, b"c", 1))
    assert next(second) == Task(2, 3, -1, b"c")
    assert next(first) == Task(0, 1, -1, b"a")
    assert expander.next_id == 3


def test_a_line_that_disbatch_takes_for_a_task_is_one() -> None:
    reader = Reader("-", ignore_unknown=True)
    expander = Expander()
    found = [value for item in reader.feed(b"#DISBATCHX\n#DISBATCH\n") for value in expander.expand(item)]
    assert found == [Task(0, 1, -1, b"#DISBATCHX"), Task(1, 2, -1, b"#DISBATCH")]


def test_tasks_are_the_values_of_the_model() -> None:
    (task,) = expand(b"a\n")
    assert type(task) is Task
    assert task.command == b"a"
