"""What places are called, and which of them can be reached: also of hosts whose names others choose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver.places import Folder, Places, new_places
from taskrun.engines.relayed import RelayedAgent
from taskrun.engines.request import EngineRequest
from taskrun.engines.slurm import StepHost
from taskrun.errors import Refused
from taskrun.staging.locations import Location


@pytest.fixture
def places(tmp_path: Path) -> Places:
    steps: Any = SimpleNamespace()
    return new_places(tmp_path, "tag", 1, "", lambda _: None, nodes={"node1": StepHost("node1", steps)})


def attached(context: str, address: str, cwd: str = "/w", *, gone: bool = False, rank: int = 0) -> Any:
    agent = RelayedAgent(SimpleNamespace(gone=gone), 1, address)  # type: ignore[arg-type]
    for link in (agent.link, agent.far):
        link.close()
    request = EngineRequest(address.rpartition("@")[2], 1, 1, 1, "relay", address)
    return SimpleNamespace(
        name=f"{address}_{context}_{rank}", context=context, request=request, shared=False, cwd=cwd, offset=0.0, agent=agent
    )


def named(places: Places, member: Any) -> str:
    places.admit(member)
    return places.name(member)


def test_who_attaches_takes_nobody_elses_name(places: Places) -> None:
    own: Any = attached("SSH0", "gpu01")
    own.request = own.request._replace(reach="ssh")
    assert named(places, own) == "gpu01"
    assert named(places, attached("SSH1", "gpu01")) == "SSH1,gpu01"
    assert named(places, attached("SSH1", "gpu01", rank=1)) == "SSH1,gpu01"  # in the place of a lost one
    assert named(places, attached("mine", "gpu01")) == "mine,gpu01"
    assert places.folders["gpu01"].reach == "ssh"
    text = str(places.on("mine,gpu01", "a/b"))
    assert places.recorded(text) == Location("engine", "mine,gpu01", "a/b")


def test_who_comes_back_finds_his_folder_again(places: Places) -> None:
    for name, path in (("SSH0,a", "/w"), ("SSH1,a", "/x"), ("SSH1,b", "/w")):
        places.remember(Folder(name, path, 0.0, "relay"))
    assert named(places, attached("SSH1", "a", gone=True)) == "SSH0,a"  # as in the earlier run, by another name
    assert named(places, attached("SSH2", "a")) == "SSH0,a"  # who had it has gone
    assert named(places, attached("SSH3", "a")) == "SSH3,a"  # two of the same name at a time
    assert named(places, attached("SSH1", "b", "/y")) == "SSH1.2,b"  # not where it was


def test_one_that_was_of_no_use_leaves_nothing(places: Places) -> None:
    places.remember(before := Folder("SSH0,a", "/w", 1.0, "relay"))
    for member in (attached("SSH0", "a"), attached("SSH0", "b")):
        places.admit(member)
        places.expel(member)
    assert places.folders == {"SSH0,a": before}
    assert not places.contexts


def test_what_cannot_be_reached_is_said(places: Places) -> None:
    for folder in (Folder("node1", "/w", 0.0, "slurm"), Folder("node7", "/w", 0.0, "slurm"), Folder("SSH0,me@a", "/w", 0.0, "relay")):
        places.remember(folder)
    assert places.stores.of(Location("engine", "node1", ""))
    for name, said in (("node7", "node7 is no node of this job"), ("SSH0,me@a", "nobody has attached a to this run")):
        with pytest.raises(Refused, match=said):
            places.stores.of(Location("engine", name, ""))
