"""Attaching from another machine, and with engines on other machines: real hosts, each with a network and a disk of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attach.meeting import Meeting
from harness import ROOT, Result, Taskrun, cannot, read_status, until
from ssh_hosts import SshHosts

LINES = "hostname; test $(hostname) = host1 && until test -e /srv/go; do sleep 0.05; done; sleep 0.3\n" * 6


class Friend:
    """host1 as a colleague's machine: with taskrun, and nothing shared."""

    def __init__(self, hosts: SshHosts) -> None:
        self.hosts = hosts
        version = hosts.exec(1, "python3", "-c", "import sys; print(sys.version_info >= (3, 10))", check=False).stdout.strip()
        if version != "True":
            cannot("the hosts' python3 is older than 3.10")
        shutil.copytree(ROOT / "taskrun", hosts.path(1, "/srv/lib/taskrun"), ignore=shutil.ignore_patterns("__pycache__"))
        self.started: list[subprocess.Popen[str]] = []

    def start(self, meeting: Meeting, *arguments: str) -> subprocess.Popen[str]:
        assert meeting.taskrun("attach", "run", "--invite", "friend.json").code == 0
        shutil.copy2(meeting.folder / "friend.json", self.hosts.path(1, "/srv/friend.json"))
        words = ["env", "PYTHONPATH=/srv/lib", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "taskrun", "attach", "/srv/friend.json"]
        process = subprocess.Popen(
            [self.hosts._bed.script, "exec", "1", *words, *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.hosts._bed._env,
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        _, said = process.communicate(timeout=30)
        return process.returncode, said

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            if process.stderr is not None:
                process.stderr.close()


@pytest.fixture
def friend(ssh_hosts: SshHosts) -> Iterator[Friend]:
    found = Friend(ssh_hosts)
    yield found
    found.close()


Meet = Callable[..., Meeting]


@pytest.fixture
def meet_far(taskrun: Taskrun, ssh_hosts: SshHosts) -> Meet:
    """A run that listens where the hosts can reach it."""
    taskrun.env.update(ssh_hosts.install(taskrun.env["HOME"]))

    def start(lines: str, *arguments: str) -> Meeting:
        return Meeting(taskrun, lines, "-s", "localhost:1", "--listen", f"{ssh_hosts.machine}:0", *arguments)

    return start


def nodes(result: Result) -> list[str]:
    return sorted({record["Node"] for record in read_status(result.path("status.txt"))})


def test_a_colleagues_machine(meet_far: Meet, friend: Friend, ssh_hosts: SshHosts) -> None:
    """It shares no folder: its tasks run where --workdir says."""
    meeting = meet_far(LINES.replace("; sleep 0.3", " || until test -e go; do sleep 0.05; done"))  # here they wait for those there
    attached = friend.start(meeting, "-s", "localhost:2", "--workdir", "/srv/work", "--env", "GREETING=hello")
    until(lambda: len(ssh_hosts.processes(1)) > 4, 15, "its tasks")
    meeting.go()
    ssh_hosts.path(1, "/srv/go").touch()
    result = meeting.running.finish()
    assert (result.code, len(result.records())) == (0, 6)
    code, said = friend.finish(attached)
    assert code == 0
    assert "attached to run" in said
    assert [node for node in nodes(result) if node == "host1"] == ["host1"]
    assert {record["OutputSnippet"] for record in result.records() if record["Node"] == "host1"} == {repr("host1\n")}


def test_without_a_folder_for_its_tasks(meet_far: Meet, friend: Friend) -> None:
    meeting = meet_far("until test -e go; do sleep 0.05; done\n")
    code, _ = friend.finish(friend.start(meeting, "-s", "localhost:2"))
    assert code == 2
    until(lambda: "host1: this host does not share the working directory" in meeting.running.said()[1], 10, "why")
    meeting.go()
    assert meeting.running.finish().code == 0


def test_the_way_between_them_is_cut(meet_far: Meet, friend: Friend, ssh_hosts: SshHosts) -> None:
    """Silence: there the tasks end by themselves, here they run again only when that is certain."""
    task = "hostname >> hosts; test $(hostname) = host1 && sleep 1000; until test -e go; do sleep 0.05; done\n"
    meeting = meet_far(task * 4, "--lost-after", "3", "--grace", "1")
    attached = friend.start(meeting, "-s", "localhost:1", "--workdir", "/srv/work")
    until(lambda: ssh_hosts.path(1, "/srv/work/hosts").exists(), 20, "a task there")
    ssh_hosts.cut_host(1)
    meeting.go()
    result = meeting.running.finish()
    assert (result.code, len(result.records())) == (0, 4)
    lost = [event for event in result.events("engine") if event["what"] == "lost"]
    assert len(lost) == 1
    code, said = friend.finish(attached)
    assert (code, "nothing was heard for 3 s" in said) == (3, True)
    ssh_hosts.mend_host(1)


@pytest.mark.parametrize("flags", [(), ("--ssh", "ssh")])
def test_engines_over_ssh_of_a_context(meet_far: Meet, taskrun: Taskrun, ssh_hosts: SshHosts, flags: tuple[str, ...]) -> None:
    meeting = meet_far("until test -e go -o -e /srv/go; do sleep 0.05; done\n" * 6)
    guest = meeting.attach("-s", "localhost:1,host1:1,host2:1", "--workdir", "/srv/work", *flags)
    until(lambda: [engine["running"] for engine in meeting.picture()["engines"]] == [1] * 4, 20, "a task on each of its engines")
    meeting.go()
    for number in (1, 2):
        ssh_hosts.path(number, "/srv/go").touch()
    result = meeting.running.finish()
    assert (result.code, guest.finish().code) == (0, 0)
    assert len(result.records()) == 6
    assert {"host1", "host2"} < set(nodes(result))


def test_kill_9_of_a_context_with_hosts(meet_far: Meet, ssh_hosts: SshHosts, taskrun: Taskrun) -> None:
    """Its agents on the hosts see that nobody reaches them any more, and leave nothing."""
    meeting = meet_far(
        "test $(hostname) = host1 && touch here && sleep 1000; until test -e go; do sleep 0.05; done\n" * 4,
        "--grace",
        "1",
        "--lost-after",
        "6",
    )
    guest = meeting.attach("-s", "host1:1", "--workdir", "/srv/work")
    until(lambda: ssh_hosts.path(1, "/srv/work/here").exists(), 20, "a task there")
    guest.process.kill()
    meeting.go()
    result = meeting.running.finish()
    assert (result.code, len(result.records())) == (0, 4)
    until(lambda: not ssh_hosts.processes(1), 15, "the host to be empty")
    assert not list(Path(ssh_hosts.path(1, "/tmp")).glob("taskrun-*"))
