"""The files of FOREACH: sorted outside of memory, kept with the run, taken again from there; and the tasks they become."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrun.driver import foreach
from taskrun.driver.foreach import FileLists, take_all
from taskrun.driver.globs import Glob
from taskrun.errors import Refused
from taskrun.language.items import Foreach
from taskrun.language.source import scan_file
from taskrun.model import Task
from taskrun.planning.expand import Expander, quoted


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileLists]:
    monkeypatch.chdir(tmp_path)
    made = FileLists()
    yield made
    made.close()


def item(glob: bytes, line: int = 1, command: bytes = b"x {}") -> Foreach:
    return Foreach(line, glob, command, b"#TASKRUN FOREACH " + glob + b" " + command)


def test_tasks_of_a_foreach(lists: FileLists) -> None:
    for name in ("b", "a b", "c"):
        Path(name).touch()
    expander = Expander(lists)
    row = list(expander.expand(item(b"[ab]*", 7, b"cp {} {}.old")))
    assert row == [Task(0, 7, 0, b"cp 'a b' 'a b'.old", b"a b"), Task(1, 7, 1, b"cp b b.old", b"b")]
    assert expander.next_id == 2
    assert list(expander.expand(item(b"none*", 8))) == []
    Path("bb").touch()
    assert list(Expander(lists).expand(item(b"[ab]*", 7, b"cp {} {}.old"))) == row, "taken once"


@pytest.mark.parametrize(
    ("template", "command"),
    [
        (b"cat {}", b"cat ./-n.txt"),
        (b"{} x", b"./-n.txt x"),
        (b"cat<{}>{}.out", b"cat<./-n.txt>./-n.txt.out"),
        (b"x --in={} `y {}` $(z {})", b"x --in=./-n.txt `y ./-n.txt` $(z ./-n.txt)"),
        (b"cat '{}' \"{}\"", b"cat './-n.txt' \"./-n.txt\""),
        (b"cat in/{} > out_{}", b"cat in/-n.txt > out_-n.txt"),
        (b"echo {}{} {}'{}' a'{}'", b"echo ./-n.txt-n.txt ./-n.txt'-n.txt' a'-n.txt'"),
        (b"cat", b"cat"),
    ],
)
def test_a_file_whose_name_would_be_an_option(lists: FileLists, template: bytes, command: bytes) -> None:
    for name in ("-n.txt", "a.txt"):
        Path(name).touch()
    first, second = Expander(lists).expand(item(b"*.txt", 1, template))
    assert (first.command, first.file) == (command, b"-n.txt")
    assert second.command == template.replace(b"{}", b"a.txt")
    (dotted,) = Expander(lists).expand(item(b"./-*", 2, b"echo out_{}"))
    assert (dotted.command, dotted.file) == (b"echo out_./-n.txt", b"./-n.txt")


def test_the_list_of_an_earlier_run_stays_as_it_was_for_names_that_are_options(lists: FileLists) -> None:
    for name in ("-n.txt", "-m -l.txt"):
        Path(name).touch()
    Path("old").write_text("FOREACH *.txt\n\t-m -l.txt\n\t-n.txt\nEND 2\n")
    with contextlib.closing(FileLists(Path("old"))) as earlier:
        assert [task.command for task in Expander(earlier).expand(item(b"*.txt"))] == [b"x '-m -l.txt'", b"x -n.txt"]
        assert earlier.take_notes() == []
    now = [task.command for task in Expander(lists).expand(item(b"*.txt"))]
    assert now == [b"x './-m -l.txt'", b"x ./-n.txt"]
    lists.save(Path("new"))
    with contextlib.closing(FileLists(Path("new"))) as again:
        assert [task.command for task in Expander(again).expand(item(b"*.txt"))] == now
        assert again.take_notes() == []


def test_without_files_there_is_no_foreach() -> None:
    with pytest.raises(ValueError, match="needs its files"):
        Expander().expand(item(b"*"))


@given(st.binary(min_size=1).filter(lambda path: b"\0" not in path and b"\n" not in path))
def test_bash_takes_a_quoted_path_back(path: bytes) -> None:
    assert shlex.split(quoted(path).decode("latin-1")) == [path.decode("latin-1")]


@pytest.mark.parametrize("chunk", [1, 500, 4 << 20])
def test_many_files_are_sorted_outside_of_memory(lists: FileLists, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(foreach, "_CHUNK", chunk)
    names = sorted(b"d%d-%d" % (number % 7, number) for number in range(40))
    for name in names:
        Path(os.fsdecode(name)).touch()
    one = item(b"d*")
    assert lists.take(one, b"") == 40
    assert list(lists.paths(one)) == names
    assert lists.ends(one) == (names[0], names[-1])


def test_a_path_found_in_two_ways_is_one_file(lists: FileLists) -> None:
    Path("a/a/a").mkdir(parents=True)
    Path("a/a/a/f").touch()
    one = item(b"**/a/**/f")
    assert len(list(Glob(b"**/a/**/f").matches([]))) > 1
    assert lists.take(one, b"") == 1
    assert list(lists.paths(one)) == [b"a/a/a/f"]


def test_lists_are_kept_and_taken_again_by_glob_and_turn(lists: FileLists, tmp_path: Path) -> None:
    Path("a").touch()
    first, second, other = item(b"[ab]", 1), item(b"[ab]", 5), item(b"c*", 3)
    lists.take(first, b"")
    lists.take(other, b"")
    Path("b").touch()
    lists.take(second, b"")
    kept = tmp_path / "run_files.txt"
    lists.save(kept)
    assert kept.read_bytes() == b"FOREACH [ab]\n\ta\nEND 1\nFOREACH c*\nEND 0\nFOREACH [ab]\n\ta\n\tb\nEND 2\n"

    again = FileLists(kept)
    moved = [item(b"new*", 1), item(b"[ab]", 4), item(b"[ab]", 9)]
    assert [again.take(each, b"") for each in moved] == [0, 1, 2]
    assert again.take_notes() == [
        "line 4: of `[ab]`, 1 more there than when the run began: it goes on with the files of then (with --match command: those of now)"
    ]
    again.save(tmp_path / "two_files.txt")
    assert (tmp_path / "two_files.txt").read_bytes() == kept.read_bytes() + b"FOREACH new*\nEND 0\n"
    third = item(b"*.none", 11)
    again.take(third, b"")
    assert (tmp_path / "two_files.txt").read_bytes().endswith(b"FOREACH new*\nEND 0\nFOREACH *.none\nEND 0\n"), "from a stream"
    again.close()


@pytest.mark.parametrize(
    "torn", [b"FOREACH [ab]", b"FOREACH [ab]\n", b"FOREACH [ab]\n\ta\n", b"FOREACH [ab]\n\ta\nEND 1", b"FOREACH [ab]\n\ta\nEND 2\n"]
)
def test_a_torn_list_was_never_used(lists: FileLists, tmp_path: Path, torn: bytes) -> None:
    kept = tmp_path / "run_files.txt"
    kept.write_bytes(b"FOREACH c\n\tc\nEND 1\n" + torn)
    Path("b").touch()
    again = FileLists(kept)
    one, c = item(b"[ab]", 1), item(b"c", 2)
    assert (again.take(one, b""), again.take(c, b"")) == (1, 1)
    assert (list(again.paths(one)), list(again.paths(c))) == ([b"b"], [b"c"])
    again.save(kept)
    assert kept.read_bytes() == b"FOREACH c\n\tc\nEND 1\nFOREACH [ab]\n\tb\nEND 1\n"
    again.close()


def test_a_scan_with_the_files(lists: FileLists) -> None:
    Path("tasks").write_bytes(b"#PREFIX p \nx\n#TASKRUN FOREACH ta* {}\n#TASKRUN FOREACH no* x\n#TASKRUN FOREACH no x\n")
    scan = take_all(scan_file("tasks"), lists)
    assert (scan.tasks, scan.errors, scan.warnings) == (2, 1, 1)
    assert [(each.line, each.column, each.length, each.message) for each in scan.diagnostics] == [
        (4, 18, 3, "no file matches `no*`"),
        (5, 18, 2, "no file `no`"),
    ]
    assert [template for _, template in scan.foreach] == [b"p {}", b"p x", b"p x"]


def test_names_that_no_line_can_hold_are_refused(lists: FileLists) -> None:
    Path("a\nb").touch()
    with pytest.raises(Refused, match=r"^line 3: the name of `a\\nb` has a newline"):
        lists.take(item(b"*", 3), b"")
