"""Line ends, NUL bytes, the byte order mark."""

from __future__ import annotations

import pytest

from taskrun.language.items import Lines
from taskrun.language.reader import Reader


def read(*pieces: bytes, name: str = "my tasks.txt") -> tuple[list[object], list[tuple[object, ...]]]:
    reader = Reader(name)
    items = [item for piece in pieces for item in reader.feed(piece)] + reader.close()
    return list(items), [diagnostic[:6] for diagnostic in reader.diagnostics]


def test_crlf_on_every_line_is_one_warning() -> None:
    remedy = r"to end every line in LF: sed -i 's/\r$//' 'my tasks.txt'"
    warning = ("warning", 1, 5, 1, "lines end in CRLF", "the CR is not taken as a part of the command; " + remedy)
    assert read(b"true\r\nfalse\r\n") == ([Lines(1, b"true\nfalse", 2)], [warning])
    assert read(b"true\r", b"\n", b"false\r\n")[1] == [warning]
    assert read(b"true\r\nfalse") == ([Lines(1, b"true", 1), Lines(2, b"false", 1)], [warning])
    assert read(b"true\r\r\n")[0] == [Lines(1, b"true\r", 1)]


def test_mixed_line_ends_are_one_error() -> None:
    message = "mixed line ends: this line ends in CRLF, those before in LF"
    assert read(b"a\nbc\r\nd\r\ne\n", name="t.txt")[1] == [("error", 2, 3, 1, message, r"to end every line in LF: sed -i 's/\r$//' t.txt")]
    assert read(b"a\n", b"bc\r\n", name="-") == ([Lines(1, b"a", 1)], [("error", 2, 3, 1, message, "end every line in LF")])


def test_an_lf_in_a_crlf_file_is_an_error() -> None:
    for pieces in ([b"a\r\nb\r\nccc\nd\n"], [b"a\r\nb\r\n", b"ccc\nd\n"]):
        message = "mixed line ends: this line ends in LF, those before in CRLF"
        assert read(*pieces)[1][1][:5] == ("error", 3, 4, 1, message)
        assert len(read(*pieces)[1]) == 2


@pytest.mark.parametrize("text", [b"a\rb\n", b"a\n\rb\n", b"\r", b"a\r"])
def test_any_other_cr_is_part_of_the_line(text: bytes) -> None:
    assert read(text)[1] == []


def test_directives_in_a_crlf_file_have_no_cr() -> None:
    reader = Reader("-")
    reader.feed(b"#TASKRUN BARRIER CHECK\r\n#TASKRUN PREFIX\r\n")
    assert (reader.errors, reader.warnings) == (0, 1)


def test_nul_bytes() -> None:
    hint = "no command can hold one; is this a text file?"
    text = b"ok\n\0a\0\n# comment \0\n#PREFIX \0\nx\0"
    assert read(text)[1] == [("error", line, column, 1, "NUL byte", hint) for line, column in ((2, 1), (4, 9), (5, 2))]


def test_a_byte_order_mark_is_told() -> None:
    hint = "save the file as UTF-8 without a byte order mark"
    assert read(b"\xef\xbb\xbftrue\n") == (
        [Lines(1, b"\xef\xbb\xbftrue", 1)],
        [("warning", 1, 1, 3, "a byte order mark is part of the first line", hint)],
    )
    assert read(b"\xef\xbb\xbf#DISBATCH PREFIX x")[1] == [("error", 1, 1, 3, "a byte order mark hides this directive", hint)]
    assert [told[4] for told in read(b"a\n\xef\xbb\xbfb\n")[1]] == [
        "a zero-width space (U+FEFF) separates no words: bash takes it as a letter"
    ]
