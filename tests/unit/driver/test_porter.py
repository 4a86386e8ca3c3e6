"""A node is free for others when nothing is to be fetched from there any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from taskrun.driver.porter import Porter
from taskrun.scheduling import messages as m


def test_a_node_is_given_back_when_its_outputs_are_here() -> None:
    said: list[str] = []
    members = {name: SimpleNamespace(name=name, shared=name == "near") for name in ("near", "far", "lost")}
    porter = Porter(lambda _: None)
    crew: Any = SimpleNamespace(members=members, leave=lambda _: None)
    places = SimpleNamespace(
        name=lambda member: "" if member.shared else member.name, hold=lambda _: None, let_go=lambda _: None, dismiss=lambda _: None
    )
    porter.crew = crew
    porter.stager = stager = SimpleNamespace(places=places, cancel=lambda *_: None)  # type: ignore[assignment]
    assert stager is not None
    outputs = SimpleNamespace(end=lambda place: said.append(f"end {place}"), lose=lambda place: said.append(f"lose {place}"))
    porter.data = SimpleNamespace(outputs=outputs)  # type: ignore[assignment]
    porter.free = lambda member: said.append(f"free {member.name}")
    porter._apart.update({name: members[name] for name in ("far", "lost")})  # type: ignore[arg-type]
    for name in ("near", "far"):
        porter.leave(m.Leave(name))
    for name in ("near", "far", "lost"):
        porter.left(members[name])  # type: ignore[arg-type]
        porter.post(m.LinkClosed(name, "it has left"))
    assert said == ["free near", "end far", "lose lost"]
    porter.let_go("far")
    assert said[3:] == ["free far"]
