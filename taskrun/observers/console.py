"""What the person sees while a run goes on: words to stderr; motion only on a terminal that can, nothing when quiet.

A view is a fold: it is shown what the driver counts now and then, and nothing for each task. A view that fails is given
up and the run goes on without it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from taskrun.observers.pace import Pace
from taskrun.observers.progress import Progress, Times, plain_line
from taskrun.visible import visible

if TYPE_CHECKING:
    from taskrun.observers.frame import Painter
    from taskrun.observers.terminal import Terminal

LIVE_AFTER = 1.0  # seconds after which a run is worth a live view, and the time that its libraries take to load
REFRESH = 0.25  # seconds between two frames, at least
SHARE = 0.02  # of the time, at most, is spent on frames
FIRST_LINE = 30.0  # seconds after which a line is said where nothing can move; then ever more rarely
LINE_LOOK = 1.0  # seconds between two looks where lines are said, for the rate
GROWTH = 1.5


class View(Protocol):
    """One way of showing progress."""

    due: float  # when it wants to be shown something again

    def show(self, progress: Progress, now: float) -> None: ...

    def say(self, text: str) -> None: ...

    def pause(self) -> None:
        """Take away what moves; nothing is shown until `resume`."""

    def resume(self) -> None:
        """Others may have written meanwhile, and the terminal may be another."""

    def leave(self) -> None:
        """Take away what is not to stay."""

    def close(self) -> None: ...


class Console:
    """The view of a run, chosen by where stderr goes."""

    def __init__(self, quiet: bool, *, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self.quiet = quiet
        self.on_failure: Callable[[str], None] = lambda _: None  # told once why the view was given up
        self._stream = stream or sys.stderr
        self._began = time.monotonic()
        self._view: View | None = None
        if not quiet and self._stream is not None:
            live = self._stream.isatty() and environ.get("TERM", "") not in ("", "dumb", "unknown")
            self._view = Live(self._stream, environ, self._began) if live else Lines(self._stream, self._began)

    def update(self, progress: Callable[[], Progress]) -> None:
        """Show how far the run is, if it is time to. Costs next to nothing if it is not."""
        view = self._view
        if view is None:
            return
        now = time.monotonic()
        if now < view.due:
            return
        try:
            view.show(progress(), now)
        except Exception as error:  # noqa: BLE001 - whatever it is: the run is worth more than its view
            self._give_up(error)

    def say(self, text: str) -> None:
        """A sentence that the person must see, above what moves. Newlines in it are ours."""
        text = visible(text, keep="\n")
        try:
            if self._view is not None:
                self._view.say(text)
            elif self._stream is not None:
                _write(self._stream, text)
        except Exception as error:  # noqa: BLE001 - a closed terminal, or a mistake of ours
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        view, self._view = self._view, None
        if view is None:
            return
        with contextlib.suppress(Exception):
            view.leave()
        with contextlib.suppress(Exception):
            view.close()
        self.on_failure(f"the progress view is given up: {type(error).__name__}: {error}")

    def suspend(self) -> None:
        """The shell is about to write where the view is."""
        self._do(lambda view: view.pause())

    def resume(self) -> None:
        """The person is back."""
        self._do(lambda view: view.resume())

    def leave(self) -> None:
        """The run is over: what moves is taken away."""
        self._do(lambda view: view.leave())

    def _do(self, what: Callable[[View], None]) -> None:
        if self._view is not None:
            try:
                what(self._view)
            except Exception as error:  # noqa: BLE001 - as above
                self._give_up(error)

    def close(self) -> None:
        """Nothing will be shown any more; sentences are still said."""
        view, self._view = self._view, None
        if view is not None:
            with contextlib.suppress(Exception):
                view.leave()
            with contextlib.suppress(Exception):
                view.close()


def _write(stream: TextIO, text: str) -> None:
    """Past the stream's buffer: what cannot be written is not tried again, at the latest when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        data = f"{text}\n".encode(stream.encoding or "utf-8", "spelt")
        while data:
            data = data[os.write(stream.fileno(), data) :]


