"""`taskrun monitor`: as text, as JSON, from the files of a run that is over, and live on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attach.meeting import Meeting, gated
from harness import Taskrun, until

from taskrun.driver import monitoring
from taskrun.errors import Refused
from taskrun.observers import monitor, replay
from taskrun.observers.monitor_view import MonitorView, Wish
from taskrun.observers.terminal import Terminal

Meet = Callable[..., Meeting]
SHIM = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def test_as_text(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet("#PERENGINE START false\n" + gated(5), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:2", "-C", "9", "-l", "friend")
    meeting.wait_for(1, 2)
    shown = taskrun("monitor", "run")
    assert shown.code == 0
    lines = shown.out.split("\n")
    assert re.fullmatch(r"run: running · \d+ s", lines[0])
    assert lines[1] == "0 done · 3 running · 0 failed · 2 left"
    assert lines[3].split("  ")[0] == "CONTEXT"
    assert [line.split()[0] for line in lines[4:6]] == ["SSH0", "friend"]
    assert lines[7].split() == ["ENGINE", "CONTEXT", "HOST", "STATE", "SLOTS", "RUNNING", "DONE", "FAILED", "LOAD", "FREE", "HEARD"]
    assert [line.split()[1] for line in lines[8:10]] == ["SSH0", "friend"]
    assert [line.split()[3:8] for line in lines[8:10]] == [["running", "1", "1", "0", "0"], ["running", "2", "2", "0", "0"]]
    for name in ("run_status.txt", str(meeting.path("run.json"))):
        assert taskrun("monitor", name, "--once").out.startswith("run: running")
    meeting.go()
    assert [meeting.running.finish().code, guest.finish().code] == [0, 0]


def test_of_a_run_that_is_over(meet: Meet, taskrun: Taskrun) -> None:
    meeting = meet("#PERENGINE START true\n#PERENGINE STOP false\nexit 1\n" + gated(3), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    meeting.go()
    assert [meeting.running.finish().code, guest.finish().code] == [0, 0]
    shown = json.loads(taskrun("monitor", "run", "--json").out)
    assert shown["state"] == "ended with exit code 0"
    assert (shown["done"], shown["failed"], shown["left"]) == (3, 1, 0)
    assert [context["state"] for context in shown["contexts"]] == ["ended", "left"]
    assert [engine["state"] for engine in shown["engines"]] == ["left", "left"]
    assert sum(engine["finished"] for engine in shown["engines"]) == 4
    assert sum(engine["failed"] for engine in shown["engines"]) == 1
    assert taskrun("monitor", "run").out.startswith("run: ended with exit code 0 · ")
    assert taskrun("monitor", "walk").code == 2


def test_of_files_that_are_damaged(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-p", "run", "-s", "localhost:1", files={"tasks.txt": "true\n"})
    events = taskrun.folder / "run_events.jsonl"
    whole = events.read_bytes()
    events.write_bytes(b"[" * 100_000 + b"\n[]\n1\n{\n" + b'{"kind":"_begin","t":1}\n{"kind":"engine","t":"x"}\n' + whole + whole[:40])
    assert taskrun("monitor", "run").out.split("\n")[1] == "1 done · 0 failed · 0 not run"
    events.unlink()
    assert taskrun("monitor", "run").code == 0


class Screen:
    """A monitor on a terminal of its own."""

    def __init__(self, taskrun: Taskrun, *arguments: str, rows: int = 24, columns: int = 110) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.slave = slave  # kept, for how it was left to be looked at
        self.before = termios.tcgetattr(slave)
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHIM, *taskrun.command, "monitor", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=taskrun.folder,
            env={**taskrun.env, "TERM": "xterm-256color"},
            start_new_session=True,
        )

    def look(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 1 << 16).decode()

    def shows(self, pattern: str, seconds: float = 20.0) -> None:
        """It does so after what was asked for before."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.plain()):
            assert time.monotonic() < end, f"waited for {pattern}, in vain:\n{self.plain()[-3000:]}"
            self.look(0.1)
        self.text = ""

    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r", "")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def finish(self) -> int:
        end = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < end, self.plain()[-3000:]
            self.look(0.1)
        self.look(0.2)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def watch(taskrun: Taskrun) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def start(*arguments: str, rows: int = 24, columns: int = 110) -> Screen:
        screens.append(Screen(taskrun, *arguments, rows=rows, columns=columns))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


