"""What a task finds when it starts: variables, descriptors, session, signals, limits."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from harness import ROOT, Taskrun, need

BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from taskrun.cli import main; sys.exit(main())"
STARTERS = ["parallel", "builtin"]


def environment_of(path: Path) -> dict[bytes, bytes]:
    """What a task wrote with `cat /proc/self/environ`."""
    return dict(pair.split(b"=", 1) for pair in path.read_bytes().split(b"\0") if b"=" in pair)


def run_one(taskrun: Taskrun, task: str, *flags: str, env: Mapping[str, str] | None = None, starter: str = "builtin") -> None:
    if starter == "parallel":
        need("parallel")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", starter, *flags, env=env, files={"tasks.txt": task + "\n"})
    assert result.code == 0, result.err
    assert [each["Flags"] for each in result.records()] == ["    "], result.records()


def ours(environment: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        name.decode(): value.decode() for name, value in environment.items() if name.startswith((b"DISBATCH_", b"TASKRUN_", b"PARALLEL"))
    }


@pytest.mark.parametrize("starter", STARTERS)
def test_variables_of_a_task(taskrun: Taskrun, starter: str) -> None:
    recorded = (ROOT / "tests/golden/cases/11_env/env_1.txt").read_text().split("\n")
    disbatch = dict(line.split("=", 1) for line in recorded if line.startswith("DISBATCH_"))
    del disbatch["DISBATCH_KVSSTCP_HOST"]
    disbatch |= {"DISBATCH_JOBID": "run", "DISBATCH_NAMETASKS": "tasks.txt"}
    text = "true\n#DISBATCH REPEAT 1 start 41 cat /proc/self/environ > env\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", starter, files={"tasks.txt": text})
    assert result.code == 0
    expected = disbatch | {name.replace("DISBATCH_", "TASKRUN_"): value for name, value in disbatch.items()}
    expected["TASKRUN_ATTEMPT"] = f"{result.sidecar()['run_id']}.1.1"
    assert ours(environment_of(taskrun.folder / "env")) == expected


@pytest.mark.parametrize("starter", STARTERS)
def test_the_user_s_environment_passes_through(taskrun: Taskrun, starter: str) -> None:
    odd = {
        "EMPTY": "", "BLANKS": "  a  b ", "LINES": "one\ntwo\n", "BYTES": "\udce9\udcff", "QUOTES": "'\"`$x", "EQUALS": "a=b=c",
        "odd.name": "1", "lower": "x", "LONG": "y" * 100_000, "LD_PRELOAD": "", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere",
        "BASH_ENV": "/nowhere", "ENV": "/nowhere", "PERL5LIB": "/nowhere", "PARALLEL": "--dry-run", "PARALLEL_HOME": "/nowhere",
        "PARALLEL_SHELL": "/bin/false", "SHELL": "/bin/false", "TERM": "dumb", "TASKRUN_OPT_LABEL": "mine",
    }  # fmt: skip
    if starter == "parallel":
        need("parallel")
    # The test's own Python must not see PYTHONHOME: -E, as an installed command's wrapper may have it.
    runner = Taskrun(taskrun.folder, taskrun.env, command=(sys.executable, "-E", "-c", BOOT, str(ROOT)))
    arguments = ("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", starter)
    result = runner(*arguments, env=odd, files={"tasks.txt": "exec cat /proc/self/environ > env\n"})
    runner.close()
    assert result.code == 0, result.err
    found = environment_of(taskrun.folder / "env")
    for name, value in odd.items():
        assert found.get(os.fsencode(name)) == os.fsencode(value), name


@pytest.mark.parametrize("starter", STARTERS)
def test_nothing_of_gnu_parallel_s_job_is_seen(taskrun: Taskrun, starter: str) -> None:
    outer = {"PARALLEL_SEQ": "7", "PARALLEL_JOBSLOT": "8", "PARALLEL_PID": "9"}  # taskrun itself as a job of GNU Parallel
    run_one(taskrun, "cat /proc/self/environ > env", env=outer, starter=starter)
    assert [name for name in environment_of(taskrun.folder / "env") if name.startswith(b"PARALLEL")] == []


@pytest.mark.parametrize("starter", STARTERS)
def test_an_exported_function(taskrun: Taskrun, starter: str) -> None:
    run_one(taskrun, "greet you > said", env={"BASH_FUNC_greet%%": '() {  echo "hello $1"\n}'}, starter=starter)
    assert (taskrun.folder / "said").read_text() == "hello you\n"


def test_env_sets_variables_on_this_machine_too(taskrun: Taskrun) -> None:
    """Also over what the run has there, but never over what is said of the task."""
    flags = ("--env", "NEW=a b", "--env", "OLD", "--env", "LANG=C.UTF-8", "--env", "TASKRUN_JOBID=x")
    run_one(taskrun, "env -0 > seen", *flags, env={"OLD": "here"})
    seen = environment_of(taskrun.folder / "seen")
    assert (seen[b"NEW"], seen[b"OLD"], seen[b"LANG"], seen[b"TASKRUN_JOBID"]) == (b"a b", b"here", b"C.UTF-8", b"run")


@pytest.mark.parametrize("given", ["1BAD=secret", "a-b=secret", "a b", "=secret"])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)], ids=["run", "dry"])
def test_env_that_names_no_variable(taskrun: Taskrun, given: str, flags: tuple[str, ...]) -> None:
    """Refused before anything, and the value is not repeated."""
    result = taskrun("tasks.txt", "-s", "localhost:1", f"--env={given}", *flags, files={"tasks.txt": "true\n"})
    assert result.code == 2
    assert result.err.startswith(f"taskrun: --env {given.partition('=')[0]}")
    assert "secret" not in result.err


def test_a_nested_run_has_options_and_variables_of_its_own(taskrun: Taskrun) -> None:
    inner = f"{shlex.quote(sys.executable)} -m taskrun inner.txt -q -s localhost:1 -p inner"
    taskrun.write({"inner.txt": "\n\ncat /proc/self/environ > inner_env\n"})
    run_one(taskrun, f"cat /proc/self/environ > outer_env; {inner}")
    outer, found = (ours(environment_of(taskrun.folder / name)) for name in ("outer_env", "inner_env"))
    assert (found["DISBATCH_JOBID"], found["DISBATCH_STREAM_INDEX"], found["TASKRUN_NAMETASKS"]) == ("inner", "3", "inner.txt")
    assert found["TASKRUN_OUTER"] == outer["TASKRUN_ATTEMPT"]
    assert found["TASKRUN_ATTEMPT"] != outer["TASKRUN_ATTEMPT"]


@pytest.mark.parametrize("starter", STARTERS)
def test_shell(taskrun: Taskrun, starter: str) -> None:
    home = Path(taskrun.env["HOME"])
    for name in (".bashrc", ".bash_profile", ".profile"):
        (home / name).write_text("echo sourced; touch ~/sourced\n")
    task = 'echo "$0" "$-" "$#" "$BASHOPTS" > shell; shopt -q login_shell && echo login >> shell; ps -o args= -p $$ > args'
    env = {"SSH_CLIENT": "1.2.3.4 5 6", "SSH2_CLIENT": "x", "SHLVL": "0"}
    run_one(taskrun, task, env=env, starter=starter)
    words = (taskrun.folder / "shell").read_text().split(" ")
    assert words[:3] == ["/bin/bash", "hBc", "0"]
    assert "login" not in (taskrun.folder / "shell").read_text().split("\n")[1]
    assert (taskrun.folder / "args").read_text() == f"/bin/bash -c {task}\n"
    assert not (home / "sourced").exists()


@pytest.mark.parametrize(("given", "seen"), [(None, "2"), ("0", "2"), ("1", "2"), ("5", "6"), ("odd", "2")])
def test_shell_level(taskrun: Taskrun, given: str | None, seen: str) -> None:
    run_one(taskrun, "echo $SHLVL > level", env={} if given is None else {"SHLVL": given})
    assert (taskrun.folder / "level").read_text() == seen + "\n"


@pytest.mark.parametrize("starter", STARTERS)
def test_descriptors(taskrun: Taskrun, starter: str) -> None:
    """stdin is /dev/null, stdout and stderr are pipes of their own, and there is nothing else."""
    task = "for fd in $(ls /proc/$$/fd); do echo $fd $(readlink /proc/$$/fd/$fd); done > fds.new; grep -v fds.new fds.new > fds"
    run_one(taskrun, f"readlink /proc/self/fd/0 > stdin; ({task})", starter=starter)
    fds = dict(line.split(" ", 1) for line in (taskrun.folder / "fds").read_text().splitlines())
    assert set(fds) == {"0", "1", "2"}
    assert fds["0"] == "/dev/null"
    assert fds["1"].startswith("pipe:")
    assert fds["2"].startswith("pipe:")
    assert fds["1"] != fds["2"]
    assert (taskrun.folder / "stdin").read_text() == "/dev/null\n"


def test_descriptors_of_the_driver_s_parent_do_not_reach_tasks(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    words = f"exec {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run 7< tasks.txt 8> other 11<> other"
    assert shell(words, files={"tasks.txt": "ls /proc/$$/fd > fds\n"}).code == 0
    shell.close()
    assert (taskrun.folder / "fds").read_text().split() == ["0", "1", "2"]


@pytest.mark.parametrize("starter", STARTERS)
def test_a_task_reads_nothing(taskrun: Taskrun, starter: str) -> None:
    taskrun.write({"tasks.txt": "cat > read\n"})
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", starter, stdin=b"not for tasks\n")
    assert result.code == 0
    assert (taskrun.folder / "read").read_bytes() == b""


@pytest.mark.parametrize("starter", STARTERS)
def test_a_session_of_its_own(taskrun: Taskrun, starter: str) -> None:
    run_one(taskrun, "ps -o pid=,pgid=,sid=,tty= -p $$ > ids", starter=starter)
    pid, group, session, terminal = (taskrun.folder / "ids").read_text().split()
    assert pid == group == session
    assert terminal == "?"


@pytest.mark.parametrize("starter", STARTERS)
def test_signals_are_at_their_defaults(taskrun: Taskrun, starter: str) -> None:
    run_one(taskrun, "cat /proc/self/status > status", starter=starter)
    lines = (taskrun.folder / "status").read_text().splitlines()
    masks = {name: int(value, 16) for name, value in (line.split(":\t") for line in lines) if name in ("SigBlk", "SigIgn", "SigCgt")}
    for reserved in (32, 33):  # the C library's own: nobody can set them
        masks["SigIgn"] &= ~(1 << reserved - 1)
    assert masks == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@pytest.mark.parametrize("starter", STARTERS)
def test_a_closed_pipe_ends_its_writer_silently(taskrun: Taskrun, starter: str) -> None:
    run_one(taskrun, "yes | head -1 > first; echo ${PIPESTATUS[0]} > status", starter=starter)
    assert int((taskrun.folder / "status").read_text()) == 128 + signal.SIGPIPE


def test_signals_the_driver_was_told_to_ignore_are_those_tasks_ignore(taskrun: Taskrun) -> None:
    """nohup is for the whole run; nothing else is handed down."""
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    words = f"trap '' PIPE; exec {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run"
    assert shell(words, files={"tasks.txt": "grep SigIgn /proc/self/status > ignored\n"}).code == 0
    shell.close()
    assert int((taskrun.folder / "ignored").read_text().split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


@pytest.mark.parametrize("starter", STARTERS)
def test_umask_limits_and_priority_are_the_driver_s(taskrun: Taskrun, starter: str) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    told = "umask; ulimit -a; ulimit -Ha; nice"
    limits = "umask 027; ulimit -S -n 512; ulimit -S -c 0; ulimit -S -s 4096"
    command = f"{shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run --starter {starter}"
    words = f"{limits}; ({told}) > expected; exec {command}"
    assert shell(words, files={"tasks.txt": f"({told}) > found\n"}).code == 0
    shell.close()
    assert (taskrun.folder / "found").read_text() == (taskrun.folder / "expected").read_text()
    assert (taskrun.folder / "found").stat().st_mode & 0o777 == 0o640
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 512


@pytest.mark.parametrize("starter", STARTERS)
def test_a_low_limit_of_descriptors(taskrun: Taskrun, starter: str) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    words = f"ulimit -n 64; exec {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:4 -p run --starter {starter}"
    result = shell(words, files={"tasks.txt": "true\n" * 50})
    shell.close()
    assert result.code == 0, result.err
    assert (taskrun.folder / "run_status.txt").read_text().count("\n") == 50


@pytest.mark.parametrize("starter", STARTERS)
def test_directory(taskrun: Taskrun, starter: str) -> None:
    run_one(taskrun, 'pwd > here; printf %s "$PWD" > pwd; printf %s "${OLDPWD-unset}" > oldpwd', env={"PWD": "/wrong"}, starter=starter)
    assert (taskrun.folder / "here").read_text() == f"{taskrun.folder}\n"
    assert (taskrun.folder / "pwd").read_text() == str(taskrun.folder)


def test_per_engine_commands_have_no_slot(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START cat /proc/self/environ > start\n#TASKRUN PERENGINE STOP cat /proc/self/environ > stop\ntrue\n"
    assert taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text}).code == 0
    for name, line in (("start", "1"), ("stop", "2")):
        found = ours(environment_of(taskrun.folder / name))
        assert found["DISBATCH_CYLINDER_RANK"] == found["TASKRUN_CYLINDER_RANK"] == "-1"
        assert (found["DISBATCH_TASKID"], found["DISBATCH_STREAM_INDEX"], found["DISBATCH_REPEAT_INDEX"]) == ("0", line, "-1")
        assert found["DISBATCH_REPEAT_INDEX_ZP"] == "-00001"


def test_each_slot_has_its_number(taskrun: Taskrun) -> None:
    text = "#TASKRUN REPEAT 3 touch slot_$TASKRUN_CYLINDER_RANK; until [ $(ls -d slot_* | wc -l) = 3 ]; do sleep 0.02; done\n"
    assert taskrun("tasks.txt", "-s", "localhost:3", "-p", "run", files={"tasks.txt": text}).code == 0
    assert sorted(path.name for path in taskrun.folder.glob("slot_*")) == ["slot_0", "slot_1", "slot_2"]


def test_the_node_is_this_host(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true\n"})
    assert result.records()[0]["Node"] == socket.gethostname()
