"""The summary: what was given up is a part of what has failed, and said apart."""

from __future__ import annotations

import pytest

from taskrun.errors import ExitCode
from taskrun.observers.summary import Ending, summary_lines

ENDING = Ending(ExitCode.OK, 16, 0, 3, 0, 19, 0, 8.25, "run_status.txt", [], 3, None, "", "", given_up=0)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, []),
        (1, ["taskrun: gave up on 1 task: its engine died three times while it ran alone"]),
        (2, ["taskrun: gave up on 2 tasks: their engine died three times while they ran alone"]),
    ],
)
def test_tasks_that_were_given_up(count: int, said: list[str]) -> None:
    lines = summary_lines(ENDING._replace(given_up=count))
    assert lines[0] == "taskrun: 16 tasks done, 3 failed in 8.2 s · run_status.txt"
    assert lines[1:-3] == said
    assert lines[-1] == "run again what is missing and what failed: taskrun -r run_status.txt -R"
