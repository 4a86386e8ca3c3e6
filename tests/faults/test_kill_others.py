"""kill -9 and kill -STOP of everything else: the run ends by itself, or resumably, and what it recorded is true."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from faults.chain import Chain, children, command_lines
from harness import Running, Taskrun, need, until

SEED = 7


def agents(taskrun: Taskrun, running: Running) -> list[int]:
    return [pid for pid in children(running.pid) if "agent.main" in taskrun.processes().get(pid, "")]


def slots(taskrun: Taskrun, running: Running) -> list[int]:
    found = command_lines(taskrun, "slot.pyc", "/s ")
    started = [child for pid in found for child in children(pid)]  # a task's process looks like its slot until it is bash
    return [pid for pid in found if pid not in started]


def parallels(taskrun: Taskrun, running: Running) -> list[int]:
    return command_lines(taskrun, "parallel", "--plain", "-u")


def bashes(taskrun: Taskrun, running: Running) -> list[int]:
    return command_lines(taskrun, "bash task.sh")


Find = Callable[[Taskrun, Running], list[int]]


def hurt(taskrun: Taskrun, running: Running, find: Find, number: int, moments: random.Random) -> int:
    """A signal to one of them, if one lives."""
    found = find(taskrun, running)
    if not found:
        return 0
    pid = moments.choice(sorted(found))
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return 0
    return pid


def complete(chain: Chain, running: Running, timeout: float = 45.0) -> None:
    """To its end, resumed as long as it says that it can be."""
    result = chain.finish(running, timeout)
    for _ in range(5):
        if result.code != 3:
            break
        chain.nothing_is_left()
        result = chain.finish(chain.start(), timeout)
    assert result.code == 0, result.err
    chain.nothing_is_left()
    chain.check()


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
@pytest.mark.parametrize("find", [slots, agents, parallels], ids=["slot", "agent", "parallel"])
def test_killed(taskrun: Taskrun, find: Find, starter: str) -> None:
    if starter == "parallel":
        need("parallel")
    elif find is parallels:
        starter = "auto"  # the default starter
    moments = random.Random(f"{SEED} {find.__name__}")
    chain = Chain(taskrun, 80, 0.1, ("-s", "localhost:4", "--starter", starter, "--grace", "1"))
    running = chain.start()
    until(lambda: chain.recorded() >= 4, what="the first records")
    for _ in range(2 if find is agents else 4):
        pid = hurt(taskrun, running, find, signal.SIGKILL, moments)
        print(f"seed {SEED}: killed {find.__name__} {pid}")
        time.sleep(moments.random() * 0.5)
    complete(chain, running)


def test_a_killed_task_is_its_failure(taskrun: Taskrun) -> None:
    """Someone else's kill -9 is as good as a crash: recorded, and not run again by itself."""
    chain = Chain(taskrun, 8, 0.5)
    running = chain.start()
    (pid,) = until(lambda: bashes(taskrun, running)[:1])
    os.kill(pid, signal.SIGKILL)
    result = chain.finish(running)
    assert result.code == 0
    codes = sorted(each["ReturnCode"] for each in result.records())
    assert codes == [-9, 0, 0, 0, 0, 0, 0, 0]
    assert [each["cause"] for each in result.events("attempt") if each["code"]] == ["signal"]


@pytest.mark.parametrize("find", [slots, agents], ids=["slot", "agent"])
def test_stopped_for_a_moment(taskrun: Taskrun, find: Find) -> None:
    """A pause shorter than --lost-after loses nothing, and nothing runs twice."""
    moments = random.Random(f"{SEED} {find.__name__}")
    chain = Chain(taskrun, 40, 0.1, ("-s", "localhost:4", "--lost-after", "5"))
    running = chain.start()
    until(lambda: chain.recorded() >= 4, what="the first records")
    pid = hurt(taskrun, running, find, signal.SIGSTOP, moments)
    time.sleep(1)
    os.kill(pid, signal.SIGCONT)
    complete(chain, running)
    assert not [each for each in chain.results[0].events("attempt") if each["cause"] == "engine-lost"]


@pytest.mark.parametrize("find", [slots, agents], ids=["slot", "agent"])
def test_stopped_for_good(taskrun: Taskrun, find: Find) -> None:
    """Longer than --lost-after: what it held runs elsewhere or on resume, never while the old copy lives."""
    moments = random.Random(f"{SEED} {find.__name__}")
    chain = Chain(taskrun, 30, 0.2, ("-s", "localhost:4", "--lost-after", "2", "--grace", "1"))
    running = chain.start()
    until(lambda: chain.recorded() >= 4, what="the first records")
    pid = hurt(taskrun, running, find, signal.SIGSTOP, moments)
    try:
        complete(chain, running)
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pid = 0
