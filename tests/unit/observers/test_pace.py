"""The rate and the time left, against simulated runs: what is said at a moment beside what then comes."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable

import pytest

from taskrun.observers.pace import KEPT, LEAST, Pace, longest_of

Said = dict[float, "float | None"]


def simulate(
    lengths: list[float], slots: int, every: float = 0.25, *, breaks: Callable[[int], bool] = lambda _: False
) -> tuple[float, Said]:
    """Runs tasks of these lengths in order; when it ended, and what was said at each look. `breaks(i)`: a barrier before task i."""
    pace = Pace(0.0)
    said: Said = {}
    running: list[tuple[float, float]] = []  # (ends, length)
    now, look, done = 0.0, every, 0
    fresh: list[float] = []
    place = 0
    while place < len(lengths) or running:
        while place < len(lengths) and len(running) < slots and not (breaks(place) and running):
            heapq.heappush(running, (now + lengths[place], lengths[place]))
            place += 1
        ends = running[0][0]
        while look < ends:
            pace.look(look, done, slots, tuple(fresh[-8:]), to_start=len(lengths) - place)
            said[look] = pace.left(len(lengths) - place, len(running))
            fresh.clear()
            look += every
        now, length = heapq.heappop(running)
        done += 1
        fresh.append(length)
    return now, said


def error_at(share: float, end: float, said: Said) -> float:
    """What was said about the end at this share of the run, as a share of what was to come: 0 is right, 1 is twice as long."""
    at = min(said, key=lambda moment: abs(moment - share * end))
    left = said[at]
    assert left is not None
    return left / (end - at) - 1


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("slots", [2, 8, 64])
def test_at_half_of_a_run_of_mixed_lengths_it_is_right_within_a_fifth(sigma: float, slots: int) -> None:
    errors = []
    for seed in range(8):
        draw = random.Random(seed)
        lengths = [draw.lognormvariate(0.0, sigma) for _ in range(max(600, 100 * slots))]
        errors.append(error_at(0.5, *simulate(lengths, slots)))
    assert abs(statistics.median(errors)) < 0.1
    assert sum(abs(error) < 0.2 for error in errors) >= (6 if sigma == 1.0 else 8)  # then chance alone is worth a tenth


def test_it_is_right_from_early_to_late_with_equal_lengths() -> None:
    end, said = simulate([10.0] * 80, 8)
    assert end == 100
    for at, left in said.items():
        if at >= 10.5:
            assert left == pytest.approx(end - at, abs=3.0), at
        elif at < 10:
            assert left is None


def test_a_giant_does_not_spoil_it() -> None:
    """One task takes as long as hundreds of others, on a slot of its own."""
    draw = random.Random(3)
    lengths = [190.0] + [draw.lognormvariate(0.0, 0.7) for _ in range(500)]
    end, said = simulate(lengths, 4)
    assert end > 150
    assert abs(error_at(0.3, end, said)) < 0.2
    assert abs(error_at(0.6, end, said)) < 0.2


def test_half_of_the_slots_taken_by_a_giant_are_counted_as_taken() -> None:
    end, said = simulate([400.0] + [1.0] * 400, 2)
    assert abs(error_at(0.5, end, said)) < 0.1


def test_it_never_says_nothing_while_a_long_one_runs() -> None:
    end, said = simulate([1.0] * 100 + [60.0], 4)
    late = [left for at, left in said.items() if at > end - 50]
    assert all(left is not None and left >= LEAST for left in late)
    assert late[-1] > 20  # as it has gone on for a minute, the end is not taken for near


def test_pauses_at_barriers_are_in_it() -> None:
    draw = random.Random(5)
    lengths = [draw.lognormvariate(0.0, 0.8) for _ in range(800)]
    end, said = simulate(lengths, 8, breaks=lambda number: number % 16 == 0)
    assert abs(error_at(0.5, end, said)) < 0.2


def test_slots_that_come_later_are_counted() -> None:
    pace = Pace(0.0)
    for second in range(1, 101):
        pace.look(float(second), 2 * second, 2, (1.0,), to_start=10_000)
    assert pace.left(2000, 2) == pytest.approx(1000, rel=0.1)
    pace.look(100.5, 201, 20, (1.0,), to_start=10_000)
    assert pace.left(2000, 20) == pytest.approx(100, rel=0.1)


def test_the_rate_is_of_late() -> None:
    pace = Pace(0.0)
    assert pace.rate is None
    for second in range(1, 61):
        pace.look(float(second), 100 * min(second, 30) + max(0, second - 30), 2, (), to_start=None)
    assert pace.rate == pytest.approx(1, rel=0.1)


def test_the_rate_of_tasks_of_hours_is_not_none_between_two_ends() -> None:
    pace = Pace(0.0)
    for minute in range(1, 1000):
        pace.look(60.0 * minute, minute // 90, 1, (), to_start=None)
    assert pace.rate == pytest.approx(1 / 5400, rel=0.2)


def test_before_anything_has_ended_nothing_is_said() -> None:
    pace = Pace(0.0)
    pace.look(5.0, 0, 4, (), to_start=10)
    assert pace.left(10, 4) is None
    assert pace.left(0, 0) == 0.0


def test_it_keeps_the_same_little_however_long_the_run_is() -> None:
    pace = Pace(0.0)
    for number in range(1, 50_000):
        pace.look(0.25 * number, 100 * number, 64, (0.5, 0.6), to_start=10**9)
    assert len(pace.moments) <= KEPT
    assert pace.left(12_500_000, 64) == pytest.approx(31_250, rel=0.02)


@pytest.mark.parametrize(("count", "waited", "left"), [(1, 0.0, 5.0), (4, 0.0, 8.0), (1, 5.0, 2.5), (3, 10.0, 0.0), (3, 99.0, 0.0)])
def test_what_the_longest_of_some_still_takes(count: int, waited: float, left: float) -> None:
    assert longest_of([10.0] * 5, count, waited) == pytest.approx(left)
    assert longest_of([], count, waited) == 0.0
