"""Lines of a block that are not whole commands: found wherever they stand, and nothing is said of any other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_lines import COMMAND, LACKING, SOUP, WHOLE

from taskrun.language.incomplete import incomplete, lacking
from taskrun.language.items import Prefix, Suffix, task
from taskrun.language.slips import Block, Slip


def slips(text: bytes, prefix: bytes = b"", suffix: bytes = b"", line: int = 1) -> list[Slip]:
    block = Block(b"\n%b\n" % text, 1, len(text) + 1, line, True, True, Prefix(0, prefix), Suffix(0, suffix))
    return list(incomplete(block))


@pytest.mark.parametrize(
    "filler", [b"./run %d > out.%d\n", b"echo 'it %d' \"$(date)\" # don't %d\n", b"%d names_%d ;a \\( b\n", b"# it's %d (%d\n"]
)
def test_a_line_is_found_among_any_others(filler: bytes) -> None:
    before = b"".join(filler % (number, number) for number in range(100))
    many = b"\n".join(UNLIKE) + b"\n"
    for line, kind, _, place in LACKING:
        for above in (before, before + many):
            found = slips(above + line.encode() + b"\n" + before)
            number = above.count(b"\n") + 1
            assert [(slip.line, slip.kind) for slip in found] == ([(number, "incomplete")] if kind else []), line
            assert all(slip.column == place + 1 and slip.text == line.encode() for slip in found)
    assert slips(before + "\n".join(WHOLE).encode() + b"\n" + many) == []


LINE = st.one_of(SOUP, st.tuples(COMMAND, st.integers(0, 999)).map(lambda drawn: drawn[0][: drawn[1] % (len(drawn[0]) + 1)]))
UNLIKE = [b"run %b '%d'; (x)" % (bytes((97 + number % 26, 97 + number // 26)) * (number % 7), number) for number in range(60)]


@settings(max_examples=40)
@given(st.lists(LINE, max_size=12), st.booleans())
def test_the_search_passes_over_no_line_that_lacks_something(drawn: list[str], unlike: bool) -> None:
    lines = [line.encode() for line in drawn]
    expected = [number for number, line in enumerate(lines, 1) if task(line) and lacking(line)]
    assert [slip.line for slip in slips(b"\n".join(lines + UNLIKE * unlike))] == expected


@given(st.binary(max_size=80), st.sampled_from([b"", b"x ", b"( ", b"bash -c '"]), st.sampled_from([b"", b" > y", b" )", b"'", b" \\"]))
def test_any_bytes_can_be_looked_at(text: bytes, prefix: bytes, suffix: bytes) -> None:
    for slip in slips(text, prefix, suffix):
        assert 1 <= slip.column <= len(slip.text) + 1
        assert slip.length >= 1


@pytest.mark.parametrize(
    ("prefix", "suffix", "lines", "found"),
    [
        ("( ", " ) > log", "a\nb; c\necho 'd'", []),
        ("for i in 1 2; do ", "; done", "a\nb", []),
        ("bash -c '", "'", 'a\nb "c"\necho done', []),
        ("bash -c '", "'", "it's\nb", [1]),
        ("bash -c '", "", "a\nb", [1, 2]),
        ("if ", "", "a", [1]),
        ("", " # log", "echo 'a\n(b", [1, 2]),
        ("", " ) > log", "a\n(b", [1]),
        ("echo ", "", "done\nfi\nif", []),
        ("cd x && ", " > log 2>&1", "done\nmake\necho it's", [1, 3]),
        ("", " > log", "a \\\nb", [1]),
        ("", " && ", "a\nb", [1, 2]),
    ],
)
def test_a_line_is_whole_or_not_between_its_prefix_and_suffix(prefix: str, suffix: str, lines: str, found: list[int]) -> None:
    assert [slip.line for slip in slips(lines.encode(), prefix.encode(), suffix.encode())] == found


def test_messages_say_what_to_do() -> None:
    (quote,) = slips(b"echo it's")
    assert (quote.message, quote.hint) == ("' has no end in this line", r"close it with ', or write \' for an apostrophe")
    (loop,) = slips(b"  for i in 1 2; do echo")
    assert (loop.column, loop.length, loop.message) == (3, 3, "for has no done in this line")
    assert loop.hint == "every line is a task of its own: write it in one line, or put it into a script and run that"
    (both,) = slips(b"a", b"bash -c '")
    assert (both.column, both.length, both.message) == (1, 1, "' has no end in this line, together with its PREFIX and SUFFIX")
    assert [slip.group for slip in slips(b"for i in 1; do\ndone\n(")] == ["incomplete block"] * 3
