"""Checkpointing as docs/slurm.md has it: what a stopped task has done is kept, and it is recorded as done once, when it is."""

from __future__ import annotations

import re

import pytest
from harness import ROOT, until
from slurm.jobs import Job, Jobs, check_once

STEPS = 12
#: What the test has the programs of the documentation note: the task and the step it has made.
NOTE_SH = 'step=$((step + 1)); echo "$1 $step" >> steps'
NOTE_PY = 'step += 1; print(sys.argv[1], step, file=open("steps", "a"), flush=True)'


def example(jobs: Jobs) -> None:
    """The files of the section Checkpointing: a block of text that begins with `# NAME` each."""
    text = (ROOT / "docs" / "slurm.md").read_text()
    section = text.partition("## Checkpointing\n")[2].partition("\n## ")[0]
    parts = re.split(r"(?m)^    # (\S+)\n", section)[1:]
    assert parts[::2] == ["tasks.txt", "count.sh", "count.py"]
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        lines = [line[4:] for line in block.split("\n") if line.startswith("    ") or not line]
        noted = "\n".join(lines).replace("step=$((step + 1))", NOTE_SH).replace("step += 1", NOTE_PY)
        (jobs.folder / name).write_text(noted)
    jobs.taskrun.env["STEPS"] = str(STEPS)


def steps(jobs: Jobs) -> list[str]:
    path = jobs.folder / "steps"
    return path.read_text().splitlines() if path.exists() else []


def goes_on(jobs: Jobs, job: Job, starts: int = 1) -> None:
    """Each of the two makes another step in this start of the job."""
    until(lambda: job.output.count("SLURM has started this job again") == starts - 1, 90, f"start {starts}")
    before = {name: sum(line.startswith(name) for line in steps(jobs)) for name in "ab"}
    until(lambda: all(sum(line.startswith(name) for line in steps(jobs)) > before[name] for name in "ab"), 90, "another step of each")


def check_work(jobs: Jobs, stops: int, prefix: str) -> None:
    """All steps were made, and those of each start but one were kept; each task is on record once, as done."""
    made = steps(jobs)
    for name in "ab":
        own = [int(line.split()[1]) for line in made if line.startswith(name)]
        assert set(own) == set(range(1, STEPS + 1))
        assert len(own) <= STEPS + stops, "a step may be made between the signal and the checkpoint, or be noted too late"
    assert [each["ReturnCode"] for each in jobs.records(prefix)] == [0, 0]
    check_once(jobs, 2, prefix)


def resume(jobs: Jobs) -> Job:
    return jobs.submit("-n2", "--wrap", "exec taskrun -r run_status.txt -p two")


@pytest.mark.timeout(120)
def test_a_job_that_is_cancelled(jobs: Jobs) -> None:
    example(jobs)
    job = jobs.submit("-n2", "--wrap", "exec taskrun tasks.txt -p run --grace 4")
    goes_on(jobs, job)
    jobs.run("scancel", job.number)
    job.wait()
    until(jobs.nothing_runs, what="the nodes to be empty")
    assert jobs.records() == [], "nothing is done"
    assert [(each["cause"], each["code"]) for each in jobs.events("attempt")] == [("preempted", 0)] * 2
    jobs.sweep()
    again = resume(jobs)
    assert again.wait() == "COMPLETED", again.output
    check_work(jobs, 1, "two")


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_job_that_is_requeued_preempted_and_told(jobs: Jobs) -> None:
    """It starts itself again each time, in its own file; the last time its steps are sent a signal, and not the job's script."""
    example(jobs)
    job = jobs.submit("-p", "low", "-n2", "--requeue", "--wrap", "exec taskrun tasks.txt -p run --grace 4 --requeue")
    goes_on(jobs, job)
    jobs.run("scontrol", "requeue", job.number)
    goes_on(jobs, job, 2)
    high = jobs.submit("-N3", "--exclusive", "--wrap", "true")
    assert high.wait(80) == "COMPLETED"
    goes_on(jobs, job, 3)
    jobs.run("scancel", "--signal=TERM", job.number)
    assert job.wait(110) == "COMPLETED", job.output
    jobs.sweep()
    check_work(jobs, 3, "run")
    causes = [(each["cause"], each["code"]) for each in jobs.events("attempt")]
    assert sorted(causes) == [("ok", 0)] * 2 + [("preempted", 0)] * 6
