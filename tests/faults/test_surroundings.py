"""Surroundings that fail or are odd: the run goes on, or ends with one sentence and the right exit code, and its status file is true."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from faults.chain import alive
from harness import Record, Result, Taskrun, need, read_status, until

TASKRUN = f"{shlex.quote(sys.executable)} -m taskrun"
FLAGS = "-s localhost:2 -p run --grace 1"
STARTERS = ["parallel", "builtin"]
TASKS = 12
FILE = f"#TASKRUN REPEAT {TASKS} echo $TASKRUN_TASKID >> ran\n"

_REACH = "+dac_override,+dac_read_search"
#: As another user than root, but able to reach the interpreter wherever it is: limits hold.
ANOTHER_USER = f"setpriv --reuid=64999 --regid=64999 --clear-groups --inh-caps={_REACH} --ambient-caps={_REACH}"
#: As root without what makes root pass every permission.
POWERLESS = "setpriv --inh-caps=-all --bounding-set=-all"


def as_root() -> None:
    """For what only root can set up. Elsewhere: skipped on a laptop, failed in CI."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test needs root, and in CI nothing is skipped")
        pytest.skip("this test needs root")


def without_power(wanted: bool) -> str:
    """What keeps root from passing every permission."""
    if not wanted or os.geteuid() != 0:
        return ""
    need("setpriv")
    return POWERLESS


def sh(taskrun: Taskrun, words: str, *, env: Mapping[str, str] | None = None, timeout: float = 40.0, cwd: Path | None = None) -> Result:
    """Runs a line of bash; what it says last is `taskrun …`."""
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    try:
        return shell(words, env=env, timeout=timeout, cwd=cwd)
    finally:
        shell.close()


def run(taskrun: Taskrun, before: str = "", *, flags: str = FLAGS, after: str = "", env: Mapping[str, str] | None = None, text: str = FILE,
        prefix: str = "", timeout: float = 40.0) -> Result:  # fmt: skip
    """`before; prefix taskrun tasks.txt flags after`, in a shell of its own. Python caches nothing, which `ulimit -f` would cut short."""
    taskrun.write({"tasks.txt": text})
    command = f"export PYTHONDONTWRITEBYTECODE=1\n{before}\n{prefix} {TASKRUN} tasks.txt {flags} {after}"
    result = sh(taskrun, command, env=env, timeout=timeout)
    sound(taskrun, result)
    return result


def sound(taskrun: Taskrun, result: Result) -> None:
    """No traceback anywhere, and nothing is left."""
    assert not [line for line in result.err.split("\n") if line.startswith(("Traceback", "Exception"))], result.err
    for log in taskrun.folder.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()
    until(lambda: not alive(taskrun), what=f"the run to be gone: {alive(taskrun)}")


def ran(taskrun: Taskrun) -> list[int]:
    path = taskrun.folder / "ran"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def complete(taskrun: Taskrun, result: Result, tasks: int = TASKS) -> list[Record]:
    """Everything ran once, and is recorded as done."""
    assert result.code == 0, result.err
    records = read_status(taskrun.folder / "run_status.txt")
    assert sorted(record["TaskID"] for record in records) == list(range(tasks))
    assert {record["ReturnCode"] for record in records} == {0}, records
    assert ran(taskrun) == list(range(tasks))
    return records


def one_sentence(result: Result, code: int, *words: str) -> None:
    """It ended with this code and said why, in one line of its own."""
    assert result.code == code, result.err
    said = [line for line in result.err.split("\n") if line.startswith("taskrun: ")]
    assert any(all(word in line for word in words) for line in said), result.err


@contextlib.contextmanager
def small_disk(where: Path, size: str = "256k") -> Iterator[Path]:
    as_root()
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


# disks


def saved(folder: Path, *places: Path) -> list[Path]:
    return sorted(path for place in places for path in place.glob("*.unwritten"))


