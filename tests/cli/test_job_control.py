"""Ctrl-Z, fg, bg and kill %1 in a real interactive shell on a pseudo-terminal: the shell prompts, and what runs goes on."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Result, Taskrun, need, until

#: Slots end their tasks after a second without the driver.
FLAGS = "-s localhost:2 -p run --lost-after 1.5"
#: Tasks that end when the test says so.
HELD = "touch started_$TASKRUN_TASKID; until test -e go; do sleep 0.05; done\n"
#: Gives the shell its terminal, and the signals of the keyboard, which may be ignored where the tests were started (`make test &`).
SHIM = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)]; "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
SHELLS = {"bash": ("bash", "--norc", "--noprofile", "-i"), "dash": ("dash", "-i")}
PROMPT = "ready> "


class Shell:
    """An interactive shell of somebody who types."""

    def __init__(self, taskrun: Taskrun, name: str) -> None:
        need(name)
        self.taskrun = taskrun
        self.folder = taskrun.folder
        program = self.folder / "programs" / "taskrun"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m taskrun "$@"\n')
        program.chmod(0o755)
        self.text = ""
        self.seen = 0  # what was waited for before
        self.master, slave = pty.openpty()
        taskrun.write({"inputrc": "set enable-bracketed-paste off\n"})
        env = {**taskrun.env, "TERM": "xterm", "PS1": PROMPT, "PATH": f"{program.parent}:{taskrun.env['PATH']}", "INPUTRC": "inputrc"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHIM, *SHELLS[name]],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.folder,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        self.shows(PROMPT)

    def look(self, seconds: float) -> None:
        if self.master >= 0 and select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # nobody has it open any more
                self.text += os.read(self.master, 1 << 16).decode()

    def shows(self, pattern: str, seconds: float = 15.0) -> re.Match[str]:
        """Waits until something new is there."""

        def found() -> re.Match[str] | None:
            self.look(0.01)
            return re.compile(pattern).search(self.text, self.seen)

        try:
            match = until(found, seconds, f"`{pattern}` on the terminal")
        except BaseException:
            sys.stdout.write(self.text)
            raise
        self.seen = match.end()
        return match

    def until(self, condition: Callable[[], object], what: str) -> None:
        def met() -> object:
            self.look(0.0)  # a terminal that nobody reads is full one day
            return condition()

        until(met, 15, what)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def suspend(self) -> int:
        """Ctrl-Z, until the shell prompts; the process that the shell knows."""
        self.type("\x1a")
        pid = int(self.shows(r"taskrun: suspended: .* `fg` or `kill -CONT (\d+)` continues\s")[1])
        self.until(lambda: PROMPT in self.text.rpartition("^Z")[2], "the prompt")  # of a script's shell it may come first
        return pid

    def begin(self, lines: str, command: str = f"taskrun tasks.txt {FLAGS}") -> None:
        """A run whose first two tasks run."""
        self.taskrun.write({"tasks.txt": lines})
        self.type(f"{command}\r")
        self.until(lambda: all((self.folder / f"started_{n}").exists() for n in (0, 1)), "the tasks to start")

    def code(self) -> int:
        """Of the last command, at the prompt."""
        self.type('echo "code=$?"\r')
        return int(self.shows(r"\ncode=(\d+)")[1])

    def result(self) -> Result:
        return Result(0, "", "", self.folder, "run")

    def recorded(self) -> int:
        return (self.folder / "run_status.txt").read_bytes().count(b"\n")

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def close(self) -> None:
        self.hang_up()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def shell(taskrun: Taskrun) -> Iterator[Callable[..., Shell]]:
    shells: list[Shell] = []

    def start(name: str = "bash") -> Shell:
        shells.append(Shell(taskrun, name))
        return shells[-1]

    yield start
    for each in shells:
        each.close()
    until(lambda: not taskrun.processes(), 10, "all to be gone")


def driver_of(taskrun: Taskrun, front: int) -> int:
    return next(pid for pid, line in taskrun.processes().items() if pid != front and "-m taskrun" in line)


@pytest.mark.parametrize("name", SHELLS)
def test_suspended_and_brought_back(shell: Callable[..., Shell], name: str) -> None:
    """Beyond --lost-after; what ends meanwhile is recorded, nothing new starts, nothing is drawn over the shell."""
    bash = shell(name)
    bash.begin(HELD * 4)
    bash.shows(r"\d%")
    bash.suspend()
    quiet = len(bash.text)
    time.sleep(2.5)
    bash.type("touch go\r")
    bash.until(lambda: bash.recorded() == 2, "two records")
    time.sleep(0.3)
    bash.look(0.1)
    assert "\x1b[" not in bash.text[quiet:]
    assert not (bash.folder / "started_2").exists()
    bash.type("fg\r")
    bash.shows("taskrun: continued")
    bash.shows("taskrun: 4 tasks done, none failed")
    bash.shows(PROMPT)
    assert bash.code() == 0
    assert sorted((each["id"], each["cause"]) for each in bash.result().events("attempt")) == [(n, "ok") for n in range(4)]
    assert [(each["signal"], each["how"]) for each in bash.result().events("told")] == [("SIGTSTP", "suspend"), ("SIGCONT", "continue")]
    log = (bash.folder / "run_driver.log").read_text()
    assert "suspended: 2 tasks go on running, nothing new starts" in log
    assert "continued" in log
    bash.type("exit\r")


def test_in_the_background_and_interrupted(shell: Callable[..., Shell]) -> None:
    bash = shell()
    bash.begin(HELD * 4)
    bash.suspend()
    bash.type("bg\r")
    bash.shows("taskrun: continued")
    bash.type("fg\r")
    bash.shows(r"\d%")
    bash.type("\x03")
    bash.shows("waiting for 2 running tasks, a second Ctrl-C ends them")
    bash.shows("stopping: SIGINT, task [01] has run the longest, ")
    (bash.folder / "go").touch()
    bash.shows("taskrun: 2 tasks done, none failed, 2 not run")
    bash.shows(PROMPT)
    assert bash.code() == 3
    bash.type("exit\r")


def test_brought_from_the_background_and_suspended(shell: Callable[..., Shell]) -> None:
    """It was no job of the foreground when it started."""
    bash = shell()
    bash.begin(HELD * 4, f"taskrun tasks.txt {FLAGS} &")
    bash.type("fg\r")
    bash.shows(r"\d%")
    bash.suspend()
    bash.type("fg\r")
    bash.shows("taskrun: continued")
    bash.shows(r"\d of 2 slots")
    (bash.folder / "go").touch()
    bash.shows("taskrun: 4 tasks done, none failed")
    bash.shows(PROMPT)
    assert bash.text.count("suspended: nothing new starts") == 0, "of the view, when it goes on"
    bash.type("exit\r")


def test_killed_as_a_job_while_it_is_suspended(shell: Callable[..., Shell]) -> None:
    bash = shell()
    bash.begin(HELD * 4)
    bash.suspend()
    bash.type("kill %1; fg\r")  # `wait` does not wait for a job that was stopped a moment ago
    bash.shows("taskrun: 0 tasks done, none failed, 4 not run")
    bash.shows(PROMPT)
    assert bash.code() == 3
    assert [each["how"] for each in bash.result().events("told")][:2] == ["suspend", "preempt"]
    assert len(bash.result().events("attempt")) == 2
    bash.type("exit\r")


def test_it_ends_while_it_is_suspended(shell: Callable[..., Shell]) -> None:
    """Nothing is left to start: the shell is told that its job is done."""
    bash = shell()
    bash.begin(HELD * 2)
    bash.suspend()
    bash.type("touch go\r")
    bash.shows("taskrun: 2 tasks done, none failed")
    bash.type("wait %1; jobs\r")
    assert bash.code() == 0
    bash.type("exit\r")


def test_the_front_is_killed(shell: Callable[..., Shell], taskrun: Taskrun) -> None:
    """The driver does not live on unseen."""
    bash = shell()
    bash.begin(HELD * 4)
    front = bash.suspend()
    os.kill(front, signal.SIGKILL)
    bash.shows("taskrun: 0 tasks done, none failed, 4 not run")
    bash.until(lambda: bash.result().sidecar().get("exit_code") is not None, "its end")
    assert bash.result().sidecar()["exit_code"] == 3
    bash.type("exit\r")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_the_driver_is_killed(shell: Callable[..., Shell], taskrun: Taskrun, number: int) -> None:
    """The shell is told how; Ctrl-\\ is one way."""
    bash = shell()
    bash.begin(HELD * 4)
    if number == signal.SIGQUIT:
        bash.type("\x1c")
    else:
        os.kill(driver_of(taskrun, foreground(bash)), number)
    bash.shows(PROMPT)
    assert bash.code() == 128 + number
    bash.type("exit\r")


def foreground(shell: Shell) -> int:
    return os.tcgetpgrp(shell.master)


def test_continued_before_it_has_stopped(shell: Callable[..., Shell], taskrun: Taskrun) -> None:
    """Others of a job stop at once, and the shell may continue it while its driver still says what happens."""
    bash = shell()
    bash.begin(HELD * 2)
    front = foreground(bash)
    driver = driver_of(taskrun, front)
    os.kill(driver, signal.SIGSTOP)
    os.kill(front, signal.SIGTSTP)
    time.sleep(0.2)
    os.kill(front, signal.SIGCONT)
    os.kill(driver, signal.SIGCONT)  # which takes the other signal back
    time.sleep(1.3)  # the front waits for the driver's words no longer
    assert Path(f"/proc/{front}/stat").read_text().rpartition(") ")[2][0] == "S"
    (bash.folder / "go").touch()
    bash.shows("taskrun: 2 tasks done")
    bash.shows(PROMPT)
    assert bash.code() == 0
    bash.type("exit\r")


def test_the_terminal_is_closed(shell: Callable[..., Shell]) -> None:
    """Tasks are given back, in order."""
    bash = shell()
    bash.begin(HELD * 4)
    bash.hang_up()
    until(lambda: bash.result().sidecar().get("exit_code") is not None, 15, "its end")
    assert bash.result().sidecar()["exit_code"] == 3
    assert {each["cause"] for each in bash.result().events("attempt")} == {"preempted"}


def test_in_a_script(shell: Callable[..., Shell]) -> None:
    """The whole job stops, and goes on; what the driver said to others is said to them."""
    bash = shell()
    bash.taskrun.write({"script": f"taskrun tasks.txt {FLAGS} | cat\necho after it\n"})
    bash.begin(HELD * 4, "sh script")
    bash.suspend()
    bash.type("jobs\r")
    bash.shows("Stopped +sh script")
    (bash.folder / "go").touch()
    bash.type("fg\r")
    bash.shows("taskrun: 4 tasks done")
    bash.shows("\nafter it")
    bash.type("exit\r")


def test_attached_engines_go_on(shell: Callable[..., Shell], taskrun: Taskrun) -> None:
    taskrun.write({"tasks.txt": HELD * 4})
    running = taskrun.start("tasks.txt", "-S", "--use-address", "127.0.0.1:0", "-p", "run", "--lost-after", "1.5")
    until((taskrun.folder / "run_attach.json").exists, 20, "the door to open")
    bash = shell()
    bash.type("taskrun attach run -s localhost:2\r")
    bash.until((bash.folder / "started_1").exists, "the tasks to start")
    bash.type("\x1a")
    bash.shows(r"goes on working for the run; `fg` or `kill -CONT \d+` brings this command back")
    bash.shows(PROMPT)
    time.sleep(2.5)
    (bash.folder / "go").touch()
    result = running.finish()
    assert result.code == 0, result.err
    assert [each["cause"] for each in result.events("attempt")] == ["ok"] * 4
    bash.type("fg\r")
    bash.shows(PROMPT)
    bash.type("exit\r")


def test_typed_in_tasks_are_read(shell: Callable[..., Shell]) -> None:
    """Only who is in the foreground can read a terminal."""
    bash = shell()
    bash.type("taskrun - -s localhost:1 -p run\r")
    bash.until((bash.folder / "run_status.txt").exists, "it to read")
    bash.type("echo typed > typed\r\x04")
    bash.shows("taskrun: 1 task done, none failed")
    bash.shows(PROMPT)
    assert (bash.folder / "typed").read_text() == "typed\n"
    bash.type("exit\r")


def test_typed_in_tasks_are_suspended(shell: Callable[..., Shell]) -> None:
    """No shell can prompt while the terminal is read: the same key continues."""
    bash = shell()
    bash.type(f"taskrun - {FLAGS}\r")
    events = bash.folder / "run_events.jsonl"
    bash.until(lambda: events.exists() and '"what":"joined","engine"' in events.read_text(), "an engine: it reads, and knows the key")
    bash.type("\x1a")
    bash.shows(r"taskrun: suspended: no task runs, nothing new starts; Ctrl-Z again or `kill -CONT \d+` continues")
    bash.type("echo typed > typed\r")
    time.sleep(0.3)
    bash.look(0.1)
    assert not (bash.folder / "typed").exists()
    bash.type("\x1a")
    bash.shows("taskrun: continued")
    bash.type("\x04")
    bash.shows("taskrun: 1 task done, none failed")
    bash.shows(PROMPT)
    bash.type("exit\r")


def test_suspended_without_a_terminal(taskrun: Taskrun) -> None:
    """By a batch system, or `kill`: it does not stop, and a stop is a stop."""
    running = taskrun.start("tasks.txt", *FLAGS.split(), files={"tasks.txt": HELD * 4})
    until((taskrun.folder / "started_1").exists, 15, "the tasks to start")
    running.send(signal.SIGTSTP)
    until(lambda: f"`kill -CONT {running.pid}` continues" in running.said()[1], 10, "it to be said")
    (taskrun.folder / "go").touch()
    until(lambda: (taskrun.folder / "run_status.txt").read_bytes().count(b"\n") == 2, 10, "two records")
    time.sleep(0.3)
    assert not (taskrun.folder / "started_2").exists()
    running.send(signal.SIGTERM)
    result = running.finish(10)
    assert result.code == 3
    assert [each["ReturnCode"] for each in result.records()] == [0, 0]
    assert "2 not run" in result.err
