"""`taskrun TASKFILE …`: what it runs, says, writes and refuses."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import COLUMNS, Result, Taskrun

from taskrun.cli.main import COMMANDS

HOST = socket.gethostname()


def said(result: Result) -> str:
    """stderr without what differs from run to run."""
    return re.sub(r" in \d+\.\d s · ", " in N s · ", result.err)


def rerun(result: Result) -> list[bytes]:
    """The arguments of the command it says reruns what failed, as bash takes them."""
    line = result.err.rstrip("\n").rpartition("\n")[2].partition("what failed: ")[2]
    printed = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    command, *arguments = printed.split(b"\0")[:-1]
    assert command == b"taskrun"
    return arguments


FIVE = r"""
echo hi
test -e now || exit 3
true
printf 'oh no\n' >&2; test -e now || exit 4
test -e now || kill -9 $$
"""


def test_a_run_and_the_command_that_reruns_what_failed(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": FIVE[1:]})
    assert (result.code, result.out) == (0, "")
    assert said(result) == (
        "taskrun: 2 tasks done, 3 failed in N s · run_status.txt\n"
        "  line 2, task 1, exit 3: test -e now || exit 3\n"
        "  line 4, task 3, exit 4: printf 'oh no\\n' >&2; test -e now || exit 4\n"
        "      oh no\n"
        "  line 5, task 4, signal 9: test -e now || kill -9 $$\n"
        "exit code 0; -e counts failures\n"
        "run again what is missing and what failed: taskrun -r run_status.txt -R\n"
    )
    assert [(each["Flags"], each["TaskID"], each["LineNum"], each["ReturnCode"]) for each in result.records()] == [
        (" O  ", 0, 1, 0), ("R   ", 1, 2, 3), ("    ", 2, 3, 0), ("R E ", 3, 4, 4), ("R   ", 4, 5, -9),
    ]  # fmt: skip

    (taskrun.folder / "now").touch()
    again = taskrun(*rerun(result))
    assert said(again).startswith("taskrun: 3 tasks done, 2 skipped, none failed in N s · run.2_status.txt")
    assert "run again" not in again.err
    flags = [line.split("\t")[:2] for line in (taskrun.folder / "run.2_status.txt").read_text().splitlines()]
    assert sorted(flags, key=lambda each: int(each[1])) == [[" O S", "0"], ["    ", "1"], ["   S", "2"], ["  E ", "3"], ["    ", "4"]]


def test_one_task(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true"})
    assert (result.code, result.out, said(result)) == (0, "", "taskrun: 1 task done, none failed in N s · run_status.txt\n")
    assert {path.name for path in taskrun.folder.iterdir()} == {
        "tasks.txt", "run_status.txt", "run_events.jsonl", "run_run.json", "run_driver.log",
    }  # fmt: skip


def test_of_many_failures_the_first_five_are_shown(taskrun: Taskrun) -> None:
    result = taskrun(
        "tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "#TASKRUN REPEAT 9 start 1 exit $TASKRUN_REPEAT_INDEX\n"}
    )
    lines = [f"  line 1, index {n}, task {n - 1}, exit {n}: exit $TASKRUN_REPEAT_INDEX" for n in range(1, 6)]
    assert said(result).split("\n") == [
        "taskrun: 0 tasks done, 9 failed in N s · run_status.txt",
        *lines,
        "  … and 4 more (R in the first column of the status file)",
        "exit code 0; -e counts failures",
        "run again what is missing and what failed: taskrun -r run_status.txt -R",
        "",
    ]


def test_long_and_odd_commands_are_shown_on_one_short_line(taskrun: Taskrun) -> None:
    command = b"false " + b"x" * 100 + b"\t\xe9"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": command})
    assert f"  line 1, task 0, exit 1: false {'x' * 53}…\n" in result.err
    assert result.records()[0]["Command"] == repr(command)


@pytest.mark.parametrize(
    ("task", "flags", "code"),
    [
        ("true", (), 0),
        ("false", (), 0),
        ("true", ("-e",), 0),
        ("false", ("-e",), 1),
        ("false", ("--exit-code",), 1),
        ("kill -9 $$", ("-e",), 1),
    ],
)
def test_failed_tasks_count_when_asked(taskrun: Taskrun, task: str, flags: tuple[str, ...], code: int) -> None:
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", *flags, files={"tasks.txt": task + "\n"}).code == code


def test_quiet_says_nothing(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-q", "-e", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "echo out; echo err >&2; exit 1\n"})
    assert (result.code, result.out, result.err) == (1, "", "")
    assert len(result.records()) == 1


def test_what_tasks_print_is_not_printed(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "echo secret\n"})
    assert "secret" not in result.out + result.err


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "#TASKRUN PREFIX nice \n"])
def test_nothing_to_run(taskrun: Taskrun, text: str) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert (result.code, result.out, result.err) == (0, "", "taskrun: No tasks to run.\n")
    assert result.records() == []


def test_the_null_device_is_an_empty_task_file(taskrun: Taskrun) -> None:
    result = taskrun("/dev/null", "-s", "localhost:1", "-p", "run")
    assert (result.code, result.out, result.err) == (0, "", "taskrun: No tasks to run.\n")


def test_version(taskrun: Taskrun) -> None:
    result = taskrun("--version")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", result.out)


def test_help(taskrun: Taskrun) -> None:
    result = taskrun("--help")
    assert (result.code, result.err) == (0, "")
    for flag in (
        "-s",
        "-e",
        "-f",
        "-r",
        "-R",
        "-p",
        "-c",
        "-t",
        "-C",
        "-l",
        "-q",
        "--dry-run",
        "--append",
        "--starter",
        "examples:",
        "exit codes:",
    ):
        assert re.search(rf"(^|[ ,]){re.escape(flag)}", result.out, re.MULTILINE), flag
    assert "--kvsserver" not in result.out, "what is not there is not offered"
    lines = result.out.splitlines()
    assert lines[:2] == ["usage: taskrun TASKFILE [options] | taskrun COMMAND …", ""]
    assert all(len(line) <= 80 for line in lines)
    where = [result.out.index(f"\n  taskrun {word}") for word in ("TASKFILE", "-r", *(COMMANDS.keys() - {"run"}))]
    assert lines.index("commands:") < 6
    assert max(where) < result.out.index("\nhow the run goes:")
    assert taskrun("-h").out == result.out


def test_help_goes_into_a_pipe_that_closes(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    result = shell(f"set -o pipefail; {shlex.quote(sys.executable)} -m taskrun --help | true")
    shell.close()
    assert (result.code, result.err) == (0, "")


# --- where tasks run


def test_without_engines_each_usable_core_is_a_slot(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-p", "run", files={"tasks.txt": "true\n"})
    cores = len(os.sched_getaffinity(0))
    (joined,) = [event for event in result.events("engine") if event["what"] == "joined"]
    assert (joined["slots"], joined["host"]) == (cores, HOST)
    assert result.sidecar()["contexts"] == [{"kind": "local", "label": "local0", "hosts": {HOST: cores}, "limit": 0}]


def test_cores_that_may_not_be_used_do_not_count(taskrun: Taskrun) -> None:
    one = Taskrun(taskrun.folder, taskrun.env, command=("taskset", "-c", str(min(os.sched_getaffinity(0))), *taskrun.command))
    result = one("tasks.txt", "-p", "run", files={"tasks.txt": "true\n"})
    one.close()
    assert [event["slots"] for event in result.events("engine") if event["what"] == "joined"] == [1]


def test_a_login_node_is_not_filled_by_accident(taskrun: Taskrun, tmp_path: Path) -> None:
    taskrun.write({"bin/sbatch": "#!/bin/sh\n", "tasks.txt": "touch ran\n"})
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    path = {"PATH": f"{tmp_path}/bin:{taskrun.env['PATH']}"}
    result = taskrun("tasks.txt", "-p", "run", env=path)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"taskrun: this machine submits to SLURM, .*-s localhost:\d+ .*, or sbatch .*\n", result.err)
    dry = taskrun("tasks.txt", "--dry-run", env=path)
    assert (dry.code, dry.out) == (0, "run\t0\t1\t\tno record\ttouch ran\n")
    assert dry.err == result.err + "taskrun: 1 to run, on engines that nobody has named. Nothing was run (--dry-run).\n"
    assert not (tmp_path / "ran").exists()
    assert taskrun("tasks.txt", "-p", "run", "-s", "localhost:1", env=path).code == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("flags", "slots", "cores"),
    [
        (("-s", "localhost:2", "-t", "5"), 5, "0 1"),
        (("-s", "localhost:4", "-c", "1.5"), 2, "2 2"),
        (("-s", "localhost:2", "-c", "0.5"), 4, "0 1"),
        (("-s", "localhost:4", "-t", "0"), 4, "1 1"),
        (("-s", "localhost:4", "-c", "2", "-t", "3"), 3, "1 1"),
        (("-s", " localhost:1 , ,localhost:2", "-s", f"{HOST}:1"), 4, "1 1"),
        (("--ssh-node=localhost:2", "--cpusPerTask=2"), 1, "2 2"),
    ],
)
def test_slots(taskrun: Taskrun, flags: tuple[str, ...], slots: int, cores: str) -> None:
    text = f"#TASKRUN REPEAT {slots} mkdir slot_$DISBATCH_CYLINDER_RANK; until [ $(ls -d slot_* | wc -l) = {slots} ]; do sleep 0.02; done; "
    text += "echo $DISBATCH_CORES_PER_TASK $TASKRUN_CORES_PER_TASK > cores\n"
    result = taskrun("tasks.txt", "-p", "run", *flags, files={"tasks.txt": text})
    assert result.code == 0
    assert {path.name for path in taskrun.folder.glob("slot_*")} == {f"slot_{n}" for n in range(slots)}
    assert (taskrun.folder / "cores").read_text() == cores + "\n"


def test_a_host_named_twice_is_said(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-p", "run", "-s", "localhost:1,localhost:1", files={"tasks.txt": "true\n"})
    assert result.err.startswith("taskrun: localhost is named more than once: its cores are added up\n")


def test_hosts_from_the_environment(taskrun: Taskrun) -> None:
    env = {"DISBATCH_SSH_NODELIST": " localhost:3 "}
    result = taskrun("tasks.txt", "-p", "run", env=env, files={"tasks.txt": "true\n"})
    assert [event["slots"] for event in result.events("engine") if event["what"] == "joined"] == [3]
    assert [*taskrun("tasks.txt", "-p", "two", "-s", "localhost:2", env=env).sidecar()["contexts"][0]["hosts"].values()] == [2]
    assert [*taskrun("tasks.txt", "-p", "three", env={"TASKRUN_OPT_HOSTS": "localhost:1"}).sidecar()["contexts"][0]["hosts"].values()] == [
        1
    ]


def test_options_from_the_environment(taskrun: Taskrun) -> None:
    env = {"TASKRUN_OPT_EXIT_CODE": "1", "TASKRUN_OPT_PREFIX": "env", "TASKRUN_OPT_TASKS_PER_NODE": "3", "TASKRUN_TASKS_PER_NODE": "9"}
    result = taskrun("tasks.txt", "-s", "localhost:1", env=env, files={"tasks.txt": "false\n"})
    assert result.code == 1
    assert [event["slots"] for event in result.events("engine", prefix="env") if event["what"] == "joined"] == [3]
    wrong = taskrun("tasks.txt", "-s", "localhost:1", env={"TASKRUN_OPT_TASKS_PER_NODE": "many"})
    assert (wrong.code, wrong.err) == (2, "taskrun: TASKRUN_OPT_TASKS_PER_NODE: `many` is not a value for --tasksPerNode\n")


def test_task_limit_reached_exactly(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "-C", "3", "-p", "run", files={"tasks.txt": "true\ntrue\ntrue\n"})
    assert (result.code, said(result)) == (0, "taskrun: 3 tasks done, none failed in N s · run_status.txt\n")


def test_task_limit_below_the_number_of_tasks(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "-C", "3", "-p", "run", files={"tasks.txt": "true\n" * 5})
    assert result.code == 3
    assert said(result) == (
        "taskrun: 3 tasks done, none failed, 2 not run in N s · run_status.txt\n"
        "taskrun: stopped: the task limit is reached\n"
        "run again what is missing: taskrun -r run_status.txt\n"
    )
    assert len(result.records()) == 3
    again = taskrun("-r", "run_status.txt", "-p", "two")  # inherits -C 3, which is enough now
    assert again.code == 0
    assert sorted(each["TaskID"] for each in again.records()) == [0, 1, 2, 3, 4]


def test_label(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-l", "my engines", "-p", "run", files={"tasks.txt": "true\n"})
    assert [event["context"] for event in result.events("context")] == ["my engines"]


# --- its files


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        ("run", "run_status.txt"),
        ("out/run", "out/run_status.txt"),
        ("./out/../run", "run_status.txt"),
        ("-odd", "-odd_status.txt"),
        ("a b'c\"d\n", "a b'c\"d\n_status.txt"),
        ("é…", "é…_status.txt"),
        ("\udce9", "\udce9_status.txt"),
    ],
)
def test_prefix(taskrun: Taskrun, prefix: str, status: str) -> None:
    (taskrun.folder / "out").mkdir()
    flags = (f"--prefix={prefix}",)
    result = taskrun("tasks.txt", "-s", "localhost:1", *flags, files={"tasks.txt": "false\n"})
    assert result.code == 0, result.err
    path = taskrun.folder / status
    assert path.read_bytes().endswith(b"\tfalse\n")
    for suffix in ("run.json", "events.jsonl", "driver.log"):
        assert path.with_name(path.name.replace("status.txt", suffix)).exists()
    again = taskrun(*rerun(result), "-p", "again")
    assert (again.code, [each["ReturnCode"] for each in again.records("again")]) == (0, [1])


@pytest.mark.parametrize("folder", ["out", "out/", ".", "./out"])
def test_prefix_that_is_a_folder_gets_the_default_name_in_it(taskrun: Taskrun, folder: str) -> None:
    (taskrun.folder / "out").mkdir()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", folder, files={"tasks.txt": "true\n"})
    assert result.code == 0
    (status,) = (taskrun.folder / folder).glob("*_status.txt")
    assert re.fullmatch(r"tasks\.txt_\d{12}_status\.txt", status.name)


def test_default_names_of_runs_in_one_second_differ(taskrun: Taskrun) -> None:
    taskrun.write({"tasks.txt": "true\n"})
    running = [taskrun.start("tasks.txt", "-s", "localhost:1") for _ in range(3)]
    assert [each.finish().code for each in running] == [0, 0, 0]
    names = [path.name for path in taskrun.folder.glob("*_status.txt")]
    assert len(names) == 3
    for name in names:
        assert re.fullmatch(r"tasks\.txt_\d{12}(\.\d)?_status\.txt", name)
        assert (taskrun.folder / name).read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("env", "name"),
    [({"SLURM_JOB_ID": "77"}, "tasks.txt_77"), ({"SLURM_JOBID": "78"}, "tasks.txt_78"),
     ({"SLURM_JOB_ID": "79", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "4"}, "tasks.txt_70_4")],
)  # fmt: skip
def test_default_name_in_a_slurm_job(taskrun: Taskrun, env: dict[str, str], name: str) -> None:
    assert taskrun("tasks.txt", "-s", "localhost:1", env=env, files={"tasks.txt": "true\n"}).code == 0
    assert (taskrun.folder / f"{name}_status.txt").exists()


def test_status_header(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "--status-header", "-p", "run", files={"tasks.txt": "true\n"})
    header, line, end = (taskrun.folder / "run_status.txt").read_text().split("\n")
    assert header.split("\t") == ["ROE[ PSZ]", *COLUMNS[1:]]
    assert line.endswith("\ttrue")
    assert end == ""


def test_logfile(taskrun: Taskrun) -> None:
    (taskrun.folder / "out").mkdir()
    result = taskrun("tasks.txt", "-s", "localhost:1", "--logfile", "my.log", "-p", "out/run", files={"tasks.txt": "echo secret\n"})
    assert result.code == 0
    log = (taskrun.folder / "my.log").read_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO taskrun ", log)
    assert "secret" not in log, "nothing per task at the default level"
    assert not (taskrun.folder / "out" / "run_driver.log").exists()
    again = taskrun("tasks.txt", "-s", "localhost:1", "--logfile", "my.log", "-p", "out/again")
    assert again.code == 0
    assert (taskrun.folder / "my.log").read_text().startswith(log), "a log is appended to"


@pytest.mark.parametrize("name", ["tasks.txt", "one_status.txt"])
def test_nothing_is_logged_into_a_file_that_is_no_log(taskrun: Taskrun, name: str) -> None:
    """Lines in the task file would be run, and in a status file they would be no records."""
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "true\n"})
    before = (taskrun.folder / name).read_bytes()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "two", "--logfile", name)
    assert (result.code, result.err) == (2, f"taskrun: --logfile {name}: it is there already, and is no log: name another file\n")
    assert (taskrun.folder / name).read_bytes() == before
    assert not list(taskrun.folder.glob("two*"))


ODD = [b"a b.txt", b'it\'s "q".txt', b"new\nline", b"\xe9\xff.txt", b"-tasks", "é….txt".encode(), b"$HOME`x`*", b"check"]


@pytest.mark.parametrize("name", ODD)
def test_odd_name_of_the_task_file(taskrun: Taskrun, name: bytes) -> None:
    text = 'printf %s "$DISBATCH_NAMETASKS" > name; printf %s "$TASKRUN_NAMETASKS" >> name\nfalse\n'
    taskrun.write({os.fsdecode(name): text})
    result = taskrun("-s", "localhost:1", b"./" + name, "-p", "run")
    assert result.code == 0, result.err
    assert (taskrun.folder / "name").read_bytes() == name * 2
    assert taskrun(*rerun(result), "-p", "again").code == 0
    assert taskrun("-s", "localhost:1", "--", name).code == 0
    assert [path for path in os.listdir(os.fsencode(taskrun.folder)) if path.startswith(name + b"_2")]


@pytest.mark.parametrize("name", [b"a b", b'it\'s "q"', b"new\nline", b"\xe9\xff", "é…".encode()])
def test_odd_name_of_the_working_directory(taskrun: Taskrun, name: bytes) -> None:
    folder = taskrun.folder / os.fsdecode(name)
    folder.mkdir()
    (folder / "tasks.txt").write_text('pwd > here; printf %s "$PWD" > pwd; test -e now\n')
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", cwd=folder)
    assert result.code == 0, result.err
    assert (folder / "here").read_bytes() == os.fsencode(folder) + b"\n"
    assert (folder / "pwd").read_bytes() == os.fsencode(folder)
    (folder / "now").touch()
    again = taskrun("-r", folder / "run_status.txt", "-R", "-p", "again")  # from elsewhere: in the run's own folder
    assert (again.code, [each["ReturnCode"] for each in again.records()]) == (0, [0])


def test_a_working_directory_that_is_a_link_keeps_its_name(taskrun: Taskrun) -> None:
    (taskrun.folder / "real").mkdir()
    link = taskrun.folder / "link"
    link.symlink_to("real")
    (link / "tasks.txt").write_text('printf %s "$PWD" > pwd\n')
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    assert shell(f"cd link && {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run").code == 0
    shell.close()
    assert (link / "pwd").read_text() == str(link)


# --- refusals: one sentence, exit 2, nothing run, no file left behind

REFUSALS = {
    "no task file": ((), r"which task file\? .*taskrun tasks\.txt.*"),
    "no such file": (("nosuch",), r"nosuch: no such file"),
    "no such file, -": (("-x",), r".*-x.*"),
    "a folder": (("folder",), r"folder: is a folder, not a task file"),
    "two task files": (("tasks.txt", "tasks.txt"), r"unrecognized arguments: tasks\.txt .*--help.*"),
    "misspelt option": (("tasks.txt", "--retri"), r".*--retri.*"),
    "-s without a number": (("tasks.txt", "-s", "localhost"), r"-s localhost: the number of cores is missing; write localhost:4 for four"),
    "-s with an empty number": (
        ("tasks.txt", "-s", "localhost:"),
        r"-s localhost:: the number of cores is missing; write localhost:4 for four",
    ),
    "-s with a word": (("tasks.txt", "-s", "localhost:x"), r"-s localhost:x: `x` is not a number of cores; write localhost:4 for four"),
    "-s zero": (("tasks.txt", "-s", "localhost:0"), r"-s localhost:0: an engine needs at least one core; write localhost:1"),
    "-s negative": (("tasks.txt", "-s", "localhost:-1"), r"-s localhost:-1: an engine needs at least one core; write localhost:1"),
    "-s empty": (("tasks.txt", "-s", ""), r"-s names no host; write -s localhost:4 for four slots on this machine"),
    "-s another host": (("tasks.txt", "-s", "example:4"), r"example: there is no host of this name .*"),
    "-c too large": (("tasks.txt", "-s", "localhost:2", "-c", "3"), r"-c 3: no host has that many cores; at most -c 2 fits"),
    "-c 0": (("tasks.txt", "-s", "localhost:2", "-c", "0"), r"-c 0: a task needs more than 0 cores; leave -c out for one"),
    "-t too large": (("tasks.txt", "-s", "localhost:2", "-t", "1000000000"), r"1000000000 slots on \S+: an engine has at most 65536; .*"),
    "-c nan": (("tasks.txt", "-s", "localhost:2", "-c", "nan"), r"-c nan: .*"),
    "-c a word": (("tasks.txt", "-s", "localhost:2", "-c", "x"), r".*-c.*`x` is no number.*"),
    "-t a word": (("tasks.txt", "-s", "localhost:2", "-t", "x"), r".*-t.*`x` is no whole number.*"),
    "-C a word": (("tasks.txt", "-s", "localhost:2", "-C", "x"), r".*-C.*`x` is no whole number.*"),
    "-t negative": (("tasks.txt", "-s", "localhost:2", "-t", "-5"), r".*-t.*-5.*"),
    "empty prefix": (("tasks.txt", "-s", "localhost:2", "-p", ""), r"-p: an empty prefix names no file; .*"),
    "prefix in a missing folder": (
        ("tasks.txt", "-s", "localhost:2", "-p", "no/run"),
        r"-p no/run: the folder \S*/no does not exist; make it first",
    ),
    "missing folder": (("tasks.txt", "-s", "localhost:2", "-p", "no/"), r"-p no/: the folder \S*/no/? does not exist; make it first"),
    "log in a missing folder": (("tasks.txt", "-s", "localhost:2", "-p", "run", "--logfile", "no/log"), r".*no/log.*"),
    "--kvsserver": (("tasks.txt", "--kvsserver", "x:1"), r"there is no key-value server in taskrun.*"),
    "-w": (("tasks.txt", "-w"), r".*-w.*not there yet"),
    "--taskcommand": (("--taskcommand", "x"), r".*--taskcommand.*"),
    "--mailTo": (("tasks.txt", "--mailTo", "me"), r".*--mailTo.*"),
    "-r nothing": (("tasks.txt", "-s", "localhost:1", "-r", "nosuch"), r".*nosuch.*"),
    "-r alone": (("-r", "nosuch_status.txt"), r".*nosuch_status\.txt.*"),
    "--append without -r": (("tasks.txt", "-s", "localhost:1", "--append"), r"--append means nothing without -r: write -r STATUS --append"),
    "SLURM allocation": (("tasks.txt",), r"this is a SLURM job without SLURM_JOB_NODELIST, .* -s HOST:COUNT"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(taskrun: Taskrun, name: str) -> None:
    arguments, sentence = REFUSALS[name]
    (taskrun.folder / "folder").mkdir()
    taskrun.write({"tasks.txt": "touch ran\n"})
    result = taskrun(*arguments, env={"SLURM_JOB_ID": "5"} if name.startswith("SLURM") else {})
    assert (result.code, result.out) == (2, ""), result.err
    assert re.fullmatch(f"taskrun: {sentence}\n", result.err), result.err
    assert {path.name for path in taskrun.folder.iterdir()} == {"tasks.txt", "folder"}


def test_a_wrong_line_is_refused_before_the_first_task(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "touch ran\n#TASKRUN BARIER\n#TASKRUN REPEAT x\n"})
    assert (result.code, result.out) == (2, "")
    assert re.match(r"tasks\.txt:2:\d+: error: unknown directive `BARIER`\n.*\n.*\n +help: .*BARRIER", result.err)
    assert re.search(r"^tasks\.txt:3:\d+: error: ", result.err, re.MULTILINE)
    assert "Traceback" not in result.err
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]


def test_an_unreadable_task_file(taskrun: Taskrun) -> None:
    (taskrun.folder / "loop").symlink_to("loop")
    result = taskrun("loop", "-s", "localhost:1")
    assert result.code == 2
    assert re.fullmatch(r"taskrun: loop: .*\n", result.err)


def test_a_status_file_that_exists_is_not_overwritten(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "echo >> ran\n"})
    before = (taskrun.folder / "run_status.txt").read_bytes()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    assert result.code == 2
    assert re.fullmatch(r"taskrun: \S*run_status\.txt exists: -r \S*run_status\.txt carries on .*--append.* another -p\n", result.err)
    assert (taskrun.folder / "run_status.txt").read_bytes() == before
    assert (taskrun.folder / "ran").read_text() == "\n"


def test_records_that_cannot_be_written(taskrun: Taskrun) -> None:
    (taskrun.folder / "run_status.txt").symlink_to("/dev/full")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true\n"})
    assert result.code == 2  # it exists: refused, whatever it is
    assert "Traceback" not in result.err


def test_a_full_disk_ends_the_run_with_4(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    taskrun.write({"tasks.txt": "true 0123456789012345678901234567890123456789\n" * 2000})
    result = shell(f"trap '' XFSZ; ulimit -f 100; {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:2 -p run")
    shell.close()
    assert result.code == 4, result.err
    assert "Traceback" not in result.err
    assert re.search(r"run_(status\.txt|events\.jsonl) cannot be written", result.err)


def test_the_module_is_the_command(taskrun: Taskrun) -> None:
    done = subprocess.run([sys.executable, "-m", "taskrun", "--version"], capture_output=True, text=True, check=True, env=taskrun.env)
    assert done.stdout == taskrun("--version").out