@pytest.mark.parametrize("moment", ["before", "while it runs"])
def test_the_disk_of_the_status_file_is_full(taskrun: Taskrun, moment: str) -> None:
    """What ran and found no room is saved elsewhere; with that, nothing runs twice when the run is resumed."""
    with small_disk(taskrun.folder / "disk") as disk:
        (disk / "keep").write_bytes(b"x" * 4096)
        text = FILE if moment == "before" else f"sleep 0.2; cat /dev/zero > disk/fill; true\n{FILE}"
        before = "cat /dev/zero > disk/fill 2> /dev/null" if moment == "before" else ""
        result = run(taskrun, before, flags="-s localhost:2 -p disk/run --grace 1", text=text)
        if moment == "before":
            one_sentence(result, 2 if not (disk / "run_status.txt").exists() else 4, "No space left on device")
            assert ran(taskrun) == []
            return
        one_sentence(result, 4, "No space left on device", "disk/run_")
        (disk / "fill").unlink()
        recorded = {record["TaskID"] for record in read_status(disk / "run_status.txt")}
        temporary = Path(taskrun.env["TMPDIR"])
        beside = [path for path in saved(disk, disk, temporary) if "status" in path.name]
        more = [word for path in beside for word in ("-r", str(path))]
        for path in beside:
            recorded |= {record["TaskID"] for record in read_status(path)}
        again = taskrun("-r", disk / "run_status.txt", *more, "-p", "again")
        assert again.code == 0, again.err
        done = ran(taskrun)
        assert set(done) >= set(range(1, TASKS + 1))
        assert not [number for number in recorded if number and done.count(number) != 1], "what is on record did not run again"
        for path in saved(disk, temporary):
            path.unlink()


def test_the_disk_of_the_events_file_is_full(taskrun: Taskrun) -> None:
    with small_disk(taskrun.folder / "disk") as disk, contextlib.ExitStack() as mounted:
        events = taskrun.folder / "run_events.jsonl"
        for path in (disk / "events", events):
            path.touch()
        subprocess.run(["mount", "--bind", disk / "events", events], check=True)  # a link would not be followed
        mounted.callback(subprocess.run, ["umount", "-l", events], check=True)
        result = run(taskrun, text=f"cat /dev/zero > disk/fill; true\nsleep 0.2\n{FILE}")
        one_sentence(result, 4, "run_events.jsonl", "No space left on device")
        records = read_status(taskrun.folder / "run_status.txt")
        done = ran(taskrun)
        assert {record["TaskID"] for record in records} - {0, 1} <= set(done)
        for path in saved(taskrun.folder, Path(taskrun.env["TMPDIR"])):
            path.unlink()


@pytest.mark.parametrize("starter", STARTERS)
def test_tmpdir_is_full_from_the_start(taskrun: Taskrun, starter: str) -> None:
    with small_disk(taskrun.folder / "disk") as disk:
        with contextlib.suppress(OSError):
            (disk / "fill").write_bytes(b"x" * (1 << 20))
        complete(taskrun, run(taskrun, env={"TMPDIR": str(disk)}, flags=f"{FLAGS} --starter {starter}"))
        assert [path.name for path in disk.iterdir()] == ["fill"]


@pytest.mark.parametrize("starter", STARTERS)
def test_tmpdir_fills_up_while_it_runs(taskrun: Taskrun, starter: str) -> None:
    """Also with commands so long that they travel through a file there."""
    with small_disk(taskrun.folder / "disk") as disk:
        long = f"echo $TASKRUN_TASKID >> ran # {'x' * 100_000}\n"
        text = f"cat /dev/zero > disk/fill; echo 0 >> ran\n#TASKRUN BARRIER\n{long * 4}{'sleep 0.1; echo $TASKRUN_TASKID >> ran' * 1}\n"
        result = run(taskrun, env={"TMPDIR": str(disk)}, flags=f"{FLAGS} --starter {starter}", text=text)
        assert result.code == 0, result.err
        records = [record for record in read_status(taskrun.folder / "run_status.txt") if record["Flags"] != "B    "]
        assert [record["ReturnCode"] for record in records] == [0] * 6, result.err
        assert ran(taskrun) == [0, 2, 3, 4, 5, 6]
        assert [path.name for path in disk.iterdir()] == ["fill"]


