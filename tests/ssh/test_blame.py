"""Whom a loss is charged to, on real hosts: a task that kills its agent, and never one whose host loses its power or its network."""

from __future__ import annotations

import re

import pytest
from faults.test_blame import KILL, check
from harness import Running, Taskrun, until
from ssh.place import configure
from ssh_hosts import SshHosts

#: B is 2 s: the driver gives an engine up after 4.3.
FLAGS = ("-p", "run", "--workdir", "/srv/run", "--lost-after", "2", "--grace", "0", "--starter", "builtin")
ROUNDS = 3


@pytest.mark.long
@pytest.mark.parametrize("reach", [(), ("--ssh", "ssh")], ids=["paramiko", "ssh"])
def test_one_that_kills_its_agent_with_a_second_host(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    lines = ["sleep 0.3\n"] * 16
    lines[2] = f"sleep 0.2; {KILL}\n"
    flags = ("-s", "host1:4,host2:4", *FLAGS, *reach)
    result = taskrun("tasks.txt", *flags, files={"tasks.txt": "".join(lines)}, timeout=60)
    check(taskrun, result, 16, 2)
    until(lambda: not hosts.processes(1) and not hosts.processes(2), 10, "the hosts to be empty")


def running_on(hosts: SshHosts, k: int) -> int:
    """Tasks of this test there."""
    return sum("bash -c until" in line for line in hosts.processes(k).values())


def losses(running: Running, host: str) -> int:
    """How many times the loss of an engine there was said, alone or of several hosts in one line."""
    return sum(host in hosts.split(", ") for hosts in re.findall(r"(?m)^taskrun: (.*): the engine is lost", running.said()[1]))


@pytest.mark.long
@pytest.mark.timeout(180)
def test_three_power_cuts_and_three_network_cuts_charge_nobody(taskrun: Taskrun, hosts: SshHosts) -> None:
    """Every task is lost three times, with host1, which loses its power, or with host2, whose network is cut."""
    configure(taskrun, hosts, "Host *\n    ConnectTimeout 2\n")
    text = "#TASKRUN REPEAT 4 until [ -e go ]; do sleep 0.1; done\n"
    running = taskrun.start("tasks.txt", "-s", "host1:2,host2:2", *FLAGS, files={"tasks.txt": text})
    for number in range(1, ROUNDS + 1):
        until(lambda: running_on(hosts, 1) == running_on(hosts, 2) == 2, 40, "all tasks to run")
        hosts.cut_host(2)
        hosts.kill_host(1)
        until(lambda: losses(running, "host2") == losses(running, "host1") == number, 30, "the losses to be said")  # noqa: B023 - at once
        hosts.mend_host(2)
        hosts.revive_host(1)
    until(lambda: running_on(hosts, 1) == running_on(hosts, 2) == 2, 40, "all tasks to run")
    for k in (1, 2):
        hosts.path(k, "/srv/run/go").touch()
    result = running.finish()
    hosts.forgive(2)  # its sshd may not know yet that connections were given up during a cut
    assert result.code == 0, result.err
    assert result.err.index("the engine is lost") < result.err.index("no engine is left"), "the cause comes first"
    assert [each["ReturnCode"] for each in result.records()] == [0] * 4
    attempts = result.events("attempt")
    assert [each["cause"] for each in attempts] == ["engine-lost"] * 4 * ROUNDS + ["ok"] * 4
    assert not [each for each in attempts if "blame" in each]
