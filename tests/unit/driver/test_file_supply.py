"""What a run makes of a task file that is written to: it stops only where it meets bytes that were not scanned, and names the line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskrun.driver import file_supply, task_text
from taskrun.driver.additions import Addition
from taskrun.driver.file_supply import FileSupply
from taskrun.driver.foreach import FileLists
from taskrun.driver.task_text import TaskText
from taskrun.language.marks import Marks
from taskrun.model import Barrier, Supplied, Task

TEXT = b"".join(b"echo %d\n" % number for number in range(1, 101))


class Reading:
    """A supply of `tasks.txt`, and what was told of it."""

    def __init__(self, text: bytes = TEXT, *, path: str = "tasks.txt") -> None:
        self.path = Path(path)
        self.path.write_bytes(text)
        self.lists = FileLists()
        self.text = TaskText(self.path.absolute(), path, ignore_unknown=False)
        self.supply = FileSupply(self.text, self.lists, None, None, self, ignore_unknown=False, grows=True)
        self.lines: list[int] = []
        self.told: list[str] = []
        self.grew = 0
        self.known = (0, 0)

    def grown(self, addition: Addition) -> None:
        self.grew += addition.lines

    def refused(self, problems: str) -> None:
        self.told.append(problems)

    def replaced(self) -> None:
        self.told.append("replaced")

    def difference(self) -> tuple[int, int]:
        return self.known

    def skipped(self, code: int) -> None:
        raise AssertionError

    def read(self, count: int = 1000) -> list[Supplied]:
        items = self.supply.read(count)
        self.lines += [each.line for each in items if isinstance(each, Task | Barrier)]
        return items

    def read_all(self) -> str:
        """Read to the end, as when each task has ended at once; why the rest cannot be used."""
        self.read(7)
        while not self.supply.ended or self.supply.look(last=True):
            self.read(7)
        return self.supply.broken

    def close(self) -> None:
        self.text.close()
        self.lists.close()


Reads = Callable[..., Reading]


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_supply, "SETTLE", 0.0)
    monkeypatch.setattr(file_supply, "SHARE", 0)
    made: list[Reading] = []

    def make(*arguments: bytes) -> Reading:
        made.append(Reading(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def by_rename(path: Path, data: bytes) -> None:
    Path("new").write_bytes(data)
    Path("new").rename(path)


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


Write = Callable[[Path, bytes], None]


@pytest.mark.parametrize("write", [in_place, by_rename])
def test_the_same_content_is_no_change(reads: Reads, write: Write) -> None:
    reading = reads()
    for count in (1, 10, 20):
        reading.read(count)
        write(reading.path, TEXT)
        os.utime(reading.path, (1, 1))
    assert (reading.read_all(), reading.lines, reading.grew) == ("", list(range(1, 101)), 0)
    assert reading.told == []


@pytest.mark.parametrize("write", [in_place, by_rename])
def test_lines_that_are_added_run_with_the_next_ids(reads: Reads, write: Write) -> None:
    reading = reads(b"#TASKRUN PREFIX a\n#TASKRUN BARRIER\nb\n")
    assert [type(each) for each in reading.read()] == [Barrier, Task]
    write(reading.path, reading.path.read_bytes() + b"c\n#TASKRUN BARRIER\n#TASKRUN PREFIX\nd\n")
    assert reading.supply.look(last=False)
    first, barrier, last = reading.read()
    assert isinstance(first, Task)
    assert isinstance(last, Task)
    assert (first.id, first.line, first.command) == (2, 4, b"ac")
    assert (barrier.line, last.id, last.line, last.command) == (5, 4, 7, b"d")  # type: ignore[union-attr]
    assert (reading.read_all(), reading.grew) == ("", 4)


def test_of_a_long_file_the_last_part_is_compared(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_text, "WHOLE", 0)
    monkeypatch.setattr(Marks.__init__, "__defaults__", (64, 100))
    reading = reads()
    reading.read()
    reading.path.write_bytes(TEXT.replace(b"echo 98", b"exit 98") + b"echo 101\n")
    assert not reading.supply.look(last=False)
    reading.path.write_bytes(TEXT + b"echo 101\n")
    assert (reading.read_all(), reading.grew) == ("", 1)


def test_a_file_that_cannot_be_looked_at_is_no_change(reads: Reads) -> None:
    reading = reads()
    reading.read(1)
    reading.path.unlink()
    reading.read(50)
    reading.path.symlink_to("tasks.txt")  # a loop
    assert (reading.read_all(), len(reading.lines)) == ("", 100)


def test_a_changed_line_is_met_where_it_stands(reads: Reads) -> None:
    reading = reads()
    reading.read(10)
    reading.path.write_bytes(TEXT.replace(b"echo 60\n", b"echo 61\n"))
    reading.read(10)
    assert (reading.supply.broken, reading.lines) == ("", list(range(1, 21)))
    assert reading.read_all() == "tasks.txt:60:1: this line was changed during the run: nothing below line 59 was run"
    assert (reading.supply.changed, reading.lines) == (True, list(range(1, 60)))


def test_a_change_that_is_undone_before_it_is_met(reads: Reads) -> None:
    reading = reads()
    reading.read(10)
    reading.path.write_bytes(TEXT.replace(b"echo 60\n", b"echo 61\n"))
    reading.read(10)
    reading.path.write_bytes(TEXT)
    assert (reading.read_all(), len(reading.lines)) == ("", 100)


def test_a_change_above_is_not_met(reads: Reads) -> None:
    reading = reads()
    reading.read(10)
    reading.path.write_bytes(TEXT.replace(b"echo 5\n", b"exit 5\n"))
    assert (reading.read_all(), len(reading.lines)) == ("", 100)


def test_a_line_that_is_put_in_above_moves_all_below(reads: Reads) -> None:
    reading = reads()
    reading.read(10)
    reading.path.write_bytes(TEXT.replace(b"echo 5\n", b"new\necho 5\n"))
    assert reading.read_all() == "tasks.txt:5:1: this line was changed during the run: nothing below line 10 was run"


def test_a_file_that_was_cut_off(reads: Reads) -> None:
    reading = reads()
    reading.read(10)
    os.truncate(reading.path, TEXT.index(b"echo 31\n") + 3)
    assert reading.read_all() == "tasks.txt:31:1: the file was cut off here during the run: nothing below line 30 was run"


def test_a_file_that_is_emptied_and_written_anew(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_supply, "SETTLE", 60.0)
    reading = reads()
    reading.read(10)
    os.truncate(reading.path, 0)
    assert reading.read() == []
    assert not reading.supply.always_ready, "the loop waits"
    assert not reading.supply.ended
    reading.path.write_bytes(TEXT + b"echo 101\n")
    assert (reading.read_all(), len(reading.lines)) == ("", 101)


def test_a_file_with_other_lines_in_its_place(reads: Reads) -> None:
    """The descriptor has the lines that were scanned."""
    reading = reads()
    reading.read(10)
    by_rename(reading.path, TEXT.replace(b"echo 60\n", b"echo 61\n"))
    assert (reading.read_all(), len(reading.lines)) == ("", 100)
    assert reading.told == ["replaced"]
    assert reading.text.compare() == (False, 0, 60)


def test_a_pipe_in_its_place_is_not_waited_for(reads: Reads) -> None:
    reading = reads()
    reading.path.unlink()
    os.mkfifo(reading.path)
    assert (reading.read_all(), len(reading.lines), reading.told) == ("", 100, ["replaced"])
    assert reading.text.compare() == (False, 0, 0)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ((0, 0), "tasks.txt:90:1: a line from here on was changed"),
        ((95, 95), "tasks.txt:95:1: this line was changed"),
        ((91, 95), "tasks.txt:91:1: a line from here to line 95 was changed"),
    ],
)
def test_a_change_far_below(reads: Reads, monkeypatch: pytest.MonkeyPatch, known: tuple[int, int], said: str) -> None:
    """Of what was never read twice the digests of the sidecar may know the line."""
    monkeypatch.setattr(Marks.__init__, "__defaults__", (64, 100))
    reading = reads()
    reading.known = known
    reading.read(10)
    reading.path.write_bytes(TEXT.replace(b"echo 95\n", b"echo 91\n"))
    assert reading.read_all() == f"{said} during the run: nothing below line 89 was run"
    assert reading.lines == list(range(1, 90))


@pytest.mark.parametrize(
    ("added", "told", "broken"),
    [
        (b"x\n#TASKRUN X\n", "tasks.txt:102:10: error: unknown directive `X`", "tasks.txt:101:1: the lines from here on were added"),
        (b"#TASKRUN STAGE-IN a\n", "tasks.txt:101:1: error: this directive was added while the file is run", "tasks.txt:101:1: the lines"),
        (b"#TASKRUN FOREACH a.txt x\n", "tasks.txt:101:18: error: no file `a.txt`", "tasks.txt:101:1: the lines from here on were added"),
        (b"#PERENGINE START x\n", "tasks.txt:101:2: error: PERENGINE comes too late, below line 1", "tasks.txt:101:1: the lines"),
        (b"x", "", "tasks.txt:101:1: this line was added during the run and was not run"),
    ],
)
def test_lines_that_cannot_run(reads: Reads, added: bytes, told: str, broken: str) -> None:
    reading = reads()
    reading.read(10)
    reading.path.write_bytes(TEXT + added)
    reading.read(10)
    assert "".join(reading.told).startswith(told)
    assert reading.read_all().startswith(broken)
    assert (len(reading.lines), len(reading.told), reading.supply.changed) == (100, bool(told), False)


def test_lines_that_are_corrected(reads: Reads) -> None:
    reading = reads()
    reading.read()
    reading.path.write_bytes(TEXT + b"x\n#TASKRUN FOREACH a.txt cat {}\n")
    assert not reading.supply.look(last=False)
    Path("a.txt").touch()
    os.utime(reading.path)
    assert (reading.read_all(), len(reading.lines), reading.grew) == ("", 102, 2)


def test_a_last_line_that_goes_on(reads: Reads) -> None:
    reading = reads(b"a\nb")
    reading.read(1)
    with reading.path.open("ab") as file:
        file.write(b"c")
    assert not reading.read(), "perhaps not whole"
    with reading.path.open("ab") as file:
        file.write(b"d\n")
    assert reading.supply.look(last=False)
    (task,) = reading.read()
    assert isinstance(task, Task)
    assert (task.id, task.line, task.command, reading.read_all(), reading.text.scan.tasks) == (1, 2, b"bcd", "", 2)


def test_a_last_line_that_goes_on_after_it_was_run(reads: Reads) -> None:
    reading = reads(b"a\nb")
    reading.read()
    with reading.path.open("ab") as file:
        file.write(b"c\n")
    assert not reading.supply.look(last=False)
    assert reading.supply.broken == "tasks.txt:2:1: this line was changed during the run: nothing below line 2 was run"
    assert reading.supply.changed


def test_descriptors_are_closed(reads: Reads) -> None:
    reading = reads()
    fds = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        by_rename(reading.path, TEXT + b"x\n" * (number % 2))
        reading.read(1)
    assert len(os.listdir("/proc/self/fd")) == fds
