"""A command line that is typed wrong: one sentence that names the place and the next step, exit 2, and no file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from harness import Taskrun

LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tasks.txt", "--fail-fst"), "unrecognized arguments: --fail-fst; did you mean --fail-fast? (see taskrun --help)"),
        (("tasks.txt", "--stater=builtin"), "unrecognized arguments: --stater=builtin; did you mean --starter? (see taskrun --help)"),
        (("tasks.txt", "--xyzzy"), "unrecognized arguments: --xyzzy (see taskrun --help)"),
        (("chekc", "tasks.txt"), "chekc: no such file; did you mean the command `taskrun check`?"),
        (("",), "which task file? `taskrun tasks.txt`, `taskrun -` for standard input, `taskrun -r STATUS` to carry on"),
        (("check", "-z", "tasks.txt"), "unrecognized arguments: -z (see taskrun check --help)"),
        (("tasks.txt", "--grace", "5x"), "argument --grace: `5x` is no length of time as 90s, 5m or 2h (see taskrun --help)"),
        (("tasks.txt", "-C", "-2"), "argument -C/--context-task-limit: `-2` is no whole number from 0 on (see taskrun --help)"),
        (("tasks.txt", "-c", "two"), "argument -c/--cpusPerTask: `two` is no number (see taskrun --help)"),
        (("tasks.txt", "--lost-after", "0"), "argument --lost-after: `0` is no length of time from 1s on (see taskrun --help)"),
        (("tasks.txt", "-s", ":4"), "-s :4: the host is missing; write localhost:4 for four cores of this machine"),
        (("tasks.txt", "-s", "localhost:"), "-s localhost:: the number of cores is missing; write localhost:4 for four"),
        (("tasks.txt", "-p", LONG), f"-p {LONG}: File name too long"),
        (("-r", "gone_status.txt", "-R"), "{folder}/gone_status.txt cannot be read: No such file or directory"),
        (("tasks.txt", "-R"), "-R means nothing without -r: write -r STATUS -R"),
        (("tasks.txt", "--restarts", "0"), "--restarts means nothing without --requeue: write --requeue --restarts 0"),
        (("tasks.txt", "--kvsserver"), "there is no key-value server in taskrun: engines join with -s"),
    ],
)  # fmt: skip
def test_it_is_refused_in_a_sentence(taskrun: Taskrun, words: tuple[str, ...], told: str) -> None:
    where = () if "-s" in words or "check" in words or "-r" in words else ("-s", "localhost:1")
    result = taskrun(*words, *where, files={"tasks.txt": "true\n"})
    assert (result.code, result.out, result.err) == (2, "", f"taskrun: {told.format(folder=taskrun.folder)}\n")
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]


@pytest.mark.parametrize(("name", "told"), [("_run.json", "cannot be written"), ("_events.jsonl", "cannot be opened for writing")])
def test_a_file_that_cannot_be_made_leaves_no_others(taskrun: Taskrun, name: str, told: str) -> None:
    (taskrun.folder / f"run{name}").mkdir()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true\n"})
    assert (result.code, result.err) == (2, f"taskrun: {taskrun.folder}/run{name} {told}: Is a directory\n")
    assert sorted(path.name for path in taskrun.folder.iterdir()) == [f"run{name}", "tasks.txt"]


def test_a_path_that_a_shell_would_split_is_quoted_where_it_is_to_be_typed(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "my run", files={"tasks.txt": "true\n"})
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "my run")
    status = f"{taskrun.folder}/my run_status.txt"
    assert result.err == f"taskrun: {status} exists: -r '{status}' carries on from it, with --append in the same file; or give another -p\n"


def test_names_that_no_terminal_can_show_are_escaped_in_the_summary(taskrun: Taskrun) -> None:
    name = os.fsdecode(b"new\nline \xff")
    result = taskrun(name, "-s", "localhost:1", "-p", f"{name}.run", files={name: "true\n"})
    assert result.code == 0
    assert result.err.endswith(" · $'new\\012line \\377.run_status.txt'\n")


@pytest.mark.parametrize("words", [("tasks.txt", "--dry-run"), ("check", "tasks.txt")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_said(taskrun: Taskrun, words: tuple[str, ...], unbuffered: str) -> None:
    taskrun.write({"tasks.txt": "true\n"})
    where = ("-s", "localhost:1") if words[0] != "check" else ()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*taskrun.command, *words, *where],
            cwd=taskrun.folder, check=False, env={**taskrun.env, "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.decode().endswith("taskrun: standard output: No space left on device\n")
    assert b"Traceback" not in done.stderr
