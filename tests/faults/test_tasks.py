"""Tasks that misbehave: each is recorded as it ended, the others of its run are undisturbed, and nothing but what may stay is left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.chain import alive, children, command_lines
from harness import Record, Result, Taskrun, kill, need, until

FLAGS = ("-s", "localhost:2", "-p", "run", "--grace", "1")
STARTERS = ["parallel", "builtin"]

#: Runs what it is given as a daemon: a session of its own, no parent, no descriptors of ours.
DAEMON = """\
import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2): os.dup2(null, fd)
os.execvp(sys.argv[1], sys.argv[1:])
"""

OTHERS = 6


def files(task: str) -> dict[str, str]:
    """A task file with this task among others that only note that they ran."""
    other = "sleep 0.1; echo $TASKRUN_TASKID >> ran\n"
    return {"tasks.txt": other * (OTHERS // 2) + task + "\n" + other * (OTHERS // 2), "daemon.py": DAEMON, "ran": ""}


def others_ran(taskrun: Taskrun, records: list[Record], once: bool = True) -> Record:
    """Every other task ran once and is recorded so; the record of the one that misbehaves."""
    ran = sorted(map(int, (taskrun.folder / "ran").read_text().split()))
    wanted = [number for number in range(OTHERS + 1) if number != OTHERS // 2]
    if once:
        assert ran == wanted
    assert sorted({*ran}) == wanted
    assert sorted(record["TaskID"] for record in records) == list(range(OTHERS + 1))
    by_id = {record["TaskID"]: record for record in records}
    assert [by_id[number]["ReturnCode"] for number in wanted] == [0] * OTHERS
    return by_id[OTHERS // 2]


def run(taskrun: Taskrun, task: str, *flags: str, once: bool = True, timeout: float = 30.0) -> tuple[Record, Result]:
    if "parallel" in flags:
        need("parallel")
    result = taskrun("tasks.txt", *FLAGS, *flags, files=files(task), timeout=timeout)
    no_traceback(result)
    assert result.code == 0, result.err
    return others_ran(taskrun, result.records(), once), result


def no_traceback(result: Result) -> None:
    """Of ours: what a task printed is shown indented."""
    assert not [line for line in result.err.split("\n") if line.startswith("Traceback")], result.err
    assert not [path for path in result.folder.glob("*.log") if "Traceback" in path.read_text()]


def attempts(result: Result) -> list[Record]:
    """Those of the task that misbehaves."""
    return [event for event in result.events("attempt") if event["id"] == OTHERS // 2]


@pytest.fixture
def daemons(taskrun: Taskrun) -> Iterator[None]:
    """What may live on after a run is ended by the test."""
    yield
    kill(alive(taskrun))


# leaving something behind


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize("clean", ["", "env -i "], ids=["marked", "without its environment"])
def test_a_daemon_lives_on_after_a_normal_end(taskrun: Taskrun, clean: str) -> None:
    task = f"{clean}{sys.executable} daemon.py sleep 300.25; until pgrep -fx 'sleep 300.25' > daemon; do sleep 0.01; done"
    before = time.monotonic()
    record, _ = run(taskrun, task)
    assert (record["Flags"], record["ReturnCode"]) == ("    ", 0)
    assert time.monotonic() - before < 20
    pids = [int(word) for word in (taskrun.folder / "daemon").read_text().split()]
    for pid in pids:
        assert Path(f"/proc/{pid}").exists()
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["cancel", "preempt", "slot"])
def test_a_daemon_is_ended_with_its_attempt(taskrun: Taskrun, how: str) -> None:
    """A session of its own does not hide it: it carries the mark."""
    task = f"{sys.executable} daemon.py sleep 300.25; exec sleep 300.5"
    running = taskrun.start(
        "tasks.txt", "-s", "localhost:1", "-p", "run", "--grace", "1", files={"tasks.txt": task + "\n", "daemon.py": DAEMON}
    )
    until(lambda: command_lines(taskrun, "sleep 300.25") and command_lines(taskrun, "sleep 300.5"))
    if how == "cancel":
        running.send(signal.SIGINT)
        time.sleep(0.2)
        running.send(signal.SIGINT)
    elif how == "preempt":
        running.send(signal.SIGTERM)
    else:
        first = command_lines(taskrun, "sleep 300.25") + command_lines(taskrun, "sleep 300.5")
        (slot,) = [pid for pid in command_lines(taskrun, "slot.pyc", "/s ") if children(pid)]
        os.kill(slot, signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in first),
              what="the lost attempt to be ended")  # fmt: skip
        until(lambda: command_lines(taskrun, "sleep 300.5"), what="the task to run again")
        running.send(signal.SIGTERM)
    result = running.finish()
    assert result.code == {"cancel": 130, "preempt": 3, "slot": 3}[how], result.err
    assert not alive(taskrun)
    assert result.records() == []


@pytest.mark.parametrize("task", ["sleep 300.25 &", "(sleep 300.25 2>&1; echo late) & echo early"])
@pytest.mark.usefixtures("daemons")
def test_a_child_that_holds_the_pipe_does_not_hold_the_task(taskrun: Taskrun, task: str) -> None:
    before = time.monotonic()
    record, result = run(taskrun, task)
    assert time.monotonic() - before < 20
    assert record["ReturnCode"] == 0
    assert attempts(result)[0]["left_behind"] is True
    assert record["OutputSnippet"] in ("''", repr("early\n"))


# refusing to end


@pytest.mark.parametrize("starter", STARTERS)
def test_one_that_ignores_term_is_killed_after_the_grace(taskrun: Taskrun, starter: str) -> None:
    if starter == "parallel":
        need("parallel")
    task = "trap '' TERM HUP INT; touch started; while :; do sleep 0.1; done"
    running = taskrun.start(
        "tasks.txt", "-s", "localhost:1", "-p", "run", "--grace", "1", "--starter", starter, files={"tasks.txt": task + "\n"}
    )
    until((taskrun.folder / "started").exists)
    running.send(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    running.send(signal.SIGINT)
    result = running.finish()
    assert 0.9 < time.monotonic() - began < 5
    assert result.code == 130
    assert result.records() == []
    assert [event["cause"] for event in result.events("attempt")] == ["cancelled"]
    assert not alive(taskrun)


def test_one_that_stops_itself_can_be_cancelled(taskrun: Taskrun) -> None:
    running = taskrun.start(
        "tasks.txt", "-s", "localhost:1", "-p", "run", "--grace", "1", files={"tasks.txt": "touch started; kill -STOP $$; touch on\n"}
    )
    until((taskrun.folder / "started").exists)
    running.send(signal.SIGINT)
    time.sleep(0.3)
    assert running.process.poll() is None
    running.send(signal.SIGINT)
    result = running.finish()
    assert result.code == 130
    assert result.records() == []
    assert not (taskrun.folder / "on").exists()
    assert not alive(taskrun)


@pytest.mark.parametrize("how", ["cancel", "ends by itself"])
def test_one_that_forks_without_end(taskrun: Taskrun, how: str) -> None:
    """Two hundred at most: each starts the next and lives on."""
    bomb = "n=$1; if [ $n -lt 200 ]; then setsid bash bomb.sh $((n + 1)) & fi; [ $n -lt 200 ] || touch all; exec sleep 60\n"
    last = "exec sleep 60" if how == "cancel" else "until [ -e all ]; do sleep 0.1; done"
    running = taskrun.start(
        "tasks.txt", *FLAGS, files={"tasks.txt": f"bash bomb.sh 1 & {last}\nsleep 0.1; echo other > other\n", "bomb.sh": bomb}
    )
    until((taskrun.folder / "all").exists, 30)
    if how == "cancel":
        running.send(signal.SIGTERM)
        result = running.finish()
        assert result.code == 3
        assert [record["TaskID"] for record in result.records()] == [1]
        assert not alive(taskrun)
    else:
        result = running.finish()
        assert result.code == 0
        assert sorted((record["TaskID"], record["ReturnCode"]) for record in result.records()) == [(0, 0), (1, 0)]
        kill(alive(taskrun))
    assert (taskrun.folder / "other").exists()


# output and descriptors


def test_output_of_megabytes_without_a_newline(taskrun: Taskrun) -> None:
    record, _ = run(taskrun, f"{sys.executable} -c \"print('x' * 9 + 'y' * 20_000_000, end='')\"")
    assert record["BytesOfLeakedOutput"] == 20_000_009
    assert record["OutputSnippet"] == repr("x" * 9 + "y" * 31 + "..." + "y" * 40)


def test_100_000_lines(taskrun: Taskrun) -> None:
    record, _ = run(taskrun, "seq 100000; seq 100000 >&2")
    assert record["BytesOfLeakedOutput"] == record["BytesOfLeakedError"] == 588_895
    assert record["Flags"] == " OE "


def test_one_that_closes_its_output(taskrun: Taskrun) -> None:
    """It goes on for a while: a closed pipe is no end."""
    before = time.monotonic()
    record, _ = run(taskrun, "echo first; exec >&- 2>&-; sleep 0.7; echo gone; exit 4")
    assert time.monotonic() - before > 0.7
    assert (record["ReturnCode"], record["OutputSnippet"], record["Flags"]) == (4, repr("first\n"), "RO  ")


def test_a_closed_output_is_not_looked_at_again_and_again(taskrun: Taskrun) -> None:
    taskrun.write({"tasks.txt": "exec >&- 2>&-; ps -o cputimes= -p $PPID > before; sleep 2; ps -o cputimes= -p $PPID > after\n"})
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "run").code == 0
    before, after = (int((taskrun.folder / name).read_text()) for name in ("before", "after"))
    assert after - before <= 1


def test_one_that_uses_up_its_descriptors(taskrun: Taskrun) -> None:
    taskrun.write({"program.py": "import os\nwhile True: os.dup(1)\n"})
    record, _ = run(taskrun, f"ulimit -n 256; {sys.executable} program.py")
    assert record["ReturnCode"] == 1
    assert "Too many open files" in record["ErrorSnippet"]


def test_one_that_sets_its_umask_or_directory_changes_nobody_else_s(taskrun: Taskrun) -> None:
    (taskrun.folder / "gone").mkdir()
    text = "umask 0; cd gone; rmdir ../gone; true\n" + "touch file_$TASKRUN_TASKID\n" * 4
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0
    assert [record["ReturnCode"] for record in result.records()] == [0] * 5
    wanted = 0o666 & ~_umask()
    assert {path.stat().st_mode & 0o777 for path in taskrun.folder.glob("file_*")} == {wanted}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_one_that_removes_the_working_directory(taskrun: Taskrun) -> None:
    """What comes after it could not start, and says why."""
    (taskrun.folder / "inner").mkdir()
    text = "rm -r ../inner; true\n" + "true\n" * 3
    taskrun.write({"tasks.txt": text})
    result = taskrun("../tasks.txt", "-s", "localhost:1", "-p", "../run", cwd=taskrun.folder / "inner")
    no_traceback(result)
    assert result.code == 0, result.err
    records = Result(0, "", "", taskrun.folder, "run").records()
    assert [record["ReturnCode"] for record in records] == [0, 2, 2, 2]
    assert all("could not start" in record["ErrorSnippet"] for record in records[1:])


def test_one_that_reads_stdin_or_the_terminal(taskrun: Taskrun) -> None:
    record, _ = run(taskrun, "cat; read x; echo $?; (echo words > /dev/tty) || exit 5")
    assert (record["ReturnCode"], record["OutputSnippet"]) == (5, repr("1\n"))


# killing


@pytest.mark.parametrize("number", ["KILL", "SEGV", "TERM"])
def test_one_that_kills_itself(taskrun: Taskrun, number: str) -> None:
    record, result = run(taskrun, f"ulimit -c 0; kill -{number} $$; sleep 9")
    assert (record["Flags"], record["ReturnCode"]) == ("R   ", -signal.Signals[f"SIG{number}"])
    assert [event["cause"] for event in attempts(result)] == ["signal"]


@pytest.mark.parametrize("starter", STARTERS)
def test_one_that_kills_its_slot_is_given_up_after_three_charges(taskrun: Taskrun, starter: str) -> None:
    task = "echo $TASKRUN_ATTEMPT >> tried; kill -9 $PPID; sleep 300.25"
    record, result = run(taskrun, task, "--starter", starter)
    assert (record["ReturnCode"], record["Flags"][0]) == (-100, "R")
    assert [event["cause"] for event in attempts(result)] == [*["engine-lost"] * 3, "crash-limit", "engine-lost"]
    assert [event["blame"] for event in attempts(result) if event["cause"] == "engine-lost"] == ["suspect", *["charged"] * 3]
    assert [line.rpartition(".")[2] for line in (taskrun.folder / "tried").read_text().split()] == ["1", "2", "3", "4"]
    assert not alive(taskrun)


def grandparent(starter: str) -> str:
    """A shell expression for the agent's process id: the parent of the slot, or of the GNU Parallel that started it."""
    step = "ps -o ppid= -p"
    found = f"$({step} $PPID)"
    return f"$({step} {found})" if starter == "parallel" else found


