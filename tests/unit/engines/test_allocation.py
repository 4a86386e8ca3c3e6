"""The environment of a SLURM job as slots: what disBatch makes of it (recorded case 28), and what cannot be read."""

from __future__ import annotations

import pytest

from taskrun.engines.allocation import Job, Wanted, check_copy, counts, gpus_each, job_id, node_list, parse_job, requests
from taskrun.errors import Refused

NODES = ["vm", "w01", "w02"]
JOB = {"SLURM_JOB_CPUS_PER_NODE": "8(x2),4", "SLURM_TASKS_PER_NODE": "2(x2),1"}


def made(env: dict[str, str] | None = None, **wanted: object) -> tuple[list[tuple[int, int]], list[str]]:
    found, warnings = requests({**JOB, **(env or {})}, NODES, Wanted(**wanted))  # type: ignore[arg-type]
    assert [each.host for each in found] == NODES[: len(found)]
    assert {each.reach for each in found} == {"slurm"}
    return [(each.slots, each.cores_per_task) for each in found], warnings


def test_slots_and_cores_are_those_of_disbatch() -> None:
    assert made() == ([(2, 4), (2, 4), (1, 4)], [])
    assert made(cpus_per_task=3.0) == ([(2, 3), (2, 3), (1, 3)], [])
    assert made(fill=True) == ([(8, 1), (8, 1), (4, 1)], [])
    assert made(tasks_per_node=1) == ([(1, 8), (1, 8), (1, 4)], [])
    assert made({"SLURM_CPUS_PER_TASK": "4", "SLURM_NTASKS_PER_NODE": "2"}) == ([(2, 4), (2, 4), (2, 2)], [])
    assert made(cpus_per_task=0.5)[0] == [(2, 0), (2, 0), (1, 0)]
    assert made(cpus_per_task=0.1, fill=True)[0] == [(80, 0), (80, 0), (40, 0)]
    assert made({"SLURM_CPUS_PER_TASK": "4"}, cpus_per_task=2.0)[1] == [
        "-c 2 is what counts, not the 4 cores a task that SLURM was asked for"
    ]
    assert "the first part alone" in made({"SLURM_HET_SIZE": "2"})[1][0]
    slots, warnings = made({"CUDA_VISIBLE_DEVICES": "0"}, fill=True)
    assert slots == [(2, 4), (2, 4), (1, 4)]
    assert warnings == ["--fill is not for jobs with GPUs: the slots are those that SLURM was asked for"]


def test_of_several_that_srun_has_started_one_goes_on() -> None:
    check_copy({})
    check_copy({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"})
    with pytest.raises(Refused, match="srun has started 4 taskruns"):
        check_copy({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"})


def test_a_node_without_room_is_left_out_and_none_at_all_refused() -> None:
    assert made(cpus_per_task=5.0) == ([(1, 5), (1, 5)], [])
    with pytest.raises(Refused, match="-c 9: no node of this allocation has that many cores; at most -c 8 fits"):
        made(cpus_per_task=9.0)
    with pytest.raises(Refused, match="-c 0: a task needs more than 0 cores"):
        made(cpus_per_task=0.0)


@pytest.mark.parametrize(("text", "found"), [("5(x3),2", [5, 5, 5, 2]), ("1", [1]), ("2(x1), 3", [2, 3])])
def test_counts(text: str, found: list[int]) -> None:
    assert counts(text, "V") == found


@pytest.mark.parametrize("text", ["", "5(x3", "a", "5,,2", "-1", "1(x999999999)"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(Refused, match="name the nodes with -s HOST:COUNT"):
        counts(text, "SLURM_TASKS_PER_NODE")


def test_a_job_whose_variables_do_not_fit() -> None:
    with pytest.raises(Refused, match=r"SLURM_JOB_CPUS_PER_NODE=8 is for 1 nodes, but the job has 3"):
        made({"SLURM_JOB_CPUS_PER_NODE": "8"})
    with pytest.raises(Refused, match="without SLURM_JOB_NODELIST"):
        node_list({"SLURM_JOB_ID": "1"})
    assert job_id({"SLURM_JOBID": "7"}) == job_id({"SLURM_JOB_ID": "7", "SLURM_JOBID": "8"}) == "7"
    assert job_id({}) == ""


def test_what_scontrol_says_of_a_job() -> None:
    """Lines of SLURM 22.05 and, for GPUs with types, 23.11."""
    text = (
        "JobId=22 JobName=interactive EndTime=1795262559 ReqNodeList=(null) ExcNodeList=(null) NodeList=node[1-3] BatchHost=node1 "
        "JOB_GRES=gpu:3   Nodes=node1 CPU_IDs=0-2 Mem=0 GRES=gpu:2(IDX:0-1)   Nodes=node[2-3] CPU_IDs=0 Mem=0 GRES=gpu:1(IDX:0) Command=x y"
    )
    assert parse_job(text) == Job("node[1-3]", 1795262559.0, (("node1", 2), ("node[2-3]", 1)))
    typed = "Nodes=a CPU_IDs=0 Mem=0 GRES=gpu:a100:2(IDX:0-1),gpu:v100:1(IDX:4),nic:2"
    assert parse_job(typed).gpus == (("a", 3),)
    state = "JobId=1 JobState=RUNNING Reason=None Requeue=1 Restarts=0 BatchFlag=1 PreemptEligibleTime=17 PreemptTime="
    assert parse_job(state + "None") == Job(state="RUNNING", batch=True, requeues=True)
    assert parse_job(state + "1795262559").preempted
    assert not parse_job("JobState=COMPLETING BatchFlag=0 Requeue=0").running
    assert parse_job("EndTime=Unknown NodeList=(null) Nodes=a CPU_IDs=0 Mem=0 GRES= x=1") == Job()


def test_what_the_person_wrote_is_not_what_scontrol_says() -> None:
    """A job's name stands before the rest, the words of its command after it."""
    text = (
        "JobId=22 JobName=a JobState=FAILED NodeList=x UserId=root(0) JobState=RUNNING EndTime=1795262559 NodeList=node[1-3] BatchFlag=1 "
        'Command=/bin/taskrun tasks --retire-cmd scontrol update NodeList="$ACTIVE" EndTime=1 Nodes=n1 GRES=gpu:4 WorkDir=/ Comment=a'
    )
    assert parse_job(text) == Job("node[1-3]", 1795262559.0, state="RUNNING", batch=True)


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("a100:2", 2), ("", 0), ("gpu", 0)])
def test_gpus_for_each_task(value: str, count: int) -> None:
    assert gpus_each({"SLURM_GPUS_PER_TASK": value}) == count
    assert gpus_each({}) == 0
