"""Bad days: errors, throttling, lost connections, kills, full disks. A file is whole under its name, or not there."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cloud import Cloud
from harness import MARK, processes, until
from staging.conftest import Apart, Connection, Moving
from staging.places import Place, Places
from staging.proxy import Asked, Proxy

from taskrun.engines.ssh_sessions import open_sftp
from taskrun.engines.streams import ThisHost
from taskrun.staging import mover
from taskrun.staging.local import LocalStore
from taskrun.staging.locations import UNFINISHED, Location, Target, parse
from taskrun.staging.mover import Advanced, Begun, Delayed
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import StoreError, Transient
from taskrun.staging.stores import Settings, Stores

BIG = 24 << 20  # three parts


@pytest.fixture
def proxy(buckets: Cloud, places: Places, monkeypatch: pytest.MonkeyPatch, rclone_config: Path) -> Iterator[Proxy]:
    """Between the stores and the S3 server."""
    made = Proxy(buckets.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    rclone_config.write_text(rclone_config.read_text().replace(buckets.endpoint, made.endpoint))
    yield made
    made.close()


@pytest.fixture(params=["s3", "rclone-s3"])
def remote(request: pytest.FixtureRequest, places: Places) -> Place:
    return places.by_kind[request.param]


@pytest.mark.parametrize(
    ("kind", "what", "count"),
    [
        ("s3", (503, "SlowDown"), 9),
        ("s3", (429, "TooManyRequests"), 9),
        ("s3", "cut", 9),
        ("rclone-s3", (500, "InternalError"), 9),  # throttled, rclone itself waits for long
        ("rclone-s3", "cut", 9),
    ],
)
def test_bursts_of_errors_pass(
    move: Moving, places: Places, proxy: Proxy, folder: Path, kind: str, what: tuple[int, str] | str, count: int
) -> None:
    remote = places.by_kind[kind]
    (folder / "x").write_bytes(b"x" * 1000)
    proxy.burst(count, what)
    there = move("x", remote.location)
    assert not there.failures
    assert remote.read("x") == b"x" * 1000
    proxy.burst(count, what)
    assert not move(f"{remote.location}x", "y").failures
    assert (folder / "y").read_bytes() == b"x" * 1000


def test_what_does_not_pass_ends(moving: Callable[..., Moving], places: Places, proxy: Proxy, folder: Path) -> None:
    (folder / "x").write_bytes(b"x")
    move = moving()
    proxy.burst(-1, (503, "SlowDown"))
    failure = move("x", places.by_kind["s3"].location).failures[0]
    assert (failure.cause, failure.tries) == ("transient", 6)
    assert "503" in failure.why
    waits = [event.seconds for event in move.of(Delayed)]
    assert len(waits) == 5
    assert all(0 < wait <= 0.1 for wait in waits)


def test_denied_is_final(move: Moving, remote: Place, proxy: Proxy, folder: Path) -> None:
    (folder / "x").write_bytes(b"x")
    remote.write("y", b"y")
    proxy.trouble = lambda _: (403, "AccessDenied")
    for source, dest in (("x", str(remote.location)), (f"{remote.location}y", "y")):
        failure = move(source, dest).failures[0]
        assert (failure.cause, failure.tries) in (("permanent", 1), ("permanent", 0))
        assert "denied" in failure.why.lower() or "forbidden" in failure.why
    proxy.trouble = lambda _: None
    assert remote.names() == {"y"}
    assert not (folder / "y").exists()


@pytest.mark.parametrize("dest", ["/sys/kernel/", "sftp://here/sys/kernel/"])
def test_a_folder_that_cannot_be_written_to_is_final(move: Moving, folder: Path, dest: str) -> None:
    (folder / "x").write_bytes(b"x")
    failure = move("x", dest).failures[0]
    assert (failure.cause, failure.tries) == ("permanent", 1)
    assert "permission denied" in failure.why or "not permitted" in failure.why


def test_a_download_that_breaks_off_goes_on_from_there(move: Moving, places: Places, proxy: Proxy, folder: Path) -> None:
    data = os.urandom(BIG)
    places.by_kind["s3"].write("big", data)
    proxy.burst(5, "half", lambda asked: asked.method == "GET" and asked.path.endswith("big"))  # of three parts at a time
    staged = move("s3://one/base/big", "big")
    assert ((folder / "big").read_bytes() == data, staged.deliveries[0].tries) in ((True, 2), (True, 3))
    begins = [asked.headers["range"] for asked in proxy.asked if "range" in asked.headers]
    assert len(set(begins)) == len(begins) > 4  # half of each came, and was good
    assert sum(event.more for event in move.of(Advanced)) == BIG


def test_an_upload_that_breaks_off_sends_only_what_is_missing(move: Moving, places: Places, proxy: Proxy, folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(BIG))
    proxy.burst(4, (503, "SlowDown"), lambda asked: "partNumber=3" in asked.path)
    staged = move("big", "s3://one/base/")
    assert staged.deliveries[0].tries == 3
    assert places.by_kind["s3"].read("big") == (folder / "big").read_bytes()
    assert sum("partNumber=1" in asked.path for asked in proxy.asked) == 1


def test_a_lost_connection_is_made_anew(
    move: Moving, places: Places, folder: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "_TOLD_EVERY", 0.0)
    data = os.urandom(BIG)
    (folder / "big").write_bytes(data)
    for source, dest in (("big", str(places.by_kind["sftp"].location)), (f"{places.by_kind['sftp'].location}big", "back")):
        number = move.start(source, dest)
        while not (isinstance(event := move.next(), Advanced) and event.done > BIG // 4):
            pass
        connection.cut()
        staged = move.end(number)
        assert not staged.failures
        assert staged.deliveries[0].tries > 1
    assert places.by_kind["sftp"].names() == {"big"}
    assert (folder / "back").read_bytes() == data


KILLED = """
mover._TOLD_EVERY = 0.0

