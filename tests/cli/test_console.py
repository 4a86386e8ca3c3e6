"""What is said where nobody looks at a terminal, and when nobody can be told (test_live_view.py has the terminal)."""

from __future__ import annotations

import shlex
import sys

import pytest
from harness import Taskrun


@pytest.mark.parametrize("where", ["2>&-", "1>&-", "1>&- 2>&-", "2> /dev/full", "> /dev/full 2>&1", "0<&- 1>&- 2>&-"])
def test_nobody_to_talk_to(taskrun: Taskrun, where: str) -> None:
    """The run does not depend on anyone reading what it says, and tasks get no descriptor in the place of a closed one."""
    shell = Taskrun(taskrun.folder, taskrun.env, taskrun.started, ("/bin/bash", "-c"))
    text = "echo out; echo err >&2; ls -l /proc/$$/fd > fds\nfalse\n"
    command = f"exec {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run {where}"
    assert shell(command, files={"tasks.txt": text}).code == 0
    lines = (taskrun.folder / "run_status.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [" OE ", "R   "]
    assert "run_" not in (taskrun.folder / "fds").read_text(), "nor a file of the run"


def test_a_reader_that_goes_away(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, taskrun.started, ("/bin/bash", "-c"))
    command = f"{{ {shlex.quote(sys.executable)} -m taskrun tasks.txt -e -s localhost:1 -p run; echo $? > code; }} 2>&1 | true"
    shell(command, files={"tasks.txt": "sleep 0.5; false\n"})
    assert (taskrun.folder / "code").read_text() == "1\n"
    assert (taskrun.folder / "run_status.txt").read_text().startswith("R   \t0\t")


def test_no_motion_and_no_colour_without_a_terminal(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": "false\nsleep 1\n"})
    assert "\x1b" not in result.err
    assert "\r" not in result.err
    assert result.err.startswith("taskrun: 1 task done, 1 failed in ")
