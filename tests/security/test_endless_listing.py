"""Lists without an end: of an SFTP server, of S3, of rclone, of folders that contain themselves. Each is cut off, and a Ctrl-C ends it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Taskrun, until
from sshd import Sshd

from taskrun.driver import cleaning
from taskrun.driver.completing import Patience
from taskrun.driver.outputs import Outputs
from taskrun.driver.places import new_places
from taskrun.engines.ssh_sessions import open_sftp
from taskrun.engines.streams import ProgramStream
from taskrun.staging.local import LocalStore
from taskrun.staging.locations import Location, Pattern, parse
from taskrun.staging.mover import Event, Mover, Staged
from taskrun.staging.rclone import RcloneStore
from taskrun.staging.s3 import S3Store
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import Cancelled, Listing, Permanent, StoreError
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Request

SERVER = str(Path(__file__).with_name("hostile_sftp.py"))

Hostile = Callable[[str], SftpStore]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """`hostile(what)`: a store behind that server, see hostile_sftp.py."""
    made: list[SftpStore] = []

    def make(what: str) -> SftpStore:
        made.append(SftpStore("evil", lambda: open_sftp(ProgramStream([sys.executable, "-I", SERVER, what], "sftp", 3.0)), "tag"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listing, "NAMES_MOST", 20_000)


@pytest.mark.parametrize("pattern", ["/data/*.txt", "/data/*", "/data/"])
def test_names_without_end(hostile: Hostile, small: None, pattern: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Permanent, match="evil: it lists more than 20000 names"):
        list(hostile("endless").find(Pattern(pattern)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_answers_without_names(hostile: Hostile, small: None) -> None:
    with pytest.raises(Permanent, match="more than"):
        list(hostile("empty").find(Pattern("/data/*")))


def test_time(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listing, "SECONDS", 0.3)
    monkeypatch.setattr(Listing, "SECONDS_EACH", 0.0)
    with pytest.raises(Permanent, match="has no end"):
        list(hostile("endless").find(Pattern("/data/*.txt")))


def test_a_folder_that_contains_itself(hostile: Hostile) -> None:
    with pytest.raises(Permanent, match="100 deep"):
        list(hostile("itself").find(Pattern("/data/")))
    with pytest.raises(Permanent, match="100 deep"):
        list(hostile("itself").walk("/data/", Listing()))


@pytest.mark.parametrize("what", ["slash", "nul", "long", "garbage"])
def test_names_that_cannot_be(hostile: Hostile, what: str) -> None:
    with pytest.raises(StoreError) as raised:
        list(hostile(what).find(Pattern("/data/*")))
    assert isinstance(raised.value, Permanent)


def test_the_folder_above_is_not_looked_into(hostile: Hostile) -> None:
    assert [entry.name for entry in hostile("up").find(Pattern("/data/*"))] == ["/data/good.txt"]


@pytest.mark.parametrize("what", ["endless", "empty"])
def test_nobody_wants_to_know_any_more(hostile: Hostile, what: str) -> None:
    over = threading.Event()
    threading.Timer(0.2, over.set).start()
    with pytest.raises(Cancelled):
        list(hostile(what).find(Pattern("/data/*.txt"), Listing(over.is_set)))


@pytest.mark.parametrize("what", ["endless", "stuck"])
def test_a_request_that_is_cancelled_ends_at_once(hostile: Hostile, tmp_path: Path, what: str) -> None:
    """Also while the server says nothing."""
    events: list[Event] = []
    store = hostile(what)
    stores = Stores(Settings(tmp_path, "tag"), lambda _: store)
    mover = Mover(stores, events.append, tmp_path)
    mover.stage(Request(1, parse("sftp://evil/data/*.txt"), parse("./")))
    until(lambda: mover._groups[1].tries == 1, 10, "it to look")
    mover.cancel(1)
    ended = [event for event in events if isinstance(event, Staged)]
    assert [failure.cause for failure in ended[0].failures] == ["cancelled"]
    store.close()
    mover.close(20)
    assert len([event for event in events if isinstance(event, Staged)]) == 1


def test_pages_of_s3_without_end(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tokens go round in a circle: a, b, a, b …"""
    store = S3Store("bucket")
    for page in ({}, {"Contents": [{"Key": f"x{number}", "Size": 1, "ETag": "e"} for number in range(1000)]}):

        def pages(page: Any = page, **_: Any) -> Iterator[Any]:
            while True:
                yield page

        client = SimpleNamespace(get_paginator=lambda _, pages=pages: SimpleNamespace(paginate=pages))
        monkeypatch.setattr(store, "_shared", SimpleNamespace(get=lambda client=client: client))
        with pytest.raises(Permanent, match="more than"):
            list(store.find(Pattern("y*")))


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('while :; do echo \'{"Path":"a","Size":1},\'; done', "more than"),
        ("head -c 1000000 /dev/zero | tr '\\0' x", "too long"),
        ('p=a; while :; do echo "{\\"Path\\":\\"$p\\",\\"Size\\":1},"; p=a/$p; done', "100 deep"),
    ],
)
def test_what_rclone_says_without_end(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, said: str) -> None:
    (tmp_path / "rclone").write_text(f'#!/bin/sh\ncase "$*" in *listremotes*) echo disk:; exit;; esac\n{listed}\n')
    (tmp_path / "rclone").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(RcloneStore, "_features", lambda _: {"Features": {}})
    with pytest.raises(Permanent, match=said):
        list(RcloneStore("disk", "tag").find(Pattern("y*")))


