"""Nodes of a SLURM job for a run that goes on, on a machine that is none of them."""

from __future__ import annotations

from collections import Counter

from attach.meeting import Meeting
from slurm.jobs import Jobs


def test_a_job_brings_its_nodes(jobs: Jobs) -> None:
    meeting = Meeting(
        jobs.taskrun,
        "echo $SLURM_CPUS_PER_TASK $TASKRUN_ENGINE_RANK >> seen; sleep 0.3\n" * 12,
        "-S",
        "--listen",
        f"{jobs.cluster.machine}:0",
    )
    job = jobs.submit("-N2", "-n4", "--ntasks-per-node", "2", "--wrap", "exec taskrun attach run")
    assert meeting.running.finish(50).code == 0
    assert job.wait() == "COMPLETED", job.output
    records = jobs.records()
    assert Counter(each["Node"] for each in records).keys() == {"node1", "node2"}
    assert len(records) == 12
    assert {line.split()[0] for line in (jobs.folder / "seen").read_text().splitlines()} == {"1"}
    assert "is over: the run has ended" in job.output
    assert jobs.nothing_runs()
