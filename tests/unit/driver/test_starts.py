"""Starts of a job in which no task ended."""

from __future__ import annotations

from taskrun.driver.starts import IdleStarts


def test_two_in_a_row_are_enough() -> None:
    none = IdleStarts(0, 7)
    one = none.after(ended=False, at_limit=True)
    assert (one, one.is_hopeless) == (IdleStarts(1, 7), False)
    assert one.after(ended=False, at_limit=True).is_hopeless
    assert one.after(ended=False, at_limit=False) == one, "preempted: it says nothing about the time"
    assert one.after(ended=True, at_limit=True) == IdleStarts()
