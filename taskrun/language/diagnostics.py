"""What is wrong with a task file, and where: the values, their cap, and their picture with a caret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from taskrun.visible import cell, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskrun.language.slips import Slip

Severity: TypeAlias = Literal["error", "warning"]

CAP = 50  # of each severity; more are counted, not kept

_EXCERPT = 400  # bytes kept of a long line, around the place
_WIDTH = 100  # columns shown of a line
_LEAD = 30  # columns shown before the place, in a line that is cut
_TAB = "    "


class Diagnostic(NamedTuple):
    """One problem of one line. Line and column are 1-based; columns and length count bytes."""

    severity: Severity
    line: int
    column: int
    length: int
    message: str
    hint: str | None
    text: bytes  # the line; of a long one the part around the column
    before: int = 0  # bytes of the line cut off before `text`
    after: int = 0  # and after it
    kind: str = ""  # of a warning: the name that silences it
    more: int = 0  # lines below of which the same is to be said

    @classmethod
    def at(
        cls, severity: Severity, line: int, column: int, length: int, message: str, hint: str | None, raw: bytes, kind: str = ""
    ) -> Diagnostic:
        """The diagnostic for a place in the line `raw`, of which no more is kept than can be shown."""
        before = max(0, column - 1 - _EXCERPT // 4) if len(raw) > _EXCERPT else 0
        text = raw[before : before + _EXCERPT]
        return cls(severity, line, column, length, message, hint, text, before, len(raw) - before - len(text), kind)


class Problems:
    """Collects diagnostics in the order of the file. Memory stays bounded however wrong the file is."""

    def __init__(self, strict: bool = False) -> None:
        """`strict`: warnings are errors."""
        self.kept: list[Diagnostic] = []
        self.count: dict[Severity, int] = {"error": 0, "warning": 0}
        self._allowed: dict[str, int] = {}  # kind -> the line from which on it is no warning
        self._strict = strict
        self._groups: dict[str, int] = {}  # group -> where the first of it is kept, -1 if it is not

    def fork(self) -> Problems:
        """Another one without what was found so far."""
        other = Problems(self._strict)
        other._allowed = self._allowed.copy()
        return other

    def allow(self, kinds: Iterable[str], line: int) -> None:
        """Warnings of these kinds are silent from this line on."""
        for kind in kinds:
            self._allowed.setdefault(kind, line)

    def judge(self, diagnostic: Diagnostic) -> Diagnostic | None:
        """What is to be said of it in the end: a warning may be silenced, or an error."""
        if diagnostic.severity == "error":
            return diagnostic
        if self._silent(diagnostic.kind, diagnostic.line):
            return None
        return diagnostic._replace(severity="error") if self._strict else diagnostic

    def add(self, diagnostic: Diagnostic) -> None:
        """Counts it, and keeps it unless there are too many."""
        judged = self.judge(diagnostic)
        if judged is None:
            return
        self.count[judged.severity] += 1
        if self.count[judged.severity] <= CAP:
            self.kept.append(judged)

    def add_slip(self, slip: Slip) -> None:
        """The same for a slip; of a group only the first is kept, and the others are counted there."""
        if self._silent(slip.kind, slip.line):
            return
        if slip.group in self._groups:
            place = self._groups[slip.group]
            if place >= 0:
                self.kept[place] = self.kept[place]._replace(more=self.kept[place].more + slip.lines)
            return
        kept = len(self.kept)
        told = Diagnostic.at("warning", slip.line, slip.column, slip.length, slip.message, slip.hint, slip.text, slip.kind)
        self.add(told._replace(more=slip.lines - 1))
        if slip.group:
            self._groups[slip.group] = kept if len(self.kept) > kept else -1

    def _silent(self, kind: str, line: int) -> bool:
        return self._allowed.get(kind, line + 1) <= line


def first_error(diagnostics: Iterable[Diagnostic]) -> int:
    """The line of the first error; 0 if there is none."""
    return next((diagnostic.line for diagnostic in diagnostics if diagnostic.severity == "error"), 0)


def in_order(*several: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The diagnostics of several finders in the order of the file."""
    return sorted((each for diagnostics in several for each in diagnostics), key=lambda each: (each.line, each.column))


