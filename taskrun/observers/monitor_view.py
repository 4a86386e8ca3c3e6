"""The live view of `taskrun monitor`: the table of engines with a cursor in it, and what its keys ask for."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.text import Text

from taskrun.observers.frame import Painter
from taskrun.observers.monitor import context_rows, engine_rows, headlines
from taskrun.visible import visible

HELP = (
    "↑ ↓ or u d   choose an engine",
    "E            stop the engine: it ends what it runs, then it leaves",
    "C            stop its context, with all its engines",
    "!            stop the engine at once: what it runs is ended and runs again elsewhere",
    "h or ?       this help, and back",
    "q            leave; the run goes on",
)
KEYS = "↑↓ choose · E stop engine · C stop context · ! at once · h help · q leave"
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
        lines = [Text(line, "bold" if number == 0 else "") for number, line in enumerate(headlines(self.picture))]
        if self.helping:
            lines += [Text(), *map(Text, HELP)]
        else:
            contexts = [Text(line, "" if number else "bold") for number, line in enumerate(context_rows(self.picture))]
            table = self._table()
            room = height - 1 - len(lines) - 4
            if len(contexts) + len(table) <= room:
                lines += [Text(), *contexts]
                room -= len(contexts) + 1
            lines += [Text(), table[0], *self._window(table[1:], max(1, room))]
        lines += [Text(), self._foot()]
        for line in lines:
            line.truncate(max(1, width - 1), overflow="crop" if self._simple else "ellipsis")
        return [(self._painter.rendered(line), line.cell_len) for line in lines[-max(1, height - 1) :]]

    def _table(self) -> list[Text]:
        head, *rows = engine_rows(self.picture)
        table = [Text(head.text, "bold")]
        for row in rows:
            chosen = row.engine == self.chosen
            table.append(Text(f"{'>' if chosen and self._simple else ''}{row.text}", "reverse" if chosen else STYLES.get(row.state, "")))
        return table

    def _window(self, rows: list[Text], room: int) -> list[Text]:
        """As many rows as there is room for, the chosen one among them."""
        names = [row.engine for row in self._rows()]
        place = names.index(self.chosen) if self.chosen in names else 0
        first = max(0, min(place - room // 2, len(rows) - room))
        return rows[first : first + room]

    def _foot(self) -> Text:
        if self.asking is not None:
            return Text(visible(self.asking[0]), "bold yellow")
        return Text(visible(self.said), "yellow") if self.said else Text(KEYS, "dim")
