"""A resume of an edited task file: refused if, and only if, an unrun line or a directive above it is not what it was."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from taskrun.language.reader import Reader
from taskrun.planning.edits import GROUPS_MOST, Appended, Change, Digester, Unrun, changed, group_of
from taskrun.planning.expand import Expander
from taskrun.status.sidecar import Lines

TASKS = [b"true", b"echo a", b"echo b", b" echo # a", b"\xff", b"a\rb"]
QUIET = [b"", b" \t", b"# comment", b"  #TASKRUN PREFIX x", b"#prefix", b"#REPEATED 2 x"]
DIRECTIVES = [b"#TASKRUN PREFIX x", b"#PREFIX", b"#DISBATCH SUFFIX y", b"#BARRIER", b"#TASKRUN REPEAT 2 echo a"]
line = st.sampled_from([*TASKS, *TASKS, *QUIET, *DIRECTIVES])
files = st.lists(line, max_size=14)
edit = st.tuples(st.sampled_from(["put", "drop", "change"]), st.integers(0, 14), line)


def edited(lines: list[bytes], script: list[tuple[str, int, bytes]]) -> list[bytes]:
    made = list(lines)
    for what, place, new in script:
        at = min(place, len(made))
        if what == "put":
            made.insert(at, new)
        elif at < len(made):
            made[at : at + 1] = [] if what == "drop" else [new]
    return made


def spoken(lines: list[bytes]) -> list[tuple[int, bytes]]:
    """(line number, text) of those that say something, by the definition in this test."""
    return [(number, text) for number, text in enumerate(lines, 1) if text in TASKS or text in DIRECTIVES]


def text_of(lines: list[bytes], end: bytes = b"\n") -> bytes:
    return b"".join(each + end for each in lines)


def digested(data: bytes, group: int, most: int = -1, size: int = 5) -> tuple[Lines, list[int]]:
    digester = Digester(group, most, numbered=True)
    for at in range(0, len(data), size):
        digester.feed(data[at : at + size])
    return digester.close(), list(digester.numbers)


class Seen(NamedTuple):
    refused: Change | None
    unrun: list[int]  # lines


def resumed(old: list[bytes], new: list[bytes], run: set[int], group: int) -> Seen:
    """As a resume does it: `run` are lines of the new file of which tasks have a record."""
    before, _ = digested(text_of(old), group)
    digester = Digester(group, before.count, numbered=True)
    digester.feed(text_of(new))
    now = digester.close()
    unrun = Unrun()
    tasks = [number for number, text in spoken(new) if text not in DIRECTIVES or b"REPEAT" in text]
    for number in tasks:
        if number not in run:
            unrun.add(number)
    return Seen(changed(before, now, digester.numbers, unrun), list(unrun.lines))


def differs(old: list[bytes], new: list[bytes], number: int) -> bool:
    """Return whether the line of that number in the new file, or a directive above it, is not what it was."""
    was, now = spoken(old), spoken(new)
    place = [each for each, _ in now].index(number)
    if place < len(was):
        directives = [[text for _, text in lines[:place] if text in DIRECTIVES] for lines in (was, now)]
        return was[place][1] != now[place][1] or directives[0] != directives[1]
    # one that was added at the end, unless directives of the old lines came or went
    return [text for _, text in was if text in DIRECTIVES] != [text for _, text in now[: len(was)] if text in DIRECTIVES]


@given(files, st.lists(edit, max_size=4), st.sets(st.integers(1, 16)))
@example([b"true", b"echo a"], [("put", 1, b"#PREFIX")], {1})
@example([b"true", b"echo a", b"echo b"], [("drop", 0, b"")], set())
def test_refused_if_and_only_if_something_unrun_differs(old: list[bytes], script: list[tuple[str, int, bytes]], run: set[int]) -> None:
    new = edited(old, script)
    seen = resumed(old, new, run, 1)
    wrong = [number for number in seen.unrun if differs(old, new, number)]
    assert (seen.refused is not None) is bool(wrong)
    if seen.refused is not None:
        assert seen.refused == Change(wrong[0], wrong[0], len(wrong))


@given(files, st.lists(edit, max_size=4), st.sets(st.integers(1, 16)), st.integers(2, 5))
def test_in_groups_it_is_refused_at_least_then(old: list[bytes], script: list[tuple[str, int, bytes]], run: set[int], group: int) -> None:
    new = edited(old, script)
    seen = resumed(old, new, run, group)
    if any(differs(old, new, number) for number in seen.unrun):
        assert seen.refused is not None
    if seen.refused is not None:
        assert 1 <= seen.refused.first <= seen.refused.last <= len(new)
        assert 1 <= seen.refused.tasks <= len(seen.unrun)
        assert spoken(old) != spoken(new)


@given(files, st.integers(1, 5), st.integers(1, 40), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_digests_are_those_of_what_the_language_sees(lines: list[bytes], group: int, size: int, end: bytes, torn: bool) -> None:
    """In any pieces, with any line ends, with or without the last one. A line says something if it is a task or a directive."""
    data = text_of(lines, end)
    if torn:
        data = data.removesuffix(end)
    found, numbers = digested(data, group, size=size)
    assert numbers == [number for number, _ in spoken(lines)]
    assert found.count == len(numbers)
    assert len(found.digests) == 16 * -(-found.count // group)
    assert found == digested(text_of(lines), group, size=1000)[0]
    reader = Reader("x", ignore_unknown=True)
    items = reader.feed(data) + reader.close()
    if not reader.errors:
        expander = Expander()
        planned = {each.line for item in items for each in expander.expand(item)}  # type: ignore[union-attr]
        assert planned <= set(numbers)


@given(files, files, st.booleans(), st.integers(1, 50))
def test_lines_that_were_added_at_the_end(old: list[bytes], more: list[bytes], torn: bool, size: int) -> None:
    before = text_of(old)
    after = before + text_of(more)
    if torn:
        before = before.removesuffix(b"\n")
    for data in (after, after.removesuffix(b"\n")):
        appended = Appended(len(before), hashlib.sha256(before).hexdigest())
        for at in range(0, len(data), size):
            appended.feed(data[at : at + size])
        if data.startswith(before):
            start = len(text_of(old)) if before and not before.endswith(b"\n") else len(before)
            assert appended.close() == data[start:].count(b"\n") + (not data.endswith(b"\n") and len(data) > start)
    changed_text = b"x" + after
    appended = Appended(len(before), hashlib.sha256(before).hexdigest())
    appended.feed(changed_text)
    if before and not changed_text.startswith(before):
        assert appended.close() is None


def test_what_was_torn_and_went_on_is_changed() -> None:
    for old, new, added in (
        (b"ab", b"abc\n", None),
        (b"ab", b"ab\r\nc", 1),
        (b"ab", b"ab\n", 0),
        (b"ab", b"ab\rc\n", None),
        (b"", b"a", 1),
    ):
        appended = Appended(len(old), hashlib.sha256(old).hexdigest())
        appended.feed(new)
        assert appended.close() == added


def test_groups_are_not_too_many() -> None:
    for lines in (0, 1, 1023, 1024, 1025, 10_000, 1_000_000, 10**9):
        assert -(-lines // group_of(lines)) <= GROUPS_MOST
    assert (group_of(0), group_of(1024), group_of(10_000)) == (1, 1, 10)
