"""The names of a run's files."""

from __future__ import annotations

import pytest

from taskrun.driver.files import run_name


@pytest.mark.parametrize(
    ("taskfile", "name"),
    [
        ("-", "stdin"),
        ("/dev/stdin", "stdin"),
        ("/dev/null", "stdin"),
        ("/dev/fd/3", "stdin"),
        ("/dev/fd/63", "stdin"),
        ("/proc/self/fd/63", "stdin"),
        ("/dev/../dev/fd/63", "stdin"),
        ("/dev/shm/tasks.txt", "tasks.txt"),
        ("/device/tasks.txt", "tasks.txt"),
        ("dev/null", "null"),
        ("in/tasks.txt", "tasks.txt"),
        ("./-", "-"),
    ],
)
def test_the_name_of_a_run(taskfile: str, name: str) -> None:
    assert run_name(taskfile) == name
