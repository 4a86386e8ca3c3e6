"""Each fault of SLURM once, on a real cluster: each job is run, and resumed where SLURM has ended it, until all tasks are done.

    python tests/faults/soak_slurm.py            all of them
    python tests/faults/soak_slurm.py requeue    that one

Every task holds a lock that its child holds, too, in a folder that all nodes share: one that runs beside itself is found out.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.chain import Chain
from harness import MARK, Taskrun, environment, kill, processes, until
from slurm.jobs import Job, Jobs
from slurm_cluster import SlurmCluster

TASKS = 24
LENGTH = 1.0  # seconds
COMMAND = "exec taskrun tasks.txt -p run1 --lost-after 6 --grace 1"
NODES = ("-N3", "--no-kill", "-w", "node[1-3]")


class Night:
    """One job with its tasks."""

    def __init__(self, jobs: Jobs, tasks: int = TASKS, length: float = LENGTH) -> None:
        self.jobs = jobs
        self.cluster = jobs.cluster
        self.tasks = tasks
        self.chain = Chain(jobs.taskrun, tasks, length)
        self.chain.runs = 1

    def begin(self, *argv: str, command: str = COMMAND) -> Job:
        """The job, when some of its tasks have ended and others run."""
        job = self.jobs.submit(*argv, "--wrap", command)
        until(lambda: sum(note[0] == "end" for note in self.chain.notes()) >= 4, 60, "tasks to end")
        return job

    def again(self) -> Job:
        """Carried on by another job, when nothing of the first is left."""
        self.chain.runs += 1
        return self.jobs.submit("-N2", "--wrap", f"exec taskrun -r run{self.chain.runs - 1}_status.txt -p run{self.chain.runs}")

    def ends(self, job: Job, seconds: float = 90.0) -> None:
        state = job.wait(seconds)
        assert state == "COMPLETED", f"{state}\n{job.output}"
        self.jobs.sweep()
        assert "Traceback" not in job.output
        self.chain.check()


def node_down(night: Night) -> None:
    job = night.begin(*NODES)
    night.jobs.run("scontrol", "update", "NodeName=node3", "State=DOWN", "Reason=test")
    try:
        night.ends(job)
    finally:
        night.jobs.run("scontrol", "update", "NodeName=node3", "State=RESUME")


def node_without_power(night: Night) -> None:
    job = night.begin(*NODES)
    night.cluster.kill_node(2)
    night.ends(job)


def network_cut(night: Night) -> None:
    job = night.begin(*NODES)
    night.cluster.cut_node(2)
    night.ends(job)


def scancel(night: Night) -> None:
    job = night.begin("-N2")
    night.jobs.run("scancel", job.number)
    assert job.wait() in ("CANCELLED", "FAILED"), job.output
    night.ends(night.again())


def requeue(night: Night) -> None:
    """It goes on in the same file."""
    job = night.begin("-N2", "--requeue")
    night.jobs.run("scontrol", "requeue", job.number)
    until(lambda: "SLURM has started this job again" in job.output, 90, "the second start")
    night.ends(job)


def preemption(night: Night) -> None:
    job = night.begin("--partition=low", "-N2", "--requeue", "--no-kill")
    other = night.jobs.submit("-N3", "--exclusive", "--wrap", "true")
    assert other.wait(90) == "COMPLETED"
    until(lambda: "SLURM has started this job again" in job.output, 90, "the second start")
    night.ends(job)


def controller_away(night: Night) -> None:
    job = night.begin("-N2")
    with night.cluster.without_controller():
        until(lambda: sum(note[0] == "end" for note in night.chain.notes()) >= night.tasks - 4, 60, "most tasks to end")
    night.ends(job)


def controller_restarted(night: Night) -> None:
    job = night.begin("-N2")
    night.cluster.restart_controller()
    night.ends(job)


def time_limit(night: Night) -> None:
    """The tasks that do not fit are given back; another job runs them."""
    job = night.begin("-n1", "-w", "node1", "--time=1", command=f"{COMMAND} -t 1 --task-time 20")
    assert job.wait(150) in ("FAILED", "TIMEOUT"), job.output
    night.ends(night.again())


FAULTS: dict[str, Callable[[Night], None]] = {
    each.__name__: each
    for each in (
        node_down, node_without_power, network_cut, scancel, requeue, preemption, controller_away, controller_restarted, time_limit,
    )
}  # fmt: skip


def one(name: str, cluster: SlurmCluster) -> str:
    """'' or the error; what a failed one leaves stays."""
    folder = Path(tempfile.mkdtemp(prefix="n"))
    mark = uuid.uuid4().hex
    for each in ("home", "run", "tmp"):
        (folder / each).mkdir()
    taskrun = Taskrun(folder / "run", environment(folder / "home") | {MARK: mark, "TMPDIR": str(folder / "tmp")})
    error = ""
    try:
        FAULTS[name](Night(Jobs(cluster, taskrun)))
    except BaseException as problem:  # whatever it is, pytest's own failures too, it is told with its name
        if isinstance(problem, KeyboardInterrupt):
            raise
        error = f"{traceback.format_exc()}kept: {folder}\n"
    finally:
        kill(processes(mark))
        taskrun.close()
        cluster.reset()
    if not error:
        shutil.rmtree(folder)
    return error


def main() -> int:
    names = sys.argv[1:] or list(FAULTS)
    if unknown := set(names) - set(FAULTS):
        print(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    os.environ.setdefault(MARK, uuid.uuid4().hex)
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    failed = []
    cluster = SlurmCluster()
    try:
        for name in names:
            began = time.monotonic()
            error = one(name, cluster)
            if error:
                failed.append(name)
            print(f"{name}: {error or 'all is well'}, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        cluster.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
