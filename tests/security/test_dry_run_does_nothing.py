"""--dry-run starts no program, connects to nobody and changes no file, whatever records and environment name."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from harness import Result, Taskrun

from taskrun.staging.local import LocalStore
from taskrun.staging.transfers import Delivery
from taskrun.status.events import event_line

#: The command, watched by an audit hook of Python: what it sees of the kind that is forbidden is told, and ends it.
WATCHED = """
import os, sys
STARTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "pty.spawn")
TALKS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def watch(event, arguments):
    forbidden = event in STARTS + TALKS + CHANGES
    if event == "open":
        forbidden = arguments[2] & WRITES and arguments[0] != os.devnull and not isinstance(arguments[0], int)
    if forbidden:
        os.write(2, f"FORBIDDEN {event} {arguments}\\n".encode("utf-8", "replace"))
        os._exit(99)

sys.addaudithook(watch)
from taskrun.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def watched(taskrun: Taskrun) -> Taskrun:
    """In a folder with a run `one` that has been, and programs on PATH that tell when they are started."""
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "true\necho x > out.txt\nexit 3\n"})
    assert result.code == 0
    stubs = taskrun.folder / "bin"
    stubs.mkdir()
    for name in ("ssh", "srun", "scontrol", "squeue", "sbatch", "sacct", "rclone", "gpg", "gpgconf", "parallel"):
        (stubs / name).write_text(f"#!/bin/sh\ntouch {taskrun.folder}/started-{name}\n")
        (stubs / name).chmod(0o755)
    taskrun.env |= {"PATH": f"{stubs}:{taskrun.env['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    taskrun.command = (sys.executable, "-c", WATCHED)
    return taskrun


def seen(taskrun: Taskrun, *words: str, env: dict[str, str] | None = None) -> Result:
    """A dry run that did nothing."""
    before = {path: path.stat().st_mtime_ns for path in taskrun.folder.rglob("*")}
    result = taskrun(*words, "--dry-run", env=env)
    assert "FORBIDDEN" not in result.err
    assert {path: path.stat().st_mtime_ns for path in taskrun.folder.rglob("*")} == before
    return result


def test_the_watch_sees_what_a_run_does(watched: Taskrun) -> None:
    assert watched("tasks.txt", "-s", "localhost:1", "-p", "two").code == 99


def test_hosts_and_programs_of_the_records(watched: Taskrun) -> None:
    sidecar = watched.folder / "one_run.json"
    values = json.loads(sidecar.read_bytes())
    programs = {"ssh": f"{watched.folder}/bin/ssh -p 1", "retire_cmd": "squeue", "clean": "all", "rclone_config": "/nowhere"}
    values["options"] |= {name: {"value": value, "origin": "flag"} for name, value in programs.items()}
    values["options"]["hosts"]["value"] = ["me@127.0.0.1:4", "localhost:1"]
    values["options"]["workdir"] = {"value": "/w", "origin": "flag"}
    values["contexts"].append({"kind": "ssh", "label": "SSH0", "hosts": {"me@127.0.0.1": 4}})  # events of other hosts are not believed
    sidecar.write_text(json.dumps(values))
    version = LocalStore(watched.folder, "x").stat("out.txt").version
    sent = Delivery("out.txt", "", 2, "0" * 64, 2, "0" * 64, version, "v", "size", "moved", (), None, 1.0, 1).to_json()
    with (watched.folder / "one_events.jsonl").open("ab") as events:
        events.write(event_line("place", 1.0, what="used", address="me@127.0.0.1", path="/w", offset=0.0, reach="ssh"))
        for dest in ("s3://bucket/out.txt", "sftp://127.0.0.1/out.txt", "remote:out.txt"):
            events.write(event_line("transfer", 1.0, id=None, way="out", cause="ok", **sent | {"dest": dest}))
    result = seen(watched, "-r", "one_status.txt", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"})
    assert result.code == 0, result.err
    assert "127.0.0.1 is not asked in a dry run: what would be removed in /w is not shown" in result.err
    assert "\nremove\t\t0\t\tis at remote:out.txt, verified by size\tout.txt\n" in result.out
    assert re.search(r"remote:, s3://bucket/, sftp://127.0.0.1/\S*: not asked in a dry run", result.err)
    assert result.err.startswith(
        f"taskrun: inherited from one_run.json: --ssh '{watched.folder}/bin/ssh -p 1', --retire-cmd squeue, "
        "--rclone-config /nowhere, --clean all\n"
    )


def test_in_a_job_of_slurm(watched: Taskrun) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[01-02,4],other", "SLURM_JOB_CPUS_PER_NODE": "2(x3),4",
           "SLURM_TASKS_PER_NODE": "2(x3),4"}  # fmt: skip
    result = seen(watched, "tasks.txt", env=job)
    assert (result.code, len(result.out.splitlines())) == (0, 3), result.err
    assert "2 slots on n01, 2 slots on n02, 2 slots on n4, 4 slots on other" in result.err


def test_data_and_keys_of_the_task_file(watched: Taskrun) -> None:
    watched.write({"data.txt": "#TASKRUN ENCRYPT someone@example.org\n#TASKRUN STAGE-IN s3://bucket/x ./in/\n"
                               "#TASKRUN STAGE-OUT out/* remote:there/\n#TASKRUN STAGE-OUT out/* sftp://127.0.0.1/x/\ntrue\n"})  # fmt: skip
    result = seen(watched, "data.txt", "-s", "localhost:1")
    assert result.code == 0, result.err
    assert [line.split("\t")[0] for line in result.out.splitlines()].count("run") == 1
    watched.write({"data.txt": "#TASKRUN STAGE-IN x s3://bucket/\ntrue\n"})
    assert seen(watched, "data.txt", "-s", "localhost:1").code == 2


def test_a_stream_that_was_cut_off(watched: Taskrun) -> None:
    """Its last half line is not shown, and not cut off either."""
    sidecar = watched.folder / "one_run.json"
    values = json.loads(sidecar.read_bytes())
    sidecar.write_text(json.dumps(values | {"task_file": None, "stream_complete": False}))
    copy = watched.folder / "one_tasks.txt"
    copy.write_text("true\necho x > out.txt\nexit 3\nrm -rf tmp/")
    result = seen(watched, "-r", "one_status.txt", "--as-is")
    assert result.code == 0, result.err
    assert [line.split("\t")[0] for line in result.out.splitlines()] == ["skip"] * 3
    assert copy.read_text().endswith("tmp/")


def test_an_inherited_program_is_named_before_it_is_used(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "true\nexit 1\n"})
    assert result.code == 0
    (taskrun.folder / "elsewhere").mkdir()
    quiet = taskrun("-r", "one_status.txt")
    assert "inherited" not in quiet.err
    there = taskrun("-r", "../one_status.txt", cwd=taskrun.folder / "elsewhere")
    assert there.err.startswith(f"taskrun: inherited from one_run.json: runs in {taskrun.folder}\n")
    again = taskrun("tasks.txt", "-s", "localhost:1", "-p", "two", "--retire-cmd", "touch 'a b'", "--clean", "all")
    assert again.code == 0
    named = "taskrun: inherited from two_run.json: --retire-cmd 'touch '\"'\"'a b'\"'\"'', --clean all\n"
    for words in ((), ("--dry-run",)):
        assert taskrun("-r", "two_status.txt", *words).err.startswith(named)
    assert "inherited" not in taskrun("-r", "two_status.txt", "--retire-cmd", "true", "--clean", "keep").err
    assert "inherited" not in taskrun("-r", "two_status.txt", "-q").err


def test_no_program_of_a_path_was_started(watched: Taskrun) -> None:
    """Threads and libraries that start programs by themselves are not seen by the watch of Python."""
    seen(watched, "-r", "one_status.txt", "-R", "--clean", "all")
    assert not [path for path in watched.folder.iterdir() if path.name.startswith("started-")]
    assert os.access(Path(watched.folder, "bin/ssh"), os.X_OK)