@pytest.mark.parametrize("starter", STARTERS)
def test_one_that_kills_the_agent_runs_again_on_the_next(taskrun: Taskrun, starter: str) -> None:
    """Others that run on the same agent are lost with it, and run again: never two at a time, and all are done in the end."""
    if starter == "parallel":
        need("parallel")
    task = f"[ -e tried ] && [ $(wc -l < tried) -ge 2 ] || {{ echo x >> tried; kill -9 {grandparent(starter)}; sleep 300.25; }}"
    record, result = run(taskrun, task, "--starter", starter, once=False, timeout=45)
    assert record["ReturnCode"] == 0
    assert [event["cause"] for event in attempts(result)] == ["engine-lost", "engine-lost", "ok"]
    assert (taskrun.folder / "tried").read_text() == "x\nx\n"
    assert not alive(taskrun)


@pytest.mark.parametrize("delay", [0, 0.5])
def test_one_that_always_kills_the_agent_is_given_up_and_the_others_run(taskrun: Taskrun, delay: float) -> None:
    """Also one that kills it within milliseconds, before the agent can say what has started."""
    task = f"echo x >> tried; sleep {delay}; read -r _ _ _ agent _ < /proc/$PPID/stat; kill -9 $agent; sleep 300.25"
    text = f"echo before\n{task}\n" + "sleep 0.5; echo behind\n" * 3
    result = taskrun("tasks.txt", "-s", "localhost:1", *FLAGS[2:], "--starter", "builtin", files={"tasks.txt": text}, timeout=60)
    no_traceback(result)
    assert (taskrun.folder / "tried").read_text().count("x") in ((4,) if delay else (4, 5))
    assert sorted(record["ReturnCode"] for record in result.records()) == [-100, 0, 0, 0, 0]
    assert result.code == 0
    assert not alive(taskrun)


