"""Data for attached contexts that share no folder with the run: it goes through the connection of who attached them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attach.meeting import Meeting
from attach.test_door import HEAD, HELLO, Stranger
from attach.test_elsewhere import Friend, friend
from harness import Taskrun, read_status, until
from ssh_hosts import SshHosts

from taskrun.agent import wire

__all__ = ["friend"]  # a fixture that is written elsewhere

SERVER = "/usr/lib/openssh/sftp-server"

#: Inputs for the engine and for each task; outputs of each task and of the run, the second three tasks when they are let.
LINES = """\
#TASKRUN STAGE-IN ENGINE ref/ ref/
#TASKRUN STAGE-IN TASK 'in/ä $b'$TASKRUN_REPEAT_INDEX work/
#TASKRUN STAGE-OUT TASK done/$TASKRUN_REPEAT_INDEX* {safe}/done/
#TASKRUN STAGE-OUT all/* {safe}/all/
#TASKRUN REPEAT 6 n=$TASKRUN_REPEAT_INDEX; mkdir -p done all; until [ -e {go} -o $n -lt 3 ]; do sleep 0.1; done; \
cat ref/big work/*$n > "done/$n "; hostname > all/.$n; mv all/.$n all/$n
"""


@pytest.fixture
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not the run's."""
    return tmp_path_factory.mktemp("safe")


Start = Callable[..., Meeting]


@pytest.fixture
def start(taskrun: Taskrun, ssh_hosts: SshHosts) -> Start:
    """`start(lines, *options)`: a run that listens where the hosts can reach it, and looks for outputs often."""
    taskrun.env.update(ssh_hosts.install(taskrun.env["HOME"]))

    def make(lines: str, *arguments: str) -> Meeting:
        (taskrun.folder / "run_attach.json").unlink(missing_ok=True)  # of one that was killed
        return Meeting(taskrun, lines, "--listen", f"{ssh_hosts.machine}:0", "--settle", "0.5", *arguments)

    return make


def write_inputs(taskrun: Taskrun) -> bytes:
    big = os.urandom(8 << 20)
    taskrun.write({"ref/big": big, **{f"in/ä $b{n}": b"%d" % n for n in range(6)}})
    return big


def check_outputs(safe: Path, big: bytes, hosts: set[str]) -> None:
    assert [(safe / f"done/{n} ").read_bytes() == big + b"%d" % n for n in range(6)] == [True] * 6
    assert {(safe / f"all/{n}").read_text().strip() for n in range(6)} == hosts


@pytest.mark.timeout(150)
def test_every_scope_with_a_driver_that_is_killed(start: Start, friend: Friend, taskrun: Taskrun, ssh_hosts: SshHosts, safe: Path) -> None:
    """A colleague's machine: the run waits for it to come back, although nothing is left to run there but to fetch."""
    big = write_inputs(taskrun)
    text = LINES.format(go="/srv/go", safe=safe)
    there = ("-s", "localhost:2", "--workdir", "/srv/work")
    meeting = start(text, "-S", "--lost-after", "6")  # so long the resume waits: whoever comes back may be another one
    first = friend.start(meeting, *there)
    arrived = [safe / name for n in range(3) for name in (f"all/{n}", f"done/{n} ")]
    events = taskrun.folder / "run_events.jsonl"  # an output that is there without a record may be the same file: --clean keeps it

    def told() -> bool:
        text = events.read_text()
        return all(json.dumps(str(path)) in text for path in arrived)

    until(lambda: all(path.exists() for path in arrived) and told(), 60, "outputs of the first tasks, while others run")
    assert not (safe / "all/3").exists()
    os.kill(meeting.running.pid, signal.SIGKILL)
    meeting.running.process.wait()
    assert friend.finish(first)[0] == 3
    ssh_hosts.path(1, "/srv/go").touch()
    meeting = start(text, "-S", "-r", "run_status.txt", "--clean", "output")
    second = friend.start(meeting, *there, "--label", "again")
    result = meeting.running.finish(60)
    assert result.code == 0, result.err
    assert friend.finish(second)[0] == 0
    check_outputs(safe, big, {"host1"})
    assert not [path for path in ssh_hosts.path(1, "/srv/work").rglob("*") if path.is_file()]
    found = json.loads(result.path("manifest.json").read_text("ascii"))
    assert {each["source"].partition("/~/")[0] for each in found["outputs"] if each["source"].startswith("engine:")} == {
        "engine://SSH0,host1"
    }
    assert {each["verified"] for each in found["outputs"]} == {"sha256"}
    big_ones = [each["dest"] for each in result.events("transfer") if each["dest"].endswith("ref/big") and each.get("how") == "moved"]
    assert len(big_ones) == 1, "it was there already"


@pytest.mark.timeout(100)
@pytest.mark.parametrize("flags", [(), ("--ssh", "ssh")], ids=["paramiko", "ssh"])
def test_one_whose_limit_is_reached_stays_until_all_is_fetched(start: Start, taskrun: Taskrun, safe: Path, flags: tuple[str, ...]) -> None:
    """Its hosts are reached over ssh by who attached them, from here."""
    text = (
        f"#TASKRUN STAGE-OUT all/* {safe}/\n#TASKRUN REPEAT 4 if [ $(hostname) = host2 ]; then mkdir -p all; "
        "yes $TASKRUN_REPEAT_INDEX | head -c 4000000 > all/$TASKRUN_REPEAT_INDEX; else until [ -e go ]; do sleep 0.1; done; fi\n"
    )
    meeting = start(text, "-s", "localhost:1", "--settle", "60")
    guest = meeting.attach("-s", "host2:1", "-C", "2", "--workdir", "/srv/work", *flags)
    ended = guest.finish(40)
    assert (ended.code, "its limit is reached" in ended.err) == (0, True), ended.err
    names = sorted(os.listdir(safe))
    assert (len(names), [(safe / name).stat().st_size for name in names]) == (2, [4_000_000] * 2)
    assert meeting.running.process.poll() is None
    meeting.go()
    result = meeting.running.finish()
    assert (result.code, sorted(os.listdir(safe))) == (0, names), result.err


@pytest.mark.timeout(150)
def test_machines_that_are_of_no_use_and_ones_that_do_not_come_back(
    start: Start, friend: Friend, taskrun: Taskrun, ssh_hosts: SshHosts, safe: Path
) -> None:
    """Without a server for file transfers: said, and others may come. What lies on one that has gone is fetched when it comes again."""
    there = ("-s", "localhost:1", "--workdir", "/srv/work")
    taskrun.write({"in": "x\n"})
    (safe / "a").mkdir()  # in the place of the output
    text = f"#TASKRUN STAGE-IN TASK in work/\n#TASKRUN STAGE-OUT all/* {safe}/\ncat work/in; mkdir all; hostname > all/a\n"
    ssh_hosts.exec(1, "mount", "--bind", "/dev/null", SERVER)
    try:
        meeting = start(text, "-S")
        code, said = friend.finish(friend.start(meeting, *there))
        assert (code, "no host of it can be used" in said) == (2, True), said
    finally:
        ssh_hosts.exec(1, "umount", SERVER)
    words = "host1: no data can be moved there: there is no sftp-server on this host: install openssh-sftp-server"
    until(lambda: words in meeting.running.said()[1], what="the run to say why")
    attached = friend.start(meeting, *there)
    result = meeting.running.finish(40)
    assert (result.code, len(result.records())) == (3, 1)
    assert "a folder is in the place of the file" in result.err
    assert friend.finish(attached)[0] == 0
    (safe / "a").rmdir()
    alone = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "-r", "run_status.txt")
    assert alone.code == 3
    assert "SSH1,host1 was not delivered: nobody has attached host1 to this run" in alone.err
    meeting = start(text, "-S", "-r", "run_status.txt")
    attached = friend.start(meeting, *there, "--label", "again")
    result = meeting.running.finish(40)
    assert result.code == 0, result.err
    assert (safe / "a").read_text() == "host1\n", result.err
    assert friend.finish(attached)[0] == 0


class Liar:
    """A guest whose agent says that it shares no folder, and whose file server answers every request with a folder that cannot be."""

    def __init__(self, meeting: Meeting) -> None:
        self.stranger = Stranger(meeting).shake()
        assert self.stranger.prove()["k"] == "proven"
        self.stranger.join()
        self.answers = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        stranger, sessions, agent = self.stranger, set(), 0
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, channel, size = HEAD.unpack(stranger._read(HEAD.size))
                data = b"" if kind == b"W" else stranger._read(size)
                if kind == b"D" and channel in sessions:
                    stranger.frame(b"D", channel, self._answer(data))
                    self.answers += 1
                    continue
                message = json.loads(data) if kind == b"C" else {"k": ""}
                if message["k"] == "start":
                    agent = message["channel"]
                    now = time.time()
                    ready = {"k": "ready", "starter": "x", "slots": 1, "shared": False, "cwd": "/etc", "came": now, "now": now}
                    frames = b"".join(map(wire.frame, ({**HELLO, "host": "evil"}, ready)))
                    stranger.frame(b"D", agent, wire.MARKER + b"\n" + frames)
                elif message["k"] == "serve":
                    sessions.add(message["channel"])
                    stranger.say(k="failed", channel=message["channel"], why="\x1b[2J" * 9, permanent=False, lives_on=True)

    @staticmethod
    def _answer(request: bytes) -> bytes:
        if request[4] == 1:  # INIT
            body = b"\2" + struct.pack(">I", 3)
        elif request[4] == 11:  # OPENDIR
            body = b"f" + request[5:9] + struct.pack(">I", 1) + b"h"
        else:  # four thousand million names, the first of which leads away
            name = b"../../../../tmp/evil"
            body = b"h" + request[5:9] + struct.pack(">II", 2**32 - 1, len(name)) + name + struct.pack(">II", 0, 0)
        return struct.pack(">I", len(body)) + body

    def close(self) -> None:
        self.stranger.tls.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.stranger.close()


def test_a_host_that_lies_about_its_files(taskrun: Taskrun, safe: Path) -> None:
    """The run goes on with its own, and says at the end what it could not look at."""
    text = f"#TASKRUN STAGE-OUT all/* {safe}/\n#TASKRUN REPEAT 3 "
    text += "mkdir -p all; echo x > all/$TASKRUN_REPEAT_INDEX; until [ -e go ]; do sleep 0.1; done\n"
    meeting = Meeting(taskrun, text, "-s", "localhost:1", "--settle", "0.5", "--grace", "1")
    liar = Liar(meeting)
    try:
        until(lambda: liar.answers > 4, 20, "it to be asked again, for what it said was nothing")
        meeting.go()
        until(lambda: len(read_status(meeting.path("status.txt"))) >= 2, 20, "the tasks of the other engine")
    finally:
        liar.close()
    result = meeting.running.finish(60)
    assert (result.code, len(result.records())) == (3, 3), result.err
    assert "SSH1,evil was not delivered" in result.err
    assert "Traceback" not in result.err + meeting.log()
    assert sorted(os.listdir(safe)) == ["0", "1", "2"]
