"""Somebody attaches and calls the host by the address of another one: that lifts no fence, gives no node back, tells no folders."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Taskrun, until

from taskrun.agent import wire
from taskrun.driver.admission import Admission
from taskrun.driver.briefing import Common
from taskrun.driver.drive import Drive
from taskrun.driver.member import Member
from taskrun.engines import frames
from taskrun.engines.request import EngineRequest

FACTS = {"python": "3.11", "cores": 1, "host": "x", "memory": 1, "perl": False, "parallel": ""}


def member(context: str, reach: Any, tmp_path: Any, address: str = "far") -> Member:
    made = Member(context, EngineRequest(address, 1, 1, 1, reach, address), 0, tmp_path / "run")
    made.ready, made.joined, made.cleared = True, True, False
    return made


@pytest.fixture
def admission() -> Admission:
    common = Common({"env": {}, "run": "r", "starter": "builtin", "share": {}, "cwd": "/"}, {"env": {}, "token": {}, "workdir": ""})
    return Admission(common, {}, {}, lambda *_: None, lambda _: None, require_all=False)


def test_only_the_connection_of_the_run_itself_clears_a_host(admission: Admission, tmp_path: Any) -> None:
    survivors = admission.survivors
    later = time.monotonic() + 100
    survivors.expect(["old"], {"far": later, "SSH0,far": later}, anybody=False)
    for context in ("SSH0", "SSH1", "far"):
        admission.cleared(member(context, "relay", tmp_path), frames.Cleared())
        assert set(survivors.ends(time.monotonic())) == {"far", "SSH0,far"}
    admission.cleared(member("SSH0", "ssh", tmp_path), frames.Cleared())
    assert set(survivors.ends(time.monotonic())) == {"SSH0,far"}  # that one was attached: only its silence ends it
    assert survivors.unsure


def test_in_the_place_of_a_lost_engine_it_speaks_for_its_own_context_alone(admission: Admission, tmp_path: Any) -> None:
    survivors = admission.survivors
    survivors.silence = 100.0
    for lost in (member("SSH0", "ssh", tmp_path), member("SSH1", "relay", tmp_path), member("SSH2", "relay", tmp_path)):
        survivors.lost(lost.place, time.monotonic())
    back = member("SSH2", "relay", tmp_path)
    back.replaces, back.cleared = True, True
    admission._look_at(back)
    assert set(survivors.ends(time.monotonic())) == {"far", "SSH1,far"}


def test_the_private_folders_of_a_host_are_told_to_that_host_alone(admission: Admission, tmp_path: Any) -> None:
    told: list[Any] = []
    admission._send = lambda _, config: told.append(config)
    admission.visits = {"SSH1": SimpleNamespace(shares=lambda _: {}, variables=lambda _: {}, workdir="")}  # type: ignore[dict-item]
    hello = frames.Hello(wire.PROTOCOL, FACTS)
    for each in (member("SSH0", "ssh", tmp_path), member("SSH1", "relay", tmp_path)):
        each.joined = each.ready = False
        admission.hello(each, hello)
        admission.ready(each, frames.Ready("builtin", True, 1.0, 1.0, folder=f"/tmp/{each.folder}"))
    assert sorted(admission.folders) == ["SSH1,far", "far"]
    assert [len(folders) for folders in admission.folders.values()] == [1, 1]


def test_a_resume_waits_although_somebody_says_that_the_host_is_clear(taskrun: Taskrun) -> None:
    """The earlier run's host `far` cannot be reached; who attaches has a machine that it calls so, and on which nothing is left."""
    first = taskrun("tasks.txt", "-p", "run", "-s", "localhost:1", files={"tasks.txt": "true\ntrue\n"})
    assert first.code == 0, first.err
    sidecar = taskrun.folder / "run_run.json"
    values = json.loads(sidecar.read_text())
    values |= {"ended": None, "started": time.time(), "contexts": [{"kind": "ssh", "label": "SSH0", "hosts": {"far": 1}}]}
    values["options"]["lost_after"] = {"value": 8, "origin": "flag"}
    sidecar.write_text(json.dumps(values))
    status = taskrun.folder / "run_status.txt"
    status.write_text("".join(status.read_text().splitlines(keepends=True)[:-1]))
    (taskrun.folder / "far").write_text('#!/bin/sh\nexec /bin/sh -c "$2"\n')
    (taskrun.folder / "far").chmod(0o755)
    again = taskrun.start("-r", "run_status.txt", "-p", "again", "-s", "localhost:1", "--use-address", "127.0.0.1:0")
    until(lambda: (taskrun.folder / "again_attach.json").exists() or again.process.poll() is not None, 20, "the door to open")
    fence = json.loads((taskrun.folder / "again_run.json").read_text())["elsewhere"]["hosts"]["far"]
    guest = taskrun.start("attach", "again", "-s", "far:1", "--ssh", "./far")
    result = again.finish(60)
    assert result.code == 0, result.err
    guest.finish()
    joined = [event["t"] for event in result.events("engine") if event["what"] == "joined"]
    assert "tasks of the earlier run may still run on far" in result.err
    assert joined
    assert min(joined) > fence - 0.5  # not before its silence has ended what may be left


def test_a_node_of_the_job_is_not_given_back_for_somebody_elses(tmp_path: Any) -> None:
    said: list[Any] = []
    drive = Drive.__new__(Drive)
    ended = lambda node, code, lost: said.append(("ended", node, code, lost))  # noqa: E731
    drive.retirement = SimpleNamespace(came_back=lambda node: said.append(("back", node)), ended=ended)  # type: ignore[assignment]
    for reach in ("relay", "slurm"):
        one = member("J1", reach, tmp_path)
        one.agent = SimpleNamespace(code=0)  # type: ignore[assignment]
        drive.is_used(one)
        drive.is_free(one)
    assert said == [("back", "far"), ("ended", "far", 0, False)]
