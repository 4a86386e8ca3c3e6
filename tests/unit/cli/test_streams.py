"""What is written where an encoding lacks a character, and which locales have ASCII alone."""

from __future__ import annotations

import pytest

from taskrun.cli.streams import ascii_is_wanted  # and `spelt`, which its imports register


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"LC_ALL": "POSIX"}, True),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX", "LC_CTYPE": ""}, True),
        ({}, False),
        ({"LANG": "", "LC_ALL": ""}, False),
        ({"LC_ALL": "C.UTF-8"}, False),
        ({"LC_ALL": "de_DE.UTF-8", "LANG": "C"}, False),
        ({"LC_CTYPE": "de_DE.UTF-8", "LANG": "C"}, False),
        ({"LC_ALL": "POSIX", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, False),
    ],
)
def test_locales_that_have_ascii_alone(environ: dict[str, str], wanted: bool) -> None:
    assert ascii_is_wanted(environ) is wanted


def test_our_signs_are_ascii_where_there_is_no_more() -> None:
    text = "1 task done · left… 3 → 4 ä \udcff €"
    assert text.encode("ascii", "spelt") == rb"1 task done - left... 3 -> 4 \xe4 \udcff \u20ac"
    assert text.encode("latin-1", "spelt").startswith(b"1 task done \xb7 left... 3 -> 4 \xe4 ")
