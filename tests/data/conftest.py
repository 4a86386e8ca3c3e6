"""What data is moved between in the tests of this folder: an S3 server, real hosts, keys of gpg, remotes of rclone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud
from harness import Result, Running, Taskrun, need
from keyring import Keys
from ssh_hosts import SshHosts
from sshd import Sshd

WORKDIR = "/srv/run"


class Bucket:
    """The bucket `genomes`, seen without the code under test."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.client = cloud.client()
        self.client.create_bucket(Bucket="genomes")

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket="genomes", Key=key, Body=data)

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket="genomes", Key=key)["Body"].read()
        return data

    def age(self, key: str) -> Any:
        """Differs when it was written again."""
        return self.client.head_object(Bucket="genomes", Key=key)["LastModified"]

    def keys(self, prefix: str = "") -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="genomes", Prefix=prefix)
        return {found["Key"] for page in pages for found in page.get("Contents", ())}


@pytest.fixture
def bucket(cloud: Cloud, taskrun: Taskrun) -> Iterator[Bucket]:
    """Empty, and known to taskrun by its environment."""
    taskrun.env.update(cloud.env)
    made = Bucket(cloud)
    yield made
    cloud.call("reset")


@pytest.fixture
def gnupg(keys: Keys, taskrun: Taskrun) -> Keys:
    """Keys that gpg finds."""
    taskrun.env["GNUPGHOME"] = str(keys.home)
    return keys


@pytest.fixture
def remote(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(rclone's configuration, the folder that its remote `disk:` is)."""
    need("rclone")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "disk").mkdir()
    (folder / "rclone.conf").write_text(f"[disk]\ntype = alias\nremote = {folder / 'disk'}\n")
    return folder / "rclone.conf", folder / "disk"


@pytest.fixture
def box(taskrun: Taskrun) -> Iterator[str]:
    """`sftp://box`: a server of this machine, which has the very directories that taskrun works in."""
    sshd = Sshd()
    key = (sshd.folder / "host.pub").read_text().split()
    (sshd.folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {key[0]} {key[1]}\n")
    (sshd.folder / "client").write_text(
        f"Host box\nHostName 127.0.0.1\nPort {sshd.port}\nIdentityFile {sshd.folder}/user\nUserKnownHostsFile {sshd.folder}/known_hosts\n"
    )
    programs = sshd.folder / "bin"
    programs.mkdir()
    for name in ("ssh", "sftp"):
        (programs / name).write_text(f'#!/bin/sh\nexec {need(name)} -F {sshd.folder}/client "$@"\n')
        (programs / name).chmod(0o755)
    taskrun.env["PATH"] = f"{programs}:{taskrun.env['PATH']}"
    yield "sftp://box"
    sshd.close()


class Far:
    """host1 and host2 with a working directory each, which share nothing."""

    def __init__(self, taskrun: Taskrun, hosts: SshHosts) -> None:
        self.taskrun = taskrun
        self.hosts = hosts
        taskrun.env.update(hosts.install(taskrun.env["HOME"]))
        for k in (1, 2):
            self.folder(k).mkdir(parents=True)

    def folder(self, k: int) -> Path:
        return self.hosts.path(k, WORKDIR)

    def start(self, text: str | bytes, *flags: str | Path, where: str = "host1:2,host2:2", prefix: str = "run", **files: str) -> Running:
        return self.taskrun.start(
            "tasks.txt", "-s", where, "--workdir", WORKDIR, "-p", prefix, "--settle", "0.5", *flags, files={"tasks.txt": text, **files}
        )

    def __call__(self, text: str | bytes, *flags: str | Path, **more: Any) -> Result:
        return self.start(text, *flags, **more).finish(50)


@pytest.fixture
def far(taskrun: Taskrun, ssh_hosts: SshHosts) -> Far:
    return Far(taskrun, ssh_hosts)


def manifest(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.path("manifest.json").read_text("ascii"))
    return found


def moved(result: Result, way: str) -> list[str]:
    """Destinations of what was really moved, in order."""
    return [each["dest"] for each in result.events("transfer") if (each["way"], each["cause"], each.get("how")) == (way, "ok", "moved")]
