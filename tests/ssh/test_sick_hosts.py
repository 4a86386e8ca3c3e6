"""Hosts on which every task fails, for they lack something: set aside on the evidence of the others, probed, used again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from harness import Taskrun, until
from ssh_hosts import SshHosts

#: The command with probes that come after a tenth of a second.
SOON = """
import sys
from taskrun.scheduling.policy import Policy
Policy.__new__.__defaults__ = tuple({**Policy._field_defaults, "probe_pause": 0.1}[name] for name in Policy._fields)
from taskrun.cli.main import main
sys.exit(main())
"""
FLAGS = ("-s", "host1:2,host2:2,host3:2", "--workdir", "/srv/run", "-p", "run")
LIBRARY = "/opt/libfoo.so.1"
TASK = f"sleep 0.05; cat {LIBRARY} > /dev/null || {{ echo 'libfoo.so.1: cannot open' >&2; exit 127; }}; sleep 0.25\n"


@pytest.fixture
def hosts(taskrun: Taskrun, hosts: SshHosts) -> SshHosts:
    """host3 has no library."""
    for k in (1, 2, 3):
        hosts.path(k, "/srv/run").mkdir(parents=True)
    for k in (1, 2):
        hosts.path(k, LIBRARY).write_text("code")
    return hosts


def test_a_host_without_a_library_fails_a_few_tasks_only(taskrun: Taskrun, hosts: SshHosts) -> None:
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": TASK * 40})
    failed = [each for each in result.records() if each["ReturnCode"]]
    assert {each["Node"] for each in failed} == {"host3"}
    assert 5 <= len(failed) < 8
    assert len(result.records()) == 40
    said = (
        r"taskrun: host3: its last \d tasks failed within seconds while others succeed elsewhere; it is set aside, "
        r'probed with one task in 1 min; last error: "libfoo.so.1: cannot open"'
    )
    assert len(re.findall(said, result.err)) == 1
    assert f"{len(failed)} of {len(failed)} failures on host3, where {len(failed)} of {len(failed)} tasks failed" in result.err
    (event,) = [each for each in result.events("engine") if each["what"] == "set-aside"]
    assert event["engine"].startswith("host3")
    again = taskrun("-r", "run_status.txt", "-R", "-p", "again", "-s", "host1:2,host2:2")
    assert len([each for each in again.records() if "S" not in each["Flags"]]) == len(failed)


def test_a_probe_finds_that_the_host_is_well_again(taskrun: Taskrun, hosts: SshHosts) -> None:
    taskrun.command = (sys.executable, "-c", SOON)
    running = taskrun.start("tasks.txt", *FLAGS, files={"tasks.txt": TASK * 90})
    until(lambda: "host3: its last" in running.said()[1], 20, "host3 to be set aside")
    hosts.path(3, LIBRARY).write_text("code")
    until(lambda: "host3: the task that probed it did not fail within seconds: it is used again" in running.said()[1], 20, "a probe")
    result = running.finish()
    good = [each for each in result.records() if each["Node"] == "host3" and each["ReturnCode"] == 0]
    assert len(good) > 2
    assert len([each for each in result.records() if each["ReturnCode"]]) < 12
    assert Path(result.path("events.jsonl")).read_text().count('"what":"restored"') == 1


def test_where_all_fail_nobody_is_set_aside(taskrun: Taskrun, hosts: SshHosts) -> None:
    for k in (1, 2):
        hosts.path(k, LIBRARY).unlink()
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": TASK * 40})
    assert len([each for each in result.records() if each["ReturnCode"] == 127]) == 40
    assert "set aside" not in result.err
    assert "failures on" not in result.err


def test_a_host_on_which_start_check_fails_is_not_used(taskrun: Taskrun, hosts: SshHosts) -> None:
    """Neither -e nor BARRIER CHECK counts it as a failure of the run."""
    text = f"#PERENGINE START CHECK cat {LIBRARY}\n#PERENGINE STOP touch stopped\n#REPEAT 12 hostname\n#BARRIER CHECK\ntrue\n"
    result = taskrun("tasks.txt", *FLAGS, "-e", files={"tasks.txt": text})
    assert result.code == 0, result.err
    said = "taskrun: host3: PERENGINE START CHECK in line 1 failed there (exit 1), and it is not used; last error: "
    assert result.err.count(said) == 1
    assert "13 tasks done, none failed" in result.err
    assert "host3" not in {each["Node"] for each in result.records() if "P" not in each["Flags"]}
    (check,) = [each for each in result.records() if each["ReturnCode"]]
    assert (check["Flags"], check["Node"]) == ("R EP", "host3")
    assert hosts.path(3, "/srv/run/stopped").exists(), "what other START commands did there is undone"
    assert not hosts.processes(3)