FAILING_FSYNC = """\
import errno, os, sys
real = os.fsync
def fsync(fd):
    if os.readlink(f"/proc/self/fd/{fd}").endswith(sys.argv[1]) and os.path.exists("quota"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    real(fd)
os.fsync = fsync
name = sys.argv.pop(1)
sys.argv.insert(1, name)
from taskrun.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", ["_status.txt", "_events.jsonl"])
def test_an_fsync_fails(taskrun: Taskrun, name: str) -> None:
    """As a quota on a network file system does it: the write went well."""
    runner = Taskrun(taskrun.folder, taskrun.env, command=(sys.executable, "-c", FAILING_FSYNC, name))
    text = "sleep 0.8; touch quota\n" + FILE + "[ -e well ] || exec sleep 30\n"
    result = runner("tasks.txt", *FLAGS.split(), files={"tasks.txt": text})
    runner.close()
    sound(taskrun, result)
    one_sentence(result, 4, f"run{name} could not be made durable: Disk quota exceeded")
    beside = taskrun.folder / f"run{name}.unwritten"
    assert beside.exists()
    if name == "_status.txt":
        assert {record["TaskID"] for record in read_status(beside)} <= {0, *ran(taskrun)}
        (taskrun.folder / "quota").unlink()
        again = taskrun("-r", "run_status.txt", "-r", beside, "-p", "again", files={"well": ""})
        assert again.code == 0, again.err
        assert ran(taskrun) == list(range(1, TASKS + 1))


def test_the_status_file_is_deleted_while_it_runs(taskrun: Taskrun) -> None:
    taskrun.write({"tasks.txt": "#TASKRUN REPEAT 120 sleep 0.05; echo $TASKRUN_TASKID >> ran\n"})
    running = taskrun.start("tasks.txt", *FLAGS.split())
    status = taskrun.folder / "run_status.txt"
    until(lambda: status.exists() and status.read_bytes().count(b"\n") > 3)
    status.unlink()
    result = running.finish()
    sound(taskrun, result)
    one_sentence(result, 4, "run_status.txt was deleted while the run was writing to it", "run_status.txt.unwritten")
    records = read_status(taskrun.folder / "run_status.txt.unwritten")
    assert {record["TaskID"] for record in records} <= set(ran(taskrun))
    assert len(records) > 3
    again = taskrun("-r", "run_status.txt.unwritten", "-p", "again", timeout=40)
    assert again.code == 0, again.err
    done = ran(taskrun)
    assert not [record["TaskID"] for record in records if done.count(record["TaskID"]) != 1]
    assert set(done) == set(range(120))


# permissions


def test_a_folder_that_cannot_be_written_to(taskrun: Taskrun) -> None:
    as_root()
    need("setpriv")
    (taskrun.folder / "closed").mkdir(mode=0o555)
    result = run(taskrun, prefix=POWERLESS, flags="-s localhost:2 -p closed/run")
    one_sentence(result, 2, "closed/run", "Permission denied")
    assert ran(taskrun) == []
    assert not list((taskrun.folder / "closed").iterdir())


def test_a_status_file_that_cannot_be_written_to(taskrun: Taskrun) -> None:
    as_root()
    need("setpriv")
    result = run(taskrun, text=FILE + "[ -e yes ]\n")
    status = taskrun.folder / "run_status.txt"
    status.chmod(0o444)
    before = status.read_bytes()
    result = sh(taskrun, f"{POWERLESS} {TASKRUN} -r run_status.txt -R --append")
    one_sentence(result, 2, "run_status.txt cannot be opened for writing: Permission denied")
    assert status.read_bytes() == before
    result = sh(taskrun, f"{POWERLESS} {TASKRUN} -r run_status.txt -R -p again")  # a new run does not write to it
    assert result.code == 0
    sound(taskrun, result)


def refused(taskrun: Taskrun, words: str, *sentences: str) -> None:
    """Each line that `words` print is what one taskrun said, with its exit code before it: one of the sentences; nothing is left."""
    taskrun.write({"tasks.txt": FILE})
    before = sorted(taskrun.folder.iterdir())
    said = sh(taskrun, words, timeout=60).out.splitlines()
    assert len(said) == len(sentences), said
    for line, sentence in zip(said, sentences, strict=True):
        assert line.startswith(f"2 taskrun: {sentence}"), line
    assert sorted(taskrun.folder.iterdir()) == before


def test_umasks_that_take_from_the_owner(taskrun: Taskrun) -> None:
    """Such a run could not open its own files again, nor could the next one its lock."""
    masks = ("777", "400", "200", "100")
    words = f"for mask in {' '.join(masks)}; do (umask $mask; said=$({TASKRUN} tasks.txt {FLAGS} 2>&1); echo $? $said); done"
    refused(taskrun, words, *(f"umask {mask} takes new files from their owner, " for mask in masks))


# limits


def test_few_processes(taskrun: Taskrun) -> None:
    """A fork that is refused is nobody's fault: after a pause it is tried again, and slots that get none are set aside."""
    as_root()
    need("setpriv")
    taskrun.folder.chmod(0o777)
    Path(taskrun.env["TMPDIR"]).chmod(0o777)
    text = "#TASKRUN REPEAT 10 echo $TASKRUN_TASKID >> ran\n"  # no fork of their own
    flags = "-s localhost:6 -p run --grace 1 --starter builtin"
    result = run(taskrun, "touch ran; chmod 666 ran; ulimit -u 12", prefix=ANOTHER_USER, flags=flags, text=text)
    if result.code == 0:
        complete(taskrun, result, 10)
    else:
        assert result.code == 3, result.err
        assert {record["TaskID"] for record in read_status(taskrun.folder / "run_status.txt")} <= set(ran(taskrun))


