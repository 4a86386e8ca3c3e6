"""An agent that is stopped cannot keep its tasks alive: their slots end them by their own deadline, before anybody may run them again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from faults.chain import Chain, alive, command_lines
from faults.test_kill_others import agents, slots
from harness import Taskrun, until

LOST_AFTER = 3.0
DEADLINE = LOST_AFTER * 2 / 3  # a slot's, after it last heard from its agent
SILENCE = DEADLINE + 3.0  # the driver's, before it hands the tasks out again

#: Each start and end with its time, and a lock that its child holds, too.
TASK = """\
note() { printf '%s %s %s\\n' "$1" "$TASKRUN_ATTEMPT" "$EPOCHREALTIME" >> times; }
exec 8>> "locks/$TASKRUN_TASKID"
flock -n 8 || note overlap
trap 'note told; exit 1' TERM
note start
if [ "${TASKRUN_ATTEMPT##*.}" = 1 ]; then sleep 300.25 & wait $!; fi
note end
"""


def times(chain: Chain) -> list[tuple[str, str, float]]:
    try:
        lines = (chain.folder / "times").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(what, attempt, float(when)) for what, attempt, when in (line.split() for line in lines)]


@pytest.mark.long
@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_stopped_for_ever(taskrun: Taskrun, starter: str) -> None:
    chain = Chain(taskrun, 4, 0, ("-s", "localhost:4", "--lost-after", f"{LOST_AFTER:g}", "--starter", starter))
    (chain.folder / "task.sh").write_text(TASK)
    running = chain.start()
    until(lambda: len(times(chain)) == 4, what="all tasks to run")
    time.sleep(0.5)  # the driver, too, has heard that they run
    (pid,) = agents(taskrun, running)
    os.kill(pid, signal.SIGSTOP)
    stopped = time.time()
    # the driver has not given it up; every process of its tasks has gone
    until(lambda: not any("task.sh" in line or "sleep 300.25" in line for line in alive(taskrun).values()), what="the tasks to end")
    assert time.time() < stopped + SILENCE - 0.5
    result = chain.finish(running)
    assert result.code == 0, result.err
    noted = times(chain)
    assert [what for what, _, _ in noted] == ["start"] * 4 + ["told"] * 4 + [what for what, _, _ in noted[8:]]
    assert sorted(what for what, _, _ in noted[8:]) == ["end"] * 4 + ["start"] * 4
    told = [when - stopped for what, _, when in noted if what == "told"]
    again = [when - stopped for what, attempt, when in noted if what == "start" and not attempt.endswith(".1")]
    # a slot has last heard from its agent up to a beat before it was stopped
    assert DEADLINE - 0.5 < min(told) <= max(told) < SILENCE - 0.5
    assert min(again) > SILENCE - 0.5
    assert [record["ReturnCode"] for record in result.records()] == [0] * 4
    assert [event["cause"] for event in result.events("attempt")] == ["engine-lost"] * 4 + ["ok"] * 4
    chain.nothing_is_left()


@pytest.mark.parametrize("parallel", ["lives", "has ended"])
def test_continued_after_its_slots_have_given_it_up(taskrun: Taskrun, parallel: str) -> None:
    """What they needed has gone with them: it gives up, too, and another takes its place at once. Nobody makes its folder anew."""
    chain = Chain(taskrun, 4, 0, ("-s", "localhost:4", "--lost-after", f"{LOST_AFTER:g}"))
    (chain.folder / "task.sh").write_text(TASK)
    running = chain.start()
    until(lambda: len(times(chain)) == 4, what="all tasks to run")
    time.sleep(0.5)  # the driver, too, has heard that they run
    (pid,) = agents(taskrun, running)
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: not any("slot.pyc" in line for line in alive(taskrun).values()), what="the slots to go")
        if parallel == "has ended":  # as it does when it cannot write to its home
            for each in command_lines(taskrun, "--termseq"):
                os.kill(each, signal.SIGKILL)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    result = chain.finish(running, 15)
    assert result.code == 0, result.err
    assert [record["ReturnCode"] for record in result.records()] == [0] * 4
    assert not [what for what, _, _ in times(chain) if what == "overlap"]
    lost = [event for event in result.events("attempt") if event["cause"] == "engine-lost"]
    assert lost
    assert not [event for event in lost if "blame" in event], "it was silent, which no task is charged with"
    chain.nothing_is_left()


def test_killed_before_it_has_a_slot(taskrun: Taskrun) -> None:
    """Nobody but the driver can remove what it had made."""
    chain = Chain(taskrun, 4, 0)
    temporary = Path(taskrun.env["TMPDIR"])
    running = chain.start()
    until(lambda: any(temporary.glob("taskrun-*/*")), what="the agent's folder")
    for pid in agents(taskrun, running):
        os.kill(pid, signal.SIGKILL)
    result = chain.finish(running)
    assert result.code in (0, 3), result.err
    chain.nothing_is_left()


def test_a_slot_and_the_driver_killed_at_once(taskrun: Taskrun) -> None:
    """The agent, which sees both at the same moment, ends what the slots ran before it goes, though TERM does not end it."""
    chain = Chain(taskrun, 2, 0, ("-s", "localhost:2"))
    (chain.folder / "task.sh").write_text(TASK.replace("'note told; exit 1'", "''"))
    running = chain.start()
    until(lambda: len(times(chain)) == 2, what="all tasks to run")
    (pid,) = agents(taskrun, running)
    os.kill(pid, signal.SIGSTOP)
    for slot in slots(taskrun, running):
        os.kill(slot, signal.SIGKILL)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    os.kill(pid, signal.SIGCONT)
    chain.nothing_is_left()
    (chain.folder / "task.sh").write_text(TASK.replace("sleep 300.25", "true"))
    result = chain.finish(chain.start())
    assert result.code == 0, result.err
    assert not [what for what, _, _ in times(chain) if what == "overlap"]
    chain.nothing_is_left()
