"""The request in options of sbatch, as far as taskrun has to know: the number of tasks at a time, and a job array. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Groups = Sequence[Sequence[str]]  # options with their values, [-n, 20], [--ntasks=20], [--exclusive]


def value(groups: Groups, long: str, short: str = "") -> str | None:
    """The value of an option, the last if it is there several times, '' if it has none; None if it is not there."""
    found = None
    for name, *values in groups:
        word, equals, rest = name.partition("=")
        if word == long:
            found = rest if equals else "".join(values)
        elif short and name.startswith(short) and not name.startswith("--"):
            found = name.removeprefix(short) or "".join(values)
    return found


def is_array(groups: Groups) -> bool:
    """A job array is asked for, `--array` cut short too, as sbatch takes it."""
    return value(groups, "--array", "-a") is not None or any(
        "--array".startswith(name.partition("=")[0]) and name.startswith("--ar") for name, *_ in groups
    )


def at_a_time(groups: Groups, *, slots: int = -1, fill: bool = False) -> str:
    """A sentence about how many tasks will run at a time; '' if -n says so. `slots`: -t of taskrun, `fill`: --fill."""
    if value(groups, "--ntasks", "-n") is not None:
        return ""
    nodes = value(groups, "--nodes", "-N") or "1"
    node = "the node" if nodes == "1" else f"each of {nodes} nodes"
    each = str(slots) if slots > 0 else value(groups, "--ntasks-per-node") or ""
    advice = "-n 20 lets 20 run, wherever there is room"
    if value(groups, "--ntasks-per-gpu") is not None:
        return f"as many tasks run at a time as the job has GPUs, times --ntasks-per-gpu; {advice}"
    if not each and (fill or value(groups, "--exclusive") is not None):
        cores = value(groups, "--cpus-per-task", "-c")
        return f"one task runs at a time on every {f'{cores} cores' if cores and cores != '1' else 'core'} of {node}; {advice}"
    each = each or "1"
    total = int(nodes) * int(each) if nodes.isdecimal() and each.isdecimal() else 0
    count = total or each
    where = "" if nodes == "1" else f", {each} on {node}" if total else f" on {node}"
    return f"{count} {'task runs' if str(count) == '1' else 'tasks run'} at a time{where}; {advice}"