def test_no_process_at_all(taskrun: Taskrun) -> None:
    """The refusal is reported at once, not when the run gives up; slots and engine are set aside, and no task is recorded."""
    as_root()
    need("setpriv")
    taskrun.folder.chmod(0o777)
    Path(taskrun.env["TMPDIR"]).chmod(0o777)
    taskrun.write({"tasks.txt": "#TASKRUN REPEAT 6 sleep 1\n"})
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    user = ANOTHER_USER.replace("64999", "64998")
    running = shell.start(f"ulimit -u 6; exec {user} {TASKRUN} tasks.txt -s localhost:3 -p run --grace 1")
    log = taskrun.folder / "run_driver.log"

    def told(what: str) -> None:
        until(lambda: log.exists() and what in log.read_text(), 30, what=what)

    told("no more processes can be started for now (Resource temporarily unavailable): `ulimit -u` is 6; tasks wait")
    assert "set aside\n" in log.read_text()
    assert " slots go on" not in log.read_text()
    told(": 0 slots go on")
    running.send(signal.SIGTERM)
    result = running.finish(20)
    shell.close()
    assert result.code == 3, result.err
    assert "GNU Parallel" not in result.err
    assert not read_status(taskrun.folder / "run_status.txt")


def test_too_few_descriptors(taskrun: Taskrun) -> None:
    """From what Python needs for itself on."""
    numbers = (6, 7, 8, 12, 16, 19, 20, 26, 34)
    ask = f"{TASKRUN} tasks.txt {FLAGS} 2> $HOME/said; echo $? $(< $HOME/said)"
    words = f"for n in {' '.join(map(str, numbers))}; do (ulimit -n $n; {ask}); done"
    refused(taskrun, words, *(f"`ulimit -n` is {number}, and taskrun needs " for number in numbers))


def test_few_descriptors(taskrun: Taskrun) -> None:
    """GNU Parallel would start as many slots as it has descriptors for: the built-in starter starts all."""
    result = run(taskrun, "ulimit -n 100", flags="-s localhost:40 -p run --grace 1")
    complete(taskrun, result)
    assert result.events("engine")[0]["starter"] == "builtin"


def test_too_few_descriptors_for_all_slots(taskrun: Taskrun) -> None:
    """Those that find no room end, and this is said once."""
    taskrun.command = ("/bin/sh", "-c", 'ulimit -n 45; exec "$0" "$@"', *taskrun.command)
    text = "#TASKRUN REPEAT 60 until test -e go; do sleep 0.1; done\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:60", "-p", "run", files={"tasks.txt": text})
    until(lambda: "no descriptor is left" in running.said()[1])
    (taskrun.folder / "go").touch()
    result = running.finish()
    told = re.search(r"no descriptor is left for more slots \(raise `ulimit -n`\): (\d+) slots go on\n", result.err)
    assert told
    assert 10 < int(told[1]) < 45
    assert result.err.count("taskrun: ") == 2, "and the summary"
    assert (result.code, len(read_status(taskrun.folder / "run_status.txt"))) == (0, 60)


def test_few_descriptors_for_gnu_parallel(taskrun: Taskrun) -> None:
    result = run(taskrun, "ulimit -n 100", flags="-s localhost:40 -p run --grace 1 --starter parallel")
    complete(taskrun, result)
    assert result.err.count("`ulimit -n` is 100, so GNU Parallel starts fewer than 40 slots: raise it, or use --starter builtin") == 1


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize("kilobytes", [60_000, 120_000, 400_000])
def test_little_memory(taskrun: Taskrun, kilobytes: int, starter: str) -> None:
    result = run(taskrun, f"ulimit -v {kilobytes}", flags=f"{FLAGS} --starter {starter}")
    complete(taskrun, result)


def test_little_memory_when_it_would_listen(taskrun: Taskrun) -> None:
    """A second after its start: what makes certificates would end the whole driver."""
    result = run(taskrun, "ulimit -v 60000", text="until grep -q attach run_driver.log; do sleep 0.1; done; echo 0 >> ran\n")
    complete(taskrun, result, 1)
    assert "nobody can attach to this run: less than 64.0 MiB are left of `ulimit -v`" in (taskrun.folder / "run_driver.log").read_text()


NO_ROOM = """\
import resource, sys
from pathlib import Path
from taskrun.cli import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))
sys.exit(main(sys.argv[1:]))
"""


def test_no_memory(taskrun: Taskrun) -> None:
    """Not even for what taskrun itself is made of: no traceback."""
    runner = Taskrun(taskrun.folder, taskrun.env, command=(sys.executable, "-c", NO_ROOM))
    result = runner("tasks.txt", *FLAGS.split(), files={"tasks.txt": FILE})
    one_sentence(result, 3 if "a run that had begun" in result.err else 2, "no memory is left: raise `ulimit -v`")
    runner.close()