def test_live_with_its_keys(meet: Meet, watch: Callable[..., Screen]) -> None:
    meeting = meet(gated(6) + "until test -e end; do sleep 0.05; done\n", "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1", "-l", "friend")
    meeting.wait_for(1, 1)
    screen = watch("run")
    screen.shows(r"(?s)run: running · .*2 running.*ENGINE.*friend.*↑↓ choose")
    screen.type(b"h")
    screen.shows(r"E +stop the engine")
    screen.type(b"?")
    screen.shows(r"ENGINE +CONTEXT")
    screen.type(b"\x1b[B\x1b[B\x1b[A\x1bOBC")
    screen.shows(r"stop context friend with all its engines\?")
    screen.type(b"n")
    screen.shows(r"left as it is")
    screen.type(b"E")
    screen.shows(r"stop engine \S+_1\? y")
    screen.type(b"y")
    screen.shows(r"_1 is detached: it ends what it has")
    screen.shows(r"draining")
    meeting.go()
    assert guest.finish().code == 0
    screen.shows(r"friend +gone +0 +0 +0 +[1-9]")  # what it has finished still counts
    (meeting.folder / "end").touch()
    assert meeting.running.finish().code == 0
    assert screen.finish() == 0  # it ends with the run, and leaves how that ended
    assert "run: ended with exit code 0" in screen.plain()


def test_live_stops_an_engine_at_once(meet: Meet, watch: Callable[..., Screen]) -> None:
    meeting = meet(gated(6), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1", "-l", "friend")
    meeting.wait_for(1, 1)
    screen = watch("run", rows=10)  # no room for contexts
    screen.shows(r"friend")
    screen.type(b"dd!")
    screen.shows(r"end what \S+_1 runs, at once\? y")
    fcntl.ioctl(screen.master, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 60, 0, 0))
    screen.shows(r"(?s)run: running.*end what \S+_1 runs, at once\? y")
    screen.type(b"y")
    assert guest.finish().code == 0
    screen.type(b"q")
    assert screen.finish() == 0
    meeting.go()
    assert meeting.running.finish().code == 0
    assert len(meeting.ran()) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_terminal_is_left_as_it_was(meet: Meet, watch: Callable[..., Screen], number: int, code: int) -> None:
    meeting = meet(gated(1), "-s", "localhost:1")
    screen = watch("run")
    screen.shows("ENGINE")
    screen.process.send_signal(number)
    assert screen.finish() == code
    assert "\x1b[A\x1b[2K" in screen.text  # the view is taken off
    meeting.go()
    assert meeting.running.finish().code == 0


def picture(count: int) -> dict[str, object]:
    engine = {"context": "c", "host": "h", "state": "running", "slots": 1, "running": 1, "held": 1, "finished": 0, "failed": 0,
              "load": None, "quiet": None}  # fmt: skip
    return {"prefix": "run", "started": 0.0, "now": 1.0, "contexts": [],
            "engines": [{**engine, "name": f"e{number}", "rank": number} for number in range(count)]}  # fmt: skip


def test_the_chosen_engine_is_always_in_sight() -> None:
    view = MonitorView("utf-8", color=False)
    view.show(picture(100))
    for place in range(100):
        frame = "\n".join(text for text, _ in view.frame(80, 12))
        assert f"e{place} " in frame
        assert frame.count("\n") < 11
        view.key("down")
    view.show(picture(50))  # its engine has gone
    assert view.chosen == "e49"
    view.show(picture(0))
    assert view.key("E") is None
    assert view.said == "there is no engine"


