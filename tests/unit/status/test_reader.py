"""Old status files: what counts, what does not, and what is refused."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from taskrun.errors import Refused
from taskrun.status.reader import Offsets, StatusIndex
from taskrun.status.record import HEADER

GOLDEN = Path(__file__).parents[2] / "golden" / "cases"


def record(number: int, code: int = 0, flags: bytes = b"    ", command: bytes = b"true") -> bytes:
    return b"%s\t%d\t%d\t-1\tvm\t1\t%d\t0.001\t1.000\t1.001\t0\t''\t0\t''\t%s\n" % (flags, number, number + 1, code, command)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x_status.txt"


def index(path: Path, *lines: bytes) -> StatusIndex:
    path.write_bytes(b"".join(lines))
    return StatusIndex(path)


def test_the_later_line_of_a_task_wins(path: Path) -> None:
    with index(path, record(0, 0), record(1, 3), record(0, 5, b"R   ")) as found:
        assert found.line(0) == record(0, 5, b"R   ")
        assert found.line(1) == record(1, 3)
        assert found.line(2) is None
        assert found.line(-1) is None
        assert len(found) == 2
        assert found.notes() == []


def test_which_kinds_count(path: Path) -> None:
    late = record(0, 0, b"   Z")
    skipped = record(1, 3, b"R  S")
    lines = [HEADER, record(0, -100, b"R   "), late, skipped, record(2, 0, b"   P"), record(3, 0, b"B    "), record(4, 0, b"C    ")]
    with index(path, *lines) as found:
        assert [found.line(i) for i in range(5)] == [late, skipped, None, None, None]
        assert (found.bad, found.torn) == (0, b"")


def test_lines_that_end_in_crlf(path: Path) -> None:
    """Also where a run has added to them since, and a command that ends in a CR keeps it."""
    odd = record(2, command=b"echo\r")
    lines = [each.replace(b"\n", b"\r\n") for each in (HEADER, record(0), record(1, 3), odd)]
    with index(path, *lines, record(1, 0), record(3)) as found:
        assert [found.line(number) for number in range(4)] == [record(0), record(1, 0), odd, record(3)]
        assert (found.bad, found.torn, found.notes()) == (0, b"", [])
    with index(path, record(0), odd) as found:
        assert found.line(2) == odd
    with index(path, lines[1], lines[2][:-2]) as found:
        assert (found.line(1), found.torn) == (None, record(1, 3)[:-1])


@pytest.mark.parametrize("rest", [record(1)[:-1], record(1)[:20], b" ", b"    \t1\t2\n", b"\0\0\0"])
def test_a_torn_last_line_does_not_count_and_is_said(path: Path, rest: bytes) -> None:
    with index(path, record(0), rest) as found:
        assert found.line(0) == record(0)
        assert found.line(1) is None
        assert (found.torn, found.torn_line, found.bad) == (rest, 2, 0)
        assert found.notes() == [f"{path}:2: the last line is torn and does not count; its task runs again"]


def test_a_run_that_died_in_its_first_line(path: Path) -> None:
    for rest in (record(0)[:30], HEADER[:9], b"    \t0\t1\n"):
        with index(path, rest) as found:
            assert len(found) == 0
            assert found.torn == rest


def test_lines_that_are_no_records_are_counted_and_said(path: Path) -> None:
    lines = [record(i) for i in range(20)]
    for bad in (3, 5, 7, 9, 11, 13):
        lines[bad] = b"oops\n"
    with index(path, *lines) as found:
        assert found.line(3) is None
        assert (found.bad, found.bad_lines) == (6, [4, 6, 8, 10, 12])
        assert found.notes() == [f"{path}: 6 lines are no records and do not count (line 4, 6, 8, 10, 12, …)"]
    with index(path, *lines[:5]) as found:
        assert found.notes() == [f"{path}: 1 line is no record and does not count (line 4)"]


def test_an_empty_file_and_one_with_only_a_header(path: Path) -> None:
    for content in (b"", HEADER):
        with index(path, content) as found:
            assert len(found) == 0
            assert found.notes() == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"my thesis\n", "no line of it is a record"),
        (b"my thesis", "no line of it is a record"),
        (b"\n", "no line of it is a record"),
        (record(0) + b"a\nb\n", "2 of its 3 lines are no records, the first in line 2"),
        (b"x\n" * 5000, "none of its first"),
        (b"x" * (65 << 20), "it has a line of more than 64 MiB"),
        (b"\x00\x01" * 100, "no line of it is a record"),
    ],
)
def test_a_foreign_file_is_refused(path: Path, content: bytes, why: str) -> None:
    with pytest.raises(Refused, match=f"x_status.txt is not a status file: {why}"):
        index(path, content)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="absent cannot be read: No such file or directory"):
        StatusIndex(tmp_path / "absent")
    with pytest.raises(Refused, match="is a folder: a status file is needed here"):
        StatusIndex(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Refused, match="not a regular file"):
        StatusIndex(tmp_path / "fifo")


def test_long_lines_and_many_chunks(path: Path) -> None:
    lines = [record(i, command=b"%d" % i * (100_000 if i % 50 == 0 else 1)) for i in range(200)]
    with index(path, *lines) as found:
        for i in [*range(200), *range(199, -1, -1), 100, 3, 150]:
            assert found.line(i) == lines[i]


def test_a_stray_huge_id_costs_no_memory(path: Path) -> None:
    huge = 10**15
    tracemalloc.start()
    with index(path, record(huge), *(record(i) for i in range(1000)), record(huge, 3)) as found:
        assert found.line(huge) == record(huge, 3)
        assert len(found) == 1001
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_ids_in_any_order() -> None:
    offsets = Offsets()
    ids = [10**6, 5, 0, 70_000, 10**6, 5, 65_536, 200_000]
    for at, task_id in enumerate(ids):
        offsets.put(task_id, at)
    assert {i: offsets.get(i) for i in ids} == {10**6: 4, 5: 5, 0: 2, 70_000: 3, 65_536: 6, 200_000: 7}
    assert len(offsets) == 6
    assert offsets.get(6) == -1


def test_a_file_that_changes_under_the_reader_is_refused(path: Path) -> None:
    found = index(path, record(0), record(1, command=b"x" * 10_000))
    path.write_bytes(record(7, command=b"y" * 50))
    with pytest.raises(Refused, match="was changed while it was being read"):
        found.line(0)
    with pytest.raises(Refused, match="was changed while it was being read"):
        found.line(1)
    found.close()
    found.close()


def test_leading_zeros_are_the_same_number(path: Path) -> None:
    line = record(7).replace(b"\t7\t", b"\t007\t")
    with index(path, line) as found:
        assert found.line(7) == line


def test_all_recorded_files_are_taken_whole() -> None:
    for path in GOLDEN.glob("*/step*_status.txt"):
        with StatusIndex(path) as found:
            assert found.notes() == [], path