def post(event):
    if isinstance(event, mover.Advanced) and event.done >= event.size // 3:
        os.kill(os.getpid(), signal.SIGKILL)

mover.Mover(stores, post, spool).stage(Request(1, parse({source!r}), parse({dest!r})))
threading.Event().wait(40)
"""


@pytest.mark.parametrize("way", ["there", "back"])
def test_killed_in_the_middle(move: Moving, apart: Apart, place: Place, folder: Path, way: str) -> None:
    data = os.urandom(BIG)
    if way == "there":
        (folder / "big").write_bytes(data)
        source, dest = "big", str(place.location)
    else:
        place.write("big", data)
        source, dest = f"{place.location}big", "in/"
    done = apart(KILLED.format(source=source, dest=dest))
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not any("rclone" in line for line in processes(os.environ[MARK]).values()), what="the end of rclone")
    there = place.names() if way == "there" else {path.name for path in (folder / "in").iterdir()}
    if not (way == "there" and str(place) == "cloud:two/base/"):  # whose own rclone may have brought it to its end, whole
        assert "big" not in there
    staged = move(source, dest)
    assert not staged.failures
    assert (place.read("big") if way == "there" else (folder / "in" / "big").read_bytes()) == data
    left = place.names() if way == "there" else {path.name for path in (folder / "in").iterdir()}
    assert [name for name in left if UNFINISHED in name] == []


def test_an_upload_of_a_killed_run_is_gone_on_with(move: Moving, places: Places, folder: Path, buckets: Cloud) -> None:
    data = os.urandom(BIG)
    (folder / "big").write_bytes(data)
    s3 = buckets.client()
    upload = s3.create_multipart_upload(Bucket="one", Key="base/big", ChecksumAlgorithm="SHA256")["UploadId"]
    s3.upload_part(Bucket="one", Key="base/big", UploadId=upload, PartNumber=2, Body=data[8 << 20 : 16 << 20], ChecksumAlgorithm="SHA256")
    other = s3.create_multipart_upload(Bucket="one", Key="base/big")["UploadId"]
    s3.upload_part(Bucket="one", Key="base/big", UploadId=other, PartNumber=1, Body=b"y" * (8 << 20))
    assert not move("big", "s3://one/base/").failures
    assert places.by_kind["s3"].read("big") == data
    left = s3.list_multipart_uploads(Bucket="one").get("Uploads", [])
    assert [one["UploadId"] for one in left] == [other]  # somebody else's


def test_a_source_that_changes_meanwhile_is_sent_anew(move: Moving, place: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover, "_TOLD_EVERY", 0.0)
    (folder / "big").write_bytes(os.urandom(BIG))
    number = move.start("big", place.location)
    while not isinstance(move.next(), Begun | Advanced):
        pass
    data = os.urandom(BIG)
    (folder / "big").write_bytes(data)
    move.end(number)
    assert not move("big", place.location).failures
    assert place.read("big") == data


def test_cancelled_transfers_leave_nothing(
    moving: Callable[..., Moving], place: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "_TOLD_EVERY", 0.0)
    for name in "abcdef":
        (folder / name).write_bytes(os.urandom(1 << 20) * 8)
    move = moving(transfers=2)
    number = move.start("*", place.location)
    while not isinstance(move.next(), Begun):
        pass
    move.mover.cancel(number)
    staged = move.end(number)
    assert {failure.cause for failure in staged.failures} == {"cancelled"}
    assert {one.dest.rpartition("/")[2].rpartition(":")[2] for one in staged.deliveries} == place.names()


def test_one_destination_is_written_by_one_at_a_time(move: Moving, places: Places, folder: Path) -> None:
    place = places.by_kind["s3"]
    place.write("x", b"x" * (4 << 20))
    numbers = [move.start(f"{place.location}x", "in/x") for _ in range(12)]
    ended = {}
    while len(ended) < len(numbers):
        event = move.next()
        if isinstance(event, mover.Staged):
            ended[event.request] = event.deliveries[0].how
    assert sorted(ended.values()) == ["known"] * 11 + ["moved"]


def test_a_folder_that_another_transfer_makes_meanwhile_is_as_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is put there is not."""
    store = SftpStore("host", lambda: open_sftp(ThisHost().session("sftp", 30.0)), "tag", folder=str(folder))
    look = paramiko.SFTPClient.lstat
    others = {"made": Path.mkdir, "linked": lambda path: path.symlink_to("/tmp")}

    def late(sftp: paramiko.SFTPClient, path: bytes) -> Any:
        try:
            return look(sftp, path)
        except FileNotFoundError:
            name = os.fsdecode(path).rstrip("/")
            others.get(Path(name).name, lambda _: None)(Path(name))
            raise

    monkeypatch.setattr(paramiko.SFTPClient, "lstat", late)
    writer = store.writer(Target("in/", "made/x"), 1)
    writer.write(b"x")
    writer.commit(hashlib.sha256(b"x").hexdigest())
    assert (folder / "in/made/x").read_bytes() == b"x"
    with pytest.raises(StoreError):
        store.writer(Target("in/", "linked/x"), 1)
    store.close()