def test_one_that_kills_gnu_parallel_harms_nobody(taskrun: Taskrun) -> None:
    need("parallel")
    record, result = run(taskrun, "kill -9 $(ps -o ppid= -p $PPID); sleep 0.5; echo done", "--starter", "parallel")
    assert (record["ReturnCode"], record["OutputSnippet"]) == (0, repr("done\n"))
    assert len(attempts(result)) == 1


def test_one_that_kills_its_whole_run_can_be_resumed(taskrun: Taskrun) -> None:
    """The driver is gone with it; the resume runs what has no record."""
    text = files("[ -e tried ] || { touch tried; kill -9 $DRIVER; sleep 300.25; }; echo once >> tried")
    text["tasks.txt"] = text["tasks.txt"].replace("$DRIVER", "$(cat driver)")
    running = taskrun.start("tasks.txt", *FLAGS, files={**text, "driver": ""})
    (taskrun.folder / "driver").write_text(str(running.pid))
    assert running.process.wait(20) == -signal.SIGKILL
    until(lambda: not alive(taskrun), what="the rest of the run to go")
    first = Result(0, "", "", taskrun.folder, "run").records()
    result = taskrun("-r", "run_status.txt", "-p", "again")
    assert result.code == 0, result.err
    others_ran(taskrun, result.records(), once=False)
    assert len([record for record in result.records() if record["Flags"][3] == "S"]) == len(first)


