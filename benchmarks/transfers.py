"""Throughput of each store beside the programs that people use for it, in one run, on the same servers.

    python benchmarks/transfers.py [ROW…]

ROW: small-s3, large-s3, small-rclone, large-sftp; all of them if none is named. Each line is one way of moving the same files: seconds, and
seconds of processor time of the process and its children. Needs rclone, sshd, sftp, and moto for S3 (tests/cloud.py).
"""

from __future__ import annotations

import os
import pwd
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cloud import Cloud
from sshd import Sshd

from taskrun.driver.places import new_places
from taskrun.staging.locations import parse
from taskrun.staging.mover import Event, Mover, Staged
from taskrun.staging.transfers import Request

MIB = 1 << 20
TRANSFERS = 4
SMALL, FILES, LARGE = 20_000, 500, 300 * MIB


class Bench:
    """The servers, a folder with the files, and a configuration for each program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = Cloud()
        os.environ.update(self.cloud.env)
        os.environ.pop("AWS_CA_BUNDLE", None)  # with it rclone 1.60 cannot use S3 at all
        self.sshd = Sshd()
        (folder / "disk").mkdir()
        self.config = folder / "rclone.conf"
        self.config.write_text(
            f"[disk]\ntype = alias\nremote = {folder}/disk\n[cloud]\ntype = s3\nprovider = Other\nendpoint = {self.cloud.endpoint}\n"
            "region = us-east-1\naccess_key_id = testing\nsecret_access_key = testing\n"
        )
        key = (self.sshd.folder / "host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.sshd.port} {key[0]} {key[1]}\n")
        self.ssh_config = folder / "ssh_config"
        self.ssh_config.write_text(
            f"Host box\nHostName 127.0.0.1\nPort {self.sshd.port}\nUser {pwd.getpwuid(os.getuid()).pw_name}\n"
            f"IdentityFile {self.sshd.folder}/user\nUserKnownHostsFile {folder}/known_hosts\n"
        )
        programs = folder / "bin"
        programs.mkdir()
        for name in ("ssh", "sftp"):
            (programs / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {self.ssh_config} "$@"\n')
            (programs / name).chmod(0o755)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"

    def close(self) -> None:
        self.sshd.close()
        self.cloud.close()

    def small(self) -> None:
        (self.folder / "small").mkdir()
        for number in range(FILES):
            (self.folder / "small" / f"{number:04d}").write_bytes(os.urandom(SMALL))

    def large(self) -> None:
        (self.folder / "large").mkdir()
        with (self.folder / "large" / "one").open("wb") as file:
            for _ in range(LARGE // MIB):
                file.write(os.urandom(MIB))

    def taskrun(self, source: str, dest: str) -> None:
        """By taskrun's mover, verified."""
        inbox: queue.Queue[Event] = queue.Queue()
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        places = new_places(self.folder, "bench", TRANSFERS, str(self.config), lambda _: None)
        mover = Mover(places.stores, inbox.put, spool, transfers=TRANSFERS)
        mover.stage(Request(1, parse(source), parse(dest)))
        while not isinstance(event := inbox.get(), Staged):
            pass
        mover.close()
        assert not event.failures, event.failures[0].why
        assert event.deliveries

    def rclone(self, source: str, dest: str) -> None:
        subprocess.run(["rclone", "--config", self.config, "copy", "--transfers", str(TRANSFERS), source, dest], check=True)

    def boto3(self, work: Callable[[Any], Callable[[Path], None]], paths: list[Path]) -> None:
        """With as many threads as taskrun has."""
        import boto3

        client = boto3.session.Session().client("s3")
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(work(client), paths))

    def sftp(self, *words: str) -> None:
        subprocess.run(["sftp", "-q", "-b", "-", "box"], input=" ".join(words).encode() + b"\n", check=True, stdout=subprocess.DEVNULL)


def timed(what: str, work: Callable[[], None]) -> None:
    """In a process of its own, whose children count."""
    sys.stdout.flush()
    begun = time.perf_counter()
    process = os.fork()
    if not process:
        failed = 1
        try:
            work()
            used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            cpu = sum(one.ru_utime + one.ru_stime for one in used)
            print(f"{what:48} {time.perf_counter() - begun:7.2f} s {cpu:7.2f} CPU s", flush=True)
            failed = 0
        finally:
            os._exit(failed)
    _, status, _ = os.wait4(process, 0)
    assert status == 0, what