def test_what_does_not_fit_is_not_begun(move: Moving, folder: Path) -> None:
    (folder / "x").write_bytes(b"x" * 1000)
    failure = move("x", "in/", workfactor=1e15).failures[0]
    assert " are missing" in failure.why
    assert not (folder / "in").exists()


def test_on_resume_nothing_verified_is_moved_again(
    moving: Callable[..., Moving], place: Place, folder: Path, tmp_path: Path, stores: Stores
) -> None:
    (folder / "x").write_bytes(b"x" * 1000)
    there = moving()("x", place.location).deliveries
    back = moving()(f"{place.location}x", "y").deliveries
    later = moving(known=(*there, *back))
    assert later("x", place.location).deliveries[0].how == "known"
    assert later(f"{place.location}x", "y").deliveries[0].how == "known"
    (folder / "y").write_bytes(b"z" * 1000)
    assert later(f"{place.location}x", "y").deliveries[0].how == "moved"


def test_a_host_that_cannot_be_reached_now_is_tried_again(moving: Callable[..., Moving], folder: Path, places: Places) -> None:
    calls: list[Location] = []

    def hosts(location: Location) -> LocalStore:
        calls.append(location)
        if len(calls) < 4:
            raise Transient("no route to host")
        return LocalStore(Path("/"), "test")

    (folder / "x").write_bytes(b"x")
    places.by_kind["sftp"].folder.mkdir()
    assert not moving(stores=Stores(Settings(folder, "test"), hosts))("x", places.by_kind["sftp"].location).failures
    assert len(calls) == 4


def test_an_unknown_host_is_refused(moving: Callable[..., Moving], folder: Path) -> None:
    stores = Stores(Settings(folder, "test"))
    failure = moving(stores=stores)("sftp://nowhere/x", "y").failures[0]
    assert (failure.cause, failure.tries) == ("permanent", 1)
    assert stores.of(Location("local", "", "x")) is stores.of(parse("y"))


def test_no_more_sessions_than_a_host_takes(moving: Callable[..., Moving], places: Places, folder: Path, connection: Connection) -> None:
    """sshd allows ten on one connection; more transfers at a time wait for each other, and none is refused."""
    sessions = [connection.sftp()]  # the agent's
    for number in range(40):
        (folder / f"f{number}").write_bytes(os.urandom(100_000))
    there = moving(transfers=16)
    assert len(there("f*", places.by_kind["sftp"].location).deliveries) == 40
    assert there.of(Delayed) == []
    sessions[0].close()


def test_what_is_interrupted_keeps_nobody_waiting(
    moving: Callable[..., Moving], places: Places, proxy: Proxy, connection: Connection
) -> None:
    """More files than a host takes at a time, each of which breaks off once."""
    del connection
    for number in range(12):
        places.by_kind["s3"].write(f"in/{number}", os.urandom(300_000))
    broken: set[str] = set()

    def once(asked: Asked) -> str | None:
        if asked.method != "GET" or "list-type" in asked.path or asked.path in broken:
            return None
        broken.add(asked.path)
        return "half"

    proxy.trouble = once
    assert len(moving(transfers=4)("s3://one/base/in/", places.by_kind["sftp"].location).deliveries) == 12


def test_a_mistake_of_ours_leaves_nobody_waiting(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "find", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in move("x*", "y/").failures[0].why
