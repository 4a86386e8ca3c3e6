"""Starts of a job in which no task ended."""

from __future__ import annotations

from taskrun.driver.starts import IdleStarts


def test_two_in_a_row_are_enough() -> None:
    one = IdleStarts(0, 7).after(9, ended=False, at_limit=True)
    assert (one, one.is_hopeless) == (IdleStarts(1, 9), False)
    assert one.after(9, ended=False, at_limit=True).is_hopeless
    assert one.after(9, ended=False, at_limit=False) == one, "preempted: it says nothing about the time"
    assert one.after(9, ended=True, at_limit=True) == IdleStarts(0, 9)
