"""Tasks that kill their agent whenever they run, among others that do nothing wrong: they alone are given up."""

from __future__ import annotations

import pytest
from faults.chain import alive
from harness import Result, Taskrun

#: Kills the agent: the parent of its slot.
KILL = "read -r _ _ _ agent _ < /proc/$PPID/stat; kill -9 $agent; sleep 300.25"
FLAGS = ("-p", "run", "--starter", "builtin", "--grace", "0")

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]  # every loss is waited for during two seconds


def check(taskrun: Taskrun, result: Result, tasks: int, *guilty: int) -> None:
    """All but the guilty ones ended with 0; these were charged three times, and others once at most."""
    assert result.code == 0, result.err
    codes = {each["TaskID"]: each["ReturnCode"] for each in result.records()}
    assert codes == {number: -100 if number in guilty else 0 for number in range(tasks)}
    charged = [event["id"] for event in result.events("attempt") if event.get("blame") == "charged"]
    assert [charged.count(number) for number in guilty] == [3] * len(guilty)
    assert all(charged.count(number) == 1 for number in {*charged} - {*guilty})
    assert not alive(taskrun)


def test_one_among_16_on_8_slots(taskrun: Taskrun) -> None:
    """It kills its agent before that can say what has started."""
    lines = ["sleep 0.3\n"] * 16
    lines[5] = f"{KILL}\n"
    result = taskrun("tasks.txt", "-s", "localhost:8", *FLAGS, files={"tasks.txt": "".join(lines)}, timeout=60)
    check(taskrun, result, 16, 5)
    assert "15 tasks done, 1 failed" in result.err
    assert "gave up on 1 task: its engine died three times while it ran alone" in result.err
    again = taskrun("-r", "run_status.txt", "-p", "again")
    assert "nothing is left to run: 15 skipped, 1 failed" in again.err
    lines[5] = "true\n"
    third = taskrun("-r", "again_status.txt", "-R", "-p", "third", files={"tasks.txt": "".join(lines)})
    assert third.code == 0
    assert [each["ReturnCode"] for each in third.records() if each["Flags"][3] != "S"] == [0]


def test_some_in_all_slots(taskrun: Taskrun) -> None:
    """The others still have their turn, and the node is not taken for a broken one."""
    lines = [f"{KILL}\n"] * 2 + ["sleep 0.1\n"] * 6
    result = taskrun("tasks.txt", "-s", "localhost:2", *FLAGS, files={"tasks.txt": "".join(lines)}, timeout=60)
    check(taskrun, result, 8, 0, 1)
    assert "gave up on 2 tasks: their engine died three times while they ran alone" in result.err


def test_one_among_200_on_64_slots(taskrun: Taskrun) -> None:
    lines = ["sleep 0.1\n"] * 200
    lines[20] = f"{KILL}\n"
    result = taskrun("tasks.txt", "-s", "localhost:64", *FLAGS, files={"tasks.txt": "".join(lines)}, timeout=120)
    check(taskrun, result, 200, 20)


def test_a_node_on_which_every_agent_dies_is_set_aside_before_all_tasks_are_blamed(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", *FLAGS, files={"tasks.txt": f"{KILL}\n" * 40}, timeout=60)
    assert result.code == 3
    assert len(result.records()) <= 1
    assert "engines were lost there in a row, and it is set aside" in result.err
    assert not alive(taskrun)
