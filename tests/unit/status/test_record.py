"""One line of the status file: columns, flags, snippets, and the two readings of a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.model import NO_REPEAT, Barrier, PerEngine, Result, Task
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

GOLDEN = Path(__file__).parents[2] / "golden" / "cases"
PLAIN = Result("task", 7, 1, "ok", 0, 20942, 0, 1795167236.462, 1795167236.469, 0.0081, 0.0, 0.0, 0, 0, b"", 0, b"", False)
TASK = Task(7, 9, NO_REPEAT, b"true")


def test_a_plain_task() -> None:
    assert task_line(TASK, PLAIN, "vm") == b"    \t7\t9\t-1\tvm\t20942\t0\t0.008\t1795167236.462\t1795167236.469\t0\t''\t0\t''\ttrue\n"


def test_flags_and_snippets_of_a_failure() -> None:
    result = PLAIN._replace(cause="exit", code=5, out_bytes=2, out=b"o\n", err_bytes=9, err=b"it's\t\xff\xc3")
    line = task_line(TASK._replace(repeat=5, command=b"echo o\t1; exit 5"), result, "vm")
    assert line == (
        b"ROE \t7\t9\t5\tvm\t20942\t5\t0.008\t1795167236.462\t1795167236.469\t2\t'o\\n'\t9\t"
        b'"it\'s\\t\xef\xbf\xbd\xef\xbf\xbd"\techo o\t1; exit 5\n'
    )
    assert Record.parse(line).command == b"echo o\t1; exit 5"


def test_a_signal_keeps_its_sign() -> None:
    assert task_line(TASK, PLAIN._replace(cause="signal", code=-9), "vm").startswith(b"R   \t7\t9\t-1\tvm\t20942\t-9\t")


@pytest.mark.parametrize("kind", ["start", "stop"])
def test_a_per_engine_command_has_the_flag_p(kind: str) -> None:
    command = PerEngine(0, 3, "START" if kind == "start" else "STOP", b"leak; exit 3")
    result = PLAIN._replace(kind=kind, id=0, code=3, out_bytes=5, out=b"leak\n")
    assert task_line(command, result, "vm").startswith(b"RO P\t0\t3\t-1\tvm\t20942\t3\t")


def test_barriers_have_five_characters_of_flags() -> None:
    plain = Barrier(3, 4, False, b"mykey", b"#DISBATCH BARRIER mykey")
    assert barrier_line(plain, "vm", 21028, 1795167243.186, 1795167243.186) == (
        b"B    \t3\t4\t-1\tvm\t21028\t0\t0.000\t1795167243.186\t1795167243.186\t0\t''\t0\t''\t#DISBATCH BARRIER mykey\n"
    )
    check = plain._replace(check=True, text=b"#BARRIER CHECK \xff")
    assert barrier_line(check, "vm", 1, 1.0, 2.5).startswith(b"C    \t3\t4\t-1\tvm\t1\t0\t1.500\t1.000\t2.500\t")
    assert barrier_line(check, "vm", 1, 1.0, 2.5).endswith(b"\tb'#BARRIER CHECK \\xff'\n")


@pytest.mark.parametrize(
    ("command", "column"),
    [
        (b"true a", b"true a"),
        (b"", b""),
        ("echo ä 日".encode(), "echo ä 日".encode()),
        (b"true 'latin1 \xe9'", b"b\"true 'latin1 \\xe9'\""),
        (b"true \xe9", b"b'true \\xe9'"),
        (b"b'x'", b"b'x'"),  # a command that only looks like a literal
        (b"b'\\xe9'", b"b'\\xe9'"),
        (b'b"', b'b"'),
        (b"two\nlines", b"b'two\\nlines'"),
        (b"carriage\rreturn", b"carriage\rreturn"),
    ],
)
def test_a_command_is_found_in_its_own_record(command: bytes, column: bytes) -> None:
    assert command_column(command) == column
    assert same_command(command, column)


def test_the_command_column_is_read_as_what_could_have_been_written() -> None:
    assert command_of(b"b'x'") == b"b'x'"
    assert command_of(b"b'\\xff'") == b"\xff"
    assert command_of(b'b"\\xff"') == b"\xff"
    assert command_of(b"b'\\d'") == b"b'\\d'"
    assert command_of(b"b'\\xf'") == b"b'\\xf'"
    assert command_of(b"b'") == b"b'"


@pytest.mark.parametrize("column", [b"b'it\\'s \\xe9'", b'b"it\'s \\xe9"', b"b'it\\x27s \\xe9'"])
def test_a_literal_is_read_in_every_quoting(column: bytes) -> None:
    assert same_command(b"it's \xe9", column)
    assert not same_command(b"it's \xe8", column)


def test_both_readings_of_a_literal_match() -> None:
    assert same_command(b"\xff", b"b'\\xff'")
    assert same_command(b"b'\\xff'", b"b'\\xff'")
    assert not same_command(b"b'\\xfe'", b"b'\\xff'")


def test_a_skipped_line_repeats_the_old_one() -> None:
    old = b"ROE \t1\t2\t-1\tvm\t27642\t3\t9.999\t1795167346.056\t1795167347.063\t1\t'x'\t2\t'y'\techo\tr1; exit 3\n"
    new = b"ROES\t1\t2\t-1\tvm\t27642\t3\t1.007\t1795167346.056\t1795167347.063\t1\t'x'\t2\t'y'\techo\tr1; exit 3\n"
    assert skipped_line(old) == new
    assert skipped_line(new) == new
    assert skipped_line(old.replace(b"\t3\t9.999", b"\t0\t9.999")).startswith(b" OES\t1\t")
    assert skipped_line(old.replace(b"1795167347.063", b"x")) == old.replace(b"1795167347.063", b"x").replace(b"ROE ", b"ROES")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/step*_status.txt")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_recorded_lines_are_read_and_written_byte_for_byte(path: Path) -> None:
    for line in path.read_bytes().split(b"\n")[:-1]:
        if line + b"\n" != HEADER:
            assert Record.parse(line + b"\n").to_line() == line + b"\n"


def test_there_are_recorded_lines() -> None:
    assert sum(path.read_bytes().count(b"\n") for path in GOLDEN.glob("*/step*_status.txt")) > 300


GOOD = task_line(TASK, PLAIN, "vm")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (GOOD[:-1], "no newline"),
        (b"hello\n", "1 columns instead of 15"),
        (GOOD.replace(b"\t''\ttrue", b"\ttrue"), "14 columns"),
        (GOOD.replace(b"    ", b"XXXX"), "does not have the form"),
        (GOOD.replace(b"\t7\t", b"\tseven\t"), "does not have the form"),
        (GOOD.replace(b"\t0.008\t", b"\t0.0.8\t"), "cannot be read"),
        (GOOD.replace(b"''", b"'\\d'"), "an escape"),
        (GOOD.replace(b"''", b"'\\ud8'"), "an escape"),
        (GOOD.replace(b"''", b"'\\U99999999'"), "cannot be read"),
        (GOOD.replace(b"''", b"'\xff'"), "cannot be read"),
        (GOOD.replace(b"\t7\t", b"\t" + b"9" * 5000 + b"\t"), "does not have the form"),
        (b"\n", "1 columns"),
    ],
)
def test_what_is_no_record_is_said(line: bytes, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        Record.parse(line)


def test_every_beginning_of_a_record_is_one() -> None:
    check = barrier_line(Barrier(3, 4, True, None, b"#BARRIER CHECK"), "vm", 1, 1.0, 2.0)
    for line in (GOOD, skipped_line(GOOD), check, HEADER):
        for end in range(len(line)):
            assert is_beginning(line[:end]), line[:end]
            assert is_beginning(line[:end] + b"\0\0\0")
    for other in (b"hello", b"#!/bin/sh", b"\x7fELF", b"ROEX\t1", b"    \tx", b"ROE[x"):
        assert not is_beginning(other)
