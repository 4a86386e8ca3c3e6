"""What the person reads of processes that tasks have left behind."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from taskrun.visible import visible

NAMED = 5
COMMAND_WIDTH = 60


class Outliver(NamedTuple):
    """A process of a task that lives on when the run has ended, or its engine has gone."""

    host: str  # '' for this machine
    pid: int
    whose: str  # `task 3`, `PERENGINE START 0`
    command: str
    by_ssh: bool = False  # the host is reached by ssh


class Remains(NamedTuple):
    """What the tasks of a run have left."""

    tasks: int = 0  # that left any
    ended: bool = False  # --leftovers end or fail
    living: int = 0  # processes that live on, at least
    outlivers: tuple[Outliver, ...] = ()  # the first of them
    events: str = ""  # the events file, as it is shown


def remains_lines(remains: Remains) -> list[str]:
    """Return the lines for the end of a run; none if nothing was left."""
    lines = []
    if remains.tasks:
        what = f"{remains.tasks} {'task' if remains.tasks == 1 else 'tasks'} left processes behind"
        how = ", which were ended" if remains.ended else ""
        hint = "" if remains.ended else "; --leftovers end ends them"
        lines.append(f"taskrun: {what}{how} (left_behind in {remains.events}){hint}")
    if remains.living:
        one = remains.living == 1
        lines.append(f"taskrun: {remains.living} {'process' if one else 'processes'} of tasks still {'runs' if one else 'run'}:")
        shown = remains.outlivers[:NAMED]
        for each in shown:
            command = visible(each.command)
            command = command if len(command) <= COMMAND_WIDTH else command[: COMMAND_WIDTH - 1] + "…"
            lines.append(f"  {each.pid}{f' on {visible(each.host)}' if each.host else ''}, {each.whose}: {command}")
        if remains.living > len(shown):
            lines.append(f"  … and {remains.living - len(shown)} more")
        lines.append(f"end {'it' if one else 'those named' if remains.living > len(shown) else 'them'}: {kills(shown)}")
    return lines


def kills(outlivers: tuple[Outliver, ...]) -> str:
    """Return the commands that end these, host by host."""
    commands = []
    for host, by_ssh in dict.fromkeys((each.host, each.by_ssh) for each in outlivers):
        kill = f"kill {' '.join(str(each.pid) for each in outlivers if each.host == host)}"
        if by_ssh:
            kill = f"ssh {shlex.quote(visible(host))} {kill}"
        elif host:
            kill = f"`{kill}` on {visible(host)}"
        commands.append(kill)
    return "; ".join(commands)
