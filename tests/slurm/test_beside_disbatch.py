"""disBatch and taskrun in the same allocations: the same slots, the same records."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from golden.test_golden import CASES, _masked
from harness import Taskrun
from slurm.jobs import Jobs
from slurm_cluster import SlurmCluster

CASE = CASES / "28_slurm"
#: Variables of steps that differ from those of the job. (6: SLURM itself gives no node of four cores two tasks of four.)
VARIABLES = {4: "CUDA_VISIBLE_DEVICES=0,1", 6: "SLURM_CPUS_PER_TASK=4 SLURM_NTASKS_PER_NODE=2"}


@pytest.fixture(scope="module")
def _uneven() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(7, "8,8,4,5,5,5,2")
    yield cluster
    cluster.close()


@pytest.fixture
def uneven(_uneven: SlurmCluster, taskrun: Taskrun) -> Iterator[Jobs]:
    yield Jobs(_uneven, taskrun)
    assert not _uneven.reset()


def test_as_it_is_typed(uneven: Jobs) -> None:
    """The program itself submitted, and with --wrap. Each of the 20 slots has one of the 20 tasks."""
    text = "mkdir -p $TASKRUN_JOBID; cd $TASKRUN_JOBID; touch $TASKRUN_TASKID; until [ $(ls | wc -l) = 20 ]; do sleep 0.2; done\n" * 20
    for command in (["taskrun", "tasks.txt"], ["--wrap", "exec taskrun tasks.txt"]):
        job = uneven.submit("-n", "20", "--ntasks-per-node", "5", *command, files={"tasks.txt": text})
        assert job.wait() == "COMPLETED", job.output
        records = uneven.records(f"tasks.txt_{job.number}")
        assert sorted(Counter(each["Node"] for each in records).values()) == [5] * 4


def lines(status: Path) -> list[str]:
    """Of a status file, but for times, pids and nodes."""
    header, found = _masked(status)
    assert not header
    return sorted(found)


@pytest.mark.timeout(120)
def test_the_recorded_case_in_a_job_of_the_same_shape(uneven: Jobs) -> None:
    """Case 28: nodes of 8, 8 and 4 cores with 2, 2 and 1 tasks. What disBatch told srun then says how many slots and cores each had."""
    shutil.copyfile(CASE / "tasks", uneven.folder / "tasks")
    steps = range(1, 9)
    script = [
        "#!/bin/bash",
        "unset CUDA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL  # there were none",
        "env | grep -E '^SLURM_(JOB_CPUS|TASKS)_PER_NODE' | sort",
    ]
    for step in steps:
        command = (CASE / f"step{step}.cmd").read_text().strip().replace("disBatch", f"{VARIABLES.get(step, '')} taskrun", 1)
        script.append(command.replace("; sort", f"; echo exit {step} $?; sort"))
    uneven.taskrun.write({"job": "\n".join(script) + "\n"})
    job = uneven.submit("-N3", "-n5", "--exclusive", "-w", "node[1-3]", "job")
    assert job.wait(90) == "COMPLETED", job.output
    assert job.output.startswith("SLURM_JOB_CPUS_PER_NODE=8(x2),4\nSLURM_TASKS_PER_NODE=2(x2),1\n")
    nodes = {"vm": "node1", "w01": "node2", "w02": "node3"}
    for step in steps:
        assert f"exit {step} {(CASE / f'step{step}.exit').read_text().strip()}\n" in job.output
        assert lines(uneven.folder / f"step{step}_status.txt") == lines(CASE / f"step{step}_status.txt")
        if step == 8:  # -s wins over SLURM
            assert {each["Node"] for each in uneven.records("step8")} == {"node1"}
            continue
        told = re.findall(r"'-n', '(\d+)', '-c', '(\d+)', '-w', '(\w+)'", (CASE / f"step{step}.fake").read_text())
        expected = {nodes[node]: (int(slots), int(cores)) for slots, cores, node in told}
        joined = {each["rank"]: each for each in uneven.events("engine", f"step{step}") if each["what"] == "joined"}
        assert {each["host"]: each["slots"] for each in joined.values()} == {host: slots for host, (slots, _) in expected.items()}
        for line in (uneven.folder / f"w_step{step}").read_text().splitlines():
            rank, slot, *rest = line.split()
            slots, cores = expected[joined[int(rank)]["host"]]
            assert int(slot) < slots
            assert rest == [f"cores={cores}", f"SLURM_CPUS_PER_TASK={cores}", "LOCALID=0"]


#: Each of the 17 slots has one of the first 17 tasks.
TASKS = """\
#DISBATCH PERENGINE START echo "$(hostname) begins"
#DISBATCH PERENGINE STOP echo "$(hostname) ends"
#DISBATCH PREFIX export D=all_$DISBATCH_JOBID;
#DISBATCH SUFFIX ; echo $? $DISBATCH_REPEAT_INDEX
#DISBATCH REPEAT 17 start 3 mkdir -p $D; touch $D/$(hostname)_${DISBATCH_CYLINDER_RANK}_$DISBATCH_CORES_PER_TASK; \
until [ $(ls $D | wc -l) = 17 ]; do sleep 0.2; done
exit 3
echo error >&2; false
printf '%060d' 7
kill -9 $$
#DISBATCH BARRIER
exit 120
echo last
"""


@pytest.mark.timeout(120)
def test_side_by_side(uneven: Jobs, record_property: Callable[[str, object], None]) -> None:
    """The same file in one job of nodes with 5, 5, 5 and 2 tasks, one after the other."""
    uneven.taskrun.write({"tasks": TASKS})
    theirs = f"{sys.executable} -m disbatch"
    job = uneven.submit("-N4", "-n17", "-w", "node[4-7]", "--wrap", f"""
        echo $SLURM_TASKS_PER_NODE
        for each in 'theirs {theirs}' 'ours taskrun'; do
            began=$(date +%s.%N)
            ${{each#* }} -e --no-retire -p ${{each%% *}} tasks 2> errors_${{each%% *}}
            echo "${{each%% *}} exit $? began $began ended $(date +%s.%N)"
        done""")  # fmt: skip
    assert job.wait(90) == "COMPLETED", job.output
    assert job.output.startswith("5(x3),2\n")
    found = re.findall(r"(\w+) exit (\d+) began ([\d.]+) ended ([\d.]+)", job.output)
    assert [(name, code) for name, code, *_ in found] == [("theirs", "1"), ("ours", "1")]
    seconds = {name: f"{float(ended) - float(began):.1f} s" for name, _, began, ended in found}
    record_property("times", f"the same tasks in the same SLURM job: disBatch {seconds['theirs']}, taskrun {seconds['ours']}")
    assert lines(uneven.folder / "ours_status.txt") == lines(uneven.folder / "theirs_status.txt")
    slots = {name: sorted(path.name for path in (uneven.folder / f"all_{name}").iterdir()) for name in seconds}
    assert slots["ours"] == slots["theirs"]
    assert len(slots["ours"]) == 17
    assert "node4: slots are not bound to cores (slots: 5, cores of the job: 5, " in uneven.log("ours"), "this machine has fewer"
