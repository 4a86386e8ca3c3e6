"""Where the tests of this folder run tasks: on this machine, or on host1 of the testbed by one of the two ways to reach it.

def test_something(place):
    result = place("echo hello\n")
    assert place.read("file")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from harness import Result, Running, Taskrun
from ssh_hosts import SshHosts

WORKDIR = "/srv/run"


class Place:
    """One engine, and the folder that its tasks run in. `reach`: local, paramiko, ssh."""

    def __init__(self, taskrun: Taskrun, reach: str, hosts: SshHosts | None) -> None:
        self.taskrun = taskrun
        self.reach = reach
        self.hosts = hosts
        if hosts is None:
            self.host, self.node = "localhost", os.uname().nodename
            self.flags: tuple[str, ...] = ()
            self.folder = taskrun.folder
        else:
            self.host = self.node = "host1"
            self.flags = ("--workdir", WORKDIR, *(("--ssh", "ssh") if reach == "ssh" else ()))
            self.folder = hosts.path(1, WORKDIR)
            self.folder.mkdir(parents=True)
            taskrun.env.update(hosts.install(taskrun.env["HOME"]))

    @property
    def remote(self) -> bool:
        return self.hosts is not None

    def start(self, text: str | bytes, *flags: str, slots: int = 2, prefix: str = "run", env: Mapping[str, str] | None = None) -> Running:
        where = ("-s", f"{self.host}:{slots}", *self.flags, "-p", prefix)
        return self.taskrun.start("tasks.txt", *where, *flags, files={"tasks.txt": text}, env=env)

    def __call__(self, text: str | bytes, *flags: str, slots: int = 2, prefix: str = "run", env: Mapping[str, str] | None = None) -> Result:
        return self.start(text, *flags, slots=slots, prefix=prefix, env=env).finish(40)

    def read(self, name: str) -> str:
        """A file that a task wrote, '' as long as there is none."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return ""

    def nothing_runs(self) -> bool:
        """No process of the run is on the host; on this machine the fixture `taskrun` looks."""
        return not self.hosts.processes(1) if self.hosts is not None else not self.taskrun.processes()


@pytest.fixture(params=["local", "paramiko", "ssh"])
def place(taskrun: Taskrun, ssh_hosts: SshHosts, request: pytest.FixtureRequest) -> Place:
    return Place(taskrun, request.param, None if request.param == "local" else ssh_hosts)


@pytest.fixture
def hosts(taskrun: Taskrun, ssh_hosts: SshHosts) -> SshHosts:
    """The hosts, known to `taskrun` by the configuration in its home."""
    taskrun.env.update(ssh_hosts.install(taskrun.env["HOME"]))
    return ssh_hosts


def configure(taskrun: Taskrun, hosts: SshHosts, more: str) -> Path:
    """What comes before the hosts' own configuration in ~/.ssh/config; the folder ~/.ssh."""
    hosts.install(taskrun.env["HOME"], more)
    return Path(taskrun.env["HOME"], ".ssh")
