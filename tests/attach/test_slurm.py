"""Nodes of a SLURM job for a run that goes on, on a machine that is none of them."""

from __future__ import annotations

from collections import Counter

import pytest
from attach.meeting import Meeting
from harness import until
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


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_time_of_a_job_that_attached_is_changed(jobs: Jobs) -> None:
    """Its nodes get nothing that could not end there; the run goes on without them."""
    listen = ("-s", "localhost:1", "--listen", f"{jobs.cluster.machine}:0")
    meeting = Meeting(jobs.taskrun, "test -e go || sleep 1\n" * 70, *listen, "--task-time", "100", "--grace", "1")
    job = jobs.submit("-N1", "-n2", "--time=10", "--wrap", "exec taskrun attach run")
    until(lambda: len(jobs.records()) > 4, 60, "the first tasks")
    jobs.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
    assert job.wait(90) == "COMPLETED", job.output
    assert "taskrun: SLURM has changed the time of this job: it ends at 20" in job.output
    assert meeting.running.process.poll() is None, "the job left before the run was over"
    meeting.go()
    assert meeting.running.finish(90).code == 0
    records = jobs.records()
    assert len(records) == 70
    assert {each["ReturnCode"] for each in records} == {0}
    assert {each["Node"] for each in records} > {"node1"}
    assert jobs.nothing_runs()