def test_nothing_is_stopped_by_one_key() -> None:
    view = MonitorView("utf-8", color=False)
    view.show(picture(2))
    for keys, wish in (
        ("Ey", Wish("e0", now=False)),
        ("E!", Wish("e0", now=True)),
        ("Cy", Wish("c", now=False)),
        ("!y", Wish("e0", now=True)),
        ("!!", None),
        ("En", None),
        ("Eq", None),
    ):
        assert view.key(keys[0]) is None
        assert view.key(keys[1]) == wish
    assert not view.left


def test_samples_are_folded() -> None:
    """How busy an engine was on average, and how little memory there was left."""
    fold = replay.Fold()
    for event in (
        {"kind": "engine", "what": "joined", "engine": "e0", "context": "c", "host": "h", "rank": 0, "slots": 1},
        {"kind": "sample", "engine": "e0", "load": 1.0, "memory": 5, "running": 1},
        {"kind": "sample", "engine": "e0", "load": 2.5, "memory": 3, "running": 1},
        {"kind": "sample", "engine": "e0", "load": 2.5, "memory": 0, "running": 1},
        {"kind": "sample", "engine": "e1", "load": 9.0, "memory": 1, "running": 1},
        {"kind": "sample", "engine": "e0", "load": "x", "memory": 1, "running": 1},
    ):
        fold.take(json.dumps({"t": 1.0, **event}).encode())
    assert [(each["load"], each["memory"]) for each in fold.engines.values()] == [(2.0, 3)]


def test_names_that_a_terminal_would_obey() -> None:
    shown = picture(1)
    shown["engines"] = [{**shown["engines"][0], "host": "\x1b[2J"}]  # type: ignore[index]
    assert "\x1b" not in monitor.text(shown)


def wide_picture() -> dict[str, object]:
    engine = {"context": "SSH0", "host": "gpu01.cluster.example", "state": "running", "slots": 8, "running": 8, "held": 9, "finished": 1234,
              "failed": 56, "load": 7.5, "memory": 24 << 30, "quiet": 0.3}  # fmt: skip
    return {"prefix": "run", "started": 0.0, "now": 1.0, "done": 1178, "running": 8, "failed": 56, "skipped": 300, "left": 4321,
            "contexts": [{"name": "SSH0", "state": "running", "finished": 1234, "failed": 56, "limit_left": None, "from": ""}],
            "engines": [{**engine, "name": "gpu01.cluster.example_0", "rank": 0}]}  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
@pytest.mark.parametrize("height", [10, 24])
def test_failures_stay_visible(width: int, height: int) -> None:
    view = MonitorView("utf-8", color=False)
    view.show(wide_picture())
    lines = [text.rstrip() for text, _ in view.frame(width, height)]
    assert len(lines) < height
    assert all(len(line) < width for line in lines)
    assert "56 failed" in lines[1]
    head, row = lines[-4:-2]
    assert row[: head.index("FAILED") + 6].endswith(" 56")
    assert row.startswith("gpu01.cluster.example_0" if width > 30 else "gpu01.cluster.")
    if width >= 60:
        assert "4,321 left" in lines[1]
    if width == 120:
        assert row.endswith("  1178      56   7.5  24.0 GiB    0 s")


@pytest.mark.parametrize("height", range(1, 12))
def test_a_question_is_always_in_sight(height: int) -> None:
    view = MonitorView("ascii", color=False)
    view.show(picture(3))
    view.key("C")
    lines = [text for text, _ in view.frame(40, height)]
    assert len(lines) <= max(1, height - 1)
    assert "".join(lines).isascii()
    assert "any other key: no" in " ".join(lines)


