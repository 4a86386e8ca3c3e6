"""The reader, in any pieces, gives what the grammar gives for the whole file; ids are consecutive; disBatch agrees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskrun.language.diagnostics import render, render_all
from taskrun.language.items import Barrier, Foreach, Item, Lines, PerEngine, Prefix, Repeat, Stage, Suffix
from taskrun.language.raw_text import directive
from taskrun.language.reader import Reader
from taskrun.language.whole import parse_whole
from taskrun.model import Barrier as PlannedBarrier
from taskrun.model import PerEngine as PlannedPerEngine
from taskrun.model import Staging, Task
from taskrun.planning.expand import Expander

NAMES = [b"PREFIX", b"SUFFIX", b"BARRIER", b"REPEAT", b"PERENGINE", b"STAGE-IN", b"STAGE-OUT", b"ENCRYPT", b"FOREACH"]
BLANKS = st.sampled_from([b" ", b" ", b" ", b"", b"  ", b"\t", b" \t", b"\t ", b"\f", b"\v", b"\r"])
WORDS = st.sampled_from(
    b"|CHECK|check|CHECKME|key|START|START CHECK|"
    b"stop|start|step|STEP|2|-5|007|12x|9999999999999999999|echo|x|\xff|\xc3\xa4|*.txt|'|\"|{}|\0|#|\xef\xbb\xbf".split(b"|")
)
ARGUMENTS = st.lists(st.tuples(BLANKS, WORDS).map(b"".join), max_size=6).map(b"".join)
NAME = st.sampled_from([*NAMES, *(name.lower() for name in NAMES), b"Barrier", b"BARRIERxyz", b"BARIER", b"FOO", b""])
SIGIL = st.sampled_from([b"#TASKRUN", b"#DISBATCH"])
DIRECTIVE = st.one_of(
    st.tuples(SIGIL, st.sampled_from([b" ", b" ", b" ", b" ", b"", b"\t", b"  "]), NAME, ARGUMENTS).map(b"".join),
    st.tuples(st.just(b"#"), st.sampled_from(NAMES), ARGUMENTS).map(b"".join),
)
PLAIN = st.sampled_from(
    b"|| |\t|true|true| true |# comment|  # x|#taskrun x| #DISBATCH BARRIER|a\rb|\r|#barrier|# REPEAT 3|#BARIER\r|"
    b"#TASKRUN ALLOW near-miss|a &|a; b # c|echo 2|#SUFFIX > log|#PREFIX nice a".split(b"|")
)
LINE = st.one_of(DIRECTIVE, DIRECTIVE, PLAIN, PLAIN, st.binary(max_size=12))
TEXT = st.tuples(
    st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\n", b"\n", b"\n", b"\r\n"])).map(b"".join), max_size=12).map(b"".join), LINE
).map(b"".join)
ANY_TEXT = st.one_of(TEXT, TEXT, TEXT.map(lambda text: re.sub(rb"\r?\n", b"\r\n", text)), st.binary(max_size=60))


def read(pieces: list[bytes], ignore_unknown: bool = False) -> tuple[list[Item], Reader]:
    reader = Reader("tasks.txt", ignore_unknown=ignore_unknown)
    items = [item for piece in pieces for item in reader.feed(piece)]
    return items + reader.close(), reader


class TwoFiles:
    """Every FOREACH has the same two files."""

    def take(self, item: Foreach, template: bytes) -> int:
        return 2

    def paths(self, item: Foreach) -> Iterator[bytes]:
        return iter((b"a", b"it's \xff"))


def single(items: list[Item]) -> list[Item]:
    found: list[Item] = []
    for item in items:
        if isinstance(item, Lines):
            rows = [Lines(line, text, 1) for line, text in item.commands()]
            assert len(rows) == item.tasks > 0
            found += rows
        else:
            found.append(item)
    return found


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(ANY_TEXT, st.lists(st.integers(0, 1000), max_size=8), st.booleans())
@example(b"true\r\nfalse\r\n", [5], False)
@example(b"true\nfalse\r\n", [5], False)
@example(b"\xef\xbb\xbf#PREFIX x\n\0\n", [1], False)
@example(b"#TASKRUN X\n" * 120 + b"a\0\n" * 60 + b"#TASKRUN BARRIER a CHECK\n" * 60, [700], False)
@example(b"a\0\n#TASKRUN X\n" * 60, [333], True)
@example(b"#DISBATCHX\n#DISBATCH\ntrue\n# x\na\0\n", [], True)
def test_any_pieces_give_the_whole(text: bytes, places: list[int], ignore_unknown: bool) -> None:
    items, reader = read(cut(text, places), ignore_unknown)
    whole = parse_whole(text, ignore_unknown=ignore_unknown)
    assert single(items) == whole.items
    assert reader.diagnostics == whole.diagnostics
    assert reader.lines == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


@given(TEXT)
def test_one_byte_at_a_time_gives_the_whole(text: bytes) -> None:
    items, reader = read([text[place : place + 1] for place in range(len(text))])
    whole = parse_whole(text)
    assert (single(items), reader.diagnostics) == (whole.items, whole.diagnostics)


@given(ANY_TEXT, st.booleans())
def test_every_diagnostic_can_be_shown(text: bytes, ignore_unknown: bool) -> None:
    _, reader = read([text], ignore_unknown)
    for diagnostic in reader.diagnostics:
        first, source, caret, *hints = render(diagnostic, "tasks.txt").split("\n")
        assert first.startswith(f"tasks.txt:{diagnostic.line}:{diagnostic.column}: {diagnostic.severity}: ")
        assert source.startswith(f"  {diagnostic.line} |")
        assert set(caret.split("|", 1)[1]) <= set(" ^")
        assert "^" in caret
        assert all(hint.startswith("  help: ") for hint in hints)
        assert diagnostic.column >= 1
        assert diagnostic.length >= 1
    shown = render_all(reader.diagnostics, "tasks.txt", reader.errors, reader.warnings)
    assert all(char == "\n" or char.isprintable() for char in shown)


@given(DIRECTIVE)
@example(b"#REPEAT " + b"9" * 5000)
@example(b"#REPEAT 2 start " + b"9" * 5000 + b" x")
def test_a_wrong_line_has_one_error(line: bytes) -> None:
    if b"\0" in line:
        return
    items, reader = read([line])
    assert reader.errors == (0 if items or not directive(line) else 1) or b"9" * 19 in line


@given(ANY_TEXT)
def test_ids_are_consecutive_and_the_commands_are_those_of_the_file(text: bytes) -> None:
    expander = Expander(TwoFiles())
    number, counters = 0, {"START": 0, "STOP": 0}
    prefix = suffix = b""
    for item in read([text], True)[0]:
        if isinstance(item, Prefix):
            prefix = item.text
        elif isinstance(item, Suffix):
            suffix = item.text
        row = expander.expand(item)
        if isinstance(item, Repeat):
            row = iter([value for value, _ in zip(row, range(3), strict=False)])
        for value in row:
            if isinstance(value, PlannedPerEngine):
                assert isinstance(item, PerEngine)
                assert value == (counters[value.when], item.line, item.when, prefix + item.command + suffix, item.check)
                counters[value.when] += 1
                continue
            if isinstance(value, Staging):
                assert isinstance(item, Stage)
                assert (value.line, value.way, value.scope) == (item.line, item.way, item.scope)
                continue
            assert value.id == number
            number += 1
            if isinstance(value, PlannedBarrier):
                assert isinstance(item, Barrier)
                assert value[1:] == item
            elif isinstance(item, Foreach):
                assert value.command == (prefix + item.command + suffix).replace(b"{}", [b"a", b"'it'\"'\"'s \xff'"][value.repeat])
                assert value.file == [b"a", b"it's \xff"][value.repeat]
            else:
                assert value.command.startswith(prefix)
                assert value.command.endswith(suffix)
        number = expander.next_id


# What disBatch and taskrun take differently on purpose.
ON_PURPOSE = re.compile(
    rb"\0|\r|\xef"
    rb"|#(?:DISBATCH )?(?i:STAGE|ENCRYPT)"
    rb"|#(?:PREFIX|SUFFIX|BARRIER|REPEAT|PERENGINE)"
    rb"|#DISBATCH (?:"
    rb"(?i:prefix|suffix)$"  # here it clears
    rb"|(?!BARRIER)(?i:barrier)"  # there upper case only
    rb"|(?i:perengine)"  # too late or lower case: there it ends the reading
    rb"|(?i:repeat).*9999)",  # there without a limit
).match
DISBATCH_LINE = st.one_of(
    st.tuples(st.just(b"#DISBATCH"), st.sampled_from([b" ", b" ", b" ", b"", b"\t"]), NAME, ARGUMENTS).map(b"".join), PLAIN
).filter(lambda line: not ON_PURPOSE(line) and not re.search(rb"[\0\r]", line))


@given(st.lists(DISBATCH_LINE, max_size=12))
@example([b"#DISBATCH REPEAT 2 step 5 start 3", b"#DISBATCH REPEAT 2 start -5 echo x", b"#DISBATCH REPEAT\t2\tstart\t4 x"])
@example([b"#DISBATCH REPEAT 1   x   ", b"#DISBATCH REPEAT 1  ", b"#DISBATCH REPEAT 1 \t", b"#DISBATCH REPEAT 3 start 5\tstep 3\tx"])
@example([b"#DISBATCH BARRIERxyz", b"#DISBATCH BARRIER CHECKME", b"#DISBATCH BARRIER check", b"#DISBATCH BARRIER  CHECK", b"#DISBATCH X"])
@example([b"#DISBATCH", b"#DISBATCHX foo", b"#DISBATCH\tBARRIER", b"#DISBATCH  BARRIER", b"#DISBATCH "])
def test_disbatch_makes_the_same_tasks(lines: list[bytes]) -> None:
    disbatch = pytest.importorskip("disbatch.disBatch")
    disbatch.logger.disabled = True
    theirs = [
        (info.taskId, info.taskStreamIndex, info.taskRepIndex, info.taskCmd, info.kind, info.bKey or None)
        for info in disbatch.TaskGenerator(iter([line + b"\n" for line in lines]))
        if info.kind in "NBC"
    ]
    ours = []
    expander = Expander()
    items, reader = read([b"\n".join(lines)], True)
    for item in items:
        for value in expander.expand(item):
            if isinstance(value, Task):
                ours.append((value.id, value.line, value.repeat, value.command, "N", None))
            elif isinstance(value, PlannedBarrier):
                ours.append((value.id, value.line, -1, value.text, "C" if value.check else "B", value.key))
    assert ours == theirs
    assert reader.errors == 0
