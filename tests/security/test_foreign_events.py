"""An events file that somebody else has written to brings about nothing beyond the run's own times, hosts and files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Taskrun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskrun.driver import cleaning
from taskrun.driver.deliveries import Earlier, Span, earlier
from taskrun.driver.places import Folder, Places, new_places
from taskrun.engines.request import is_address

RUN: dict[str, Any] = {
    "v": 1, "run_id": "r", "version": "1", "argv": [], "cwd": "/", "status": "run_status.txt", "options": {"workdir": {"value": "/w"}},
    "contexts": [{"kind": "ssh", "label": "SSH0", "hosts": {"host1": 1, "-oProxyCommand=x": 1}},
                 {"kind": "attached", "label": "friend", "hosts": {"host2": 1}, "workdir": "/f"}],
    "host": "h", "pid": 1, "boot_id": "b", "started": 1000.0, "ended": 2000.0, "stream_complete": True,
}  # fmt: skip
DELIVERY = {
    "kind": "transfer", "cause": "ok", "source": "s3://b/x", "dest": "mine.txt", "size": 4, "sha256": "0", "source_size": 4,
    "source_sha256": "0", "source_version": "v", "dest_version": "v", "verified": "size", "how": "moved", "recipients": [], "signer": None,
    "seconds": 1.0, "tries": 1,
}  # fmt: skip


def record(folder: Path, events: list[Any], **sidecar: Any) -> Path:
    (folder / "run_run.json").write_text(json.dumps(RUN | sidecar))
    (folder / "run_events.jsonl").write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    (folder / "run_status.txt").write_text("")
    return folder / "run_status.txt"


def spans(found: Earlier) -> list[tuple[float, float]]:
    return [(each.since, each.until) for each in found.spans if each.since <= each.until]


def test_times_are_limited_by_the_sidecar(tmp_path: Path) -> None:
    prefix = str(tmp_path / "run")
    events = [
        {"kind": "place", "what": "worked", "since": 0, "until": 1e11, "prefix": prefix},
        {"kind": "place", "what": "worked", "since": 0, "until": 1e12, "prefix": str(tmp_path / "other")},
        {"kind": "run", "what": "start", "t": 1},
        {"kind": "run", "what": "end", "t": 1e11},
    ]
    assert spans(earlier([record(tmp_path, events)])) == [(1000.0, 2000.0)]
    assert spans(earlier([record(tmp_path, events, ended=None)]))[0][1] == pytest.approx(time.time(), abs=60)
    (tmp_path / "run_run.json").unlink()
    assert spans(earlier([tmp_path / "run_status.txt"])) == []


def test_a_run_that_was_carried_on_is_limited_by_its_own_sidecar(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for each in (first, second):
        each.mkdir()
    record(first, [])
    events = [{"kind": "place", "what": "worked", "since": 0, "until": 1e11, "prefix": str(first / "run")}]
    status = record(second, events, started=5000.0, ended=6000.0, resumed_from=[str(first / "run_status.txt")])
    assert spans(earlier([status])) == [(1000.0, 2000.0)]
    record(first, [], ended=None)  # it was killed: until the second took over
    assert spans(earlier([status])) == [(1000.0, 5000.0)]


def test_earlier_starts_in_the_same_file_count(tmp_path: Path) -> None:
    events = [{"kind": "run", "what": "start", "t": 600.0}, {"kind": "run", "what": "end", "t": 700.0}]
    assert spans(earlier([record(tmp_path, events)])) == []
    assert spans(earlier([record(tmp_path, events, before={"began": 500.0})])) == [(600.0, 700.0)]


@pytest.mark.parametrize(
    ("address", "path", "reach"),
    [
        ("host9", "/w", "ssh"),  # no host of the run
        ("host1", "/home/me", "ssh"),  # not its working directory
        ("host1", "/w/../home", "ssh"),
        ("-oProxyCommand=x", "/w", "ssh"),
        ("$(id)", "/w", "ssh"),
        ("host2", "/f", "relay"),  # attached ones are called CONTEXT,ADDRESS
        ("stranger,host2", "/f", "relay"),
        (["host1"], "/w", "ssh"),
        ("host1", "/w", ["ssh"]),
    ],
)
def test_folders_of_hosts_are_limited_by_the_sidecar(tmp_path: Path, address: object, path: str, reach: object) -> None:
    event = {"kind": "place", "what": "used", "address": address, "path": path, "offset": 0.0, "reach": reach}
    assert earlier([record(tmp_path, [event])]).folders == ()


def test_folders_that_the_run_has_used(tmp_path: Path) -> None:
    events = [
        {"kind": "place", "what": "used", "address": "host1", "path": "/w", "offset": 1e9, "reach": "ssh"},
        {"kind": "place", "what": "used", "address": "friend,host2", "path": "/f", "offset": 1.0, "reach": "relay"},
        {"kind": "place", "what": "used", "address": "friend.2,host2", "path": "/f", "offset": 1.0, "reach": "relay"},
    ]
    assert earlier([record(tmp_path, events)]).folders == (
        Folder("host1", "/w", 0.0, "ssh"),  # a clock that is so far off says nothing of times
        Folder("friend,host2", "/f", 1.0, "relay"),
        Folder("friend.2,host2", "/f", 1.0, "relay"),
    )


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "a b", "$(id)", "a;b", "`id`", "me@-x", "-me@x", "a\nb", "a'b", ""])
def test_what_is_no_host(name: str) -> None:
    assert not is_address(name)


@pytest.mark.parametrize("name", ["gpu01", "me@gpu01.example.org", "DOM\\me@gpu01", "::1", "fe80::1%eth0", "a_b-c"])
def test_what_is_a_host(name: str) -> None:
    assert is_address(name)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.sampled_from(
    ["mine.txt", "./mine.txt", "engine://host1/w/mine.txt", "engine://x/y", "s3://b/x", "sftp://[x/", "disk:a", "\0", ""]
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["transfer", "place", "run"]), "what": st.sampled_from(["worked", "used", "swept", "start", "end"]),
        "way": st.sampled_from(["in", "out"]) | ANYTHING, "cause": st.sampled_from(["ok", "carried"]) | ANYTHING,
        "t": st.floats() | ANYTHING, "since": st.floats() | ANYTHING, "until": st.floats() | ANYTHING, "prefix": TEXTS | ANYTHING,
        "source": TEXTS | ANYTHING, "dest": TEXTS | ANYTHING, "address": st.sampled_from(["host1", "friend,host2"]) | ANYTHING,
        "path": st.sampled_from(["/w", "/"]) | ANYTHING, "offset": st.floats() | ANYTHING, "reach": ANYTHING,
        "dest_version": st.text(max_size=5) | ANYTHING, "recipients": ANYTHING, "seconds": ANYTHING, "signer": ANYTHING,
        "how": TEXTS | ANYTHING,
    },
)  # fmt: skip
LINES = st.lists(CLAIMS | CLAIMS.map(lambda claim: DELIVERY | claim), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.sampled_from(["output", "encrypted", "all"]), st.booleans())
def test_whatever_it_says_no_file_of_others_goes(tmp_path: Path, events: list[Any], mode: Any, honest: bool) -> None:
    """`mine.txt` is older than the run: it stays, also where its right version is claimed."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    (work / "mine.txt").write_text("mine")
    found = (work / "mine.txt").stat()
    if honest:
        version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
        events = [{**DELIVERY, "way": "in", "dest_version": version}, *events]
    told = earlier([record(tmp_path, events)])  # the run ended long before the file was made
    removals: list[str] = []
    places = new_places(work, "tag", 1, "", lambda _: None)
    for folder in told.folders:
        places.remember(folder)
    every = {*told.inputs, *told.outputs}
    for removing in plans_here(mode, places, told, every):
        removals += [each.path for each in removing.plan.remove]
    assert removals == []


