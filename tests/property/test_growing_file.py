"""A task file that is written to while it is read: whatever is added in whatever pieces, the plan is that of the whole file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from taskrun.driver.additions import Addition
from taskrun.driver.file_supply import FileSupply
from taskrun.driver.foreach import FileLists
from taskrun.driver.supply import plan_file
from taskrun.driver.task_text import TaskText
from taskrun.language.marks import Marks, Rereading

LINES = st.sampled_from(
    [b"a", b"b 1", b"", b"# c", b"  # d", b"#TASKRUN BARRIER", b"#TASKRUN PREFIX p ", b"#TASKRUN SUFFIX", b"#TASKRUN REPEAT 2 e", b"f" * 20]
)


STEPS = ("append", "append", "touch", "rewrite", "rename", "append by rename", "read", "read", "look")


class Watching:
    def __init__(self) -> None:
        self.tasks = self.lines = 0

    def grown(self, addition: Addition) -> None:
        self.tasks += addition.tasks
        self.lines += addition.lines

    def refused(self, problems: str) -> None:
        raise AssertionError(problems)

    def replaced(self) -> None:
        raise AssertionError("it begins as it did")

    def difference(self) -> tuple[int, int]:
        return 0, 0

    def skipped(self, code: int) -> None:
        raise AssertionError


@contextmanager
def small_steps(step: int) -> Iterator[None]:
    defaults = Marks.__init__.__defaults__
    Marks.__init__.__defaults__ = (step, 3)
    try:
        yield
    finally:
        Marks.__init__.__defaults__ = defaults


def replace(path: Path, data: bytes) -> None:
    path.with_name("new").write_bytes(data)
    path.with_name("new").replace(path)


@given(
    lines=st.lists(LINES, min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    steps=st.lists(st.sampled_from(STEPS), max_size=16),
    step=st.sampled_from((3, 16, 1 << 18)),
    end=st.sampled_from((b"\n", b"\r\n")),
)
def test_the_plan_is_that_of_the_whole_file(lines: list[bytes], cuts: list[int], steps: list[str], step: int, end: bytes) -> None:
    whole = b"".join(line + end for line in lines)
    places = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    with tempfile.TemporaryDirectory() as folder, small_steps(step), closing(FileLists()) as lists:
        path = Path(folder, "tasks")
        path.write_bytes(whole[: places[0]])
        with closing(TaskText(path, str(path), ignore_unknown=False)) as text:
            before, torn = text.scan.tasks, text.scan.torn is not None
            watching = Watching()
            supply = FileSupply(text, lists, None, None, watching, ignore_unknown=False, grows=True)
            found = []
            at = 0
            for what in [*steps, *["append", "look"] * len(places)]:
                if what.startswith("append"):
                    at = min(at + 1, len(places) - 1)
                data = whole[: places[at]]
                if what in ("append", "rewrite"):
                    path.write_bytes(data)
                elif what == "touch":
                    os.utime(path)
                elif what.startswith("read"):
                    found += supply.read(3)
                elif what == "look":
                    supply.look(last=False)
                else:
                    replace(path, data)
            found += supply.read(3)
            while not supply.ended or supply.look(last=True):
                found += supply.read(3)
            if supply.changed:
                assert torn, "only a last line without its end, which may have run, can be another now"
                return
            assert not supply.broken
            assert (text.scan.size, text.scan.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
        with closing(TaskText(path, str(path), ignore_unknown=False)) as text:
            assert found == list(plan_file(text, lists, ignore_unknown=False))
            assert before + watching.tasks == text.scan.tasks


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(1, 5), st.integers(1, 4), st.data())
def test_a_text_that_is_read_again(pieces: list[bytes], step: int, most: int, data: st.DataObject) -> None:
    text = b""
    marks = Marks(step, most)
    again = Rereading(marks)
    for piece in pieces:
        marks.feed(piece)
        text += piece
        if data.draw(st.booleans()):
            again.marks = marks = marks.copy()
        for _ in range(data.draw(st.integers(0, 3)) if again.wanted else 0):
            there = text[again.place : again.place + again.wanted]
            if there:
                wrong = bytes([there[0] ^ 1]) + there[1:]
                assert not again.take(wrong)
                assert not again.take(there[1:])
            assert again.take(there)
    assert (marks.size, marks.hexdigest()) == (len(text), hashlib.sha256(text).hexdigest())
    place, digest = marks.last
    digest.update(text[place:])
    assert digest.hexdigest() == marks.hexdigest()
