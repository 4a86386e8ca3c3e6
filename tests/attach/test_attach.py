"""Contexts that attach to a run that goes on, and leave it: with `taskrun attach` and `taskrun detach`, and by force."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from attach.meeting import Meeting, gated
from harness import Running, Taskrun, read_status, until

Meet = Callable[..., Meeting]


def ids(meeting: Meeting) -> list[int]:
    return sorted(record["TaskID"] for record in read_status(meeting.path("status.txt")) if "P" not in record["Flags"])


def test_engines_are_added_and_work(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet("#TASKRUN PERENGINE START echo started >> on_$TASKRUN_ENGINE_RANK\n" + gated(8), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:2")
    meeting.wait_for(1, 2)
    assert (taskrun.folder / "on_1").read_text() == "started\n"  # before its first task
    meeting.go()
    result = meeting.running.finish()
    assert result.code == 0
    assert ids(meeting) == list(range(8))
    left = guest.finish()
    assert left.code == 0
    assert re.search(r"^taskrun: attached to run \S+ as context SSH1: 2 slots on \S+\n", left.err)
    assert left.err.endswith("taskrun: context SSH1 is over: the run has ended\n")
    contexts = result.sidecar()["contexts"]
    assert [context["label"] for context in contexts] == ["SSH0", "SSH1"]
    assert contexts[1]["kind"] == "attached"
    joined = [event for event in result.events("context") if event["what"] == "joined"]
    assert [event["context"] for event in joined] == ["SSH0", "SSH1"]
    assert [event["engine"].rpartition("_")[2] for event in result.events("engine") if event["what"] == "left"] == ["0", "1"]
    assert not list(taskrun.folder.glob("run_attach*"))
    assert not list(taskrun.folder.glob("run_dbUtil*"))


def test_the_attach_file_is_its_owners_alone(meet: Meet) -> None:
    meeting = meet(gated(1), "-s", "localhost:1")
    assert meeting.path("attach.json").stat().st_mode & 0o777 == 0o600
    assert meeting.path("dbUtil.sh").stat().st_mode & 0o777 == 0o700
    secrets = [meeting.invitation["secret"], meeting.invitation["control"]]
    logs = meeting.log() + meeting.path("events.jsonl").read_text() + meeting.path("run.json").read_text()
    assert not any(secret in logs for secret in secrets)
    meeting.go()
    assert meeting.running.finish().code == 0


def test_a_limit_is_kept_and_labels_are_made_different(meet: Meet) -> None:
    line = "[ $TASKRUN_ENGINE_RANK = 0 ] && until test -e go; do sleep 0.05; done; echo $TASKRUN_ENGINE_RANK >> ran\n"
    meeting = meet(line * 12, "-s", "localhost:1")
    first = meeting.attach("-s", "localhost:1", "-C", "2", "-l", "mine")
    result = first.finish()
    assert (result.code, result.err.split("\n")[-2]) == (0, "taskrun: context mine is over: its limit is reached")
    second = meeting.attach("-s", "localhost:1", "-C", "1", "-l", "mine").finish()
    assert second.err.endswith("taskrun: context mine.2 is over: its limit is reached\n")
    meeting.go()
    assert meeting.running.finish().code == 0
    ran = Counter((meeting.folder / "ran").read_text().split())
    assert (ran["1"], ran["2"], sum(ran.values())) == (2, 1, 12)


def test_slots_are_those_of_the_run_unless_it_is_told(meet: Meet) -> None:
    meeting = meet(gated(1), "-s", "localhost:1", "-t", "3")
    one = meeting.attach("-s", "localhost:8")
    two = meeting.attach("-s", "localhost:8", "-t", "5")
    until(lambda: [engine["slots"] for engine in meeting.picture()["engines"]] == [3, 3, 5], 15, "the engines")
    meeting.go()
    assert [each.finish().code for each in (meeting.running, one, two)] == [0, 0, 0]


def test_detach_lets_what_runs_end(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet("#TASKRUN PERENGINE STOP echo stopped >> off_$TASKRUN_ENGINE_RANK\n" + gated(6), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    assert (taskrun("detach", "run", "").code, taskrun("detach", "run", "x" * 5000).code) == (2, 2)
    done = taskrun("detach", "run", "SSH1")
    assert (done.code, "SSH1 is detached: it ends what it has" in done.err) == (0, True)
    engine = next(each for each in meeting.picture()["engines"] if each["context"] == "SSH1")
    assert engine["state"] == "draining"
    meeting.go()
    assert guest.finish().err.endswith("context SSH1 is over: it was detached\n")
    result = meeting.running.finish()
    assert (result.code, ids(meeting)) == (0, list(range(6)))
    assert (taskrun.folder / "off_1").read_text() == "stopped\n"
    whats = [event["what"] for event in result.events("context") if event["context"] == "SSH1"]
    assert whats == ["joined", "draining", "left"]
    whats = [event["what"] for event in result.events("engine") if event["engine"] == engine["name"]]
    assert whats == ["joined", "draining", "left"]


def test_detach_now_gives_the_tasks_back(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet(gated(4), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    engine = next(each["name"] for each in meeting.picture()["engines"] if each["context"] == "SSH1")
    assert taskrun("detach", "run", engine, "--now", "-q").err == ""
    assert guest.finish().code == 0
    meeting.go()
    assert meeting.running.finish().code == 0
    assert ids(meeting) == list(range(4))
    records = read_status(meeting.path("status.txt"))
    assert all(record["ReturnCode"] == 0 for record in records)
    runs = Counter(row[1] for row in meeting.ran())
    assert sorted(runs.values()) == [1, 1, 1, 2]  # the one that was ended ran again


def test_a_name_that_is_none_is_refused_with_the_nearest(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet(gated(1), "-s", "localhost:1", "-l", "basement")
    refused = taskrun("detach", "run", "basemnt")
    assert refused.code == 2
    assert refused.err.startswith(
        "taskrun: `basemnt` is no engine or context of this run; did you mean basement? (contexts: basement; engi"
    )
    meeting.go()
    assert meeting.running.finish().code == 0


def test_ctrl_c_lets_the_tasks_end(meet: Meet) -> None:
    meeting = meet(gated(4), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    guest.send(signal.SIGINT)
    until(lambda: "SIGINT: context SSH1 ends what it runs and leaves" in guest.said()[1], 10, "the word")
    assert guest.process.poll() is None
    meeting.go()
    assert guest.finish().code == 0
    assert meeting.running.finish().code == 0
    assert len(meeting.ran()) == 4  # none ran twice


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 3)])
def test_the_machine_is_wanted_back(meet: Meet, signals: list[int], code: int) -> None:
    meeting = meet(gated(3), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    for number in signals:
        guest.send(number)
        until(lambda number=number: signal.Signals(number).name in guest.said()[1], 10, "the signal to be seen")
    until(lambda: "gives back" in guest.said()[1], 10, "the tasks to be given back")
    assert guest.finish().code == code
    meeting.go()
    assert meeting.running.finish().code == 0
    assert ids(meeting) == [0, 1, 2]


def test_kill_9_of_attach(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet(gated(3), "-s", "localhost:1", "--grace", "1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    guest.send(signal.SIGKILL)
    until(lambda: "context SSH1: who attached it has gone" in meeting.running.said()[1], 10, "the run to see it")
    until(lambda: [each["context"] for each in meeting.picture()["engines"]] == ["SSH0"], 15, "the engine to be given up")
    meeting.go()
    result = meeting.running.finish()
    assert (result.code, ids(meeting)) == (0, [0, 1, 2])
    assert [event["what"] for event in result.events("context") if event["context"] == "SSH1"] == ["joined", "lost"]
    assert [event["what"] for event in result.events("engine") if event["engine"].endswith("_1")] == ["joined", "lost"]
    assert sorted(Counter(row[1] for row in meeting.ran()).values()) == [1, 1, 2]  # what it ran has run again
    assert not [event for event in result.events("attempt") if "blame" in event]


def test_kill_9_of_the_driver_and_a_resume_at_once(meet: Meet, taskrun: Taskrun) -> None:
    """The resume waits for the tasks of the attached engine, too: they are on this machine."""
    meeting = meet("trap '' TERM; echo $$ >> pids; while ! test -e go; do sleep 0.1; done; echo end >> ends\n" * 2, "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    until(lambda: (taskrun.folder / "pids").exists() and len((taskrun.folder / "pids").read_text().split()) == 2, 15, "both to run")
    before = [int(pid) for pid in (taskrun.folder / "pids").read_text().split()]
    meeting.running.send(signal.SIGKILL)
    refused = taskrun("attach", "run", "-s", "localhost:1")
    assert refused.code == 2
    assert "the run was killed; taskrun -r" in refused.err
    resumed = taskrun.start("-r", "run_status.txt", "-p", "again", "-s", "localhost:2")
    until(lambda: len((taskrun.folder / "pids").read_text().split()) == 4, 30, "both to run again")
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    (taskrun.folder / "go").touch()
    assert resumed.finish().code == 0
    assert guest.finish().code == 3
    assert "the connection to the run broke" in guest.said()[1]
    assert taskrun("monitor", "run").out.startswith("run: killed · ")


def test_hosts_that_cannot_be_used(meet: Meet) -> None:
    meeting = meet(gated(2), "-s", "localhost:1")
    result = meeting.attach("-s", "nowhere.invalid:2").finish(40)
    assert result.code == 2
    assert "no host of it can be used (nowhere.invalid: there is no host of this name" in result.err
    meeting.go()
    ended = meeting.running.finish()
    assert (ended.code, ids(meeting)) == (0, [0, 1])
    assert "nowhere.invalid: there is no host of this name" in ended.err


def test_the_agent_of_a_guest_is_killed(meet: Meet, taskrun: Taskrun) -> None:
    """Another one takes its place."""
    meeting = meet(gated(3), "-s", "localhost:1", "--grace", "1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    agents = subprocess.run(
        ["ps", "--ppid", str(guest.pid), "-o", "pid=", "--no-headers"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(agents) == 1
    os.kill(int(agents[0]), signal.SIGKILL)
    meeting.wait_for(2, 1)
    meeting.go()
    result = meeting.running.finish()
    assert [result.code, guest.finish().code] == [0, 0]
    assert ids(meeting) == [0, 1, 2]
    assert [event["blame"] for event in result.events("attempt") if event["cause"] == "engine-lost"] == ["suspect"]


def test_what_can_be_attached_to(meet: Meet, taskrun: Taskrun) -> None:
    refused = taskrun("attach", "nothing", "-s", "localhost:1")
    assert (refused.code, "there is no run" in refused.err) == (2, True)
    meeting = meet(gated(1), "-s", "localhost:1")
    path = meeting.path("attach.json")
    path.chmod(0o644)
    refused = taskrun("attach", "run", "-s", "localhost:1")
    assert (refused.code, "can be read by others" in refused.err) == (2, True)
    path.chmod(0o600)
    assert taskrun("attach", "run", "-s", "localhost").code == 2
    path.rename(taskrun.folder / "copy.json")
    guest = meeting.attach("-s", "localhost:1", name="copy.json")
    meeting.go()
    assert [meeting.running.finish().code, guest.finish().code] == [0, 0]
    refused = taskrun("attach", "run", "-s", "localhost:1")
    assert (refused.code, "the run has ended" in refused.err) == (2, True)
    refused = taskrun("attach", "copy.json", "-s", "localhost:1")
    assert (refused.code, "the run cannot be reached" in refused.err) == (2, True)


def test_an_invitation_is_for_engines_alone(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet(gated(2), "-s", "localhost:1")
    for _ in range(2):  # a new one takes the place of the old
        assert taskrun("attach", "run", "--invite", "friend.json").code == 0
    before = {path: path.read_bytes() for path in taskrun.folder.iterdir() if path.name.startswith("run_") and path.suffix != ".jsonl"}
    for name in ("run_attach.json", "run_status.txt", ".", ""):
        assert taskrun("attach", "run", "--invite", name).code == 2, "no file of anything else is written over"
    assert {path: path.read_bytes() for path in before} == before
    friend = taskrun.folder / "friend.json"
    assert friend.stat().st_mode & 0o777 == 0o600
    assert meeting.invitation["control"] not in friend.read_text()
    guest = meeting.attach("-s", "localhost:1", name="friend.json")
    meeting.wait_for(1, 1)
    (taskrun.folder / "there").mkdir()
    friend.rename(taskrun.folder / "there/friend.json")
    for command in (["detach", "friend.json", "SSH0"], ["monitor", "friend.json"]):
        refused = taskrun(*command, cwd=taskrun.folder / "there")
        assert (refused.code, "was given for bringing engines" in refused.err) == (2, True)
    meeting.go()
    assert [meeting.running.finish().code, guest.finish().code] == [0, 0]


def test_the_script_of_disbatch(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet(gated(2), "-s", "localhost:1")
    shown = subprocess.run([meeting.path("dbUtil.sh"), "--mon"], env=taskrun.env, capture_output=True, text=True, check=True, timeout=20)
    assert shown.stdout.startswith("run: running · ")
    with subprocess.Popen([meeting.path("dbUtil.sh"), "-s", "localhost:1"], env=taskrun.env, stderr=subprocess.DEVNULL) as guest:
        meeting.wait_for(1, 1)
        meeting.go()
        assert meeting.running.finish().code == 0
        assert guest.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--use-address", "off", "-S"), "leave one of them out"),
        (("--use-address", "localhost:99999"), "`99999` is no port"),
        (("--listen", "nowhere.invalid:0"), "there is no such address here"),
        (("-S", "-s", "localhost:1"), "--startup-only starts no engine"),
    ],
)  # fmt: skip
def test_refused_before_anything_runs(taskrun: Taskrun, arguments: tuple[str, ...], said: str) -> None:
    arguments = arguments if "-S" in arguments else (*arguments, "-s", "localhost:1")
    result = taskrun("tasks.txt", "-p", "run", *arguments, files={"tasks.txt": "touch ran\n"})
    assert result.code == 2
    assert said in result.err
    assert sorted(path.name for path in taskrun.folder.iterdir()) == ["tasks.txt"]


def test_off_is_off(taskrun: Taskrun) -> None:
    running = taskrun.start("tasks.txt", "-p", "run", "-s", "localhost:1", "--use-address", "off", files={"tasks.txt": gated(1)})
    until((taskrun.folder / "ran").exists, 15, "the task to start")
    refused = taskrun("attach", "run", "-s", "localhost:1")
    assert (refused.code, "lets nobody attach" in refused.err) == (2, True)
    shown = taskrun("monitor", "run").out
    assert shown.startswith("run: running · ")
    assert listening(running) == 0
    (taskrun.folder / "go").touch()
    assert running.finish().code == 0


def listening(running: Running) -> int:
    """TCP sockets on which the driver listens."""
    descriptors = Path(f"/proc/{running.pid}/fd")
    inodes = {link for fd in descriptors.iterdir() if (link := str(fd.readlink())).startswith("socket")}
    rows = [line.split() for line in Path(f"/proc/{running.pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes)


def test_a_run_listens_after_a_second_without_being_asked(taskrun: Taskrun) -> None:
    running = taskrun.start("tasks.txt", "-p", "run", "-s", "localhost:1", files={"tasks.txt": gated(2)})
    until((taskrun.folder / "run_run.json").exists, 15, "the run to begin")
    guest = taskrun.start("attach", "run", "-s", "localhost:1")  # which waits for that
    until(lambda: "attached to run" in guest.said()[1], 20, "it to attach")
    assert listening(running) == 1
    (taskrun.folder / "go").touch()
    assert [running.finish().code, guest.finish().code] == [0, 0]


def test_a_guest_is_told_that_its_hosts_failed_the_check(meet: Meet) -> None:
    meeting = meet("#PERENGINE START CHECK test $TASKRUN_ENGINE_RANK = 0\n" + gated(2), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1").finish()
    assert (guest.code, guest.err.split("\n")[-2]) == (3, "taskrun: context SSH1 is over: a START CHECK has failed on its hosts")
    meeting.go()
    result = meeting.running.finish()
    assert result.code == 0
    assert ": PERENGINE START CHECK in line 1 failed there (exit 1), and it is not used\n" in result.err


def test_an_attached_host_that_fails_everything_is_set_aside(meet: Meet) -> None:
    """The machine is the same, its surroundings are not."""
    begin = "echo $TASKRUN_ENGINE_RANK 0 >> ran; until test -e begin; do sleep 0.05; done; "
    line = begin + 'test $TASKRUN_ENGINE_RANK = 0 || { echo "no licence here" >&2; exit 3; }; sleep 0.2\n'
    meeting = meet(line * 20 + gated(1), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    (meeting.folder / "begin").touch()
    until(lambda: "set aside" in [engine["state"] for engine in meeting.picture()["engines"]], 20, "it to be set aside")
    meeting.go()
    result = meeting.running.finish()
    assert (result.code, guest.finish().code) == (0, 0)
    failed = [each for each in result.records() if each["ReturnCode"]]
    assert 5 <= len(failed) <= 6, [each["TaskID"] for each in failed]
    assert 'probed with one task in 1 min; last error: "no licence here"' in result.err


def test_a_resume_listens_where_the_earlier_run_did(taskrun: Taskrun) -> None:
    """Or, where it cannot, somewhere else, and says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    first = taskrun("tasks.txt", "-p", "run", "-s", "localhost:1", "--listen", f"127.0.0.1:{port}", "-q", files={"tasks.txt": "exit 1\n"})
    assert first.code == 0, first.err
    same = taskrun("-r", "run_status.txt", "-R", "-p", "same")
    assert f"listens on 127.0.0.1:{port} " in (taskrun.folder / "same_driver.log").read_text()
    assert "listen" not in same.err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other = taskrun("-r", "run_status.txt", "-R", "-p", "other")
        again = taskrun("-r", "other_status.txt", "-R", "-p", "again", "--listen", f"127.0.0.1:{port}")
    said = re.search(rf"taskrun: --use-address: 127.0.0.1:{port} cannot be listened on: .*; this run listens on \S+:(\d+)\n", other.err)
    assert (other.code, said is not None) == (0, True), other.err
    assert said is None or int(said[1]) != port
    assert again.code == 2, "what is typed is meant"
