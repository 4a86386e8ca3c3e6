"""What each slot gets of a node's cores and GPUs."""

from __future__ import annotations

import os

import pytest

from taskrun.agent.share import cores_of_node, cpus_each, divide

ALONE: list[tuple[int, int]] = [(cpu, cpu) for cpu in range(8)]


def parts(config: dict[str, object], slots: int, env: dict[str, str]) -> tuple[list[dict[str, str]], dict[str, str], list[str]]:
    shares = divide(config, slots, env, [])
    return [share.env for share in shares.slots], shares.outside, shares.warnings


def cpus(slots: int, order: list[tuple[int, int]], **config: int) -> list[list[int]]:
    return [share.cpus for share in divide(config, slots, {}, order).slots]


def test_five_tasks_on_forty_cores_have_eight_each() -> None:
    order = [(cpu, cpu) for cpu in range(40)]
    found = cpus(5, order, cores=40, cores_per_task=8)
    assert found == [list(range(8 * slot, 8 * slot + 8)) for slot in range(5)]


def test_what_is_not_bound_is_said() -> None:
    assert divide({"cores": 8, "cores_per_task": 4}, 2, {}, [(cpu, cpu) for cpu in range(64)]).notes == [
        "slots are not bound to cores (slots: 2, cores of the job: 8, CPUs that it may use: 64)"
    ]
    assert not divide({"cores": 8, "cores_per_task": 4}, 2, {}, ALONE).notes
    assert not divide({}, 2, {}, ALONE).notes, "nobody asked"


def test_hyperthreads_of_a_core_stay_together() -> None:
    order = [(cpu % 4, cpu) for core in range(4) for cpu in (core, core + 4)]
    assert cpus(2, order, cores=4, cores_per_task=2) == [[0, 4, 1, 5], [2, 6, 3, 7]], "SLURM counts cores"
    assert cpus(2, order, cores=8, cores_per_task=4) == [[0, 4, 1, 5], [2, 6, 3, 7]], "SLURM counts threads"


@pytest.mark.parametrize(
    ("cpus", "cores", "granted", "slots", "each", "width"),
    [
        (8, 8, 8, 2, 3, 3),  # -c 3
        (8, 8, 8, 16, 0, 0),  # more slots than cores
        (64, 64, 8, 2, 4, 0),  # nobody keeps the job to its cores: they may be another's
        (2, 2, 4, 2, 2, 1),  # a node that claims more than it has
        (2, 2, 4, 4, 1, 0),
        (8, 8, 0, 2, 4, 0),  # not asked for
        (8, 8, 8, 3, 4, 2),  # -c 4 -t 3: no slot has more than its part
    ],
)
def test_how_many_cpus_a_slot_has(cpus: int, cores: int, granted: int, slots: int, each: int, width: int) -> None:
    assert cpus_each(cpus, cores, granted, slots, each) == width


def test_gpus_go_to_slots_in_blocks_in_every_variable_that_names_them() -> None:
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_STEP_GPUS": "4,5,6,7", "ROCR_VISIBLE_DEVICES": "0", "OTHER": "1,2"}
    slots, outside, warnings = parts({"gpus": "auto"}, 2, env)
    assert slots == [
        {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_STEP_GPUS": "6,7"},
    ]
    assert (outside, warnings) == ({}, [])
    assert parts({"gpus": "auto", "gpus_each": 1}, 2, env)[0][1] == {"CUDA_VISIBLE_DEVICES": "1", "SLURM_STEP_GPUS": "5"}
    assert [each["CUDA_VISIBLE_DEVICES"] for each in parts({"gpus": "auto"}, 3, env)[0]] == ["0", "1", "2,3"]


def test_too_few_gpus() -> None:
    env = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert parts({"gpus": "auto"}, 4, env) == ([{}] * 4, {}, []), "all see all, as SLURM has it"
    slots, _, warnings = parts({"gpus": "all"}, 4, env)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in slots] == ["0", "1"]
    assert warnings == ["-g: there are 2 GPUs for 4 slots: 2 slots are used"]
    assert "no variable names the GPUs" in parts({"gpus": "all"}, 1, {})[2][0]
    assert parts({}, 2, env) == ([{}, {}], {}, []), "nobody asked"


def test_elements_of_a_variable() -> None:
    env = {"RES": "a, b,c"}
    slots, outside, warnings = parts({"variables": ["RES"]}, 2, env)
    assert (slots, outside) == ([{"RES": "a"}, {"RES": "b"}], {"RES": "a"})
    assert warnings == ["-E RES has 3 elements for 2 slots: the rest is not used"]
    slots, _, warnings = parts({"variables": ["RES", "NONE"]}, 4, env)
    assert slots == [{"RES": "a"}, {"RES": "b"}, {"RES": "c"}]
    assert warnings == [
        "-E RES has 3 for 4 slots: 3 slots are used",
        "-E NONE: there is no such variable here, so nothing of it is divided",
    ]
    slots, _, _ = parts({"variables": ["CUDA_VISIBLE_DEVICES"], "gpus": "auto"}, 2, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert [each["CUDA_VISIBLE_DEVICES"] for each in slots] == ["0", "1"], "what was asked for by name is divided so"


def test_the_cores_of_this_machine() -> None:
    order = cores_of_node()
    assert {cpu for _, cpu in order} == os.sched_getaffinity(0)
    assert [core for core, _ in order] == sorted(core for core, _ in order)
