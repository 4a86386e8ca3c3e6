"""What the view counts as running: what slots have started, not what an engine was given."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver.crew import Crew


@pytest.mark.parametrize(
    ("started", "worked", "running"),
    [(0, 0.0, 0), (2, 0.0, 2), (5, 0.0, 3), (0, 1e9, 3)],
    ids=["none has started", "two have", "more than slots", "short tasks are not named"],
)
def test_what_runs(started: int, worked: float, running: int) -> None:
    live = {number: SimpleNamespace(started=number < started) for number in range(6)}
    engines: Any = {"e": SimpleNamespace(name="e", live=live, slots=3)}
    crew: Any = SimpleNamespace(members={"e": SimpleNamespace(worked=time.monotonic() if worked else 0.0)})
    assert Crew.running(crew, engines) == running
    assert Crew.running(crew, {}) == 0
