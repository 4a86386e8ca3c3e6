"""What a person sees on a terminal while a run goes on: a pseudo-terminal, and a screen that shows what was written to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from harness import Taskrun, read_status

SLOW = "sleep 0.3\n" * 12
#: Tasks that end when the test says so, by a file `go`.
HELD = "until test -e go; do sleep 0.1; done\n"
#: With the terminal as its controlling one, as a shell starts it.
SHIM = "import fcntl, os, sys, termios; fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Screen:
    """The rows of a terminal. Knows the sequences that taskrun may send, and fails on any other."""

    def __init__(self, width: int, *, reflows: bool) -> None:
        self.width = width
        self.reflows = reflows
        self.rows: list[str] = [""]
        self.goes_on: set[int] = set()  # rows that the next one continues
        self.x = self.y = 0
        self.colors: set[str] = set()
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        place = 0
        for match in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|[^\x1b]", text):
            if match.start() != place:
                break
            place = match.end()
            if match[2]:
                self._control(match[1], match[2])
            else:
                self._put(match[0])
        self._rest = text[place:]
        assert len(self._rest) < 12, f"no sequence that is known: {self._rest[:20]!r}"

    def _put(self, char: str) -> None:
        if char == "\r":
            self.x = 0
        elif char == "\n":
            self._down()
        else:
            assert char.isprintable(), repr(char)
            if self.x >= self.width:
                self.goes_on.add(self.y)
                self._down()
                self.x = 0
            row = self.rows[self.y].ljust(self.x)
            self.rows[self.y] = row[: self.x] + char + row[self.x + 1 :]
            self.x += 1

    def _down(self) -> None:
        self.y += 1
        if self.y == len(self.rows):
            self.rows.append("")

    def _control(self, number: str, name: str) -> None:
        if name == "m":
            self.colors.add(number)
        elif name == "A":
            self.y -= int(number or 1)
            assert self.y >= 0
        elif (name, number) in (("K", ""), ("J", ""), ("K", "2")):
            self.rows[self.y] = self.rows[self.y][: self.x] if not number else ""
            self.goes_on.discard(self.y)
            if name == "J":
                del self.rows[self.y + 1 :]
                self.goes_on = {row for row in self.goes_on if row < self.y}
        else:
            raise AssertionError(f"unknown sequence: CSI {number}{name}")

    def resize(self, width: int) -> None:
        """Rows that are too long go on in the next one, or are cut."""
        self.width = width
        if not self.reflows:
            self.rows = [row[:width] for row in self.rows]
            return
        rows: list[str] = []
        goes_on: set[int] = set()
        line = ""
        y = 0
        for number, row in enumerate(self.rows):
            if number == self.y:
                y = len(rows) + (len(line) + self.x) // width
            line += row
            if number in self.goes_on:
                continue
            parts = [line[at : at + width] for at in range(0, len(line), width)] or [""]
            goes_on.update(range(len(rows), len(rows) + len(parts) - 1))
            rows += parts
            line = ""
        self.rows, self.goes_on, self.y, self.x = rows, goes_on, y, self.x % width

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")


class Session:
    """A taskrun whose stderr is a terminal."""

    def __init__(
        self, taskrun: Taskrun, *arguments: str, width: int = 80, term: str = "xterm-256color", ctty: bool = True, **env: str
    ) -> None:
        self.screen = Screen(width, reflows=term != "linux")
        self.raw = ""
        self.master, slave = pty.openpty()
        self._size(width)
        self.output = tempfile.TemporaryFile()
        command = [*taskrun.command, *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHIM, *command] if ctty else command,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=slave,
            cwd=taskrun.folder,
            env={**taskrun.env, "TERM": term, **env},
            start_new_session=True,
        )
        os.close(slave)

    def _size(self, width: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def resize(self, width: int) -> None:
        """First the terminal is another, then the run hears of it."""
        self.look(0.0)
        self.screen.resize(width)
        self._size(width)

    def look(self, seconds: float) -> bool:
        """Take what is written to the terminal; False when it was let go."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # nobody has it open any more
                return False
            self.raw += data.decode()
            self.screen.feed(data.decode())
        return True

    def until(self, condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds * (3 if os.environ.get("CI") else 1)
        while not condition():
            assert time.monotonic() < end, f"waited for {what}, in vain; on the screen:\n{self.screen.text()}"
            if not self.look(0.02):
                time.sleep(0.02)

    def shows(self, pattern: str, seconds: float = 15.0) -> None:
        self.until(lambda: re.search(pattern, self.screen.text()), pattern, seconds)

    def finish(self) -> int:
        self.until(lambda: self.process.poll() is not None, "its end")
        while self.look(0.0) and select.select([self.master], [], [], 0.0)[0]:
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
                os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(10)
        self.hang_up()
        self.output.close()

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


@pytest.fixture
def on_terminal(taskrun: Taskrun) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def start(lines: str, *arguments: str, width: int = 80, term: str = "xterm-256color", ctty: bool = True, **env: str) -> Session:
        taskrun.write({"tasks.txt": lines})
        session = Session(taskrun, "tasks.txt", "-s", "localhost:2", "-p", "run", *arguments, width=width, term=term, ctty=ctty, **env)
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close()


def shape(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"\d+\.\d", "N", text)


SUMMARY = "taskrun: 12 tasks done, none failed in N s · run_status.txt"


def test_the_view_is_there_and_then_gone(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    session = on_terminal("sleep 0.3\necho oh no >&2; exit 3\n" + "sleep 0.3\n" * 10)
    session.shows(r"━ +\d+%  \d+ s  ≈ \d+ s to go\n\d+ done · 2 running · 1 failed · \d+ left · [\d.]+/s · 2 of 2 slots\n")
    session.shows(r"(?m)^line 2, exit 3: echo oh no >&2; exit 3  oh no$")
    assert session.finish() == 0
    assert shape(session.screen.text()) == (
        "taskrun: 11 tasks done, 1 failed in N s · run_status.txt\n"
        "  line 2, task 1, exit 3: echo oh no >&2; exit 3\n"
        "      oh no\n"
        "exit code 0; -e counts failures\n"
        "run again what is missing and what failed: taskrun -r run_status.txt -R"
    )
    assert session.screen.colors
    assert "\x1b[?" not in session.raw  # the cursor is not hidden, so nobody has to bring it back
    session.output.seek(0)
    assert session.output.read() == b""


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_the_terminal_is_made_narrow_and_wide(taskrun: Taskrun, on_terminal: Callable[..., Session], term: str) -> None:
    session = on_terminal("sleep 0.3; exit 1\n" + HELD * 39, width=100, term=term)
    session.shows(r"line 1, exit 1")
    for width in (40, 20, 61, 120):
        session.resize(width)
        lines = len(session.raw)
        session.until(lambda lines=lines: len(session.raw) > lines + 20, "a frame")
        time.sleep(0.4)  # and some more
        session.look(0.0)
        text = session.screen.text()
        assert len(re.findall(r"\d%", text)) == 1, text
        assert len(re.findall(r"\d done", text)) == 1, text
        assert len(text.split("\n")) == 3, text
        assert max(map(len, text.split("\n"))) < width
    (taskrun.folder / "go").touch()
    assert session.finish() == 0
    assert shape(session.screen.text()).startswith("taskrun: 39 tasks done, 1 failed in N s")


def test_no_color_still_moves(on_terminal: Callable[..., Session]) -> None:
    session = on_terminal(SLOW, NO_COLOR="1")
    session.shows(r"\d%")
    assert session.finish() == 0
    assert not session.screen.colors
    assert shape(session.screen.text()) == SUMMARY


@pytest.mark.parametrize("arguments", [(), ("-q",)])
def test_a_terminal_that_cannot_move_gets_words_only(on_terminal: Callable[..., Session], arguments: tuple[str, ...]) -> None:
    session = on_terminal(SLOW, *arguments, term="dumb")
    assert session.finish() == 0
    assert shape(session.raw) == ("" if arguments else SUMMARY + "\r\n")


def test_quiet_is_quiet(on_terminal: Callable[..., Session]) -> None:
    session = on_terminal(SLOW, "-q")
    assert session.finish() == 0
    assert session.raw == ""


def test_a_stream_has_no_end_in_sight(taskrun: Taskrun, on_terminal: Callable[..., Session]) -> None:
    del on_terminal
    fifo = taskrun.folder / "lines"
    os.mkfifo(fifo)
    session = Session(taskrun, str(fifo), "-s", "localhost:2", "-p", "run")
    try:
        with fifo.open("w") as lines:
            lines.write("sleep 0.4\n" * 8)
            lines.flush()
            session.shows(r"(?m)^\d done · 2 running · [\d.]+/s · 2 of 2 slots · \d s$")
            assert "%" not in session.screen.text()
        assert session.finish() == 0
    finally:
        session.close()


def test_words_come_above_the_view(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    """The agent is killed: it is said, in order, and the view goes on below."""
    session = on_terminal("sleep 0.1\n" + HELD * 2)
    session.shows(r"\d%")
    agent = next(pid for pid, line in taskrun.processes().items() if pid != session.process.pid and "agent" in line and "slot" not in line)
    os.kill(agent, signal.SIGKILL)
    session.shows(r"(?s)taskrun: .*\n.*\d%")
    assert len(re.findall(r"\d%", session.screen.text())) == 1
    (taskrun.folder / "go").touch()
    assert session.finish() == 0
    text = session.screen.text()
    assert "taskrun: 3 tasks done, none failed" in text
    assert "%" not in text


def test_a_terminal_that_closes_ends_nothing(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    session = on_terminal(SLOW, ctty=False)
    session.shows(r"\d%")
    session.hang_up()
    assert session.process.wait(20) == 0
    assert len(read_status(taskrun.folder / "run_status.txt")) == 12
    assert "the progress view is given up" in (taskrun.folder / "run_driver.log").read_text()


def test_a_terminal_that_was_stopped_stops_nothing(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    """Ctrl-S, and Ctrl-Q when all is over."""
    session = on_terminal(SLOW)
    session.shows(r"\d%")
    os.write(session.master, b"\x13")
    status = taskrun.folder / "run_status.txt"
    session.until(lambda: status.read_bytes().count(b"\n") == 12, "all records")
    assert "tasks done" not in session.screen.text()
    os.write(session.master, b"\x11")
    assert session.finish() == 0
    assert shape(session.screen.text()) == SUMMARY


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_cleans_up(on_terminal: Callable[..., Session], number: int, code: int) -> None:
    session = on_terminal("sleep 1.5\n" * 20)
    session.shows(r"\d%")
    os.kill(session.process.pid, number)
    session.finish()
    text = session.screen.text()
    assert "%" not in text
    assert text.startswith("taskrun: ")
    assert f"stopped: {signal.Signals(number).name}" in text


def test_suspended_where_nobody_could_bring_it_back(taskrun: Taskrun, on_terminal: Callable[..., Session]) -> None:
    """There is no shell (a window of its own): the system does not stop it, and it goes on. With one: test_job_control.py."""
    session = on_terminal(HELD * 12)
    session.shows(r"\d%")
    os.kill(session.process.pid, signal.SIGTSTP)
    session.shows(r"taskrun: suspended: 2 tasks go on running.*(?s:.*)taskrun: continued\n(?s:.*)\d%")
    session.look(0.6)
    assert len(re.findall(r"\d%", session.screen.text())) == 1
    (taskrun.folder / "go").touch()
    assert session.finish() == 0
    assert shape(session.screen.text()).endswith("taskrun: continued\n" + SUMMARY)


def imported(env: Mapping[str, str], *command: str, cwd: Path) -> set[str]:
    """The libraries that a command imports, those in its own process only."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], env=dict(env), cwd=cwd, capture_output=True, check=True, timeout=30
    )
    names = re.findall(rb"(?m)^import time:.*\| +([\w.]+)$", done.stderr)
    return {name.decode().partition(".")[0] for name in names} & {"rich", "lark", "paramiko", "boto3", "gnupg", "psutil"}


def test_help_and_plain_runs_import_no_library(taskrun: Taskrun) -> None:
    taskrun.write({"tasks.txt": "true\n"})
    assert imported(taskrun.env, "-m", "taskrun", "--help", cwd=taskrun.folder) == set()
    assert imported(taskrun.env, "-m", "taskrun", "tasks.txt", "-s", "localhost:1", cwd=taskrun.folder) == set()


def test_a_short_run_on_a_terminal_imports_no_library(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    for _ in range(10):
        session = on_terminal("true\n", PYTHONPROFILEIMPORTTIME="1", term="xterm")
        assert session.finish() == 0
        for path in taskrun.folder.glob("run_*"):
            path.unlink()
        if float(re.findall(r"none failed in ([\d.]+) s", session.raw)[0]) < 0.9:
            break  # it was short; on a machine that is busy it may not be
    assert "taskrun.observers.console" in session.raw
    assert "rich" not in session.raw
    assert "lark" not in session.raw
