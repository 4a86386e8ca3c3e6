"""Two of the faults of soak_slurm.py; most others have tests of their own in tests/slurm/test_faults.py."""

from __future__ import annotations

import pytest
from faults.soak_slurm import FAULTS, Night
from slurm.jobs import Jobs, jobs

__all__ = ["jobs"]  # a fixture that is written elsewhere


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "tasks", "length"), [("scancel", 10, 0.5), ("controller_restarted", 20, 2.0)])
def test_a_fault(jobs: Jobs, name: str, tasks: int, length: float) -> None:
    FAULTS[name](Night(jobs, tasks, length))
