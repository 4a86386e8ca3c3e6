"""Processes that tasks leave behind: counted and named at the end, kept or ended (--leftovers)."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Running, Taskrun, kill, need, until

#: Each leaves one process, which says `sleep 300.N` for task N.
LEAVING = (
    "setsid -f sleep 300.0",
    "nohup sleep 300.1 > /dev/null 2>&1 &",
    "sleep 300.2 & disown; exit 3",
    "env -i setsid -f sleep 300.3 > /dev/null 2>&1",  # neither its session nor its mark
    "(setsid bash -c 'setsid sleep 300.4 & exit') > /dev/null 2>&1",
    "set -m; sleep 300.5 > /dev/null 2>&1 &",
    "(trap '' TERM; exec sleep 300.6) > /dev/null 2>&1 &",
)
#: These leave nothing, though something still ends when bash has.
LEAVING_NOTHING = ("echo plain", "seq 9 > >(cat > /dev/null)", "(sleep 0.1 &); sleep 0.3", "(setsid true &) ; exit 4")
TEXT = "".join(line + "\n" for line in LEAVING + LEAVING_NOTHING)
LEFT = [*(True for _ in LEAVING), *(False for _ in LEAVING_NOTHING)]


@pytest.fixture(autouse=True)
def ended(taskrun: Taskrun) -> Iterator[None]:
    yield
    for running in taskrun.started:
        running.end()
    kill(sleeping(taskrun))


def sleeping(taskrun: Taskrun) -> dict[int, str]:
    """The processes that were left, by pid; the one without an environment among them."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            here = Path(f"/proc/{entry}/cwd").readlink() == taskrun.folder
        except (OSError, UnicodeDecodeError):
            continue
        if here and line.startswith("sleep 300."):
            found[int(entry)] = line
    return found


def run(taskrun: Taskrun, *arguments: str, text: str = TEXT) -> Running:
    return taskrun.start("tasks.txt", "-s", "localhost:2", "-p", "run", *arguments, files={"tasks.txt": text})


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_they_are_kept_counted_and_named(taskrun: Taskrun, starter: str) -> None:
    if starter == "parallel":
        need("parallel")
    result = run(taskrun, "--starter", starter).finish()
    assert result.code == 0
    assert [each["left_behind"] for each in sorted(result.events("attempt"), key=lambda each: each["id"])] == LEFT
    left = sleeping(taskrun)
    assert sorted(left.values()) == [f"sleep 300.{n}" for n in range(7)]
    assert "taskrun: 7 tasks left processes behind (left_behind in run_events.jsonl); --leftovers end ends them\n" in result.err
    assert "taskrun: 7 processes of tasks still run:\n" in result.err
    named = [line.strip() for line in result.err.splitlines() if re.match(r"  \d+, task \d+: ", line)]
    every = [f"{pid}, task {line[-1]}: {line}" for pid, line in left.items()]
    assert len(named) == 5
    assert set(named) <= set(every)
    assert "  … and 2 more\nend those named: kill " in result.err
    (end,) = [event for event in result.events("run") if event["what"] == "end"]
    assert (end["left_behind"], {each["pid"] for each in end["outlive"]}) == (7, set(left))
    assert result.sidecar()["counts"]["left_behind"] == 7
    assert json.loads(taskrun("monitor", "run", "--json").out)["left_behind"] == 7
    assert " · 7 left processes behind" in taskrun("monitor", "run").out


@pytest.mark.parametrize(("how", "starter"), [("end", "parallel"), ("fail", "builtin")])
def test_they_are_ended_before_the_slot_goes_on(taskrun: Taskrun, how: str, starter: str) -> None:
    if starter == "parallel":
        need("parallel")
    perengine = "#PERENGINE START setsid -f sleep 300.9\n"
    look = "for each in /proc/[0-9]*; do [ $each/cwd -ef . ] && cat $each/comm; done 2> /dev/null | grep -c sleep > seen"
    lines = [*LEAVING, *LEAVING_NOTHING, LEAVING[6], look]
    result = taskrun(
        "tasks.txt", "-s", "localhost:1", "-p", "run", "--leftovers", how, "--grace", "0.3", "--starter", starter,
        files={"tasks.txt": perengine + "".join(line + "\n" for line in lines)},
    )  # fmt: skip
    records = {each["TaskID"]: each for each in result.records() if "P" not in each["Flags"]}
    attempts = {each["id"]: each for each in result.events("attempt") if "per_engine" not in each}
    assert [attempts[n]["left_behind"] for n in range(len(lines))] == [*LEFT, True, False]
    assert list(sleeping(taskrun).values()) == ["sleep 300.9"], "a server that PERENGINE has started is kept"
    assert (taskrun.folder / "seen").read_text() == "1\n"
    codes = [records[n]["ReturnCode"] for n in range(len(LEFT))]
    if how == "end":
        assert codes == [0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]
    else:
        assert codes == [76, 76, 3, 76, 76, 76, 76, 0, 0, 0, 4]
        assert "left 1 process behind, which was ended: " in records[0]["ErrorSnippet"]
        assert "sleep 300.0" in records[0]["ErrorSnippet"]
        assert {each["cause"] for each in result.events("attempt") if each["code"] == 76} == {"leftovers"}
        assert "task 0, leftovers, exit 76: setsid -f sleep 300.0\n      left 1 process behind, which was ended: " in result.err
    assert "taskrun: 8 tasks left processes behind, which were ended (left_behind in run_events.jsonl)\n" in result.err
    (line,) = [line for line in result.err.splitlines() if line.endswith("PERENGINE START: sleep 300.9")]
    assert f"end it: kill {line.split(',')[0].strip()}\n" in result.err


def test_a_resume_does_the_same(taskrun: Taskrun) -> None:
    run(taskrun, "--leftovers", "fail", "--grace", "0.3", text="setsid -f sleep 300.0\n").finish()
    result = taskrun("-r", "run_status.txt", "-R", "-p", "again")
    assert [each["cause"] for each in result.events("attempt", "again")] == ["leftovers"]
    result = taskrun("-r", "run_status.txt", "-R", "-p", "kept", "--leftovers", "keep")
    assert [each["cause"] for each in result.events("attempt", "kept")] == ["ok"]


def test_an_attempt_is_ended_with_what_has_neither_its_session_nor_its_mark(taskrun: Taskrun) -> None:
    """And what an earlier task has left is kept, and named, also after Ctrl-C."""
    text = f"{LEAVING[3]}\nenv -i setsid -f sleep 300.7 > /dev/null 2>&1; sleep 100\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", "--grace", "1", files={"tasks.txt": text})
    until(lambda: "sleep 300.7" in sleeping(taskrun).values())
    running.send(signal.SIGINT)
    until(lambda: "SIGINT" in (taskrun.folder / "run_driver.log").read_text())
    running.send(signal.SIGINT)
    result = running.finish()
    assert result.code == 130
    ((pid, line),) = sleeping(taskrun).items()
    assert line == "sleep 300.3"
    assert f"taskrun: 1 process of tasks still runs:\n  {pid}, task 0: sleep 300.3\nend it: kill {pid}\n" in result.err


def test_a_value_that_there_is_not(taskrun: Taskrun) -> None:
    result = run(taskrun, "--leftovers", "kill", text=":\n").finish()
    assert result.code == 2
    assert "--leftovers: invalid choice: 'kill'" in result.err
