"""The live view of `taskrun monitor`: the table of engines with a cursor in it, and what its keys ask for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.text import Text

from taskrun.observers.frame import Painter
from taskrun.observers.monitor import Row, context_rows, engine_rows, headlines
from taskrun.visible import visible

HELP = (
    "↑ ↓ or u d   choose an engine",
    "E            stop the engine: it ends what it runs, then it leaves",
    "C            stop its context, with all its engines",
    "!            stop the engine at once: what it runs is ended and runs again elsewhere",
    "h or ?       this help, and back",
    "q            leave; the run goes on",
)
#: The first of them that there is room for is shown.
KEYS = (
    "↑↓ choose · E stop engine · C stop context · ! at once · h help · q leave",
    "E stop engine · C stop context · h help · q leave",
    "h help · q leave",
)
_SIMPLE = {ord("↑"): "up", ord("↓"): "down", ord("·"): "|"}
STYLES = {"running": "green", "draining": "yellow", "stopping": "yellow", "leaving": "yellow", "starting": "cyan", "connecting": "cyan"}


class Wish(NamedTuple):
    """What the person wants of the run."""

    name: str
    now: bool


class MonitorView:
    """What is on the screen, and what keys do to it. Knows no terminal."""

    def __init__(self, encoding: str, *, color: bool) -> None:
        self._painter = Painter(encoding, color=color)
        self._simple = not encoding.lower().startswith("utf")
        self._between, self._cut = (" | ", "~") if self._simple else (" · ", "…")
        self._mark = ">" if self._simple else ""  # where the chosen engine may not be seen by its color
        self.picture: dict[str, Any] = {}
        self.chosen = ""  # engine
        self.helping = False
        self.asking: tuple[str, Wish] | None = None  # the question, and what a `y` means
        self.said = ""
        self.left = False

    def show(self, picture: dict[str, Any]) -> None:
        """Another look at the run. The cursor stays at its engine, or at its place when that has gone."""
        before = [row.engine for row in self._rows()]
        self.picture = picture
        names = [row.engine for row in self._rows()]
        if names and self.chosen not in names:
            place = before.index(self.chosen) if self.chosen in before else 0
            self.chosen = names[min(place, len(names) - 1)]

    def _rows(self) -> Any:
        return engine_rows(self.picture)[1:]

    def key(self, key: str) -> Wish | None:
        """One key; what is to be asked of the run, if anything."""
        if self.asking is not None:
            (_, wish), self.asking = self.asking, None
            if key in ("y", "Y"):
                return wish
            if key == "!" and not wish.now:
                return wish._replace(now=True)
            self.said = "left as it is"
            return None
        self.said = ""
        if key in ("q", "Q"):
            self.left = True
        elif key in ("h", "?"):
            self.helping = not self.helping
        elif key in ("up", "u", "k"):
            self._move(-1)
        elif key in ("down", "d", "j"):
            self._move(1)
        elif key in ("E", "C", "!"):
            self._ask(key)
        return None

    def _move(self, by: int) -> None:
        names = [row.engine for row in self._rows()]
        if names:
            place = names.index(self.chosen) + by if self.chosen in names else 0
            self.chosen = names[max(0, min(place, len(names) - 1))]

    def _ask(self, key: str) -> None:
        row = next((row for row in self._rows() if row.engine == self.chosen), None)
        if row is None:
            self.said = "there is no engine"
        elif key == "C":
            self.asking = (f"stop context {row.context} with all its engines? y · ! at once · any other key: no", Wish(row.context, False))
        elif key == "E":
            self.asking = (f"stop engine {row.engine}? y · ! at once · any other key: no", Wish(row.engine, False))
        else:
            self.asking = (f"end what {row.engine} runs, at once? y · any other key: no", Wish(row.engine, True))

    # as text

    def frame(self, width: int, height: int) -> list[tuple[str, int]]:
        """(line, its cells), each less than `width` cells, and less than `height` lines."""
        room, rows = max(1, width - 1), max(1, height - 1)
        head = [Text(line, "" if number else "bold") for number, line in enumerate(headlines(self.picture, room, self._between))]
        foot = self._foot(room)
        blank = [Text()] if rows > len(head) + len(foot) + 4 else []
        left = rows - len(head) - len(foot) - 2 * len(blank)
        body = [Text(line) for line in self._words(HELP)] if self.helping else self._tables(room, left)
        lines = [*head, *blank, *body, *blank, *foot]
        if len(lines) > rows:  # the question stays, and what the run as a whole does
            lines = [*lines[: max(0, rows - len(foot))], *foot][-rows:]
        for line in lines:
            line.truncate(room, overflow="crop" if self._simple else "ellipsis")
        return [(self._painter.rendered(line), line.cell_len) for line in lines]

    def _tables(self, width: int, room: int) -> list[Text]:
        """Contexts, if there is room for all of them, and as many engines as there is room for, the chosen one among them."""
        contexts = [Text(line, "" if number else "bold") for number, line in enumerate(context_rows(self.picture, width, self._cut))]
        first, *engines = engine_rows(self.picture, width - len(self._mark), self._cut)
        if len(contexts) + 1 + 1 + len(engines) > room:
            contexts = []
        names = [row.engine for row in engines]
        place = names.index(self.chosen) if self.chosen in names else 0
        count = max(1, room - 1)
        begin = max(0, min(place - count // 2, len(engines) - count))
        return [
            *([*contexts, Text()] if contexts else []),
            Text(" " * len(self._mark) + first.text, "bold"),
            *(self._engine(row) for row in engines[begin : begin + count]),
        ]

    def _engine(self, row: Row) -> Text:
        chosen = row.engine == self.chosen
        mark = self._mark if chosen else " " * len(self._mark)
        return Text(mark + row.text, "reverse" if chosen else STYLES.get(row.state, ""))

    def _foot(self, width: int) -> list[Text]:
        """Return the open question or the last answer, in as many lines as it takes; else the keys that there is room for."""
        if self.asking is not None or self.said:
            said, style = (self.asking[0], "bold yellow") if self.asking is not None else (self.said, "yellow")
            return [Text(line, style) for line in textwrap.wrap(self._words([visible(said)])[0], width)]
        keys = self._words(KEYS)
        return [Text(next((line for line in keys if len(line) <= width), keys[-1]), "dim")]

    def _words(self, lines: Iterable[str]) -> list[str]:
        return [line.translate(_SIMPLE) if self._simple else line for line in lines]
