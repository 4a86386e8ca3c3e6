from __future__ import annotations

from collections.abc import Callable

import pytest
from attach.meeting import Meeting
from harness import Taskrun
from slurm.jobs import jobs

__all__ = ["jobs"]  # a fixture that is written elsewhere


@pytest.fixture
def meet(taskrun: Taskrun) -> Callable[..., Meeting]:
    """`meet(lines, *options)`: a run with its door open."""

    def start(lines: str, *arguments: str) -> Meeting:
        return Meeting(taskrun, lines, *arguments)

    return start
