"""Hosts that stand out by their failures are named; chance is not."""

from __future__ import annotations

import itertools
import random

import pytest

from taskrun.observers.unevenness import tail, uneven


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"a": (6, 6), "b": (17, 0), "c": (17, 0)}, "6 of 6 failures on a, where 6 of 6 tasks failed"),
        ({"a": (38, 38), "b": (20, 1), "c": (20, 1)}, "38 of 40 failures on a, where 38 of 38 tasks failed"),
        ({"a": (20, 1), "b": (8, 8)}, "8 of 9 failures on b, where 8 of 8 tasks failed"),
        ({"a": (8, 8), "b": (9, 9), "c": (90, 0)}, "17 of 17 failures on b and a, where 17 of 17 tasks failed"),
        (
            {**{f"h{k}": (8, 8) for k in range(5)}, "good": (400, 0)},
            "40 of 40 failures on h4, h3, h2 and 2 more, where 40 of 40 tasks failed",
        ),
        ({"a": (1_000_000, 2000), "b": (1_000_000, 1000)}, ""),
        ({"a": (1_000_000, 2100), "b": (1_000_000, 1000)}, "2,100 of 3,100 failures on a, where 2,100 of 1,000,000 tasks failed"),
        ({}, ""),
        ({"a": (40, 38)}, ""),
        ({"a": (20, 20), "b": (20, 20)}, ""),
        ({"a": (20, 0), "b": (20, 0)}, ""),
        ({"a": (2, 2), "b": (2, 0)}, ""),
        ({"a": (50, 12), "b": (50, 9)}, ""),
        ({"a": (1, 1), "b": (30, 0)}, ""),
    ],
)
def test_which_hosts_are_named(hosts: dict[str, tuple[int, int]], said: str) -> None:
    assert uneven(hosts) == said


def test_the_chance_is_that_of_drawing() -> None:
    tasks, failures, ran = 9, 4, 5
    draws = [sum(number < failures for number in drawn) for drawn in itertools.combinations(range(tasks), ran)]
    for failed in range(3, 5):
        assert tail(failed, ran, failures, tasks) == pytest.approx(sum(each >= failed for each in draws) / len(draws))


def test_chance_alone_seldom_names_anybody() -> None:
    dice = random.Random(1)
    runs = [{f"h{k}": (40, sum(dice.random() < 0.2 for _ in range(40))) for k in range(10)} for _ in range(1000)]
    assert sum(bool(uneven(hosts)) for hosts in runs) <= 10
