"""Values from elsewhere: the first one that is not as its form says is named by its place."""

from __future__ import annotations

from typing import Any

import pytest

from taskrun.status.forms import wrong

FORM = {"id": r"[a-z]+", "n": (0, 9), "t?": (0.0, 1.0), "list?": [{"x": str}], "map?": {"": (0, 1)}}


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({}, ""),
        ({"t": None, "list": [], "map": {}, "other": {"deep": [1.5, "x", None, True]}}, ""),
        ({"t": 1}, ""),
        ({"id": "A"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": ["a"]}, "id"),
        ({"n": 10}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": None}, "n"),
        ({"t": float("nan")}, "t"),
        ({"t": "1"}, "t"),
        ({"list": [{"x": ""}, {}]}, "list[1].x"),
        ({"list": {"x": ""}}, "list"),
        ({"map": {"a": 1, "b": 2}}, "map.b"),
        ({"other": [10**400]}, "other[0]"),
        ({"other": {"k": float("inf")}}, "other.k"),
        ({"other": "\ud800"}, "other"),
        ({"other": "a\0b"}, "other"),
        ({"other": "\udcff"}, ""),
        ({"other": {"\ud800": 1}}, "other"),
    ],
)
def test_the_first_that_is_wrong(more: dict[str, Any], where: str) -> None:
    assert wrong({"id": "a", "n": 1, **more}, FORM) == where


def test_what_is_nested_too_deeply() -> None:
    value: Any = 1
    for _ in range(30):
        value = [value]
    assert wrong({"x": value}, {}).startswith("x[0][0]")
    assert wrong([], {}) == "{}"
    assert wrong({"id": "a"}, FORM, "event") == "event.n"
