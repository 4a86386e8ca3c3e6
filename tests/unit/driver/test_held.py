"""The held descriptor: taken as long as any process of the run lives."""

from __future__ import annotations

import subprocess

import pytest

from taskrun.driver.held import hold, wait_until_free
from taskrun.errors import Refused


@pytest.mark.parametrize("run_id", ["held-test", "held-test-" + "x" * 300, "held-\udcff"])
def test_held_by_whoever_inherited_it(run_id: str) -> None:
    waited: list[int] = []
    held = hold(run_id)
    with pytest.raises(Refused, match="still has processes on this host"):
        hold(run_id)
    with subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()]) as process:
        held.close()
        assert not wait_until_free(run_id, 0.1, lambda: waited.append(1)).free
        assert not wait_until_free(run_id, 0).free
        process.kill()
    assert wait_until_free(run_id, 5, lambda: waited.append(1)).free
    assert len(waited) >= 1
    hold(run_id).close()


def test_a_free_name_is_not_waited_for() -> None:
    assert wait_until_free("held-test-free", 0, pytest.fail).free


def test_waiting_ends_when_the_last_one_is_gone() -> None:
    held = hold("held-test-end")
    with subprocess.Popen(["sleep", "0.3"], pass_fds=[held.fileno()]):
        held.close()
        assert wait_until_free("held-test-end", 10).free
