"""Hosts that stand out by their failures. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

CHANCE = 0.01  # that some host stands out although all are the same, at most
FACTOR = 2.0  # times as large a share of its tasks fails as elsewhere
NAMED = 3  # hosts


def uneven(hosts: Mapping[str, tuple[int, int]]) -> str:
    """`38 of 40 failures on host3, where 38 of 38 tasks failed`; '' where chance may have done it. `hosts`: -> (tasks, of them failed)."""
    tasks = sum(each[0] for each in hosts.values())
    failures = sum(each[1] for each in hosts.values())
    if len(hosts) < 2 or not 0 < failures < tasks:
        return ""
    found = []
    for host, (ran, failed) in hosts.items():
        elsewhere = (failures - failed) / max(1, tasks - ran)
        if failed > FACTOR * elsewhere * ran and tail(failed, ran, failures, tasks) * len(hosts) < CHANCE:
            found.append((failed, ran, host))
    if not found:
        return ""
    found.sort(reverse=True)
    of_them = sum(failed for failed, _, _ in found)
    ran = sum(ran for _, ran, _ in found)
    names = [host for _, _, host in found[:NAMED]]
    more = len(found) - len(names)
    last = f"{more} more" if more else names.pop() if len(names) > 1 else ""
    listed = ", ".join(names) + (f" and {last}" if last else "")
    return f"{of_them:,} of {failures:,} failures on {listed}, where {of_them:,} of {ran:,} tasks failed"


def tail(failed: int, ran: int, failures: int, tasks: int) -> float:
    """The chance that at least `failed` of `failures` are among the `ran` of `tasks`, if all tasks are the same."""
    if failed * tasks <= failures * ran:
        return 1.0
    most = min(ran, failures)
    term = math.exp(_log_of(failures, failed) + _log_of(tasks - failures, ran - failed) - _log_of(tasks, ran))
    total = 0.0
    for number in range(failed, most + 1):  # terms become smaller and smaller from here on
        total += term
        if term < total * 1e-9:
            break
        term *= (failures - number) * (ran - number) / ((number + 1) * (tasks - failures - ran + number + 1))
    return total


def _log_of(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
