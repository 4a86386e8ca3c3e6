"""Elements of job arrays: which may run their task file."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.driver import job_array
from taskrun.engines import controller
from taskrun.errors import Refused
from taskrun.options import parse

ELEMENT = {
    "SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "4", "SLURM_ARRAY_TASK_COUNT": "4",
}  # fmt: skip


def refused(environ: dict[str, str], *argv: str) -> str:
    taskfile, options = parse(list(argv), {})
    try:
        job_array.check(taskfile, options, environ)
    except Refused as error:
        return str(error)
    return ""


@pytest.fixture
def element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(controller, "show_job", lambda job: f"JobId={job} ArrayJobId=17 ArrayTaskId=3 JobName=x")
    folder = tmp_path / "3"  # a number in the name of a folder where the array was submitted says nothing
    folder.mkdir()
    monkeypatch.chdir(folder)
    return {**ELEMENT, "SLURM_SUBMIT_DIR": str(folder)}


def test_the_commands_that_work_are_named(element: dict[str, str]) -> None:
    said = refused(element, "tasks.txt", "-p", "run_3")
    assert said.startswith("each of the 4 elements of job array 17 would run the whole of tasks.txt; ")
    assert "\n  sbatch --wrap 'exec taskrun tasks.txt -p run'\n  sbatch --array=1-4 --wrap 'exec taskrun attach run'\n" in said
    for argv in (["tasks_30.txt"], ["-"], ["-r", "run_status.txt"], ["3/../tasks.txt"], ["tasks.txt", "--dry-run"]):
        assert refused(element, *argv), argv


def test_what_is_the_elements_own_runs(element: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in (
        ["tasks_3.txt"],
        ["tasks_003.txt"],
        ["part3/tasks.txt"],
        ["tasks.txt", "--each-element"],
        ["-r", "run_3_status.txt"],
        ["-r", "run_status.txt", "--append"],
    ):
        assert not refused(element, *argv), argv
    Path("element_3").mkdir()
    monkeypatch.chdir("element_3")
    assert not refused(element, "tasks.txt"), "the script has entered a folder of its own"


def test_what_is_no_element_runs(element: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = {**element, "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "3"}
    assert not refused(one, "tasks.txt")
    assert not refused({**element, "TASKRUN_ATTEMPT": "x.1.1"}, "tasks.txt"), "a task"
    monkeypatch.setattr(controller, "show_job", lambda job: f"JobId={job} JobName=x ArrayJobId=17")
    assert not refused(element, "tasks.txt"), "a job that was submitted in an element inherits its variables"

    def unanswered(_: str) -> str:
        raise controller.Unanswered("busy")

    monkeypatch.setattr(controller, "show_job", unanswered)
    assert refused(element, "tasks.txt")
