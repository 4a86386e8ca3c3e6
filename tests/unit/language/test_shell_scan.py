"""What a line lacks to be a whole command, by itself and against bash."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_lines import COMMAND, LACKING, SOUP, WHOLE

from taskrun.language.shell_scan import lack


@pytest.mark.parametrize(("line", "kind", "word", "place"), LACKING)
def test_what_a_line_lacks(line: str, kind: str, word: str, place: int) -> None:
    found = lack(line.encode())
    assert (found.kind, found.word, found.place) == (kind, word, place) if found else not kind


def test_bash_agrees_with_the_tables() -> None:
    assert all(refused([line for line, kind, *_ in LACKING if kind not in ("backslash", "here-document")]))
    assert [line for line in WHOLE if lack(line.encode())] == []
    assert [why for why in refused(WHOLE) if why] == []


@settings(max_examples=4)
@given(st.lists(SOUP, min_size=20, max_size=20))
def test_a_line_that_bash_takes_lacks_nothing(lines: list[str]) -> None:
    for line, why in zip(lines, refused(lines), strict=True):
        found = lack(line.encode())
        assert why or found is None or found.kind in ("backslash", "here-document"), (line, found)


@settings(max_examples=4)
@given(st.lists(st.tuples(COMMAND, st.integers(0, 999)), min_size=12, max_size=12))
def test_a_command_that_is_cut_lacks_what_bash_misses(drawn: list[tuple[str, int]]) -> None:
    """Whole ones lack nothing; one that is cut lacks something where bash comes to the end of it too early."""
    lines = [line for whole, place in drawn for line in (whole, whole[: place % (len(whole) + 1)] or "a") if not line.endswith("\\")]
    for line, why in zip(lines, refused(lines), strict=True):
        found = lack(line.encode())
        assert why or found is None, (line, found)
        assert "unexpected end of file" not in why or found is not None, (line, why)


@given(st.one_of(st.binary(max_size=60), SOUP.map(str.encode)))
def test_any_bytes_are_a_line(line: bytes) -> None:
    found = lack(line)
    assert found is None or 0 <= found.place < found.place + found.length <= len(line) + len("function")


@pytest.mark.parametrize(
    "part", [b"$(", b"((", b"{ ", b"if ", b'"${', b"`", b"'a\"b", b"f ( ", b"a=(", b"x[]", b"[[ ", b"case x in ", b"\\"]
)
def test_long_lines_take_no_longer_than_their_length(part: bytes) -> None:
    lack(part * 20_001)


def refused(lines: list[str]) -> list[str]:
    """Why bash takes each line as no whole script, '' if it does. After `set -n` it only reads."""
    script = 'while IFS= read -r -d "" line; do said=$(eval "set -n\n$line" 2>&1); printf "%s\\0" "$said"; done'
    done = subprocess.run(["bash", "-c", script], input="".join(f"{line}\0" for line in lines), text=True, capture_output=True, check=True)
    return done.stdout.split("\0")[:-1]
