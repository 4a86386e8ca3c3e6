"""Data for nodes that share no folder with the driver: it goes through steps of the job."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attach.meeting import Meeting
from harness import Result, Running, path_without_slurm, until
from keyring import LAB, Keys
from slurm.jobs import Jobs


class Apart:
    """An allocation of node1 and node2, driven from a folder of this machine that they have not: there it is another one."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.cluster = jobs.cluster
        self.folder = self.cluster.local / "run"
        self.work = self.cluster.local / "work"
        self.safe = self.cluster.local / "safe"  # of this machine, not below the run's folder
        self.folder.mkdir()
        jobs.taskrun.folder = self.folder
        done = jobs.cluster.run("salloc", "--no-shell", "--no-kill", "-N2", "-w", "node1,node2", "--exclusive")
        found = re.search(r"Granted job allocation (\d+)", done.stderr)
        assert found, done.stderr
        self.job = found[1]
        jobs.taskrun.env |= {
            "SLURM_JOB_ID": self.job,
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_TASKS_PER_NODE": "2(x2)",
            "SLURM_JOB_CPUS_PER_NODE": "2(x2)",
        }

    def there(self, k: int, name: str = "") -> Path:
        """In the working directory of tasks on a node."""
        return self.cluster.path(k, self.work / name)

    def start(self, text: str, *flags: str, prefix: str = "run") -> Running:
        words = ("--workdir", str(self.work), "--settle", "0.5", "--no-retire", *flags)
        return self.jobs.taskrun.start("tasks.txt", "-p", prefix, *words, files={"tasks.txt": text})

    def close(self) -> None:
        self.cluster.run("scancel", self.job)
        shutil.rmtree(self.folder)
        shutil.rmtree(self.safe, ignore_errors=True)


@pytest.fixture
def apart(jobs: Jobs) -> Iterator[Apart]:
    made = Apart(jobs)
    yield made
    made.close()


def transfers(result: Result, way: str) -> list[dict[str, Any]]:
    return [each for each in result.events("transfer") if (each["way"], each["cause"], each.get("how")) == (way, "ok", "moved")]


def fetched(events: Path) -> int:
    """Inputs of tasks that a run which still goes has on record: what a driver is killed over before that, no resume knows of."""
    lines = events.read_bytes().split(b"\n")[:-1]
    return sum(b'"way":"in"' in line and b'"id":null' not in line and b'"cause":"ok"' in line for line in lines)


#: Inputs are awaited by all, by each engine and by each task; outputs of the run are encrypted, and fetched as they are complete.
EVERY_SCOPE = """\
#TASKRUN STAGE-IN ENGINE ref/ ref/
#TASKRUN STAGE-IN TASK 'in/ä $b'$TASKRUN_REPEAT_INDEX work/
#TASKRUN STAGE-OUT TASK done/$TASKRUN_REPEAT_INDEX* {safe}/done/
#TASKRUN ENCRYPT {lab}
#TASKRUN STAGE-OUT all/* {safe}/all/
#TASKRUN REPEAT 6 n=$TASKRUN_REPEAT_INDEX; mkdir -p done all; until [ -e {go} -o $n -lt 3 ]; do sleep 0.1; done; \
cat ref/big work/*$n > "done/$n "; hostname > all/.$n; mv all/.$n all/$n
"""


