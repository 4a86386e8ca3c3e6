"""Engines that are lost and come back: afterwards every task ran to an end, none overlapped itself, and nothing of ours is left."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.chain import Chain
from harness import Running, Taskrun, cannot, until
from ssh.place import configure
from ssh.sharing import Sharing
from ssh_hosts import SshHosts

#: B is 3 s: slots end their tasks after 2 s of silence, the driver gives up after 5.
FLAGS = ("-s", "host1:2,host2:2", "--lost-after", "3", "--grace", "1")


@pytest.fixture
def sharing(taskrun: Taskrun, hosts: SshHosts) -> Iterator[Sharing]:
    """The folder of the run is on host1 and host2, too."""
    shared = Sharing(hosts, taskrun.folder)
    shared.share(1, 2)
    yield shared
    shared.end(1, 2)


class Night(Chain):
    """A run on two hosts."""

    def begin(self, records: int = 6) -> Running:
        running = self.start()
        until(lambda: self.recorded() >= records, 30, "the first records")
        return running

    def to_the_end(self, running: Running, hosts: SshHosts, *reachable: int, timeout: float = 45.0) -> None:
        result = self.finish(running, timeout)
        assert result.code == 0, result.err
        for k in reachable:
            until(lambda: not hosts.processes(k), 10, f"host{k} to be empty: {hosts.processes(k)}")  # noqa: B023 - at once
            assert not list(hosts.path(k, "/tmp").glob("taskrun-*"))
        self.check()


def agent_of(hosts: SshHosts, k: int) -> int:
    """The agent's process: what has started slots or GNU Parallel there, not the one that waits for its end."""
    found = [pid for pid, line in hosts.processes(k).items() if line.startswith("taskrun agent ") and "(" not in line]
    assert found
    return max(found)


def lost(result_events: list[dict[str, object]]) -> int:
    return sum(each["cause"] == "engine-lost" for each in result_events)