def test_no_room_for_all_engines_of_a_run_that_is_over() -> None:
    lines = monitor.text({**picture(30), "over": True, "left": 7}, 60, 10).splitlines()
    assert (len(lines), lines[1], lines[-1]) == (9, "0 done · 0 failed · 7 not run", "and 26 more engines: taskrun monitor run --once")
    assert len(monitor.text(picture(30)).splitlines()) == 34


@pytest.mark.parametrize("how", ["told", "fail-fast", "limit", "killed", "resumed"])
def test_after_an_early_end_the_numbers_add_up(taskrun: Taskrun, how: str) -> None:
    """A task that ends with 0, one that does not, one that is running when the run ends, four that are not reached."""
    tasks = "true\nfalse\ntouch here; until test -e go; do sleep 0.05; done\n" + "true\n" * 4
    options = {"fail-fast": ["--fail-fast"], "limit": ["-C", "2"]}.get(how, [])
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", *options, files={"tasks.txt": tasks})
    if how in ("told", "killed", "resumed"):
        until((taskrun.folder / "here").exists)
        running.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    said = running.finish().err
    if how == "killed":
        until(lambda: taskrun("monitor", "run").out.startswith("run: killed"))
    numbers, rest = (1, 0, 1, 5), "1 done · 1 failed · 5 not run"
    if how == "resumed":  # what is on record counts, also what has not been read again
        (taskrun.folder / "here").unlink()
        running = taskrun.start("-r", "run_status.txt", "-p", "two", "-C", "1")
        (taskrun.folder / "go").touch()
        said = running.finish().err
        numbers, rest = (1, 1, 1, 4), "1 done · 1 failed · 1 skipped · 4 not run"
    (taskrun.folder / "go").touch()
    name = "two" if how == "resumed" else "run"
    shown = json.loads(taskrun("monitor", name, "--json").out)
    assert (shown["done"], shown["skipped"], shown["failed"], shown["left"]) == numbers
    lines = taskrun("monitor", name).out.split("\n")
    assert lines[1] == rest
    if how != "killed":
        assert lines[2].startswith("stopped: ")
        assert re.search(r"^taskrun: 1 task done, (1 skipped, )?1 failed, [45] not run in ", said, re.MULTILINE)


@pytest.mark.parametrize("how", ["at its end", "told"])
def test_the_last_screen_stays(meet: Meet, watch: Callable[..., Screen], how: str) -> None:
    meeting = meet(f"false\n{gated(3)}", "-s", "localhost:1")
    meeting.wait_for(0, 1)
    screen = watch("run", rows=10, columns=60)
    screen.shows(r"0 done · 1 running · 1 failed · 2 left")
    if how == "told":
        meeting.running.process.send_signal(signal.SIGTERM)
        meeting.running.process.wait(20)
    meeting.go()
    meeting.running.finish()
    assert screen.finish() == 0
    text = screen.plain()[screen.plain().rindex("run: ended") :]
    assert text.split("\n")[1] == ("0 done · 1 failed · 3 not run" if how == "told" else "3 done · 1 failed · 0 not run")
    assert re.search(r"ENGINE .*  DONE  FAILED", text)
    assert len(text.rstrip("\n").split("\n")) < 10
    assert max(map(len, text.split("\n"))) < 60


class Silent:
    """A run that does not answer twice, shows itself once more, and is over."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> dict[str, object]:
        self.looks += 1
        if self.looks != 3:
            raise Refused("the run does not answer: nothing within 10 s")
        return picture(1)

    def over(self) -> bool:
        return self.looks > 3


def test_a_run_that_is_silent_is_not_taken_for_one_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "LOOK_SECONDS", 0.0)
    view, said = MonitorView("utf-8", color=False), []
    view.show(picture(1))

    def keys(_: float) -> list[str]:
        said.append(view.said)
        return []

    with Path("/dev/null").open("w") as file:
        terminal = Terminal(file, {})
        monitoring._follow(Silent(), view, terminal, keys)  # type: ignore[arg-type]
        terminal.close()
    assert [bool(text) for text in said] == [False, True, True, False]
