"""Numbers in words."""

from __future__ import annotations

import pytest

from taskrun.observers.progress import Progress, Times, clock, plain_line, speed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (725, "12:05"),
        (3599.6, "1:00:00"),
        (86399, "23:59:59"),
        (90_000 * 2, "2 d 02 h"),
    ],
)
def test_a_time(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.6, "1,235/s"), (10, "10/s"), (9.96, "10.0/s"), (1, "1.0/s"), (0.5, "30.0/min"), (0.01, "36.0/h"), (1e-5, "0.0/h")],
)
def test_a_rate_has_a_unit_in_which_something_happens(rate: float, text: str) -> None:
    assert speed(rate) == text


def test_a_line() -> None:
    progress = Progress(done=12_345, failed=2, running=8, left=100, waiting="waiting at a barrier")
    assert plain_line(progress, Times(60.0, 200.0, 5.0)) == (
        "taskrun: 12,345 done · 8 running · 2 failed · 100 left · 200/s · 1:00 so far · about 5 s to go · waiting at a barrier"
    )
    assert plain_line(Progress(), Times(30.0)) == "taskrun: 0 done · 0 running · 30 s so far"
