"""What options of sbatch ask for."""

from __future__ import annotations

import pytest

from taskrun.cli.submit import grouped
from taskrun.engines.job_request import at_a_time, is_array


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "1 task runs at a time; -n 20"),
        ("-t 4:00:00", "1 task runs at a time; -n 20"),
        ("-N2", "2 tasks run at a time, 1 on each of 2 nodes; "),
        ("--nodes 2 --ntasks-per-node=3", "6 tasks run at a time, 3 on each of 2 nodes; "),
        ("--ntasks-per-node 3", "3 tasks run at a time; "),
        ("-N 2-4", "1 task runs at a time on each of 2-4 nodes; "),
        ("-N2 --exclusive", "one task runs at a time on every core of each of 2 nodes; "),
        ("--exclusive -c 4", "one task runs at a time on every 4 cores of the node; "),
        ("--gpus=2 --ntasks-per-gpu=1", "as many tasks run at a time as the job has GPUs, "),
        ("-n 4", ""),
        ("-n4", ""),
        ("--ntasks=4 -N2", ""),
    ],
)
def test_tasks_at_a_time(options: str, said: str) -> None:
    assert at_a_time(grouped(options.split()))[: len(said) or None] == said


def test_options_of_taskrun_count() -> None:
    assert at_a_time(grouped(["-N2"]), slots=8).startswith("16 tasks run at a time, 8 on each of 2 nodes; ")
    assert at_a_time([], fill=True).startswith("one task runs at a time on every core of the node; ")


def test_arrays() -> None:
    for options in ("--array=1-3", "--array 1-3", "-a 1-3", "-a1-3", "--arr=1"):
        assert is_array(grouped(options.split())), options
    for options in ("-n 3", "--account=a", "-A a", "--acctg-freq=1"):
        assert not is_array(grouped(options.split())), options
