"""The names that say that a run lives: another user may take any of them, and can neither stop a resume nor make two of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attach.meeting import Meeting, gated
from faults.chain import kill
from harness import Taskrun, until
from strangers import Stranger

from taskrun import options
from taskrun.agent import fence, losses, workdir
from taskrun.driver import claim, elsewhere, held
from taskrun.errors import Refused
from taskrun.status import sidecar

RUN = f"261128120000-{os.getpid():010x}"
#: Binds each argument, and says so. `how`: `bound` without listening, `listening`, or `full`: with a queue that has no room.
TAKE = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
how, kept = sys.argv[1], []
for name in sys.stdin.readline().split():
    one = socket.socket(socket.AF_UNIX)
    one.bind("\\0" + name)
    kept.append(one)
    if how != "bound":
        one.listen(0 if how == "full" else 100)
    if how == "full":
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            kept.append(client)
            try:
                client.connect("\\0" + name)
            except BlockingIOError:
                break
print("taken", flush=True)
sys.stdin.read()
"""
HOWS = ("bound", "listening", "full")
Take = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def take(stranger: Stranger) -> Take:
    """take(how, *names): the stranger holds them until the end of the test."""

    def take(how: str, *names: str) -> subprocess.Popen[str]:
        process = stranger.start(TAKE, how)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join(names) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "taken\n"
        return process

    return take


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open files of no process can be looked at."""

    def nothing(self: Any, users: frozenset[int]) -> None:
        self.ours, self.others, self.complete = set(), set(), False

    monkeypatch.setattr(fence._Processes, "__init__", nothing)


def look(run: str = RUN, users: held.Users | None = None) -> held.Left:
    return held.wait_until_free(run, 0, users=users)


@pytest.mark.parametrize("how", HOWS)
def test_names_of_a_stranger_are_not_waited_for(take: Take, how: str) -> None:
    names = [f"taskrun-{RUN}", f"taskrun-{RUN}+0a1b2c3d", f"taskrun-{RUN}+1"]
    take(how, *names)
    assert look() == held.Left([], [], [f"@{name}" for name in names])


def test_what_a_terminal_obeys_in_a_name_is_shown(take: Take) -> None:
    take("listening", f"taskrun-{RUN}+\x1b[2J")
    assert look().strange == [f"@taskrun-{RUN}+\\x1b[2J"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.usefixtures("nobody_looks")
def test_what_cannot_be_told_counts(take: Take, how: str) -> None:
    take(how, f"taskrun-{RUN}+1")
    name = [f"@taskrun-{RUN}+1"]
    assert look() == (held.Left([], [], name) if how == "listening" else held.Left([], name, []))


@pytest.mark.parametrize("how", HOWS)
def test_what_may_be_another_users_counts(take: Take, how: str) -> None:
    """As long as it is not known who else has attached to the run."""
    take(how, f"taskrun-{RUN}+1")
    left = look(users=held.Users(frozenset((os.getuid(),)), anybody=True))
    assert left == held.Left([], [f"@taskrun-{RUN}+1"], [])


@pytest.mark.parametrize("how", HOWS)
def test_names_of_the_user_whose_run_it_was_count(take: Take, stranger: Stranger, how: str) -> None:
    take(how, f"taskrun-{RUN}")
    left = look(users=held.Users(frozenset((os.getuid(), stranger.uid))))
    assert (left.alive, left.free) == ([f"@taskrun-{RUN}"], False)


@pytest.mark.parametrize("listens", [False, True])
def test_our_own_name_counts_among_those_of_a_stranger(take: Take, listens: bool) -> None:
    """Also that of an older version, which does not listen."""
    take("listening", f"taskrun-{RUN}", *(f"taskrun-{RUN}+{number}" for number in range(2, 60)))
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(f"\0taskrun-{RUN}+1")
        if listens:
            own.listen()
        assert look().alive == [f"@taskrun-{RUN}+1"]
    assert look().free


@pytest.mark.usefixtures("nobody_looks")
def test_our_own_name_whose_queue_strangers_have_filled_counts() -> None:
    with held.hold(RUN), socket.socket(socket.AF_UNIX) as full:
        full.bind(f"\0taskrun-{RUN}+1")
        full.listen(0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0taskrun-{RUN}+1")
            assert look() == held.Left([f"@taskrun-{RUN}"], [f"@taskrun-{RUN}+1"], [])
    assert look() == held.Left([], [], [])


def test_a_line_in_a_name_is_none_of_the_list(stranger: Stranger) -> None:
    """The system writes names as they are, also one that holds a line of its own list, with the inode of a socket of ours."""
    ours = socket.socket(socket.AF_UNIX)
    inode = os.fstat(ours.fileno()).st_ino
    code = "import socket, sys; one = socket.socket(socket.AF_UNIX); one.bind(chr(0) + sys.argv[1]); print('taken', flush=True); input()"
    line = f"x\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @taskrun-{RUN}+1"
    process = stranger.start(code, line)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    assert look() == held.Left([], [], [])
    ours.close()


@pytest.mark.parametrize("how", HOWS)
def test_a_run_begins_although_its_name_is_taken(take: Take, how: str) -> None:
    take(how, f"taskrun-{RUN}", *(f"taskrun-{RUN}+{number}" for number in range(1, 65)))
    with held.hold(RUN), held.hold_beside(RUN):
        assert len(look().alive) == 2
    assert look().free


def test_a_connection_ends_with_the_last_who_has_inherited_the_name() -> None:
    watch = fence.Watch(RUN.encode(), fence.BESIDE, frozenset((os.getuid(),)), anybody=False)
    name = held.hold(RUN)
    code = "import sys; print('has it', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", code], pass_fds=[name.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as heir:
        assert heir.stdout is not None
        assert heir.stdin is not None
        assert heir.stdout.readline() == b"has it\n"
        assert watch.look() == ([f"taskrun-{RUN}".encode()], [])
        ((connection, _),) = watch.held.values()
        name.close()
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        assert watch.look() == ([f"taskrun-{RUN}".encode()], [])
        assert [each for each, _ in watch.held.values()] == [connection]  # one for all looks
        heir.stdin.close()
        heir.wait(10)
        assert watch.look() == ([], [])
    watch.close()


def test_thousands_of_names_make_no_resume_slow(take: Take) -> None:
    names = [f"taskrun-{RUN}+{number:08x}" for number in range(2000)]
    take("listening", f"taskrun-{RUN}", *names[:1000])
    take("bound", *names[1000:])
    began = time.process_time()
    left = look()
    assert time.process_time() - began < 2
    assert (left.free, len(left.strange)) == (True, 2001)


# --- whole runs


def killed(taskrun: Taskrun) -> str:
    """The id of a run `run` that was killed while its task ran, and of which nothing is left."""
    running = taskrun.start(
        "tasks.txt", "-p", "run", "-s", "localhost:1", files={"tasks.txt": "echo >> started; test -e go || sleep 100\n"}
    )
    until((taskrun.folder / "started").exists, 20, "its task")
    run = sidecar.load(taskrun.folder / "run_run.json").run_id
    kill(running.pid)
    running.process.wait()
    assert held.wait_until_free(run, 20).free
    (taskrun.folder / "go").touch()
    return run


@pytest.mark.parametrize("how", HOWS)
def test_a_resume_starts_although_a_stranger_has_the_names(taskrun: Taskrun, take: Take, how: str) -> None:
    run = killed(taskrun)
    take(how, f"taskrun-{run}", f"taskrun-{run}+1")
    result = taskrun("-r", "run_status.txt", "-s", "localhost:1")
    assert result.code == 0, result.err
    assert "waiting for the last tasks" not in result.err
    assert f"the socket names @taskrun-{run}, @taskrun-{run}+1 are taken on this host by another user" in result.err


@pytest.fixture
def dead(taskrun: Taskrun, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    run = killed(taskrun)
    monkeypatch.setattr(claim, "OLD_RUN_SECONDS", 0.1)
    return run, taskrun.folder / "run_status.txt"


def waits(status: Path, *arguments: str) -> list[str]:
    """Return what a resume with these arguments says while it waits for the earlier run. Raises Refused."""
    said: list[str] = []
    _, given = options.parse(["-r", str(status), *arguments])
    claim.Claim(given, "new", 0.0, status.parent, "tasks.txt", requeued=False, say=said.append)._wait_for_old(status)
    return said


@pytest.mark.usefixtures("nobody_looks")
def test_take_over_passes_what_cannot_be_told(dead: tuple[str, Path], take: Take) -> None:
    run, status = dead
    take("bound", f"taskrun-{run}")
    with pytest.raises(Refused, match=rf"socket name @taskrun-{run} is taken .* --take-over if nothing of that run is left"):
        waits(status)
    assert waits(status, "--take-over") == [f"--take-over: the socket name @taskrun-{run} is taken on this host, and passed over"]


def test_take_over_does_not_pass_a_process_of_the_run(dead: tuple[str, Path]) -> None:
    run, status = dead
    with held.hold(run), pytest.raises(Refused, match=r"still live on this host: .*--take-over does not pass them"):
        waits(status, "--take-over")


def test_all_numbered_names_are_taken_and_a_context_attaches(taskrun: Taskrun, take: Take) -> None:
    meeting = Meeting(taskrun, gated(2), "-s", "localhost:1")
    run = sidecar.load(meeting.path("run.json")).run_id
    take("listening", *(f"taskrun-{run}+{number}" for number in range(1, 65)))
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    assert len(look(run).alive) == 2
    assert [context.get("user") for context in sidecar.load(meeting.path("run.json")).contexts] == [None, os.getuid()]
    meeting.go()
    assert (meeting.running.finish().code, guest.finish().code) == (0, 0)
    assert look(run).free


# --- agents on other hosts


def test_an_agent_holds_a_name_although_a_stranger_has_others(take: Take) -> None:
    take("listening", f"taskrun-{RUN}.taskrun-0123456789abcdef", f"taskrun-{RUN}")
    (held_by_agent,) = losses.hold(RUN)
    before = losses.Before(RUN, anybody=False)
    assert not before.step(0.0)
    os.close(held_by_agent)
    assert before.step(0.0)
    others = losses.Before(RUN, anybody=True)  # the run may have been the stranger's
    assert not others.step(0.0)
    others.watch.close()


def test_an_agent_without_a_name_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks might run twice."""
    monkeypatch.setattr(fence.os, "urandom", bytes)
    (taken,) = losses.hold(RUN)
    with pytest.raises(workdir.Unusable, match=r"^no socket name can be held that tells a resume of tasks here: all of them are taken$"):
        losses.hold(RUN)
    os.close(taken)


