"""The comment of a job: how far the run is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harness import until

from taskrun.driver import comment
from taskrun.driver.account import Account
from taskrun.driver.comment import CLOSE_SECONDS, FIRST, PAUSE, Comment, text_of
from taskrun.engines.allocation import comment_of


class Place:
    """A scontrol of ours, and a clock."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, there: str = "") -> None:
        self.seconds = 100.0
        self.done = 0
        self.asked = folder / "asked"
        self.there = folder / "there"
        self.asked.touch()
        self.there.write_text(there)
        program = folder / "scontrol"
        program.write_text(
            f"""#!/bin/sh
            [ "$1" != update ] || {{ echo "$3" >> {self.asked}; echo "${{3#Comment=}}" > {self.there}; exit; }}
            test ! -e {folder}/slow || exec sleep 60
            echo "JobId=7 Command=/x WorkDir=/y Comment=$(cat {self.there})  StdErr=/z Power= " """
        )
        program.chmod(0o755)
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        self.said: list[str] = []
        self.comment = Comment(
            "7", lambda: text_of(Account(self.done, 1, 0, None, self.done + 1), 120), lambda _, text: self.said.append(text)
        )
        self.comment.now = lambda: self.seconds
        self.comment._due = self.seconds + FIRST

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        self.comment.step()
        if self.comment._writing is not None:
            self.comment._writing.join()

    def written(self) -> list[str]:
        return self.asked.read_text().splitlines()


def test_once_a_minute_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch)
    for _ in range(100):
        place.done += 1
        place.pass_by(1.0)
    assert place.written() == ["Comment=taskrun 10 done, 1 failed of 120", "Comment=taskrun 70 done, 1 failed of 120"]
    place.comment.close()
    assert place.written()[2:] == ["Comment=taskrun 100 done, 1 failed of 120"]


@pytest.mark.parametrize("there", ["mine", "taskrun 3/4, and then?"])
def test_somebody_elses_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    place = Place(tmp_path, monkeypatch)
    place.pass_by(FIRST)
    place.there.write_text(there)
    place.done = 5
    place.pass_by(PAUSE)
    place.comment.close()
    assert place.written() == ["Comment=taskrun 0 done, 1 failed of 120"]
    assert place.said == ["the comment of this job is somebody else's, and is left alone"]


def test_a_scontrol_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comment, "CLOSE_SECONDS", 0.5)
    place = Place(tmp_path, monkeypatch)
    (tmp_path / "slow").touch()
    began = time.monotonic()
    place.comment.close()
    assert time.monotonic() - began < CLOSE_SECONDS
    process = place.comment._process
    assert process is not None
    until(lambda: process.poll() is not None, 5, "it to be killed")
    assert place.written() == []


def test_words() -> None:
    assert text_of(Account(56, 1, 3, 60, 57), 120) == "taskrun 56 done, 1 failed, 3 skipped of 120"
    assert text_of(Account(57, 0, 0, None, 57), None) == "taskrun 57 done"
    assert comment.OURS.fullmatch("taskrun 57/120, 1 failed"), "an older taskrun's"
    assert comment_of("JobId=1 JobName=a Comment=x Command=/a b WorkDir=/c StdErr=/d") == ""
    assert comment_of("JobId=1 Command=/a WorkDir=/c Comment=taskrun 5/6, 1 failed  StdErr=/d Power= ") == "taskrun 5/6, 1 failed"
    assert comment_of("JobId=1 Command=(null) WorkDir=/c Comment=mine\n") == "mine"
