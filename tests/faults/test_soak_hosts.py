"""Some rounds of soak_hosts.py: random faults over three SSH hosts, among them a driver that is killed, stopped and suspended."""

from __future__ import annotations

import pytest
from faults.soak_hosts import Round
from harness import Taskrun
from ssh.place import hosts
from ssh_hosts import SshHosts

__all__ = ["hosts"]  # a fixture that is written elsewhere


TASKS = 24


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 3])
def test_a_round(taskrun: Taskrun, hosts: SshHosts, seed: int) -> None:
    one = Round(seed, taskrun, hosts, TASKS)
    try:
        one.run()
    except BaseException:
        print("\n".join(one.said), f"  again: python tests/faults/soak_hosts.py --tasks {TASKS} --seed {seed}", sep="\n")
        raise