@pytest.mark.parametrize(
    ("user", "contexts", "known", "anybody"),
    [
        (0, [], set(), False),
        (4711, [], {4711}, False),
        (0, [{"kind": "attached", "user": 4712}, {"kind": "ssh"}, "damaged"], {4712}, False),
        (0, [{"kind": "attached"}], set(), True),  # an older version's
        (0, [{"kind": "attached", "user": -1}], set(), True),
        ("root", [], set(), True),
    ],
)
def test_whose_processes_those_of_a_run_may_be(
    taskrun: Taskrun, stranger: Stranger, user: Any, contexts: list[Any], known: set[int], anybody: bool
) -> None:
    status = taskrun.folder / "run_status.txt"
    run = sidecar.Sidecar(
        "r", "1", [], "/", status.name, contexts, {}, "h", 1, "b", 0.0, sidecar.TaskFile("/t", "", 0), extra={"user": user}
    )
    status.touch()
    run.write(taskrun.folder / "run_run.json")
    assert held.users_of(run, status) == held.Users(frozenset({os.getuid(), *known}), anybody)
    os.chown(status, 4713, -1)
    assert held.users_of(run, status) == held.Users(frozenset({os.getuid(), 4713, *known}), anybody)
    os.chown(status, stranger.uid, -1)  # `nobody` owns what a file server hides the owner of
    assert held.users_of(run, status).anybody


def test_agents_are_told_that_a_run_may_have_been_another_users(taskrun: Taskrun) -> None:
    killed(taskrun)
    path, status = taskrun.folder / "run_run.json", taskrun.folder / "run_status.txt"
    run = sidecar.load(path)
    run.contexts = [{"kind": "ssh", "hosts": {"far": 1}}]
    run.write(path)
    assert elsewhere.left_by([status], time.time()).anybody is False
    run.extra["user"] = 4711
    run.write(path)
    assert elsewhere.left_by([status], time.time()).anybody is True
    run.extra |= {"user": os.getuid(), elsewhere.KEY: {"runs": ["before"], "hosts": {}}}  # an older version's
    run.write(path)
    assert elsewhere.left_by([status], time.time()).anybody is True