def plans_here(mode: Any, places: Places, told: Earlier, every: set[Any]) -> list[cleaning.Removing]:
    places.folders.clear()  # no host is asked here
    return cleaning.plans(cleaning.Scope(mode, told.spans, None, told.inputs, told.outputs, every), places, lambda *_: None)


def test_a_line_in_the_events_of_a_run_removes_nothing(taskrun: Taskrun) -> None:
    """`since 0 until 1e11`, and an input that it never fetched."""
    text = f"#TASKRUN STAGE-IN {taskrun.folder}/src/ in/\ntrue\n"
    first = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text, "src/a": "a", "mine.txt": "m", "other": "o"})
    assert first.code == 0, first.err
    for name in ("mine.txt", "other"):
        os.utime(taskrun.folder / name, (1, 1))
    found = (taskrun.folder / "mine.txt").stat()
    lines = [
        {"kind": "place", "what": "worked", "since": 0, "until": 1e11, "prefix": str(taskrun.folder / "run")},
        {"kind": "transfer", "way": []},
        {"kind": "place", "what": [], "address": {}, "path": 1},
        DELIVERY | {"way": "in", "dest_version": f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}", "dest": "mine.txt"},
    ]
    with (taskrun.folder / "run_events.jsonl").open("a") as file:
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    again = taskrun("-r", "run_status.txt", "-p", "again", "--clean", "all", "-s", "localhost:1")
    assert again.code == 0, again.err
    assert "Traceback" not in again.err
    assert (taskrun.folder / "other").exists()
    assert (taskrun.folder / "mine.txt").exists()
    assert not (taskrun.folder / "in" / "a").exists()


def test_the_span_of_the_run_itself(tmp_path: Path) -> None:
    assert Span(1.0, 0.0, str(tmp_path / "run")) in earlier([record(tmp_path, [])]).spans  # its files are known for a run's own