class Lines:
    """A line now and then, for a file or a terminal that cannot move its cursor."""

    def __init__(self, stream: TextIO, now: float) -> None:
        self.due = now + LINE_LOOK
        self._stream = stream
        self._began = now
        self._next = now + FIRST_LINE
        self._pause = FIRST_LINE
        self._paused = False
        self._pace = Pace(now)

    def show(self, progress: Progress, now: float) -> None:
        self.due = now + LINE_LOOK
        times = look(self._pace, progress, now, self._began)
        if now >= self._next and not self._paused:
            self._pause *= GROWTH
            self._next = now + self._pause
            _write(self._stream, visible(plain_line(progress, times)))

    def say(self, text: str) -> None:
        _write(self._stream, text)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def leave(self) -> None:
        pass

    def close(self) -> None:
        pass


class Live:
    """A few lines at the bottom of a terminal that are drawn again and again."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str], now: float) -> None:
        self.due = now + REFRESH
        self._stream = stream
        self._environ = environ
        self._began = now
        self._pace = Pace(now)
        self._terminal: Terminal | None = None
        self._painter: Painter | None = None
        self._resized = False
        self._old: Any = None  # the handler before ours
        self._paused = False
        self._left = False

    def show(self, progress: Progress, now: float) -> None:
        times = look(self._pace, progress, now, self._began)
        if now - self._began < LIVE_AFTER:
            self.due = now + REFRESH
            return
        terminal, painter = self._terminal, self._painter
        if terminal is None or painter is None:
            terminal, painter = self._open()
        if self._resized:
            self._resized = False
            terminal.resized()
        if self._paused:
            pause = LINE_LOOK
        elif terminal.ours:
            before = time.thread_time()
            terminal.draw(painter.frame(progress, times, *terminal.size))
            pause = max(REFRESH, (time.thread_time() - before) / SHARE)
        else:  # in the background the terminal is another's
            terminal.forget()
            pause = LINE_LOOK
        if not self._resized:
            self.due = now + pause

    def _open(self) -> tuple[Terminal, Painter]:
        """Load what it takes, once, while the first tasks run."""
        from taskrun.observers.frame import Painter
        from taskrun.observers.terminal import Terminal

        self._terminal = terminal = Terminal(self._stream, self._environ)
        self._painter = painter = Painter(terminal.encoding, color=not self._environ.get("NO_COLOR"))
        if signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL:
            self._old = signal.signal(signal.SIGWINCH, self._signal)
        return terminal, painter

    def _signal(self, *_: object) -> None:
        """The loop is woken by it and shows the next frame at once."""
        self._resized = True
        self.due = 0.0

    def pause(self) -> None:
        self._paused = True
        if self._terminal is not None:
            self._terminal.erase()

    def resume(self) -> None:
        self._paused = False
        if not self._left:
            self.due = 0.0
        if self._terminal is not None:
            self._terminal.forget()
            self._terminal.resized()

    def say(self, text: str) -> None:
        if self._terminal is None or self._left:
            if self._terminal is not None:
                self._terminal.finish()
            _write(self._stream, text)
        else:
            self._terminal.say(text)

    def leave(self) -> None:
        self._left = True
        self.due = float("inf")
        if self._old is not None:
            signal.signal(signal.SIGWINCH, self._old)
            self._old = None
        if self._terminal is not None:
            if self._resized:
                self._resized = False
                self._terminal.resized()
            self._terminal.erase()

    def close(self) -> None:
        if self._terminal is not None:
            try:
                self._terminal.finish()
            finally:
                self._terminal.close()


def look(pace: Pace, progress: Progress, now: float, began: float) -> Times:
    """What the counts say about time."""
    to_start = 0 if progress.stopping else progress.left
    pace.look(now, progress.finished, progress.slots, progress.ended, to_start=to_start)
    guess = to_start is not None and not progress.ending and progress.oldest <= pace.longest
    left = pace.left(to_start, progress.running) if to_start is not None and guess else None
    return Times(now - began, pace.rate, left)