@pytest.mark.timeout(150)
def test_every_scope_with_a_driver_that_is_killed(apart: Apart, keys: Keys) -> None:
    apart.jobs.taskrun.env["GNUPGHOME"] = str(keys.home)
    big = os.urandom(8 << 20)
    apart.jobs.taskrun.write({"ref/big": big, **{f"in/ä $b{n}": b"%d" % n for n in range(6)}})
    text = EVERY_SCOPE.format(go=apart.cluster.local / "go", safe=apart.safe, lab=LAB)
    running = apart.start(text)
    arrived = [apart.safe / name for n in range(3) for name in (f"all/{n}.gpg", f"done/{n} ")]
    until(lambda: all(path.exists() for path in arrived), 60, "outputs of the first tasks, while others run")
    # a node on which no task has succeeded yet gets nothing ahead of its slots: the last one may still be to come
    until(lambda: fetched(apart.folder / "run_events.jsonl") >= 5, 30, "the inputs of all that run")
    assert not (apart.safe / "all/3.gpg").exists()
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    until(apart.jobs.nothing_runs, 30, "the end of what it ran: it must not write what the resume writes, too")
    for k in (1, 2):
        apart.cluster.path(k, apart.cluster.local / "go").touch()
    result = apart.start(text, "-r", "run_status.txt", "--clean", "output", prefix="again").finish(60)
    assert result.code == 0, result.err
    assert [(apart.safe / f"done/{n} ").read_bytes() == big + b"%d" % n for n in range(6)] == [True] * 6
    ran = {keys.gpg("--decrypt", str(apart.safe / f"all/{n}.gpg")) for n in range(6)}
    assert ran == {"node1\n", "node2\n"}
    assert {each["ReturnCode"] for each in result.records()} == {0}
    assert {each["verified"] for each in transfers(result, "out")} == {"sha256"}
    assert "ref/big" not in " ".join(each["dest"] for each in transfers(result, "in")), "it was there already"
    for k in (1, 2):
        assert not [path for path in apart.there(k).rglob("*") if path.is_file()]
    found = json.loads(result.path("manifest.json").read_text("ascii"))
    assert {each["source"].split("/")[2] for each in found["outputs"]} == {"node1", "node2"}


@pytest.mark.timeout(100)
def test_a_node_without_a_server_for_file_transfers(apart: Apart) -> None:
    """It is said, and the others do the work. With rclone there or not: nobody asks for it where no data goes to a store."""
    apart.cluster.exec(1, "mount", "--bind", "/dev/null", "/usr/lib/openssh/sftp-server")
    try:
        apart.jobs.taskrun.write({"in": "x\n"})
        text = "#TASKRUN STAGE-IN TASK in work/\n#TASKRUN STAGE-OUT all all/\n#TASKRUN REPEAT 3 cat work/in; hostname | tee all\n"
        result = apart.start(text, "--stage-on-engine").finish(60)
    finally:
        apart.cluster.exec(1, "umount", "/usr/lib/openssh/sftp-server")
    assert result.code == 0, result.err
    assert {each["OutputSnippet"] for each in result.records()} == {repr("x\nnode2\n")}
    assert (apart.folder / "all/all").read_text() == "node2\n"
    assert "node1: no data can be moved there: there is no sftp-server on this host: install openssh-sftp-server" in result.err


@pytest.mark.timeout(150)
def test_a_job_that_attaches_to_a_run_elsewhere(jobs: Jobs) -> None:
    """Its nodes share no folder with the run: data goes through who attached them, on node1, from there by steps of its job."""
    local, work = jobs.cluster.local, jobs.cluster.local / "work"
    folder = local / "run"
    folder.mkdir()
    env, jobs.taskrun.env = jobs.taskrun.env, {**jobs.taskrun.env, "PATH": path_without_slurm()}
    jobs.taskrun.folder = folder
    try:
        big = os.urandom(4 << 20)
        text = (
            "#TASKRUN STAGE-IN ENGINE ref/ ref/\n#TASKRUN STAGE-OUT TASK done/$TASKRUN_REPEAT_INDEX done/\n#TASKRUN STAGE-OUT all/* all/\n"
            "#TASKRUN REPEAT 6 n=$TASKRUN_REPEAT_INDEX; mkdir -p done all; cp ref/big done/$n; hostname > all/$n; sleep 1\n"
        )
        jobs.taskrun.write({"ref/big": big})
        meeting = Meeting(jobs.taskrun, text, "-S", "--listen", f"{jobs.cluster.machine}:0", "--settle", "0.5")
        assert jobs.taskrun("attach", "run", "--invite", str(jobs.folder / "friend.json")).code == 0
        jobs.taskrun.env = env
        command = f"cd {local} && exec taskrun attach {jobs.folder}/friend.json --workdir {work}"
        job = jobs.submit("-N2", "-n4", "--chdir=/", "--wrap", command)
        result = meeting.running.finish(90)
        assert result.code == 0, result.err
        assert job.wait() == "COMPLETED", job.output
        assert [(folder / f"done/{n}").read_bytes() == big for n in range(6)] == [True] * 6
        assert {(folder / f"all/{n}").read_text() for n in range(6)} == {"node1\n", "node2\n"}
        assert {each["verified"] for each in transfers(result, "in")} == {"sha256"}
        assert jobs.nothing_runs()
    finally:
        shutil.rmtree(folder)
