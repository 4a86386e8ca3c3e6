"""What is asked of SLURM's controller, with its answers given."""

from __future__ import annotations

import pytest

from taskrun.engines import controller

_LINE = "JobId=7 JobName=after JobState=COMPLETED UserId=me(1) GroupId=me(1) JobState={} Reason=None Command=JobState=FAILED"


@pytest.mark.parametrize(("state", "over"), [("RUNNING", False), ("COMPLETING", False), ("TIMEOUT", True), ("SPECIAL_EXIT", True)])
def test_whether_a_job_is_over(monkeypatch: pytest.MonkeyPatch, state: str, over: bool) -> None:
    """Its state is what SLURM says, not what the person has called the job."""
    monkeypatch.setattr(controller, "ask", lambda *_: _LINE.format(state))
    assert controller.is_over("7") is over
    assert not controller.is_over("interactive")


def test_a_controller_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> str:
        raise controller.Unanswered(said)

    monkeypatch.setattr(controller, "ask", ask)
    said = "Unable to contact slurm controller"
    assert not controller.is_over("7")
    said = "slurm_load_jobs error: Invalid job id specified"
    assert controller.is_over("7")
