"""Until when tasks may start in an allocation that ends."""

from __future__ import annotations

import math
import random

import pytest

from taskrun.scheduling.walltime import MARGIN, Lengths, Walltime, length


def test_what_the_person_says_counts() -> None:
    time = Walltime(1000.0, 300.0, 5.0)
    time.measured(900.0)
    assert time.deadline == 1000 - 10 - MARGIN - 300
    assert time.look(679.0) == "open"
    assert time.why == ""
    assert time.look(680.0) == "closing"
    assert time.why == "the allocation ends too soon for another task: a task takes 5 min"
    assert time.deadline == 980
    assert time.look(980.0) == "over"
    assert (time.deadline, time.why) == (None, "the allocation ends")


def test_without_any_task_that_ended_everything_may_start() -> None:
    time = Walltime(1000.0, None, 5.0)
    assert time.look(979.0) == "open"
    assert time.look(980.0) == "over"


def test_the_estimate_is_of_what_tasks_took() -> None:
    time = Walltime(1000.0, None, 5.0)
    for _ in range(19):
        time.measured(1.0)
    time.measured(500.0)
    assert time.needs < 1.1
    for _ in range(20):
        time.measured(500.0)
    assert 500 <= time.needs < 530
    assert time.look(980.0 - 530) == "open"
    assert time.look(980.0 - 500) == "closing"
    assert time.why == "the allocation ends too soon for another task: of 20 tasks 19 took up to 9 min"


@pytest.mark.parametrize("seed", range(5))
def test_the_percentile_is_right_to_five_percent(seed: int) -> None:
    chance = random.Random(seed)
    lengths = Lengths()
    values = [chance.lognormvariate(2.0, 1.5) for _ in range(chance.randint(1, 3000))]
    for value in values:
        lengths.add(value)
    true = sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
    found = lengths.quantile(0.95)
    assert found is not None
    assert true * 0.999 <= found <= true * 1.06


def test_an_end_that_moves() -> None:
    time = Walltime(math.inf, 300.0, 5.0)
    assert time.look(1e9) == "open"
    time.move(1000.0)
    assert time.deadline == 680
    assert time.look(680.0) == "closing"
    time.move(2000.0)
    assert (time.deadline, time.look(1979.0), time.look(1980.0)) == (1980, "closing", "over")
    time.move(3000.0)
    assert (time.deadline, time.look(1980.0)) == (None, "over")


def test_lengths_in_words() -> None:
    assert [length(each) for each in (0.25, 45.0, 720.0, 12600.0)] == ["0.2 s", "45 s", "12 min", "3.5 h"]