def test_files_of_limited_size(taskrun: Taskrun) -> None:
    """RLIMIT_FSIZE, which is a full disk for those who cannot mount one."""
    result = run(taskrun, "ulimit -f 40", text=f"#TASKRUN REPEAT 300 true {'x' * 400}\n")
    one_sentence(result, 4, "File too large")
    assert all(record["ReturnCode"] == 0 for record in read_status(taskrun.folder / "run_status.txt"))
    for path in saved(taskrun.folder, Path(taskrun.env["TMPDIR"])):
        path.unlink()


def test_files_of_hardly_any_size(taskrun: Taskrun) -> None:
    """Not even the sidecar can be written: nothing is run."""
    result = run(taskrun, "ulimit -f 1")
    one_sentence(result, 2, "run_run.json cannot be written: File too large")
    assert ran(taskrun) == []


# places


def private(words: str) -> str:
    """Runs in a mount name space of its own."""
    return f"unshare -m /bin/bash -c {shlex.quote(words)}"


def test_no_dev_null(taskrun: Taskrun) -> None:
    """Missing, or a file that somebody's `>` has made in its place."""
    as_root()
    need("unshare")
    line = f"said=$({TASKRUN} tasks.txt {FLAGS} 2>&1); echo $? $said"
    folder = shlex.quote(f"{taskrun.env['HOME']}/dev")
    hidden = f"mkdir {folder}; mount --bind {folder} /dev; {line}; echo > /dev/null; {line}"
    refused(taskrun, private(hidden), "/dev/null cannot be opened (No such file or directory), ", "/dev/null is no device, ")


def test_no_dev_shm(taskrun: Taskrun) -> None:
    as_root()
    need("unshare")
    taskrun.write({"tasks.txt": FILE})
    hidden = "mkdir -p empty && mount --bind -o ro empty /dev/shm && mount -o remount,bind,ro /dev/shm"
    path = os.environ["PATH"]  # the tests' own has its links in /dev/shm
    complete(taskrun, sh(taskrun, private(f"{hidden} && exec {TASKRUN} tasks.txt {FLAGS}"), env={"PATH": path}))


@pytest.mark.parametrize("kind", ["gone", "long", "blanks", "closed", "file", "empty"])
def test_odd_tmpdir(taskrun: Taskrun, kind: str) -> None:
    place = {"gone": "gone", "long": "x" * 120, "blanks": 'it\'s a "$HOME" `x`;', "closed": "closed", "file": "file", "empty": ""}[kind]
    path = taskrun.folder / place
    if kind == "file":
        path.touch()
    elif kind != "gone" and place:
        path.mkdir(mode=0o555 if kind == "closed" else 0o777)
    env = {"TMPDIR": str(path) if place else ""}
    if kind == "blanks":  # short enough for a socket
        link = Path(taskrun.env["TMPDIR"]) / place
        link.mkdir()
        env = {"TMPDIR": str(link)}
    complete(
        taskrun,
        run(taskrun, env=env, prefix=without_power(kind == "closed")),
    )
    if kind == "blanks":
        link.rmdir()


@pytest.mark.parametrize("kind", ["unset", "empty", "gone", "closed", "file"])
def test_odd_home(taskrun: Taskrun, kind: str) -> None:
    home = taskrun.folder / "home"
    if kind == "closed":
        home.mkdir(mode=0o555)
    elif kind == "file":
        home.touch()
    before = {"unset": "unset HOME; export LC_ALL=xx_XX", "empty": "export HOME="}.get(kind, f"export HOME={home}")
    complete(
        taskrun,
        run(taskrun, before, prefix=without_power(kind == "closed")),
    )
    if home.is_dir():
        assert not list(home.iterdir())
    assert not list(taskrun.folder.glob("run_*_0.log")), "GNU Parallel has nothing to complain about"


def test_started_where_nothing_is_any_more(taskrun: Taskrun) -> None:
    (taskrun.folder / "inner").mkdir()
    taskrun.write({"tasks.txt": FILE})
    result = sh(taskrun, f"cd inner; rmdir ../inner; {TASKRUN} {taskrun.folder}/tasks.txt {FLAGS}")
    one_sentence(result, 2, "the working directory is gone")
    others = ("tasks.txt --dry-run", "monitor run", "-r run_status.txt", "hosts -s localhost:1")
    words = "; ".join(f"said=$({TASKRUN} {words} 2>&1); echo $? $said" for words in others)
    refused(taskrun, f"mkdir inner; cd inner; rmdir ../inner; {words}", *["the working directory is gone "] * len(others))