def test_the_host_is_silent_for_a_moment(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """Within B: nothing is lost, nothing runs twice."""
    chain = Night(taskrun, 40, 0.2, (*FLAGS[:2], "--lost-after", "20"))
    running = chain.begin()
    hosts.cut_host(1)
    time.sleep(1.5)
    hosts.mend_host(1)
    chain.to_the_end(running, hosts, 1, 2)
    assert not lost(chain.results[0].events("attempt"))


@pytest.mark.long
def test_the_host_is_silent_for_too_long(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """After B the other host runs its tasks; mended, it takes part again."""
    chain = Night(taskrun, 40, 0.5, FLAGS)
    running = chain.begin()
    hosts.cut_host(1)
    until(lambda: "host1: the engine is lost" in running.said()[1], 30, "the loss to be said")
    hosts.mend_host(1)
    chain.to_the_end(running, hosts, 1, 2)
    assert lost(chain.results[0].events("attempt"))
    joined = [each["engine"] for each in chain.results[0].events("engine") if each["what"] == "joined"]
    assert {"host1_0", "host2_1"} <= set(joined)


def test_the_host_loses_its_power(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    chain = Night(taskrun, 24, 0.3, FLAGS)
    running = chain.begin()
    hosts.kill_host(1)
    chain.to_the_end(running, hosts, 2)
    assert {each["Node"] for each in chain.results[0].records()} >= {"host2"}
    assert "host1: the engine is lost: nothing was heard for" in chain.results[0].err


@pytest.mark.long
def test_the_host_boots(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    chain = Night(taskrun, 40, 0.5, FLAGS)
    running = chain.begin()
    hosts.kill_host(1)
    hosts.revive_host(1)
    sharing.share(1)
    until(lambda: "a new agent takes the place of the lost one" in running.said()[1], 30, "the loss to be said")
    chain.to_the_end(running, hosts, 1, 2)
    assert len([each for each in chain.results[0].events("engine") if each["what"] == "joined"]) == 3


def test_sshd_is_killed(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """Connections that are there go on."""
    chain = Night(taskrun, 30, 0.2, FLAGS)
    running = chain.begin()
    hosts.kill_sshd(1)
    chain.to_the_end(running, hosts, 1, 2)
    assert not lost(chain.results[0].events("attempt"))


@pytest.mark.parametrize("reach", [(), ("--ssh", "ssh")], ids=["paramiko", "ssh"])
def test_the_agent_is_killed(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing, reach: tuple[str, ...]) -> None:
    """A new one takes its place at once: the host itself has said that the old one is dead."""
    chain = Night(taskrun, 50, 0.3, (*FLAGS[:2], "--grace", "1", *reach))
    running = chain.begin()
    os.kill(agent_of(hosts, 1), signal.SIGKILL)
    chain.to_the_end(running, hosts, 1, 2)
    assert "host1: a new agent takes the place of the lost one" in chain.results[0].err
    assert len([each for each in chain.results[0].events("engine") if each["what"] == "joined"]) == 3


def test_the_agent_is_stopped(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """It is silent, and its slots end their tasks by their own clocks."""
    chain = Night(taskrun, 30, 0.5, FLAGS)
    running = chain.begin()
    agent = agent_of(hosts, 1)
    os.kill(agent, signal.SIGSTOP)
    try:
        chain.to_the_end(running, hosts, 2)
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: not hosts.processes(1), 10, "host1 to be empty")
    assert lost(chain.results[0].events("attempt"))


def long_tasks(taskrun: Taskrun, *more: str) -> tuple[Night, Running]:
    """Four tasks, longer than the grace that a closed link has, and shorter than the silence that ends what nobody hears."""
    chain = Night(taskrun, 4, 4, (*FLAGS[:2], "--lost-after", "4.5", "--grace", "0", *more))
    running = chain.start()
    until(lambda: len(chain.notes()) >= 4, 20, "the tasks to start")
    return chain, running


@pytest.mark.long
def test_the_connection_breaks_and_the_host_does_not_know(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """What runs there does so until its own silence ends it: only then may it run elsewhere."""
    chain, running = long_tasks(taskrun, "--ssh", "ssh")
    hosts.cut_host(1)
    (client,) = (pid for pid, line in taskrun.processes().items() if line.partition(" ")[0].endswith("/ssh") and " host1 " in line)
    os.kill(client, signal.SIGKILL)
    chain.to_the_end(running, hosts, 2)
    assert "what it ran runs elsewhere when it has been silent for long enough" in chain.results[0].err


@pytest.mark.long
@pytest.mark.parametrize("again", [("-s", "host2:4"), ()], ids=["elsewhere", "there"])
def test_the_driver_is_killed_while_a_host_is_cut_off(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing, again: tuple[str, ...]) -> None:
    """A resume starts nothing before what runs on that host has ended: the host says so itself, or has been silent for long enough."""
    chain, running = long_tasks(taskrun)
    hosts.cut_host(1)
    running.send(signal.SIGKILL)
    chain.finish(running)
    if not again:
        hosts.mend_host(1)
    chain.runs += 1
    running = taskrun.start("-r", "run1_status.txt", "-p", "run2", *again)
    until(lambda: "tasks of the earlier run may still run on host1" in running.said()[1], 10, "the wait to be said")
    chain.to_the_end(running, hosts, 2)


@pytest.mark.long
def test_told_to_stop_while_a_host_is_cut_off(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """The run ends without it, and leaves word for the resume."""
    chain, running = long_tasks(taskrun)
    hosts.cut_host(1)
    running.send(signal.SIGTERM)
    assert chain.finish(running).code == 3
    assert list(chain.results[0].sidecar("run1")["elsewhere"]["hosts"]) == ["host1"]
    chain.runs += 1
    running = taskrun.start("-r", "run1_status.txt", "-p", "run2", "-s", "host2:4")
    chain.to_the_end(running, hosts, 2)
    assert "tasks of the earlier run may still run on host1" in chain.results[1].err


@pytest.mark.long
def test_no_engine_is_left(taskrun: Taskrun, hosts: SshHosts) -> None:
    """It is waited for, said, and given up in the end; the resume does the rest."""
    text = "#TASKRUN REPEAT 8 touch $TASKRUN_TASKID; sleep 1\n"
    configure(taskrun, hosts, "Host *\n    ConnectTimeout 2\n")
    flags = ("-s", "host1:2", "--workdir", "/srv/run", "--lost-after", "2", "--grace", "0", "--wait-for-engines", "1")
    running = taskrun.start("tasks.txt", *flags, "-p", "run", files={"tasks.txt": text})
    until(lambda: [path for path in taskrun.folder.glob("run_status.txt") if b"host1" in path.read_bytes()], 20, "the first record")
    hosts.kill_host(1)
    result = running.finish()
    assert result.code == 3
    assert "host1: the engine is lost: nothing was heard for" in result.err
    assert [each["why"] for each in result.events("wait")][-1] == "waiting for an engine"
    assert "taskrun: no engine is left: waiting for one, at most 1 s; `taskrun attach run -s HOST:4` adds some\n" in result.err
    assert "stopped: no engine is left" in result.err
    hosts.revive_host(1)
    again = taskrun("-r", "run_status.txt", "-p", "two")
    assert again.code == 0, again.err
    assert sorted(each["TaskID"] for each in again.records("two")) == list(range(8))
    assert len(list(hosts.path(1, "/srv/run").iterdir())) == 8


@pytest.mark.long
def test_a_host_that_keeps_failing_is_set_aside(taskrun: Taskrun, hosts: SshHosts, sharing: Sharing) -> None:
    """Whatever starts on host1 kills its agent."""
    agent = r"""$(ps -eo pid,args | awk '/taskrun agent/ && !/[(]|awk/ {print $1}')"""
    taskrun.write({"task.sh": f'[ "$(hostname)" = host2 ] || kill -9 {agent}\n[ -e aside ] || sleep 0.3\n'})
    running = taskrun.start("tasks.txt", *FLAGS, "-p", "run", files={"tasks.txt": "#TASKRUN REPEAT 400 bash task.sh\n"})
    aside = re.compile(r"host1: [45] engines were lost there in a row, and it is set aside")  # a task may be charged with one of them
    until(lambda: aside.search(running.said()[1]), 45, "host1 to be set aside")
    (taskrun.folder / "aside").touch()
    result = running.finish(40)
    assert result.code == 0
    assert {each["ReturnCode"] for each in result.records()} == {0}
    assert {each["Node"] for each in result.records()} == {"host2"}


def test_a_clock_that_is_wrong(taskrun: Taskrun) -> None:
    """Records have the driver's time, however late it is over there; nothing is ended too early or too late."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None) or cannot("libfaketime is not installed")
    far = f'#!/bin/sh\nLD_PRELOAD={library} FAKETIME=+300s FAKETIME_DONT_FAKE_MONOTONIC=1 exec /bin/sh -c "$2"\n'
    taskrun.write({"far": far, "tasks.txt": "#TASKRUN REPEAT 4 date +%s; sleep 0.5\n"})
    (taskrun.folder / "far").chmod(0o755)
    before = time.time()
    result = taskrun("tasks.txt", "-s", "far:2", "--ssh", "./far", "-p", "run", "--lost-after", "4")
    assert result.code == 0, result.err
    for each in result.records():
        assert before - 1 < each["Start"] < each["Finish"] < time.time() + 1
        assert abs(each["Finish"] - each["Start"] - each["Elapsed"]) < 1
        assert int(each["OutputSnippet"].strip("'\\n")) > before + 298, "its clock is wrong indeed"
