"""One event a minute for each engine that works, and none while it has said nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskrun.driver import sampling
from taskrun.driver.member import Member
from taskrun.engines.frames import Beat
from taskrun.engines.request import EngineRequest


class Events:
    def __init__(self) -> None:
        self.seen: list[tuple[str, float, int]] = []

    def event(self, kind: str, _: float, **fields: Any) -> None:
        assert kind == "sample"
        self.seen.append((fields["engine"], fields["load"], fields["memory"]))


def test_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 1000.0
    monkeypatch.setattr(sampling.time, "monotonic", lambda: now)
    members = [Member("c", EngineRequest(host, 1, 1, 1), 0, tmp_path / "run") for host in ("a", "b", "mute")]
    events: Any = Events()
    sampler = sampling.Sampling(lambda: members, events)
    members[0].available = members[2].available = True
    members[0].beat = members[1].beat = Beat(1.5, 100, 1)
    for _ in range(200):
        now += 1.0
        sampler.tick()
    assert events.seen == [("a_0", 1.5, 100)] * 3