def render(diagnostic: Diagnostic, name: str, color: bool = False) -> str:
    """The diagnostic as a person reads it: place and message, the line, a caret below the place, the hint. No newline at the end."""
    paint = _paint if color else _plain
    accent = "1;31" if diagnostic.severity == "error" else "1;33"
    place = f"{visible(name)}:{diagnostic.line}:{diagnostic.column}:"
    number = f"  {diagnostic.line} "
    shown, indent, carets = _picture(diagnostic)
    message = visible(diagnostic.message)
    if diagnostic.more:
        message += f" (and {diagnostic.more:,} more line{'' if diagnostic.more == 1 else 's'})"
    lines = [
        f"{paint(place, '1')} {paint(diagnostic.severity + ':', accent)} {paint(message, '1')}",
        f"{paint(number + '|', '34')} {shown}".rstrip(),
        f"{paint(' ' * len(number) + '|', '34')} {' ' * indent}{paint('^' * carets, accent)}",
    ]
    hints = diagnostic.hint.split("\n") if diagnostic.hint else []
    if diagnostic.kind:
        hints.append(f"`#TASKRUN ALLOW {diagnostic.kind}` above it silences this")
    lines += [f"  {paint('help:', '36')} {visible(hint)}" for hint in hints]
    return "\n".join(lines)


def render_all(diagnostics: Iterable[Diagnostic], name: str, errors: int, warnings: int, color: bool = False) -> str:
    """Every diagnostic, and how many more there are than the cap lets through. Ends with a newline unless there is nothing to say."""
    text = "".join(render(diagnostic, name, color) + "\n" for diagnostic in diagnostics)
    for count, word in ((errors, "errors"), (warnings, "warnings")):
        if count > CAP:
            text += f"{visible(name)}: {count - CAP:,} more {word} not shown\n"
    return text


def _picture(diagnostic: Diagnostic) -> tuple[str, int, int]:
    """The line as shown, the columns before the caret, and how many carets."""
    cells: list[tuple[int, str, int]] = []  # place in the line, what is shown, its columns
    place = diagnostic.before
    text = diagnostic.text
    if diagnostic.before:  # the cut may have gone through a character
        whole = text.lstrip(bytes(range(0x80, 0xC0)))
        if len(text) - len(whole) < 4:  # the longest UTF-8 character has 3 such bytes
            place += len(text) - len(whole)
            text = whole
    for char in text.decode("utf-8", "surrogateescape"):
        shown, columns = (_TAB, len(_TAB)) if char == "\t" else cell(char)
        cells.append((place, shown, columns))
        place += len(char.encode("utf-8", "surrogateescape"))

    first, last = diagnostic.column - 1, diagnostic.column - 1 + max(1, diagnostic.length)
    total = sum(columns for _, _, columns in cells)
    cut_left, cut_right = diagnostic.before > 0, diagnostic.after > 0
    lead = sum(columns for place, _, columns in cells if place < first)
    while total > _WIDTH and lead > _LEAD:
        columns = cells.pop(0)[2]
        total, lead, cut_left = total - columns, lead - columns, True
    while total > _WIDTH:
        total, cut_right = total - cells.pop()[2], True

    starts = [place for place, _, _ in cells[1:]] + [place]
    carets = sum(columns for (place, _, columns), end in zip(cells, starts, strict=False) if place < last and end > first)
    shown = ("..." if cut_left else "") + "".join(shown for _, shown, _ in cells) + ("..." if cut_right else "")
    lead = sum(columns for (_, _, columns), end in zip(cells, starts, strict=False) if end <= first)
    return shown, lead + 3 * cut_left, max(1, carets)


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def _plain(text: str, _style: str) -> str:
    return text