def test_folders_of_this_machine(tmp_path: Path, small: None) -> None:
    """A bind mount may contain itself. How many names there are is nobody else's doing."""
    folder = tmp_path
    for _ in range(101):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "x").touch()
    store = LocalStore(tmp_path, "tag")
    for look in (lambda: list(store.find(Pattern("./"))), lambda: list(store.walk("", Listing()))):
        with pytest.raises(Permanent, match="100 deep"):
            look()
    assert [entry.name for entry in store.find(Pattern("d/d/"), Listing())] == [f"{'d/' * 101}x"]
    with pytest.raises(Cancelled):
        list(store.find(Pattern("./"), Listing(lambda: True)))


def test_clean_is_interrupted(tmp_path: Path) -> None:
    said: list[str] = []
    places = new_places(tmp_path, "tag", 1, "", lambda _: None)
    (tmp_path / "x").touch()
    note = lambda _, text: said.append(text)  # noqa: E731
    assert cleaning.plans(cleaning.Scope("all", [], None, [], []), places, note, over=lambda: True) == []
    assert said == ["--clean was interrupted: nothing was removed"]
    assert places.of("./") == Location("local", "", "./")


@pytest.fixture
def evil(taskrun: Taskrun) -> Iterator[Callable[[str], str]]:
    """`evil(what)`: sftp:// of a real sshd that starts that server, known to taskrun."""
    made: list[Sshd] = []

    def start(what: str) -> str:
        sshd = Sshd()
        made.append(sshd)
        config = sshd.folder / "config"
        config.write_text(config.read_text() + f"ForceCommand {sys.executable} -I {SERVER} {what} {taskrun.folder}/began\n")
        sshd._process.send_signal(signal.SIGHUP)
        client = taskrun.folder / "ssh_config"
        client.write_text(
            f"Host evil\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile {sshd.folder}/user\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {sshd.folder}/known\n"
        )
        (sshd.folder / "known").write_text(f"[127.0.0.1]:{sshd.port} {(sshd.folder / 'host.pub').read_text()}")
        (taskrun.folder / "bin").mkdir()
        (taskrun.folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {client} "$@"\n')
        (taskrun.folder / "bin" / "ssh").chmod(0o755)
        taskrun.env["PATH"] = f"{taskrun.folder / 'bin'}:{taskrun.env['PATH']}"
        return "sftp://evil/data/"

    yield start
    for each in made:
        each.close()


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("scope", ["RUN", "TASK", "ENGINE"])
def test_the_first_ctrl_c_ends_it(taskrun: Taskrun, evil: Callable[[str], str], scope: str) -> None:
    """The tasks that waited for it have no record: they run when it is carried on."""
    where = evil("endless")
    running = taskrun.start(
        "tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": f"#TASKRUN STAGE-IN {scope} {where}*.txt in/\ntrue\n"}
    )
    until(lambda: (taskrun.folder / "began").exists() or running.process.poll() is not None, 20, "it to look")
    assert running.process.poll() is None, running.said()
    assert memory(running.pid) < 400 << 20
    running.send(signal.SIGINT)
    begun = time.monotonic()
    result = running.finish(20)
    assert result.code == 3, result.err
    assert time.monotonic() - begun < 15
    assert result.records() == []
    assert "Traceback" not in result.err


def test_a_host_whose_outputs_have_no_end() -> None:
    """A look is interrupted by the Ctrl-C; was it the last one there, what it was for is not delivered, and the run says so."""
    looking = threading.Event()

    def find(_: Any, listing: Listing) -> Iterator[Any]:
        while True:
            looking.set()
            listing.found("evil", "")
            yield from ()

    where = SimpleNamespace(pattern=None)
    staging: Any = SimpleNamespace(line=1, source="*.txt")
    stores = SimpleNamespace(of=lambda _: SimpleNamespace(find=find))
    places = SimpleNamespace(on=lambda *_: where, stores=stores)
    stager: Any = SimpleNamespace(
        places=places, out_stagings=[staging], open_files=None, own=lambda _: False, carrier=SimpleNamespace(wake=lambda: None)
    )
    outputs = Outputs(stager, Patience(0.0, 0.0), lambda _: None)
    outputs.live = {"evil"}
    for last in (False, True):
        if last:
            outputs.end("evil")
        looking.clear()
        outputs.tick()
        assert looking.wait(10)
        outputs.interrupt()
        assert outputs._looker is not None
        outputs._looker.join(10)
        outputs._look_at = float("inf")  # no other look
        outputs.tick()
        assert outputs.failed == ({("evil", "*.txt"): "the look for it was interrupted"} if last else {})
    assert not outputs.busy
