"""One search of a block finds the lines without a task and the words of bash's grammar."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskrun.language.items import task
from taskrun.language.recognition import FIRST_WORD, Recognition

BITS = b"if fi for function then time elif else esac while until select do done case coproc [[ [ { } ! echo # a fix cat".split()
text = st.lists(st.sampled_from([*BITS, *(bytes([char]) for char in b"\n\n \t\r\f\v;'")]), max_size=24).map(b"".join)


@given(text)
def test_the_survey_counts_what_is_no_task_and_sees_every_first_word(text: bytes) -> None:
    quiet, words = Recognition.survey(b"\n%b\n" % text, 1, len(text) + 1)
    assert quiet == sum(not task(line) for line in text.split(b"\n"))
    assert words or not FIRST_WORD.search(b"\n%b\n" % text)


def test_a_word_alone_on_its_line_does_not_hide_the_next_line() -> None:
    assert Recognition.survey(b"\n}\n\ndone\n# x\n", 1, 12) == (2, True)
