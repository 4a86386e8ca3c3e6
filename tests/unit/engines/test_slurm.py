"""The argument list and the environment of a node's srun, and what is made of its last words."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.agent import share as agent_share
from taskrun.engines import bootstrap, slurm
from taskrun.engines.request import EngineRequest
from taskrun.engines.slurm import SHAPING, Steps
from taskrun.errors import Refused

STEPS = Steps(
    job="17",
    env={},
    bind=True,
    gpus={"a": 2},
    for_tasks={"SLURM_NTASKS_PER_NODE": "2"},
    share={"bound": True, "gpus": "auto", "gpus_each": 1},
    end=None,
    alone="x",
    guards=("a",),
)
REQUEST = EngineRequest("a", 8, 2, 4, reach="slurm", address="a")


def test_the_command_of_a_step() -> None:
    command = slurm.step_command("node7", 0, bind=False)
    assert command == [
        "srun", "-N1", "-n1", "-w", "node7", "--overlap", "--mem=0", "--no-kill", "--unbuffered", "--export=ALL",
        *bootstrap.words(stay=True),
    ]  # fmt: skip
    assert command[-1] == "stay"
    assert slurm.step_command("node7", 2, bind=True)[10:12] == ["--cpu-bind=none", "--gpus=2"]


def test_the_command_of_a_session() -> None:
    """As an agent's, but for GPUs, which it leaves to those who work."""
    common = slurm.step_command("node7", 0, bind=True)[:11]
    command = slurm.session_command("node7", "sftp", bind=True)
    assert (command[:11], command[11:14]) == (common, ["--chdir=/", "/bin/sh", "-c"])
    assert "/usr/libexec/openssh" in command[-1]
    assert slurm.session_command("node7", "sums", bind=False)[10:13] == ["--chdir=/", "/bin/sh", "-c"]


def test_what_would_shape_a_step_is_kept_from_it() -> None:
    assert {"SLURM_NTASKS_PER_GPU", "SLURM_GPUS_PER_TASK", "SLURM_LABELIO", "SLURM_MEM_PER_CPU", "SRUN_CPUS_PER_TASK"} <= SHAPING
    assert not {"SLURM_JOB_ID", "SLURM_CONF", "SLURM_JOB_NODELIST"} & SHAPING


def test_what_an_agent_is_told() -> None:
    asked = {"gpus": "", "variables": ["RES"]}
    share = slurm.share_of(REQUEST, STEPS, asked)
    assert share == {"gpus": "auto", "gpus_each": 1, "variables": ["RES"], "cores": 8, "cores_per_task": 4}
    assert slurm.share_of(REQUEST, STEPS, {**asked, "gpus": "all"})["gpus"] == "all"
    assert slurm.share_of(REQUEST, STEPS._replace(share={**STEPS.share, "bound": False}), asked)["cores"] == 0
    assert [each.cpus for each in agent_share.divide(share, 2, {}, [(cpu, cpu) for cpu in range(8)]).slots] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert slurm.task_environment(REQUEST, STEPS) == {"SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "4"}
    assert slurm.alone(REQUEST, STEPS) == "x"
    assert slurm.alone(REQUEST._replace(host="b"), STEPS) == ""


def test_a_job_without_the_node_of_its_script_is_started_again_or_ended() -> None:
    assert "exec scontrol requeue 7;" in slurm.rescue("7", requeues=True)
    assert "exec scancel 7;" in slurm.rescue("7", requeues=False)


def test_options_for_srun(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("SLURM_CPU_BIND=none\n\nX=a=b\n")
    assert slurm.srun_options({slurm.OPTIONS_FILE: str(file)}) == {"SLURM_CPU_BIND": "none", "X": "a=b"}
    assert slurm.srun_options({}) == {"SLURM_MPI_TYPE": "none"}
    file.write_text("X=1\n  nothing\n")
    with pytest.raises(Refused, match=r"options:2: `nothing` is no NAME=VALUE"):
        slurm.srun_options({slurm.OPTIONS_FILE: str(file)})
    file.write_text("X=\0\n")
    with pytest.raises(Refused, match=r"options:1: `X=\\0` is no NAME=VALUE"):
        slurm.srun_options({slurm.OPTIONS_FILE: str(file)})
