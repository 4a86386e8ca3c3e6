"""`taskrun monitor`: asks a run that lives how it is, again and again; reads the files of one that does not."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun.driver.caller import Caller, is_dead, prefix_of, why_not
from taskrun.engines import attach_frames as at
from taskrun.engines.tls import Broken
from taskrun.errors import Refused
from taskrun.observers import monitor, replay
from taskrun.observers.terminal import Gone, Terminal
from taskrun.status import names

if TYPE_CHECKING:
    from taskrun.observers.monitor_view import MonitorView

LOOK_SECONDS = 1.0  # between two looks
_KEYS = {b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down"}


class Asked:
    """A run that can be asked."""

    note = ""

    def __init__(self, name: str, use_address: str | None) -> None:
        """Raises Refused."""
        self.name = name
        self.use_address = use_address
        self.caller = Caller(name, "control", use_address)

    def look(self) -> dict[str, Any]:
        """Raises Refused when it does not answer any more; the next look connects to it again."""
        if self.caller.broken is not None:
            self.caller.close()
            self.caller = Caller(self.name, "control", self.use_address)
        try:
            seen = self.caller.ask(at.Look(), at.Seen)
        except Refused:
            self.caller.broken = self.caller.broken or Broken("it did not answer")  # an answer may come late, to another question
            raise
        assert isinstance(seen, at.Seen)
        return monitor.checked(seen.picture)

    def over(self) -> bool:
        """Return whether the run is over: its files say that it has ended or was killed, or there are none here."""
        return why_not(prefix_of(self.name)) is not None

    def detach(self, name: str, now: bool) -> str:
        """What the run says to that."""
        done = self.caller.ask(at.Detach(name, now), at.Done)
        assert isinstance(done, at.Done)
        return done.text

    def close(self) -> None:
        self.caller.close()


class Read:
    """A run of which only the files can be read."""

    def __init__(self, prefix: Path, note: str) -> None:
        self.prefix = prefix
        self.note = note

    def look(self) -> dict[str, Any]:
        """Raises Refused."""
        return replay.from_files(self.prefix, alive=not is_dead(self.prefix))

    def close(self) -> None:
        """Nothing is open."""


def source(name: str, use_address: str | None) -> Asked | Read:
    """Where to look. Raises Refused."""
    prefix = prefix_of(name)
    over = why_not(prefix)
    there = names.with_suffix(prefix, names.SIDECAR).exists()
    if over is not None and there:
        return Read(prefix, "")
    try:
        return Asked(name, use_address)
    except Refused as error:
        if there:
            return Read(prefix, str(error))
        raise


def live(where: Asked, name: str) -> None:
    """The live view, until the person leaves or the run is over. Raises Refused."""
    from taskrun.observers.monitor_view import MonitorView

    terminal = Terminal(sys.stdout, os.environ)
    view = MonitorView(terminal.encoding, color=not os.environ.get("NO_COLOR"))
    try:
        view.show(where.look())
        try:
            with _keys(terminal) as read_key:
                _follow(where, view, terminal, read_key)
        finally:  # also when a signal ends it
            with contextlib.suppress(Gone):
                terminal.erase()
                terminal.finish()
        if not view.left:  # the run is over: how it ended stays to be read
            sys.stdout.write(monitor.text(last_look(name, view.picture), terminal.size.columns - 1, terminal.size.lines))
    finally:
        terminal.close()


def last_look(name: str, picture: dict[str, Any]) -> dict[str, Any]:
    """The files of a run that is over; without them what was seen last."""
    with contextlib.suppress(Refused):
        return replay.from_files(prefix_of(name), alive=False)
    return picture | {"state": "does not answer any more"}


def _follow(where: Asked, view: MonitorView, terminal: Terminal, read_key: Callable[[float], list[str]]) -> None:
    """Show the run until the person leaves or it is over. A run that is silent may live, or write its last files: it is waited for."""
    look_at, silent = time.monotonic() + LOOK_SECONDS, False
    while not view.left:
        terminal.draw(view.frame(*terminal.size))
        for key in read_key(max(0.0, look_at - time.monotonic())):
            wish = view.key(key)
            if wish is not None:
                try:
                    view.said = where.detach(wish.name, wish.now)
                except Refused as error:
                    view.said = str(error)
                look_at = 0.0
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + LOOK_SECONDS
            try:
                view.show(where.look())
                if silent:
                    silent, view.said = False, ""
            except Refused as error:
                if where.over():
                    return
                silent, view.said = True, str(error)


@contextlib.contextmanager
def _keys(terminal: Terminal) -> Iterator[Callable[[float], list[str]]]:
    """Keys as they are typed, not shown; the terminal is as it was afterwards, however this ends."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    resized: list[int] = []

    def changed(number: int, _: object) -> None:
        resized.append(number)
        if number == signal.SIGCONT:
            tty.setcbreak(fd)
            terminal.forget()

    def end(*_: object) -> None:
        raise SystemExit(143)

    old = {number: signal.signal(number, changed) for number in (signal.SIGWINCH, signal.SIGCONT)}
    old |= {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(fd, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)

    def read(seconds: float) -> list[str]:
        for key, _ in selector.select(seconds):
            if key.fd == woken:
                if signal.SIGWINCH in os.read(woken, 512):
                    terminal.resized()
                    terminal.wipe()
            else:
                return typed(os.read(fd, 64))
        return []

    try:
        tty.setcbreak(fd)
        yield read
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(old_wake)
        for number, handler in old.items():
            signal.signal(number, handler)
        selector.close()
        os.close(woken)
        os.close(wake)


def typed(data: bytes) -> list[str]:
    """Names of keys; `q` when the terminal is gone."""
    if not data:
        return ["q"]
    keys = []
    while data:
        name = _KEYS.get(data[:3])
        keys.append(name or chr(data[0]))
        data = data[3 if name else 1 :]
    return keys
