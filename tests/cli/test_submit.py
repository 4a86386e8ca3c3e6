"""`taskrun submit` without a SLURM: the script it writes, replaces or refuses to replace. (With a real one: tests/slurm/test_jobs.py)"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from harness import Result, Taskrun


@pytest.fixture
def submit(taskrun: Taskrun) -> Taskrun:
    programs = taskrun.folder / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text('#!/bin/sh\necho "$@" >> submitted\n')
    (programs / "sbatch").chmod(0o755)
    taskrun.env["PATH"] = f"{programs}:{os.environ['PATH']}"
    taskrun.write({"tasks.txt": "true\n"})
    return taskrun


def submitted(folder: Path) -> int:
    path = folder / "submitted"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_an_edited_script_is_kept(submit: Taskrun) -> None:
    script = submit.folder / "tasks.txt.sbatch"

    def again(*words: str) -> Result:
        return submit("submit", "tasks.txt", "-n", "4", *words)

    assert again().code == 0
    lines = script.read_text().splitlines(keepends=True)
    assert lines[2] == f"# taskrun submit: sha256 {hashlib.sha256(''.join(lines[:2] + lines[3:]).encode()).hexdigest()}\n"
    assert again("-t", "5").code == 0, "nobody has edited it"
    ours = script.read_text()
    assert "#SBATCH -t 5\n" in ours
    for edited, why in (
        (ours.replace("-t 5", "-t 6"), "was edited"),
        (ours + lines[2], "was edited"),
        ("#!/bin/sh\n", "has no checksum of taskrun"),
        ("".join(lines[:2] + lines[3:]), "has no checksum of taskrun"),
    ):
        script.write_text(edited)
        refused = again()
        advice = "submit it as it is with sbatch ./tasks.txt.sbatch, or replace it with --overwrite"
        assert (refused.code, refused.err) == (2, f"taskrun: tasks.txt.sbatch exists and {why}: {advice}\n")
        assert script.read_text() == edited
        assert again("--dry-run").code == 0
    assert submitted(submit.folder) == 2
    assert again("--overwrite").code == 0
    assert (submitted(submit.folder), "--overwrite" in script.read_text()) == (3, False)
    script.unlink()
    script.symlink_to("elsewhere")
    assert again("--overwrite").code == 2
    assert not (submit.folder / "elsewhere").exists()


def test_how_many_tasks_run_at_a_time(submit: Taskrun) -> None:
    for words, said in (
        ((), "without -n 1 task runs at a time; -n 20 lets 20 run, wherever there is room"),
        (("-N", "3", "--", "-t", "2"), "without -n 6 tasks run at a time, 2 on each of 3 nodes; -n 20 lets 20 run, wherever there is room"),
    ):
        assert submit("submit", "tasks.txt", *words).err == f"taskrun: {said}\n"
    assert submit("submit", "tasks.txt", "-n", "4").err == ""


def test_arrays_are_refused(submit: Taskrun) -> None:
    for words in (("--array=1-3",), ("-a", "1-3", "--dry-run")):
        refused = submit("submit", "tasks.txt", *words)
        assert (refused.code, submitted(submit.folder), (submit.folder / "tasks.txt.sbatch").exists()) == (2, 0, False)
        assert "\n  taskrun submit tasks.txt -- -p run\n  sbatch --array=1-3 --wrap 'exec taskrun attach run'\n" in refused.err
    assert submit("submit", "tasks.txt", "--array=1-3", "--", "--each-element").code == 0


def test_nothing_given(submit: Taskrun) -> None:
    assert submit("submit").code == 2
    assert submit("submit", "--help").code == 0