def test_the_folder_is_removed_while_it_runs(taskrun: Taskrun) -> None:
    """With all its files: the records are saved where temporary files go."""
    inner = taskrun.folder / "inner"
    inner.mkdir()
    (inner / "tasks.txt").write_text("sleep 0.5; rm -rf ../inner; sleep 0.2\n" + "sleep 0.2\n" * 200)
    result = sh(taskrun, f"cd inner; exec {TASKRUN} tasks.txt {FLAGS}")
    sound(taskrun, result)
    assert result.code in (3, 4), result.err
    assert result.err.startswith("taskrun: ")
    for path in saved(taskrun.folder, Path(taskrun.env["TMPDIR"])):
        assert path.stat().st_size
        path.unlink()


# terminals and descriptors


def test_a_terminal_that_is_closed(taskrun: Taskrun) -> None:
    """SIGHUP: the tasks are given back, and the run can be resumed."""
    taskrun.write({"tasks.txt": "touch started; exec sleep 60\n"})
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [need("setsid"), "-c", sys.executable, "-m", "taskrun", "tasks.txt", *FLAGS.split()],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=taskrun.folder, env={**taskrun.env, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        until((taskrun.folder / "started").exists)
        time.sleep(1.3)  # the live view is up
    finally:
        os.close(ours)
    assert process.wait(20) == 3
    until(lambda: not alive(taskrun))
    assert read_status(taskrun.folder / "run_status.txt") == []
    assert [event["cause"] for event in Result(3, "", "", taskrun.folder, "run").events("attempt")] == ["preempted"]


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2> /dev/full", "> /dev/full 2> /dev/full"]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_and_full_descriptors(taskrun: Taskrun, closed: str) -> None:
    result = run(taskrun, after=closed, text=FILE + "#DISBATCH PREFIX  \n" + "echo failed >&2; false\n")
    assert result.code == 0, result.err
    records = read_status(taskrun.folder / "run_status.txt")
    assert [record["ReturnCode"] for record in sorted(records, key=lambda record: record["TaskID"])] == [0] * TASKS + [1]
    assert ran(taskrun) == list(range(TASKS))
    assert not (taskrun.folder / "run_driver.log").read_text().count("given up: TypeError")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full"])
@pytest.mark.parametrize("words", ["nowhere.txt", "bad.txt", "check bad.txt", "tasks.txt --no-such-flag"])
def test_refusals_into_closed_and_full_descriptors(taskrun: Taskrun, closed: str, words: str) -> None:
    taskrun.write({"tasks.txt": FILE, "bad.txt": "#TASKRUN NOPE\n"})
    result = sh(taskrun, f"{TASKRUN} {words} {closed}")
    sound(taskrun, result)
    assert result.code == 2, result.err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "> /dev/full", "2> /dev/full"])
@pytest.mark.parametrize("words", ["check tasks.txt", "tasks.txt --dry-run", "--help", "--version"])
def test_what_only_prints_into_closed_and_full_descriptors(taskrun: Taskrun, closed: str, words: str) -> None:
    taskrun.write({"tasks.txt": FILE})
    result = sh(taskrun, f"{TASKRUN} {words} {closed}")
    sound(taskrun, result)
    if closed == "> /dev/full":
        one_sentence(result, 2, "No space left on device")
    else:
        assert result.code == 0, result.err


def test_no_stdin_to_read_tasks_from(taskrun: Taskrun) -> None:
    result = sh(taskrun, f"{TASKRUN} - {FLAGS} <&-")
    one_sentence(result, 2, "standard input is closed")


def test_many_open_descriptors(taskrun: Taskrun) -> None:
    complete(taskrun, run(taskrun, 'for n in {3..20}; do eval "exec $n< tasks.txt"; done', text=FILE))


@pytest.mark.parametrize(
    ("ignored", "starter"),
    [
        *((name, "parallel") for name in ("PIPE", "CHLD", "HUP", "INT TERM", "USR1 ALRM")),
        ("PIPE CHLD HUP INT TERM USR1 USR2 ALRM", "builtin"),
    ],
)
def test_ignored_signals(taskrun: Taskrun, ignored: str, starter: str) -> None:
    complete(taskrun, run(taskrun, f"trap '' {ignored}", flags=f"{FLAGS} --starter {starter}", prefix="exec"))


