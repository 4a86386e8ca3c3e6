"""Asking SLURM when the job ends: seldom, and once more before something is done about it."""

from __future__ import annotations

import threading

from taskrun.driver.job_end import FIRST, LAST, USUAL, JobEnd
from taskrun.engines.controller import Unanswered


class Place:
    def __init__(self, deadline: float | None = None) -> None:
        self.now = 1000.0
        self.said = "JobState=RUNNING EndTime=5000"
        self.questions: list[float] = []
        self.moved: list[float] = []
        self.job = JobEnd("7", 5000.0, lambda: deadline, self.moved.append)
        self.job.now = lambda: self.now
        self.job._asked = self.now
        self.job.show = self.show

    def show(self, job: str) -> str:
        assert job == "7"
        self.questions.append(self.now)
        if not self.said:
            raise Unanswered("no")
        return self.said

    def pass_to(self, now: float) -> list[float]:
        """Seconds at which a question was asked, until then."""
        self.questions.clear()
        while self.now < now:
            self.now += 1.0
            self.job.step()
            asking = self.job._asking
            if asking is not None:
                asking.join()
        return self.questions


def test_what_has_changed_is_said_once() -> None:
    place = Place()
    assert place.pass_to(1110.0) == [1000 + FIRST, 1000 + 3 * FIRST, 1000 + 7 * FIRST]
    assert not place.moved
    place.said = "JobState=RUNNING EndTime=6000"
    assert place.pass_to(1300.0) == [1105 + USUAL, 1105 + 2 * USUAL, 1105 + 3 * USUAL]
    assert place.moved == [6000.0]
    place.said = "JobState=COMPLETING EndTime=5500"
    place.pass_to(1500.0)
    assert place.moved == [6000.0]


def test_a_job_that_was_suspended_has_another_end_before_anything_is_done_about_the_old_one() -> None:
    place = Place(1100.0)
    place.pass_to(1020.0)
    place.said = "JobState=RUNNING EndTime=6000"
    place.now = 1200.0
    place.job.step()
    assert place.moved == [6000.0]


def test_a_busy_controller_is_asked_less_and_less() -> None:
    place = Place()
    place.said = ""
    assert place.pass_to(3000.0) == [1015.0, 1045.0, 1105.0, 1225.0, 1465.0, 1945.0, 2545.0]


def test_once_more_before_the_end() -> None:
    place = Place(1100.0)
    assert place.pass_to(1100.0) == [1015.0, 1045.0, 1100.0 - LAST, 1100.0]


def test_a_warning_has_the_end_asked_at_once() -> None:
    place = Place()
    heard: list[float | None] = []
    place.job.on_warned = heard.append
    place.pass_to(1005.0)
    place.said = "JobState=RUNNING EndTime=1090"
    place.questions.clear()
    place.job.warned()
    assert place.job._asking is not None
    place.job._asking.join()
    assert place.questions == [1005.0]
    place.pass_to(1006.0)
    assert (heard, place.moved) == ([1090.0], [1090.0])
    place.said = ""
    place.job.warned()
    place.pass_to(1012.0)
    assert heard == [1090.0, 1090.0], "what is not answered has not changed"


def test_a_warning_where_no_end_is_known() -> None:
    place = Place()
    heard: list[float | None] = []
    place.job.on_warned = heard.append
    place.job.end = None
    place.said = "JobState=RUNNING EndTime=Unknown"
    place.job.warned()
    place.pass_to(1003.0)
    assert heard == [None]


def test_an_answer_to_a_warning_is_not_waited_for_longer_than_ten_seconds() -> None:
    place = Place()
    heard: list[float | None] = []
    place.job.on_warned = heard.append
    answers = threading.Event()

    def show(_: str) -> str:
        answers.wait(30)
        return "JobState=RUNNING EndTime=6000"

    place.job.show = show
    place.job.warned()
    for _ in range(12):
        place.now += 1.0
        place.job.step()
    assert heard == [5000.0]
    answers.set()
    place.pass_to(1014.0)
    assert place.moved == [6000.0]
