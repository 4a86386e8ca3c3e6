"""What is wrong with a task file, and where: the values, their cap, and their picture with a caret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from taskrun.visible import cell, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    @classmethod
    def at(cls, severity: Severity, line: int, column: int, length: int, message: str, hint: str | None, raw: bytes) -> Diagnostic:
        """The diagnostic for a place in the line `raw`, of which no more is kept than can be shown."""
        before = max(0, column - 1 - _EXCERPT // 4) if len(raw) > _EXCERPT else 0
        text = raw[before : before + _EXCERPT]
        return cls(severity, line, column, length, message, hint, text, before, len(raw) - before - len(text))


class Problems:
    """Collects diagnostics in the order of the file. Memory stays bounded however wrong the file is."""

    def __init__(self) -> None:
        self.kept: list[Diagnostic] = []
        self.count: dict[Severity, int] = {"error": 0, "warning": 0}

    def wants(self, severity: Severity) -> bool:
        """Counts one more; False if it need not even be made, as it would not be kept."""
        self.count[severity] += 1
        return self.count[severity] <= CAP


def first_error(diagnostics: Iterable[Diagnostic]) -> int:
    """The line of the first error; 0 if there is none."""
    return next((diagnostic.line for diagnostic in diagnostics if diagnostic.severity == "error"), 0)


def render(diagnostic: Diagnostic, name: str, color: bool = False) -> str:
    """The diagnostic as a person reads it: place and message, the line, a caret below the place, the hint. No newline at the end."""
    paint = _paint if color else _plain
    accent = "1;31" if diagnostic.severity == "error" else "1;33"
    place = f"{visible(name)}:{diagnostic.line}:{diagnostic.column}:"
    number = f"  {diagnostic.line} "
    shown, indent, carets = _picture(diagnostic)
    lines = [
        f"{paint(place, '1')} {paint(diagnostic.severity + ':', accent)} {paint(visible(diagnostic.message), '1')}",
        f"{paint(number + '|', '34')} {shown}".rstrip(),
        f"{paint(' ' * len(number) + '|', '34')} {' ' * indent}{paint('^' * carets, accent)}",
    ]
    if diagnostic.hint:
        lines += [f"  {paint('help:', '36')} {visible(hint)}" for hint in diagnostic.hint.split("\n")]
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
