"""A frame of the live view: a few lines of just the width that there is.

The only user of rich, imported when a run has gone on for a while: it costs more than the start of a run.
"""

from __future__ import annotations

import io

from rich.console import Console as RichConsole
from rich.progress_bar import ProgressBar
from rich.text import Text

from taskrun.model import Task
from taskrun.observers.failure import last_line, place, shortened
from taskrun.observers.progress import Failure, Progress, Times, clock, counted, fit
from taskrun.visible import visible

BAR_LEAST = 10  # cells of a bar that says something
BAR_MOST = 60
FAILURES = 3
QUOTED = 200  # characters of a command that are looked at

STYLES = {"failed": "red", "waiting": "yellow"}


class Painter:
    """Makes the frames of one terminal."""

    def __init__(self, encoding: str, *, color: bool) -> None:
        self._simple = not encoding.lower().startswith("utf")
        self._console = RichConsole(
            file=io.TextIOWrapper(io.BytesIO(), encoding=encoding),
            force_terminal=True,
            color_system="standard" if color else None,
            legacy_windows=False,
            width=10_000,  # lines are cut here, not there
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._between = " | " if self._simple else " · "

    def frame(self, progress: Progress, times: Times, width: int, height: int) -> list[tuple[str, int]]:
        """(line, its cells), each less than `width` cells, so that no terminal breaks it, and less than `height` lines."""
        room = max(1, width - 1)
        lines = [] if progress.left is None else [self._bar(progress, times, room)]
        lines.append(self._numbers(progress, times, room))
        lines += [self._failure(failure, room) for failure in progress.failures[-FAILURES:]]
        del lines[max(1, height - 1) :]
        for line in lines:
            self._cut(line, room)
        return [(self.rendered(line), line.cell_len) for line in lines]

    def rendered(self, line: Text) -> str:
        """What a terminal is sent to show it."""
        with self._console.capture() as captured:
            self._console.print(line, end="", soft_wrap=True)
        return captured.get()

    def _cut(self, line: Text, cells: int) -> Text:
        line.truncate(cells, overflow="crop" if self._simple else "ellipsis")
        return line

    def _bar(self, progress: Progress, times: Times, room: int) -> Text:
        total = progress.finished + progress.running + (progress.left or 0)
        words = [f"{100 * progress.finished // total if total else 100:3}%", clock(times.elapsed)]
        if times.left is not None:
            words.append(f"{'' if self._simple else '≈ '}{clock(times.left)} to go")
        while len(words) > 1 and len("  ".join(words)) + 1 + BAR_LEAST > room:
            del words[1]
        text = "  ".join(words)
        width = min(BAR_MOST, room - len(text) - 1)
        if width < BAR_LEAST:
            return Text(text)
        line = Text()
        bar = ProgressBar(total or 1, progress.finished, width, style="bright_black", complete_style="green", finished_style="green")
        for segment in self._console.render(bar):
            line.append(segment.text, segment.style)
        line.pad_right(width - line.cell_len)
        return line.append(f" {text}")

    def _numbers(self, progress: Progress, times: Times, room: int) -> Text:
        parts = counted(progress, times)
        if progress.slots:
            parts["slots"] = f"{min(progress.running, progress.slots):,} of {progress.slots:,} slots"
        if progress.left is None:
            parts["elapsed"] = clock(times.elapsed)
        if progress.waiting:
            parts["waiting"] = progress.waiting
        elif progress.data:
            parts["data"] = f"data {progress.data}"
        fit(parts, room, self._between)
        return Text(self._between).join(Text(visible(text), STYLES.get(name, "")) for name, text in parts.items())

    def _failure(self, failure: Failure, room: int) -> Text:
        task, result = failure
        what = "" if isinstance(task, Task) else f"PERENGINE {result.kind.upper()}, "
        how = (
            result.cause
            if result.cause not in ("exit", "signal")
            else f"exit {result.code}"
            if result.code >= 0
            else f"signal {-result.code}"
        )
        line = Text().append(f"{place(task)}, {what}{how}: ", "red")
        command = Text(shortened(task.command[: 4 * QUOTED], QUOTED))
        said = last_line(result)
        if said:
            command = self._cut(command, max(8, (room - line.cell_len) // 2))
        line.append_text(command)
        return line.append(f"  {said}", "dim") if said else line
