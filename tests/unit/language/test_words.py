"""Words as bash reads them, where a variable or a glob may mean something."""

from __future__ import annotations

import pytest

from taskrun.language.words import template


@pytest.mark.parametrize(
    ("word", "made"),
    [
        (b"in/$X*", b"in/$X*"),
        (b'"a b/${X}*"', b"a b/${X}[*]"),
        (b"'$X[1]'", b"[$]X[[]1]"),
        (b"a\\ b/\\$X/$Y", b"a b/[$]X/$Y"),
        (b'"\\$X$Y?"', b"[$]X$Y[?]"),
    ],
)
def test_a_variable_means_something_where_bash_would_expand_it(word: bytes, made: bytes) -> None:
    assert template(word, globs=True) == made


def test_a_destination_has_no_globs() -> None:
    assert template(b"'a*'$X", globs=False) == b"a*$X"