# memory


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A memory cgroup with a limit, as far as this machine lets us make one (as root); None's place is taken by the test's fallback."""
    parents = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    for parent in parents:
        file = "memory.limit_in_bytes" if parent.name == "memory" else "memory.max"
        group = parent / f"taskrun-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if not (group / file).exists():
                continue
            (group / file).write_text(str(limit))
            yield group
            return
        finally:
            until(lambda group=group: _removed(group), what="the cgroup to be removed")  # type: ignore[misc]
    yield Path()


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
        return True
    return False


def test_one_that_is_killed_for_its_memory(taskrun: Taskrun) -> None:
    """By the kernel where the test may make a memory cgroup; else by another process, as the kernel would."""
    taskrun.write({"program.py": "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 22)))\n"})
    with memory_group(64 << 20) as group:
        if group.name:
            task = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} program.py"
        else:
            task = "(sleep 0.3; kill -9 $$) & exec sleep 60"
        record, result = run(taskrun, task)
    assert record["ReturnCode"] == -9
    assert [event["cause"] for event in attempts(result)] == ["signal"]


def test_one_that_finds_no_memory(taskrun: Taskrun) -> None:
    record, _ = run(taskrun, f"ulimit -v 200000; {sys.executable} -c 'x = bytearray(1 << 30)'")
    assert record["ReturnCode"] == 1
    assert "MemoryError" in record["ErrorSnippet"]


def test_tasks_that_all_misbehave_at_once(taskrun: Taskrun) -> None:
    lines = [
        "kill -9 $$",
        "seq 100000",
        "sleep 0.3 &",
        "exec >&-; sleep 0.1",
        "sleep 9 & kill -9 $! $$",
        "exit 7",
        "cat",
        "nosuchcommand",
    ]
    result = taskrun("tasks.txt", "-s", "localhost:4", "-p", "run", files={"tasks.txt": "\n".join(lines * 5) + "\n"})
    assert result.code == 0, result.err
    codes = {record["TaskID"]: record["ReturnCode"] for record in result.records()}
    assert [codes[number] for number in range(40)] == [-9, 0, 0, 0, -9, 7, 0, 127] * 5
