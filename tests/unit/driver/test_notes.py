"""What several hosts say within a moment is one line."""

from __future__ import annotations

import pytest

from taskrun.driver import notes


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(notes, "time", made)
    return made


@pytest.mark.parametrize(
    ("count", "said"), [(1, "h0"), (2, "h0, h1"), (4, "h0, h1, h2, h3"), (5, "h0, h1 and 3 others"), (93, "h0, h1 and 91 others")]
)
def test_hosts_with_the_same_to_say(clock: Clock, count: int, said: str) -> None:
    lines: list[str] = []
    collected = notes.Notes(lines.append)
    for number in range(count):
        collected.add(f"h{number}", "no room")
    collected.add("h0", "no room")
    collected.add("h0", "no light")
    collected.step()
    assert lines == []
    clock.now += notes.QUIET
    collected.step()
    assert lines == [f"{said}: no room", "h0: no light"]
    collected.flush()
    assert len(lines) == 2


def test_nothing_waits_for_ever(clock: Clock) -> None:
    lines: list[str] = []
    collected = notes.Notes(lines.append)
    while clock.now < 100.0 + notes.WAIT_MOST + notes.QUIET:
        collected.add(f"h{clock.now:g}", "no room")
        collected.step()
        clock.now += notes.QUIET / 2
    assert len(lines) == 1
    collected.add("the_last_of_all", "no room")
    collected.flush()
    assert lines[1].endswith("the_last_of_all: no room")
