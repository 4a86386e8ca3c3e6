"""Jobs of the tests in this folder, and engines in an allocation that is theirs.

    def test_something(jobs):
        job = jobs.submit("-n", "4", "taskrun", "tasks.txt", "-p", "run", files={"tasks.txt": "hostname\n"})
        assert job.wait() == "COMPLETED"

What is submitted is `taskrun` as pip makes it: a script of Python.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import Record, Result, Running, Taskrun, read_status, until
from slurm_cluster import SlurmCluster

PROGRAM = """#!{python}
import sys

sys.path.insert(0, {root!r})
from taskrun.cli.main import main

sys.exit(main())
"""


class Job:
    """A job that was submitted."""

    def __init__(self, cluster: SlurmCluster, number: str, output: Path) -> None:
        self.cluster = cluster
        self.number = number
        self._output = output

    @property
    def state(self) -> str:
        """'' when SLURM has forgotten it. A controller that does not answer is asked again."""
        while (done := self.cluster.run("scontrol", "show", "job", self.number)).returncode and "Invalid job id" not in done.stderr:
            time.sleep(0.2)
        found = re.search(r"JobState=(\S+)", done.stdout)
        return found[1] if found else ""

    @property
    def output(self) -> str:
        """What it has printed, on stdout and stderr."""
        return self._output.read_text() if self._output.exists() else ""

    def wait(self, seconds: float = 50.0) -> str:
        """Its last state."""
        going = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "PREEMPTED", "REQUEUED")
        end = time.monotonic() + seconds
        while (state := self.state) in going:
            if time.monotonic() > end:
                pytest.fail(f"job {self.number} is {state} after {seconds:g} s\n{self.output}")
            time.sleep(0.2)
        return state


class Jobs:
    """Submits from the test's folder."""

    def __init__(self, cluster: SlurmCluster, taskrun: Taskrun) -> None:
        self.cluster = cluster
        self.taskrun = taskrun
        self.folder = taskrun.folder
        programs = self.folder / "programs"
        programs.mkdir()
        (programs / "taskrun").write_text(PROGRAM.format(python=sys.executable, root=str(Path(__file__).resolve().parents[2])))
        (programs / "taskrun").chmod(0o755)
        taskrun.env.update(cluster.env, PATH=f"{programs}:{cluster.env['PATH']}")
        self.count = 0

    def run(self, *argv: str, timeout: float = 50.0) -> Any:
        return self.cluster.run(*argv, cwd=self.folder, env=self.taskrun.env, timeout=timeout)

    def submit(self, *argv: str, files: Mapping[str, str] | None = None) -> Job:
        """sbatch with these arguments."""
        self.taskrun.write(files or {})
        self.count += 1
        output = self.folder / f"job{self.count}.out"
        done = self.run("sbatch", "--parsable", f"--output={output}", "--open-mode=append", *argv)
        assert done.returncode == 0, done.stderr
        return Job(self.cluster, done.stdout.strip(), output)

    def records(self, prefix: str = "run") -> list[Record]:
        return read_status(self.folder / f"{prefix}_status.txt")

    def events(self, kind: str, prefix: str = "run") -> list[Record]:
        """None as long as there is no such file."""
        if not (self.folder / f"{prefix}_events.jsonl").exists():
            return []
        return Result(0, "", "", self.folder, prefix).events(kind)

    def log(self, prefix: str = "run") -> str:
        return (self.folder / f"{prefix}_driver.log").read_text()

    def sweep(self) -> None:
        """What agents that SLURM has killed could not remove."""
        for folder in Path(self.taskrun.env["TMPDIR"]).glob("taskrun-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def until(self, condition: Callable[[], Any], seconds: float = 30.0, what: str = "it") -> Any:
        return until(condition, seconds, what)

    def nothing_runs(self) -> bool:
        return not any(self.cluster.processes(int(name.removeprefix("node"))) for name in self.cluster.names)


@pytest.fixture
def jobs(slurm_cluster: SlurmCluster, taskrun: Taskrun) -> Jobs:
    return Jobs(slurm_cluster, taskrun)


#: Notes when it starts and ends, which tells whether two attempts of a task overlapped.
NOTED = 'echo "start $TASKRUN_TASKID $(date +%s.%N)" >> notes; {}; echo "end $TASKRUN_TASKID $(date +%s.%N)" >> notes'


def check_once(jobs: Jobs, tasks: int, prefix: str = "run") -> None:
    """Every task has ended once on record, and no two attempts of one ran at a time."""
    assert sorted(each["TaskID"] for each in jobs.records(prefix) if each["Flags"][3] == " ") == list(range(tasks))
    ended: dict[str, float] = {}
    for attempt in jobs.events("attempt", prefix):
        if "per_engine" in attempt or attempt["cause"] == "engine-lost":  # of which nobody knows the times
            continue
        start = float(attempt["start"])
        assert start >= ended.get(attempt["id"], 0.0), f"task {attempt['id']}: two attempts at a time"
        ended[attempt["id"]] = float(attempt["end"])


class SlurmPlace:
    """One engine in a job step on node1, driven from this machine: what tests/ssh/place.py is for the other ways to reach one."""

    reach = "slurm"
    node = "node1"
    hosts = None
    remote = False  # tasks have the environment of the driver

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.taskrun = jobs.taskrun
        self.folder = jobs.folder
        done = jobs.run("salloc", "--no-shell", "--no-kill", "-N1", "-w", self.node, "--exclusive")
        found = re.search(r"Granted job allocation (\d+)", done.stderr)
        assert found, done.stderr
        self.job = found[1]
        self.taskrun.env |= {
            "SLURM_JOB_ID": self.job,
            "SLURM_JOB_NODELIST": self.node,
            "SLURM_TASKS_PER_NODE": "8",
        }

    def start(self, text: str | bytes, *flags: str, slots: int = 2, prefix: str = "run", env: Mapping[str, str] | None = None) -> Running:
        self.taskrun.env["SLURM_JOB_CPUS_PER_NODE"] = str(slots)  # with a core each, as elsewhere
        return self.taskrun.start("tasks.txt", "-p", prefix, *flags, files={"tasks.txt": text}, env=env)

    def __call__(self, text: str | bytes, *flags: str, slots: int = 2, prefix: str = "run", env: Mapping[str, str] | None = None) -> Result:
        return self.start(text, *flags, slots=slots, prefix=prefix, env=env).finish(40)

    def read(self, name: str) -> str:
        """A file that a task wrote, '' as long as there is none."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return ""

    def nothing_runs(self) -> bool:
        return self.jobs.nothing_runs()

    def close(self) -> None:
        self.jobs.cluster.run("scancel", self.job)


@pytest.fixture
def place(jobs: Jobs) -> Any:
    made = SlurmPlace(jobs)
    yield made
    made.close()
