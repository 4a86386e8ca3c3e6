"""Streams that end early, task files that are pipes, and bytes that are not UTF-8 everywhere at once."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import Result, Taskrun, until


def said(result: Result) -> str:
    return re.sub(r" in \d+\.\d s · ", " in N s · ", result.err)


@pytest.fixture
def shell(taskrun: Taskrun) -> Iterator[Taskrun]:
    """bash in the folder of `taskrun`; T is the command."""
    made = Taskrun(taskrun.folder, {**taskrun.env, "T": f"{shlex.quote(sys.executable)} -m taskrun"}, command=("/bin/bash", "-c"))
    yield made
    made.close()


def test_a_last_line_without_its_end_is_taken_and_said(shell: Taskrun) -> None:
    result = shell("printf 'true\\necho half' | $T - -s localhost:1 -p run")
    told = "taskrun: standard input ended within line 2, which has no line end: it is taken as it is; see that nothing of it is missing\n"
    assert (result.code, said(result)) == (0, told + "taskrun: 2 tasks done, none failed in N s · run_status.txt\n")
    assert result.sidecar("run")["stream_complete"] is True
    assert (shell.folder / "run_tasks.txt").read_text() == "true\necho half"
    again = shell("printf 'true\\necho half and all\\ntouch after\\n' | $T - -r run_status.txt -s localhost:1 -p two")
    assert again.code == 3
    assert again.err.startswith("taskrun: 1 task is not what run_status.txt has on record: nothing more is run\n  task 1\n")
    assert "nothing is left" not in again.err
    assert not (shell.folder / "after").exists()
    assert shell("printf 'true\\necho half and all\\n' | $T - -r run_status.txt --match command -p three").code == 0


@pytest.mark.parametrize("stdin", [b"true", b"# comment", b"#BARRIER"])
def test_one_line_without_its_end(taskrun: Taskrun, stdin: bytes) -> None:
    assert taskrun("-", "-s", "localhost:1", "-p", "run", stdin=stdin).code == 0


def stopped(taskrun: Taskrun, number: int = signal.SIGTERM) -> None:
    """A run whose stream had not ended: two whole lines were read of it, and the beginning of a third one."""
    running = taskrun.start("-", "-s", "localhost:1", "-p", "run", stdin=subprocess.PIPE)
    assert running.process.stdin is not None
    running.process.stdin.write(b"echo 1 >> ran\necho 2 >> ran\nrm -rf keep/temporary"[:-10])
    running.process.stdin.flush()
    until(lambda: (taskrun.folder / "ran").exists() and (taskrun.folder / "ran").read_text() == "1\n2\n", what="both tasks")
    until(lambda: (taskrun.folder / "run_status.txt").read_text().count("\n") == 2, what="their records")
    running.send(number)
    result = running.finish()
    if number == signal.SIGTERM:
        told = "the stream was not read to its end; give all of it again to go on: … | taskrun - -r run_status.txt\n"
        done = "taskrun: 2 tasks done, none failed in N s · run_status.txt\n"
        assert (result.code, said(result)) == (3, f"{done}taskrun: stopped: SIGTERM\n{told}")
    assert result.sidecar()["stream_complete"] is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_unended_stream_is_given_again(taskrun: Taskrun, number: int) -> None:
    (taskrun.folder / "keep").mkdir()
    stopped(taskrun, number)
    refused = taskrun("-r", "run_status.txt", "-p", "no")
    sentence = "run_status.txt is of a stream whose end was not read: give the whole stream again "
    assert (refused.code, refused.err.startswith(f"taskrun: {sentence}(generate | taskrun - -r ")) == (2, True)
    whole = b"echo 1 >> ran\necho 2 >> ran\necho 3 >> ran\n"
    result = taskrun("-", "-r", "run_status.txt", "-p", "two", stdin=whole)
    assert said(result).endswith("taskrun: 1 task done, 2 skipped, none failed in N s · two_status.txt\n")
    assert (taskrun.folder / "ran").read_text() == "1\n2\n3\n"
    sidecar = result.sidecar()
    assert (sidecar["stream_complete"], sidecar["contexts"][0]["hosts"]) == (True, {os.uname().nodename: 1}), "the slots of the first run"
    assert "nothing is left to run: 3 skipped" in taskrun("-r", "two_status.txt", "-p", "three").err


def test_as_is_never_runs_half_a_line(taskrun: Taskrun) -> None:
    (taskrun.folder / "keep").mkdir()
    stopped(taskrun)
    assert (taskrun.folder / "run_tasks.txt").read_bytes().endswith(b"\nrm -rf keep")
    result = taskrun("-r", "run_status.txt", "--as-is", "-p", "two")
    assert (result.code, said(result)) == (0, "taskrun: nothing is left to run: 2 skipped · two_status.txt\n")
    assert (taskrun.folder / "keep").exists()
    assert (taskrun.folder / "run_tasks.txt").read_text() == "echo 1 >> ran\necho 2 >> ran\n"
    assert taskrun("-r", "two_status.txt", "-p", "three").code == 0, "and its own resume needs no flag"
    whole = b"echo 1 >> ran\necho 2 >> ran\necho 3 >> ran\n"
    assert taskrun("-", "-r", "run_status.txt", "--append", stdin=whole).code == 0
    assert len(result.records("run")) == 3
    assert (taskrun.folder / "run_tasks.txt").read_bytes() == whole


def test_as_is_with_a_single_half_line(taskrun: Taskrun) -> None:
    running = taskrun.start("-", "-s", "localhost:1", "-p", "run", stdin=subprocess.PIPE)
    assert running.process.stdin is not None
    running.process.stdin.write(b"touch ra")
    running.process.stdin.flush()
    copy = taskrun.folder / "run_tasks.txt"
    until(lambda: copy.exists() and copy.stat().st_size == 8, what="the copy")
    running.send(signal.SIGKILL)
    running.finish()
    result = taskrun("-r", "run_status.txt", "--as-is", "-p", "two")
    assert (result.code, result.err) == (0, "taskrun: No tasks to run.\n")
    assert not (taskrun.folder / "ra").exists()


def test_a_stream_that_is_wrong_later_drains(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:1", "-p", "run", stdin=b"echo >> ran\n" * 3 + b"#TASKRUN BARIER\necho >> ran\n")
    assert result.code == 3
    assert "-:4:10: error: unknown directive `BARIER`" in result.err
    assert "give all of it again to go on: … | taskrun - -r run_status.txt\n" in result.err
    assert (taskrun.folder / "ran").read_text() == "\n" * 3


def test_a_stream_of_many_lines_is_not_held_in_memory(shell: Taskrun) -> None:
    """Twenty times what the driver may take of memory, read as it runs; it is ended after two seconds."""
    text = "yes \"true $(printf '%0200d' 1)\" | $T - -s localhost:2 -p run & sleep 3; p=$(pgrep -P $$ -f 'taskrun -' -n); "
    text += "awk '/VmHWM/ {print $2}' /proc/$p/status; kill -TERM $p; wait"
    result = shell(text)
    assert 0 < int(result.out) < 60_000


def test_a_task_file_that_is_a_pipe(shell: Taskrun) -> None:
    result = shell("mkfifo 'a b'; printf 'true\\ntest -e now\\n' > 'a b' & $T 'a b' -s localhost:1 -p run")
    assert result.code == 0
    assert (shell.folder / "run_tasks.txt").read_text() == "true\ntest -e now\n"
    (shell.folder / "now").touch()
    again = shell("$T -r run_status.txt -R -p two")
    assert said(again) == "taskrun: 1 task done, 1 skipped, none failed in N s · two_status.txt\n"
    assert shell("$T <(echo true) -s localhost:1 -p three").code == 0
    assert len(again.records("three")) == 1


NAME = os.fsdecode("t\xe9 \xff…".encode("latin-1", "ignore") + "日".encode() + b"\xff 'q\"")
LINE = b'printf "%s" "' + b"\xff\xe9" + b'"; printf "\xfe" >&2; printf %s "$V" > v; test -e now # \xff\n'


def test_bytes_that_are_not_utf8_everywhere(taskrun: Taskrun) -> None:
    folder = taskrun.folder / NAME
    folder.mkdir()
    taskrun.write({f"{NAME}/{NAME}": LINE})
    result = taskrun("-s", "localhost:1", "-p", NAME, "-l", NAME, "--", NAME, cwd=folder, env={"V": NAME})
    assert result.code == 0, result.err
    (row,) = result.records()
    assert (row["ReturnCode"], row["OutputSnippet"], row["ErrorSnippet"], row["Command"]) == (1, "'��'", "'�'", repr(LINE[:-1]))
    assert (folder / "v").read_bytes() == os.fsencode(NAME)
    assert os.fsdecode(result.sidecar()["cwd"]) == str(folder)
    (folder / "now").touch()
    status = folder / f"{NAME}_status.txt"
    again = taskrun("-r", status, "-R", "-p", f"{NAME}/2", env={"V": ""})
    assert (again.code, again.records()[0]["ReturnCode"]) == (0, 0), again.err
    third = taskrun("-r", f"{NAME}/2_status.txt", "-p", "3")
    assert (third.code, third.records()[0]["Flags"]) == (0, " OES")
    assert taskrun("check", NAME, cwd=folder).code == 0
    assert taskrun("--dry-run", "-s", "localhost:1", "--", NAME, cwd=folder).code == 0


def test_unknown_lines_run_as_with_disbatch(taskrun: Taskrun) -> None:
    lines = ("FOO", "X foo", "", "BARRIERxyz", "REPEAT x", "FOREACH * touch {}")
    text = (
        "\n".join(f"#DISBATCH{'' if line == 'X foo' else ' '}{line}" if line else "echo 1 >> ran" for line in lines) + "\necho 2 >> ran\n"
    )
    taskrun.write({"tasks.txt": text})
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "no").code == 2
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--ignore-unknown")
    assert result.code == 0
    assert result.err.count(": warning: ") == 5
    assert [(each["Flags"][0], each["TaskID"], each["LineNum"], each["Command"]) for each in result.records()] == [
        (" ", 0, 2, "#DISBATCHX foo"),
        (" ", 1, 3, "echo 1 >> ran"),
        ("B", 2, 4, "#DISBATCH BARRIERxyz"),
        (" ", 3, 7, "echo 2 >> ran"),
    ]
    again = taskrun("-r", "run_status.txt", "-p", "two")
    assert (again.code, "3 skipped" in again.err) == (0, True), "and the resume has the flag of the run"


def test_a_file_where_the_copy_of_the_lines_would_go_is_kept(taskrun: Taskrun) -> None:
    """It is somebody's: the run is refused, and what it has made so far goes, not that."""
    taskrun.write({"run_tasks.txt": "mine\n"})
    result = taskrun("-", "-s", "localhost:1", "-p", "run", stdin=b"touch ran\n")
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"taskrun: \S+/run_tasks.txt cannot be made: File exists\n", result.err), result.err
    assert (taskrun.folder / "run_tasks.txt").read_text() == "mine\n"
    assert [path.name for path in taskrun.folder.iterdir()] == ["run_tasks.txt"]