def test_nohup(taskrun: Taskrun) -> None:
    """It does not end when its terminal does."""
    taskrun.write({"tasks.txt": FILE.replace("echo", "sleep 0.1; echo")})
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    running = shell.start(f"exec {need('nohup')} {TASKRUN} tasks.txt {FLAGS}")
    until((taskrun.folder / "ran").exists)
    running.send(signal.SIGHUP)
    result = running.finish()
    shell.close()
    complete(taskrun, result)


def test_a_slow_reader_of_a_task_s_output(taskrun: Taskrun) -> None:
    text = "seq 2000000 | (sleep 1; tail -1) > last; echo 0 >> ran\n" + "echo $TASKRUN_TASKID >> ran\n" * (TASKS - 1)
    complete(taskrun, run(taskrun, text=text))
    assert (taskrun.folder / "last").read_text() == "2000000\n"


# the user's own settings


@pytest.mark.parametrize("kind", ["config", "variable", "home", "profile"])
def test_settings_of_gnu_parallel(taskrun: Taskrun, kind: str) -> None:
    need("parallel")
    home = Path(taskrun.env["HOME"])
    place = taskrun.folder / "parallel_home" if kind == "home" else home / ".parallel"
    env = {}
    if kind == "variable":
        env = {"PARALLEL": "--dry-run --pause"}
    else:
        place.mkdir()
        (place / "config").write_text("--dry-run\n--no-such-option\n")
    if kind == "home":
        env = {"PARALLEL_HOME": str(place)}
    elif kind == "profile":
        (place / "default").write_text("--dry-run\n")
        env = {"PARALLEL_PROFILE": "default"}
    result = run(taskrun, env=env, flags=f"{FLAGS} --starter parallel")
    complete(taskrun, result)
    assert "parallel" in Result(0, "", "", taskrun.folder, "run").events("engine")[0]["starter"]


GNU = "# $Global::version = 20221122;\n"  # so that it is taken for one
IMPOSTORS = {
    "moreutils": "#!/bin/sh\nexec sleep 1000\n",
    "exits": f"#!/bin/sh\n{GNU}exit 0\n",
    "fails": f"#!/bin/sh\n{GNU}echo 'parallel: Error' >&2; exit 255\n",
    "crashes": f"#!/bin/sh\n{GNU}kill -SEGV $$\n",
    "no interpreter": f"#!/no/such/perl\n{GNU}",
    "not executable": f"\0\0\0{GNU}",
    "a folder": "",
    "hangs": f"#!/bin/sh\n{GNU}exec sleep 1000\n",
    "starts nothing": f"#!/bin/sh\n{GNU}exec cat > /dev/null\n",
}
SLOW = ("hangs", "starts nothing")  # ten seconds


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] if kind in SLOW else []) for kind in IMPOSTORS])
def test_another_parallel_first_on_path(taskrun: Taskrun, kind: str) -> None:
    """What is no GNU Parallel is passed over; one that starts no slots is replaced by the built-in starter."""
    path = taskrun.folder / "bin" / "parallel"
    if kind == "a folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_text(IMPOSTORS[kind])
        path.chmod(0o755)
    result = run(taskrun, env={"PATH": f"{path.parent}:{taskrun.env['PATH']}"}, flags=FLAGS)
    complete(taskrun, result)
    said = [line for line in result.err.split("\n") if "GNU Parallel" in line]
    assert len(said) == (0 if kind in ("moreutils", "a folder") else 1), result.err


def test_perl_settings(taskrun: Taskrun) -> None:
    broken = taskrun.folder / "perl"
    broken.mkdir()
    for module in ("strict", "warnings", "POSIX", "IPC/Open3"):
        (broken / f"{module}.pm").parent.mkdir(exist_ok=True)
        (broken / f"{module}.pm").write_text("die 'broken';\n")
    env = {"PERL5LIB": str(broken), "PERLLIB": str(broken), "PERL5OPT": "-Mno_such_module", "PERL_UNICODE": "SDA", "PERL5DB": "x"}
    complete(taskrun, run(taskrun, env=env))


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize("kind", ["bashrc", "BASH_ENV", "ENV", "BASH_ENV that fails", "BASH_ENV that exits"])
def test_shell_settings(taskrun: Taskrun, kind: str, starter: str) -> None:
    """BASH_ENV is read for each task, as every bash reads it; slots and GNU Parallel know nothing of it."""
    home = Path(taskrun.env["HOME"])
    text = "echo printed; echo complained >&2\n" + {"BASH_ENV that fails": "false; nosuch\n", "BASH_ENV that exits": "exit 3\n"}.get(
        kind, ""
    )
    for name in (".bashrc", ".profile", ".bash_profile", "env"):
        (home / name).write_text(text)
    env = {"SSH_CLIENT": "1 2 3", "SHLVL": "0"} if kind == "bashrc" else {kind.split(" ", 1)[0]: str(home / "env")}
    result = run(taskrun, env=env, flags=f"{FLAGS} --starter {starter}", prefix="exec")
    # The bash around it in this test reads BASH_ENV, too, and ends where that exits.
    if kind == "BASH_ENV that exits":
        assert result.code == 3
        assert ran(taskrun) == []
        return
    records = complete(taskrun, result)
    heard = {record["OutputSnippet"] for record in records}
    assert heard == ({repr("printed\n")} if kind.startswith("BASH_ENV") else {"''"})


