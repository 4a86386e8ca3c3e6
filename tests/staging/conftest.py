"""Real stores for the tests: folders, an S3 server, an sshd, and remotes of rclone on both."""

from __future__ import annotations

import base64
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cloud import Cloud
from harness import ROOT, need
from sshd import Sshd
from staging.places import Place, Places, S3Place

from taskrun.staging.locations import Location, parse
from taskrun.staging.mover import Event, Mover, Staged
from taskrun.staging.sftp import SftpStore
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Patience, Request

KINDS = ("local", "s3", "sftp", "rclone-folder", "rclone-s3")

#: The beginning of a script: `stores`, the same ones as the fixture's, in a process of their own (see `Apart`).
_APART = """
import os, queue, resource, signal, sys, threading
from pathlib import Path
import paramiko
sys.path.insert(0, {tests!r})
from staging.conftest import Connection
from taskrun.staging import mover
from taskrun.staging.locations import parse
from taskrun.staging.sftp import SftpStore
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Request

class Sshd:
    def connect(self):
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", {port}, key_filename={key!r}, allow_agent=False, look_for_keys=False)
        return client

connection = Connection(Sshd())
hosts = lambda location: SftpStore(location.where, connection.sftp, "test", digest=connection.sum, lost=(paramiko.SSHException,))
stores = Stores(Settings(Path({folder!r}), "test", rclone_config=Path({config!r})), hosts)
spool = Path({spool!r})
"""


class Connection:
    """What engines/ssh will give: SFTP sessions on one connection, made anew when it was lost, and sums made over there."""

    def __init__(self, sshd: Sshd) -> None:
        self._sshd = sshd
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def client(self) -> paramiko.SSHClient:
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if self._client is None or transport is None or not transport.is_active():
                self._client = self._sshd.connect()
            return self._client

    def sftp(self) -> paramiko.SFTPClient:
        return self.client().open_sftp()

    def sum(self, path: str) -> str:
        # The name goes through stdin, and with a dot at its end, since $( ) takes newlines away.
        given, output, _ = self.client().exec_command('f=$(base64 -d; echo .); exec sha256sum < "${f%.}"')
        given.write(base64.b64encode(os.fsencode(path)))
        given.channel.shutdown_write()
        answer: str = output.read().decode().split()[0]
        return answer

    def cut(self) -> None:
        """The connection is gone from one moment to the next."""
        assert self._client is not None
        transport = self._client.get_transport()
        assert transport is not None
        transport.sock.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    made = Sshd()
    yield made
    made.close()


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[Connection]:
    made = Connection(sshd)
    yield made
    made.close()


@pytest.fixture
def buckets(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The fake AWS, in the environment as a person would have it, empty at the end."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    yield cloud
    cloud.call("reset")


@pytest.fixture
def rclone_config(tmp_path: Path, cloud: Cloud) -> Path:
    """Two remotes: `disk` is a folder, `cloud` the S3 server."""
    need("rclone")
    (tmp_path / "disk").mkdir()
    path = tmp_path / "rclone.conf"
    path.write_text(
        f"[disk]\ntype = alias\nremote = {tmp_path / 'disk'}\n\n[cloud]\ntype = s3\nprovider = Other\nendpoint = {cloud.endpoint}\n"
        "access_key_id = testing\nsecret_access_key = testing\nregion = us-east-1\n"
    )
    return path


@pytest.fixture
def places(tmp_path: Path, buckets: Cloud, connection: Connection, rclone_config: Path) -> Places:
    """A place of every kind, to be looked into without the code under test."""
    s3 = buckets.client()
    for name in ("one", "two"):
        s3.create_bucket(Bucket=name)
    return Places(
        {
            "local": Place(parse(str(tmp_path / "store") + "/"), tmp_path / "store"),
            "s3": S3Place(parse("s3://one/base/"), s3, "one", "base/"),
            "sftp": Place(parse(f"sftp://here{tmp_path}/far/"), tmp_path / "far"),
            "rclone-folder": Place(parse("disk:sub/"), tmp_path / "disk" / "sub"),
            "rclone-s3": S3Place(parse("cloud:two/base/"), s3, "two", "base/"),
        }
    )


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, places: Places) -> Any:
    """One place after the other."""
    return places.by_kind[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where relative local paths are."""
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.fixture
def stores(tmp_path: Path, folder: Path, connection: Connection, rclone_config: Path) -> Iterator[Stores]:
    def hosts(location: Location) -> SftpStore:
        return SftpStore(location.where, connection.sftp, "test", digest=connection.sum, lost=(paramiko.SSHException,))

    made = Stores(Settings(folder, "test", rclone_config=rclone_config), hosts)
    yield made
    made.close()


#: Runs a script that finds `stores` and an empty folder `spool`.
Apart = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def apart(tmp_path: Path, folder: Path, connection: Connection, rclone_config: Path) -> Apart:
    def run(script: str) -> subprocess.CompletedProcess[str]:
        sshd, spool = connection._sshd, tmp_path / "spool-apart"
        spool.mkdir()
        begin = _APART.format(
            tests=str(ROOT / "tests"), port=sshd.port, key=str(sshd.folder / "user"), folder=str(folder), config=str(rclone_config),
            spool=str(spool),
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", begin + script], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    return run


class Moving:
    """A mover, and all that it has posted."""

    def __init__(self, stores: Stores, spool: Path, **more: Any) -> None:
        self.events: list[Event] = []
        self._inbox: queue.Queue[Event] = queue.Queue()
        self.mover = Mover(stores, self._inbox.put, spool, **{"patience": Patience(6, 0.01, 0.1), **more})
        self._count = 0

    def start(self, source: str | Location, dest: str | Location, **more: Any) -> int:
        self._count += 1
        source, dest = (parse(one) if isinstance(one, str) else one for one in (source, dest))
        self.mover.stage(Request(self._count, source, dest, **more))
        return self._count

    def next(self) -> Event:
        event = self._inbox.get(timeout=50)
        self.events.append(event)
        return event

    def end(self, number: int) -> Staged:
        while not (isinstance(event := self.next(), Staged) and event.request == number):
            pass
        return event

    def __call__(self, source: str | Location, dest: str | Location, **more: Any) -> Staged:
        """Moves, and waits for the end."""
        return self.end(self.start(source, dest, **more))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def moving(stores: Stores, tmp_path: Path) -> Iterator[Callable[..., Moving]]:
    made: list[Moving] = []
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)

    def make(**more: Any) -> Moving:
        made.append(Moving(more.pop("stores", stores), spool, **more))
        return made[-1]

    yield make
    for one in made:
        one.mover.close()
    assert list(spool.iterdir()) == []


@pytest.fixture
def move(moving: Callable[..., Moving]) -> Moving:
    return moving()
