"""The one rclone that carries out the calls of a store: it ends with the store and with the driver, and tells nobody its password."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cloud import Cloud
from harness import MARK, processes, until
from staging.conftest import Apart, Moving
from staging.places import Places
from staging.proxy import Asked, Proxy

from taskrun.staging import rclone
from taskrun.staging.locations import Target, parse
from taskrun.staging.rclone import RcloneStore
from taskrun.staging.store import Denied, Entry, Missing, Permanent, Summed, Transient
from taskrun.staging.stores import Stores


def servers() -> dict[int, str]:
    """Processes that this test has started: the shell that keeps it, and rclone."""
    return {pid: line for pid, line in processes(os.environ[MARK]).items() if "rcd" in line.split()}


@pytest.fixture
def disk(rclone_config: Path) -> Iterator[RcloneStore]:
    made = RcloneStore("disk", "test", config=rclone_config)
    yield made
    made.close()
    assert not servers()


@pytest.fixture
def cloud_store(places: Places, rclone_config: Path) -> Iterator[RcloneStore]:
    del places
    made = RcloneStore("cloud", "test", config=rclone_config)
    yield made
    made.close()


@pytest.fixture
def proxy(buckets: Cloud, places: Places, rclone_config: Path) -> Iterator[Proxy]:
    del places
    made = Proxy(buckets.endpoint)
    rclone_config.write_text(rclone_config.read_text().replace(buckets.endpoint, made.endpoint))
    yield made
    made.close()


def test_it_begins_with_the_first_call_and_ends_with_the_store(disk: RcloneStore) -> None:
    assert not servers()
    assert disk.stat("x") is None
    assert len(servers()) == 2
    disk.stat("y")
    assert len(servers()) == 2
    disk.close()
    assert not servers()
    with pytest.raises(Transient, match="was ended"):
        disk.stat("x")


def test_nobody_reads_its_password_in_a_list_of_processes(disk: RcloneStore) -> None:
    disk.stat("x")
    for pid, line in servers().items():
        env = dict(each.partition("=")[::2] for each in Path(f"/proc/{pid}/environ").read_text().split("\0"))
        for name in ("RCLONE_RC_USER", "RCLONE_RC_PASS"):
            assert len(env[name]) >= 16
            assert env[name] not in line


def test_nobody_else_is_answered(disk: RcloneStore) -> None:
    disk.stat("x")
    assert disk._server is not None
    process = disk._server._process
    assert process is not None
    process.headers = process.headers.replace("Basic ", "Basic AA")
    with pytest.raises(Denied):
        disk.digest(Entry("x", 1), "sha256")


def test_it_begins_anew_when_it_was_killed(disk: RcloneStore, tmp_path: Path) -> None:
    (tmp_path / "disk" / "x").write_bytes(b"x")
    disk.stat("x")
    process = next(pid for pid, line in servers().items() if not line.startswith("/bin/sh"))
    os.kill(process, signal.SIGKILL)
    until(lambda: disk._server is not None and disk._server._process is not None and disk._server._process.ended, what="its end")
    found = disk.stat("x")
    assert found is not None
    assert b"".join(disk.read(found)) == b"x"


KILLED = """
store = stores.of(parse("disk:x"))
store.stat("x")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_when_the_driver_is_killed(apart: Apart) -> None:
    done = apart(KILLED)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not servers(), what="the end of rclone")


def test_what_errors_mean(disk: RcloneStore, cloud_store: RcloneStore, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(Transient, match=r"disk:gone: .*not found"):
        list(disk.read(Entry("gone", 1)))
    with pytest.raises(Missing, match="not found"):
        disk._call("gone", "operations/deletefile", fs="disk:", remote="gone")
    with pytest.raises(Permanent, match=r"rclone 1\.56 or later"):
        disk._call("x", "operations/nosuch")
    proxy.trouble = lambda _: (403, "AccessDenied")
    with pytest.raises(Denied):
        cloud_store.put(tmp_path / "x", Target("two/", "x"), "", lambda _: None)
    with pytest.raises(Denied):
        list(cloud_store.read(Entry("two/x", 1)))
    proxy.trouble = lambda _: (500, "InternalError")
    with pytest.raises(Transient):
        cloud_store.stat("two/x")


def test_a_program_that_cannot_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '#!/bin/sh\ncase "$*" in *listremotes*) echo disk:; exit;; esac\necho unknown command rcd >&2; exit 1\n'
    (tmp_path / "rclone").write_text(text)
    (tmp_path / "rclone").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    store = RcloneStore("disk", "tag")
    with pytest.raises(Permanent, match="unknown command rcd"):
        store.stat("x")
    store.close()
    assert not servers()


def test_a_cancelled_transfer_ends_there_too(
    move: Moving, stores: Stores, places: Places, proxy: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rclone, "_SETTLE_MOST", 40.0)
    arrived, go_on = threading.Event(), threading.Event()

    def trouble(asked: Asked) -> threading.Event | None:
        if asked.method != "PUT":
            return None
        arrived.set()
        return go_on

    proxy.trouble = trouble
    (folder / "x").write_bytes(b"x" * 100_000)
    try:
        number = move.start("x", places.by_kind["rclone-s3"].location)
        assert arrived.wait(40)
        move.mover.cancel(number)
        staged = move.end(number)
        store = stores.of(parse("cloud:x"))
        assert isinstance(store, RcloneStore)
        assert not store._call("", "core/stats", group="taskrun/1").get("transferring")
    finally:
        go_on.set()
    assert [failure.cause for failure in staged.failures] == ["cancelled"]


def test_what_is_listed_is_not_looked_at_again(move: Moving, places: Places, proxy: Proxy, folder: Path) -> None:
    """S3 tells checksums with its list: after that each file is asked for as rclone itself does, once for its size, once for its bytes."""
    for number in range(5):
        places.by_kind["rclone-s3"].write(f"in/{number}", b"x" * number)
    count = len(proxy.asked)
    staged = move("cloud:two/base/in/", "in/")
    assert len(staged.deliveries) == 5
    assert (folder / "in" / "4").read_bytes() == b"xxxx"
    assert len([asked for asked in proxy.asked[count:] if asked.method == "HEAD"]) <= 5


def test_a_file_that_changed_after_the_list(cloud_store: RcloneStore, move: Moving, places: Places, folder: Path) -> None:
    """A file that comes is compared with the list, and looked at again."""
    place = places.by_kind["rclone-s3"]
    place.write("in/x", b"old")
    find: Callable[..., Iterator[Entry]] = RcloneStore.find
    entries = list(find(cloud_store, parse("cloud:two/base/in/*").pattern))
    assert isinstance(entries[0], Summed)
    assert entries[0].sums["md5"]
    with pytest.MonkeyPatch.context() as patch:

        def listed(store: RcloneStore, *_: object) -> Iterator[Entry]:
            yield from entries
            place.write("in/x", b"new")

        patch.setattr(RcloneStore, "find", listed)
        staged = move("cloud:two/base/in/*", "in/")
    assert (folder / "in" / "x").read_bytes() == b"new"
    assert [delivery.tries for delivery in staged.deliveries] == [2]