def test_bash_env_that_ends_every_bash(taskrun: Taskrun) -> None:
    """The user's wish: each task ends so."""
    (taskrun.folder / "env").write_text("exit 3\n")
    result = taskrun("tasks.txt", *FLAGS.split(), files={"tasks.txt": FILE}, env={"BASH_ENV": str(taskrun.folder / "env")})
    assert result.code == 0
    assert {record["ReturnCode"] for record in result.records()} == {3}


LOCALES = [
    {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "xx_XX.ISO-8859-1"},
    {"LANG": "", "LC_CTYPE": "nowhere"}, {"PYTHONIOENCODING": "ascii:strict"}, {"PYTHONIOENCODING": "utf-16"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1:strict"},
]  # fmt: skip


@pytest.mark.parametrize("env", LOCALES, ids=lambda env: " ".join(f"{name}={value}" for name, value in env.items()))
def test_locales(taskrun: Taskrun, env: Mapping[str, str]) -> None:
    """Commands, names and output of any bytes, and what is said about them."""
    folder = os.fsdecode(os.fsencode(taskrun.folder) + b"/\xc3\xa4 \xff")
    Path(folder).mkdir()
    task = b"echo '\xe2\x82\xac \xff'; echo \xc3\xa4 >&2; touch 'made \xc3\xa4\xff'; exit 3\n"
    name = b"\xc3\xa4\xff.txt"
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(task)
    result = taskrun(name, "-s", "localhost:1", "-p", b"r\xc3\xa4n\xff", env=env, cwd=Path(folder))
    sound(taskrun, result)
    assert result.code == 0, result.err
    (record,) = read_status(Path(os.fsdecode(os.fsencode(folder) + b"/r\xc3\xa4n\xff_status.txt")))
    assert (record["ReturnCode"], record["OutputSnippet"]) == (3, repr("€ \ufffd\n"))
    assert record["ErrorSnippet"].endswith("ä\\n'")  # bash itself complains about a locale that is not there
    assert Path(folder, "made ä\udcff").exists()
    if env.get("PYTHONIOENCODING") != "utf-16":
        assert "0 tasks done, 1 failed" in result.err
        assert "exit 3" in result.err
    again = taskrun("-r", b"r\xc3\xa4n\xff_status.txt", "-R", "-p", "again", env=env, cwd=Path(folder))
    assert again.code == 0, again.err
    wrong = taskrun(b"\xc3\xa4\xfe.txt", env=env, cwd=Path(folder))
    assert wrong.code == 2
    sound(taskrun, wrong)


def test_python_settings(taskrun: Taskrun) -> None:
    """Those that the driver's own Python survives; agent and slots see none of them."""
    env = {
        "PYTHONPATH": "/nowhere:/dev/null", "PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONINSPECT": "", "PYTHONVERBOSE": "",
        "PYTHONPYCACHEPREFIX": "/nowhere", "PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1", "PYTHONNOUSERSITE": "1",
    }  # fmt: skip
    complete(taskrun, run(taskrun, env=env))


def test_python_s_development_mode(taskrun: Taskrun) -> None:
    """It warns of files that are never closed: there are none."""
    result = run(taskrun, env={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default"})
    complete(taskrun, result)
    assert "Warning" not in result.err, result.err


def test_python_modules_of_the_same_name_where_it_runs(taskrun: Taskrun) -> None:
    """`python -m` puts the folder first on the path: as an installed command it does not, and agent and slots never do."""
    for name in ("marshal", "socket", "json", "ending", "process", "agent", "slot", "select", "time"):
        (taskrun.folder / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    boot = "import sys; sys.path.remove('') if '' in sys.path else None; from taskrun.cli import main; sys.exit(main())"
    runner = Taskrun(taskrun.folder, taskrun.env, command=(sys.executable, "-P", "-c", boot) if sys.version_info >= (3, 11) else
                     (sys.executable, "-c", boot))  # fmt: skip
    result = runner("tasks.txt", *FLAGS.split(), files={"tasks.txt": FILE})
    runner.close()
    sound(taskrun, result)
    complete(taskrun, result)
