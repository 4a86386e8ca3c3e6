"""Status files over inputs nobody would think of."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from taskrun.errors import Refused
from taskrun.model import Barrier, Result, Task
from taskrun.planning.resume import Resume, mismatch_text
from taskrun.status import linefile
from taskrun.status.events import attempt_line, event_line
from taskrun.status.reader import Offsets, StatusIndex
from taskrun.status.record import (
    HEADER,
    BadRecord,
    Record,
    barrier_line,
    command_column,
    command_of,
    is_beginning,
    same_command,
    skipped_line,
    task_line,
)
from taskrun.status.rescue import Unwritten
from taskrun.status.writer import StatusWriter

ints = st.integers(0, 10**15)
seconds = st.floats(-(10**9), 10**11)
literals = st.binary(max_size=20).map(lambda value: repr(value).encode())
one_line = st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode), literals).map(lambda value: value.replace(b"\n", b"\r"))
nodes = st.text(st.characters(blacklist_characters="\t\n", blacklist_categories=("Cs",)), max_size=12)
tasks = st.builds(Task, ints, ints, st.integers(-(10**6), 10**6), one_line)
results = st.builds(
    Result, st.sampled_from(["task", "start", "stop"]), ints, st.integers(1, 99), st.sampled_from(["ok", "exit", "signal", "timeout"]),
    st.integers(-200, 300), st.integers(-1, 10**9), st.integers(-1, 999), seconds, seconds, seconds, seconds, seconds, ints,
    ints, st.binary(max_size=83), ints, st.binary(max_size=83), st.booleans(),
)  # fmt: skip
lines = st.builds(task_line, tasks, results, nodes)


@given(tasks, results, nodes)
def test_a_record_is_read_as_it_was_written(task: Task, result: Result, node: str) -> None:
    line = task_line(task, result, node)
    record = Record.parse(line)
    assert record.to_line() == line
    assert (record.id, record.line, record.repeat, record.node) == (task.id, task.line, task.repeat, node)
    assert (record.code, record.pid, record.out_bytes, record.err_bytes) == (result.code, result.pid, result.out_bytes, result.err_bytes)
    assert record.out == result.out.decode("utf-8", "replace")
    assert record.err == result.err.decode("utf-8", "replace")
    assert record.flags == ("R" if result.code else " ") + ("O" if result.out_bytes else " ") + ("E" if result.err_bytes else " ") + (
        " " if result.kind == "task" else "P"
    )
    assert same_command(task.command, line[:-1].split(b"\t", 14)[14])


@given(one_line)
def test_a_command_comes_back_unless_it_is_itself_the_literal_of_such_bytes(command: bytes) -> None:
    column = command_column(command)
    column.decode()
    assert same_command(command, column)
    assert command_of(column) == command or (column == command and command_column(command_of(column)) == column)


@given(one_line, one_line)
def test_different_commands_do_not_match(one: bytes, other: bytes) -> None:
    if one != other and same_command(other, command_column(one)):  # the one ambiguity of the format
        assert command_column(one) == command_column(other)


@given(lines)
def test_a_skipped_line_changes_flags_and_elapsed_only(line: bytes) -> None:
    old, new = Record.parse(line), Record.parse(skipped_line(line))
    assert new.flags == ("R" if old.code else " ") + old.flags[1:3] + "S"
    assert [getattr(new, name) for name in Record.__slots__[1:] if name != "elapsed"] == [
        getattr(old, name) for name in Record.__slots__[1:] if name != "elapsed"
    ]
    assert skipped_line(skipped_line(line)) == skipped_line(line)


@given(ints, ints, st.booleans(), one_line, nodes, seconds, seconds)
def test_a_barrier_is_a_record(number: int, line: int, check: bool, text: bytes, node: str, start: float, finish: float) -> None:
    written = barrier_line(Barrier(number, line, check, None, text), node, 1, start, finish)
    assert Record.parse(written).to_line() == written


@given(lines, st.data())
def test_a_cut_record_is_no_record_but_its_beginning(line: bytes, data: st.DataObject) -> None:
    cut = line[: data.draw(st.integers(0, len(line) - 1))]
    assert is_beginning(cut)
    try:
        Record.parse(cut)
    except BadRecord:
        return
    raise AssertionError("half a line was taken for a record")


@given(st.one_of(st.binary(), lines, st.lists(st.one_of(lines, st.just(HEADER), st.binary(max_size=9)), max_size=6).map(b"".join)))
def test_any_bytes_are_indexed_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        try:
            index = StatusIndex(path)
        except Refused:
            return
        with index:
            index.notes()
            resume = Resume([index])
            for number in range(3):
                decision = resume.decide(Task(number, 1, -1, b"x"))
                assert decision.reason
                if decision.action == "mismatch":
                    mismatch_text([decision])
    for line in content.split(b"\n"):
        with contextlib.suppress(BadRecord):
            Record.parse(line + b"\n")


small = st.builds(lambda task, number: task._replace(id=number), tasks, st.integers(0, 5))


@given(st.lists(st.tuples(small, results.map(lambda result: result._replace(kind="task"))), max_size=12), st.data())
def test_the_last_whole_line_of_a_task_wins(ended: list[tuple[Task, Result]], data: st.DataObject) -> None:
    written = [task_line(task, result, "vm") for task, result in ended]
    content = b"".join(written)
    content = content[: data.draw(st.integers(0, len(content)), "cut")]
    whole = written[: content.count(b"\n")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with StatusIndex(path) as index:
            for number in range(6):
                of_it = [(line, task) for line, (task, _) in zip(whole, ended, strict=False) if task.id == number]
                assert index.line(number) == (of_it[-1][0] if of_it else None)
                if of_it:
                    assert Resume([index]).decide(of_it[-1][1]).action == "skip"
            assert len(index) == len({task.id for _, (task, _) in zip(whole, ended, strict=False)})
            assert index.torn == content[len(b"".join(whole)) :]
            assert index.bad == 0


@given(st.lists(st.tuples(st.one_of(st.integers(0, 400_000), ints), st.integers(0, 10**12))))
def test_offsets_are_a_map(puts: list[tuple[int, int]]) -> None:
    offsets = Offsets()
    for number, offset in puts:
        offsets.put(number, offset)
    expected = dict(puts)
    assert len(offsets) == len(expected)
    for number, offset in expected.items():
        assert offsets.get(number) == offset
        assert offsets.get(number + 1) == expected.get(number + 1, -1)


@given(st.lists(st.lists(lines, max_size=4), max_size=4), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_however_the_disk_takes_writes_no_line_is_lost_or_torn(batches: list[list[bytes]], takes: list[int]) -> None:
    """Each write takes so many bytes; 0 is a full disk. What is in the file and beside it is, in order, what was given."""
    real = os.write
    left = list(takes)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x_status.txt"
        writer = StatusWriter(path, sync_seconds=0)

        def write(fd: int, data: bytes) -> int:
            if fd != writer._fd or not left:
                return real(fd, data)
            take = left.pop(0)
            if not take:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, bytes(data[:take]))

        failures: list[Unwritten] = []
        with mock.patch.object(linefile.os, "write", write):
            for batch in batches:
                try:
                    writer.write(batch)
                except Unwritten as error:
                    failures.append(error)
        try:
            writer.close()
        except Unwritten:
            assert failures
        assert [failure.lines for failure in failures] == [()] * len(failures)
        beside = path.with_name("x_status.txt.unwritten")
        content = path.read_bytes()
        assert content + (beside.read_bytes() if beside.exists() else b"") == b"".join(b"".join(batch) for batch in batches)
        assert content == b"" or content.endswith(b"\n")


any_float = st.floats()
texts = st.text(st.characters(), max_size=12)


@given(results, texts, any_float, st.none() | texts, any_float)
def test_an_attempt_is_always_json(result: Result, engine: str, queued: float, node: str | None, odd: float) -> None:
    line = attempt_line(result._replace(utime=odd), engine, queued, node)
    values = json.loads(line, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    assert line.count(b"\n") == 1
    assert (values["id"], values["engine"], values.get("node")) == (result.id, engine, node)
    assert (values["utime"] is None) == (not math.isfinite(odd))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | any_float | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(texts, any_float, json_like)
def test_an_event_is_always_json(kind: str, t: float, value: object) -> None:
    line = event_line(kind, t, value=value)
    assert line.count(b"\n") == 1
    assert json.loads(line, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))["kind"] == kind