def small_s3(bench: Bench) -> None:
    bench.small()
    paths = sorted((bench.folder / "small").iterdir())
    back = bench.folder / "back"
    back.mkdir()
    for name in ("taskrun", "boto"):
        bench.cloud.client().create_bucket(Bucket=name + "-small")
    what = f"{FILES} x {SMALL // 1000} kB"
    timed(f"{what} to S3: taskrun", lambda: bench.taskrun("small/", "s3://taskrun-small/"))
    timed(f"{what} to S3: boto3, {TRANSFERS} threads", lambda: bench.boto3(
        lambda client: lambda path: client.upload_file(str(path), "boto-small", path.name), paths
    ))  # fmt: skip
    timed(f"{what} from S3: taskrun", lambda: bench.taskrun("s3://taskrun-small/", "in/"))
    timed(f"{what} from S3: boto3, {TRANSFERS} threads", lambda: bench.boto3(
        lambda client: lambda path: client.download_file("boto-small", path.name, str(back / path.name)), paths
    ))  # fmt: skip


def large_s3(bench: Bench) -> None:
    bench.large()
    path = bench.folder / "large" / "one"
    for name in ("taskrun", "rclone"):
        bench.cloud.client().create_bucket(Bucket=name + "-large")
    what = f"{LARGE // MIB} MiB"
    timed(f"{what} to S3: taskrun", lambda: bench.taskrun("large/one", "s3://taskrun-large/"))
    timed(f"{what} to S3: rclone", lambda: bench.rclone(str(path), "cloud:rclone-large"))
    timed(f"{what} from S3: taskrun", lambda: bench.taskrun("s3://taskrun-large/one", "in-large/"))
    timed(f"{what} from S3: rclone", lambda: bench.rclone("cloud:rclone-large/one", str(bench.folder / "rclone-in")))
    timed(f"{what} from S3: boto3", lambda: bench.boto3(
        lambda client: lambda path: client.download_file("rclone-large", "one", str(path)), [bench.folder / "boto-in"]
    ))  # fmt: skip


def small_rclone(bench: Bench) -> None:
    bench.small()
    what = f"{FILES} x {SMALL // 1000} kB"
    timed(f"{what} to a remote: taskrun", lambda: bench.taskrun("small/", "disk:out/"))
    timed(f"{what} to a remote: rclone copy", lambda: bench.rclone(str(bench.folder / "small"), "disk:out-rclone"))
    timed(f"{what} from a remote: taskrun", lambda: bench.taskrun("disk:out/", "in/"))
    timed(f"{what} from a remote: rclone copy", lambda: bench.rclone("disk:out-rclone", str(bench.folder / "in-rclone")))
    for name in ("taskrun", "rclone"):
        bench.cloud.client().create_bucket(Bucket=name + "-small")
    timed(f"{what} to a remote of type s3: taskrun", lambda: bench.taskrun("small/", "cloud:taskrun-small/"))
    timed(f"{what} to a remote of type s3: rclone copy", lambda: bench.rclone(str(bench.folder / "small"), "cloud:rclone-small"))
    timed(f"{what} from a remote of type s3: taskrun", lambda: bench.taskrun("cloud:taskrun-small/", "in-s3/"))
    timed(f"{what} from a remote of type s3: rclone copy", lambda: bench.rclone("cloud:rclone-small", str(bench.folder / "in-s3-rclone")))


def large_sftp(bench: Bench) -> None:
    bench.large()
    far = bench.folder / "far"
    far.mkdir()
    path = bench.folder / "large" / "one"
    what = f"{LARGE // MIB} MiB"
    timed(f"{what} to sftp://: taskrun", lambda: bench.taskrun("large/one", f"sftp://box{far}/taskrun"))
    timed(f"{what} to sftp://: sftp", lambda: bench.sftp("put", str(path), f"{far}/sftp"))
    timed(f"{what} from sftp://: taskrun", lambda: bench.taskrun(f"sftp://box{far}/taskrun", "in-taskrun"))
    timed(f"{what} from sftp://: sftp", lambda: bench.sftp("get", f"{far}/sftp", f"{bench.folder}/in-sftp"))


ROWS = {"small-s3": small_s3, "large-s3": large_s3, "small-rclone": small_rclone, "large-sftp": large_sftp}

if __name__ == "__main__":
    for row in sys.argv[1:] or ROWS:
        with tempfile.TemporaryDirectory() as made:
            bench = Bench(Path(made))
            try:
                ROWS[row](bench)
            finally:
                bench.close()
