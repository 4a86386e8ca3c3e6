"""What guests ask for is done when it comes, although the scheduler hears of it a turn of the loop later."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver import held
from taskrun.driver.survivors import Survivors
from taskrun.driver.visits import Visits
from taskrun.engines import attach_frames as at
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler
from taskrun.status.events import EventsWriter

OFFER = at.Offer("friend", "friend", 1, 1, 1, {}, {})


class Guest:
    """One that has proved to know the secret."""

    peer = "127.0.0.1"
    here = True

    def __init__(self) -> None:
        self.context = ""
        self.gone = False
        self.heard: list[at.Message] = []

    def tell(self, message: at.Message) -> None:
        self.heard.append(message)

    def dismiss(self, message: at.Message) -> None:
        self.heard.append(message)
        self.gone = True

    def log(self, level: str, text: str) -> None:
        raise AssertionError(text)


class Crew:
    """Says what it would do."""

    def __init__(self) -> None:
        self.visits: dict[str, Any] = {}
        self.members: dict[str, Any] = {}
        self.admission = SimpleNamespace(require_all=False)
        self.posted: list[m.Event] = []
        self.seats: dict[str, Any] = {}
        self.survivors = Survivors()
        self.any = True

    def add_context(self, joined: m.ContextJoined, _: Any) -> None:
        self.posted.append(joined)

    def context_gone(self, context: str, why: str) -> None:
        self.posted.append(m.ContextGone(context, why))

    def post(self, event: m.Event) -> None:
        self.posted.append(event)

    def has_any(self, _: str) -> bool:
        return self.any


@pytest.fixture
def visits(tmp_path: Path) -> Visits:
    nothing: Any = lambda *_: None  # noqa: E731
    picture: Any = SimpleNamespace(show=dict)
    crew: Any = Crew()
    return Visits(crew, Scheduler(Policy()), picture, EventsWriter(tmp_path / "events", sync_seconds=60), nothing, nothing)


def test_what_a_resume_need_not_wait_for_is_said_when_it_is_certain(visits: Visits) -> None:
    crew: Any = visits.crew
    guest = join(visits)
    for event in crew.posted:
        visits.scheduler.handle(event, 1.0)
    guest.gone = True
    visits.gone(guest, "it was closed")
    given = crew.visits["SSH0"].given
    visits.tick()
    assert "left" not in given  # an engine of it is not gone yet
    crew.any = False
    crew.survivors.silence = 1000.0
    crew.survivors.lost("friend", time.monotonic())  # an own host of that address is another one
    crew.survivors.lost("SSH0,friend", time.monotonic())
    visits.tick()
    assert "left" not in given  # and may live on
    crew.survivors.back("SSH0,friend")
    visits.tick()
    assert "left" in given


def join(visits: Visits, label: str = "") -> Any:
    guest: Any = Guest()
    visits.join(guest, at.Join(label, 0, -1.0, [OFFER], "", {}))
    return guest


@pytest.mark.parametrize(
    ("near", "space", "here"), [(True, held.space(), True), (True, "x", False), (True, "", False), (False, held.space(), False)]
)
def test_who_comes_through_a_tunnel_is_elsewhere(visits: Visits, near: bool, space: str, here: bool) -> None:
    """Its connection is one of this machine with itself, and its host may even have the same name: a resume waits for it all the same."""
    guest: Any = Guest()
    guest.here = near
    visits.join(guest, at.Join("", 0, -1.0, [OFFER], "", {}, space=space))
    crew: Any = visits.crew
    assert crew.visits["SSH0"].given["here"] is here


def test_no_space_is_not_the_same_space(visits: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "space", lambda: "")
    join(visits)
    crew: Any = visits.crew
    assert crew.visits["SSH0"].given["here"] is False


def test_names_without_end(visits: Visits) -> None:
    """All that ever came stand in the sidecar, which is written anew each time."""
    offers = [OFFER._replace(address=f"{number}".ljust(400, "a")) for number in range(1000)]
    heard = []
    for _ in range(20):
        guest: Any = Guest()
        visits.join(guest, at.Join("", 0, -1.0, offers, "", {}))
        visits.gone(guest, "it was closed")
        guest.gone = True
        heard += guest.heard
    assert heard[:10] == [at.Joined(f"SSH{number}") for number in range(10)]
    assert set(heard[10:]) == {
        at.Refusal("the contexts that were attached to this run have named all the hosts that it can keep a record of")
    }
    assert join(visits).context == "SSH10"


def test_two_that_come_at_once(visits: Visits) -> None:
    guests = [join(visits), join(visits), join(visits, "mine"), join(visits, "mine")]
    assert [guest.context for guest in guests] == ["SSH0", "SSH1", "mine", "mine.2"]


def test_one_that_comes_when_it_is_time_to_look_at_all(visits: Visits) -> None:
    guest = join(visits)
    visits.tick()
    assert guest.heard == [at.Joined("SSH0")]


def test_one_that_goes_as_soon_as_it_has_come(visits: Visits) -> None:
    guest = join(visits)
    guest.gone = True
    visits.gone(guest, "it was closed")
    posted: Any = visits.crew
    assert posted.posted[-1] == m.ContextGone("SSH0", "it was closed")


def test_one_that_is_told_to_leave_as_soon_as_it_has_come(visits: Visits) -> None:
    guest = join(visits)
    visits.detach(guest, at.Detach("", now=False))
    posted: Any = visits.crew
    assert posted.posted[-1] == m.Detach("SSH0", now=False)
