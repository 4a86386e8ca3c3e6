"""Which view there is, when it shows something, and that a view that fails is only a view."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from taskrun.observers import console as module
from taskrun.observers.console import Console
from taskrun.observers.pace import Pace
from taskrun.observers.progress import Progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "said").open("w+", encoding="utf-8") as stream:
        yield stream


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield stream, master
    os.close(master)


def said(stream: TextIO) -> list[str]:
    return Path(stream.name).read_text("utf-8").splitlines()


def test_in_a_file_there_is_a_line_after_30_seconds_and_then_ever_more_rarely(clock: Clock, file: TextIO) -> None:
    console = Console(False, stream=file, environ={})
    at = []
    for second in range(300):
        clock.now = 1000.0 + second
        before = len(said(file))
        console.update(lambda: Progress(done=7, finished=7, left=1))
        if len(said(file)) > before:
            at.append(second)
    assert at == [30, 75, 143, 245]
    assert said(file)[0] == "taskrun: 7 done · 0 running · 1 left · 14.0/min · 30 s so far · about 1 s to go"


def test_between_two_looks_nothing_is_asked_for(clock: Clock, file: TextIO) -> None:
    console = Console(False, stream=file, environ={})
    asked = []

    def progress() -> Progress:
        asked.append(clock.now)
        return Progress()

    for number in range(10_000):
        clock.now = 1000.0 + number / 1000
        console.update(progress)
    assert len(asked) == 9


def test_quiet_shows_nothing_and_still_says_what_it_is_told_to(clock: Clock, file: TextIO) -> None:
    console = Console(True, stream=file, environ={})
    clock.now += 1e6
    console.update(lambda: pytest.fail("asked"))
    console.say("taskrun: the end")
    console.leave()
    console.close()
    assert said(file) == ["taskrun: the end"]


def test_a_view_that_fails_is_given_up_once_and_words_go_on(clock: Clock, file: TextIO) -> None:
    console = Console(False, stream=file, environ={})
    failures: list[str] = []
    console.on_failure = failures.append

    def broken() -> Progress:
        raise ZeroDivisionError("a mistake of ours")

    for _ in range(3):
        clock.now += 100
        console.update(broken)
    console.say("and on")
    assert failures == ["the progress view is given up: ZeroDivisionError: a mistake of ours"]
    assert said(file) == ["and on"]


@pytest.mark.parametrize("environ", [{}, {"TERM": ""}, {"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_that_cannot_move_gets_lines(clock: Clock, terminal: tuple[TextIO, int], environ: dict[str, str]) -> None:
    stream, master = terminal
    console = Console(False, stream=stream, environ=environ)
    clock.now += 31
    console.update(lambda: Progress(done=1, finished=1))
    assert os.read(master, 1000) == "taskrun: 1 done · 0 running · 1.9/min · 31 s so far\r\n".encode()


def test_nothing_is_drawn_in_the_first_second(clock: Clock, terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    console = Console(False, stream=stream, environ={"TERM": "xterm"})
    os.set_blocking(master, False)
    for _ in range(3):
        clock.now += 0.3
        console.update(lambda: Progress(done=1, finished=1, left=1))
    with pytest.raises(BlockingIOError):
        os.read(master, 1000)
    clock.now += 0.3
    console.update(lambda: Progress(done=1, finished=1, left=1))
    assert b" 50%" in os.read(master, 1000)
    console.close()
    assert os.read(master, 1000) == b"\r\x1b[K\x1b[A\x1b[2K"


def test_frames_are_few_however_often_it_is_asked(clock: Clock, terminal: tuple[TextIO, int], count: Callable[[], int]) -> None:
    stream, _ = terminal
    console = Console(False, stream=stream, environ={"TERM": "xterm"})
    for number in range(10_000):
        clock.now = 1000.0 + number / 1000
        console.update(lambda: Progress(done=1, finished=1, left=1))
    console.close()
    assert 9 <= count() <= 37


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    from taskrun.observers.terminal import Terminal

    drawn: list[object] = []
    monkeypatch.setattr(Terminal, "draw", lambda self, lines: drawn.append(lines))
    return lambda: len(drawn)


def test_of_a_run_that_stops_only_what_runs_is_reckoned_with() -> None:
    """Also of a stream; nothing is said of what was told to end, or has run longer than anything that has ended."""
    pace = Pace(0.0)
    going = Progress(running=2, left=1000, slots=2)
    for second in range(1, 41):
        times = module.look(pace, going._replace(finished=second // 5, ended=(10.0,)), float(second), 0.0)
    assert times.left is not None
    assert times.left > 1000
    stopping = going._replace(stopping=True, finished=8)
    for progress in (stopping, stopping._replace(left=None), stopping._replace(oldest=9.0)):
        left = module.look(pace, progress, 41.0, 0.0).left
        assert left is not None
        assert left <= 10
    for unknown in (stopping._replace(oldest=11.0), stopping._replace(ending=True), going._replace(left=None)):
        assert module.look(pace, unknown, 41.0, 0.0).left is None
