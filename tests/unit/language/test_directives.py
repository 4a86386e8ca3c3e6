"""The catalogue agrees with the grammar and with the reader's search."""

from __future__ import annotations

import re

import pytest

from taskrun.language.directives import CATALOGUE, nearest, usable
from taskrun.language.grammar import grammar_text
from taskrun.language.raw_text import directive


def test_the_grammar_and_the_search_know_the_names_of_the_catalogue() -> None:
    bare = re.search(r"^BARE.*?\(\?:([A-Z|-]+)\)", grammar_text(), re.MULTILINE)
    assert bare
    assert bare[1].split("|") == [name for name, each in CATALOGUE.items() if not each.own]
    for name, each in CATALOGUE.items():
        assert bool(directive(f"#{name}".encode())) == (not each.own)
        assert directive(f"#TASKRUN {name}".encode())
        assert not directive(f"#{name}S".encode())
        assert not directive(f"#{name.lower()}".encode())


def test_hints_name_what_can_be_used() -> None:
    assert usable("#TASKRUN") == "PREFIX, SUFFIX, BARRIER, REPEAT, FOREACH, PERENGINE, STAGE-IN, STAGE-OUT, ENCRYPT, ALLOW"
    assert usable("#DISBATCH") == usable("#") == "PREFIX, SUFFIX, BARRIER, REPEAT, PERENGINE, STAGE-IN, STAGE-OUT, ENCRYPT"
    assert CATALOGUE["BARRIER"].usage == "#TASKRUN BARRIER [CHECK] [key]"


@pytest.mark.parametrize(
    ("word", "name"),
    [("BARIER", "BARRIER"), ("perengin", "PERENGINE"), ("STAGEIN", "STAGE-IN"), ("TIMEOUT", None), ("", None), ("x" * 10**6, None)],
)
def test_nearest(word: str, name: str | None) -> None:
    assert nearest(word) == name
