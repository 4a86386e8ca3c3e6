"""What an agent is told when it has said hello: its config. Pure, but that a GNU Parallel to be sent along is read."""

from __future__ import annotations

import base64
import functools
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskrun.agent import starter
from taskrun.driver.member import Member
from taskrun.engines import slurm
from taskrun.engines.slurm import Steps

if TYPE_CHECKING:
    from taskrun.driver.survivors import Survivors
    from taskrun.driver.visits import Visit


class Common(NamedTuple):
    """What all agents of a run are told."""

    config: dict[str, Any]  # with the `env` of all tasks
    shipped: dict[str, Any]  # in `env` what --env names; the rest only for those on other hosts: where to run, how to know this folder


def brief(
    member: Member,
    facts: Mapping[str, Any],
    common: Common,
    folder: str,
    sweep: list[str],
    *,
    steps: Steps | None,
    visit: Visit | None,
    earlier: Survivors,
) -> dict[str, Any]:
    """The config of one agent.

    `facts`: what it said of its node; `folder`: what its private folder is to be called; `sweep`: paths of those that others had there;
    `steps`, `visit`: of its context; `earlier`: the runs of which it is to make sure that nothing is left.
    """
    request = member.request
    config = {**common.config, "k": "config", "slots": request.slots, "folder": folder, "sweep": sweep}
    env = {
        **common.config["env"],
        "DISBATCH_ENGINE_RANK": str(member.rank),
        "TASKRUN_ENGINE_RANK": str(member.rank),
        "DISBATCH_CORES_PER_TASK": str(request.cores_per_task),
        "TASKRUN_CORES_PER_TASK": str(max(1, request.cores_per_task)),
    }
    env = {**common.shipped["env"], **(visit.variables(request) if visit is not None else {}), **env}
    if steps is not None:
        env |= slurm.task_environment(request, steps)
        config |= {"share": slurm.share_of(request, steps, config["share"]), "alone": slurm.alone(request, steps)}
    if not member.here:
        config |= {name: value for name, value in common.shipped.items() if name != "env"}
        if common.config["starter"] != "builtin" and facts["perl"] and not facts["parallel"]:
            config["parallel"] = packed_parallel()
        if earlier.runs:
            # who attaches is another user than the agents that were there before
            config |= {"earlier": earlier.runs, "anybody": earlier.anybody or visit is not None}
    if visit is not None:
        config |= {"share": visit.shares(request), "workdir": visit.workdir or config["workdir"]}
    return {**config, "env": env}


@functools.cache
def packed_parallel() -> str:
    """This machine's GNU Parallel as text for a host that has none, '' when there is none here."""
    path, _ = starter.find_parallel(os.environ.get("PATH", os.defpath))
    return base64.b64encode(zlib.compress(Path(path).read_bytes(), 9)).decode() if path else ""
