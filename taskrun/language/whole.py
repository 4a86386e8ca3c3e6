"""A whole task file parsed at once by the grammar: the definition of the language. The reader must give the same, in any pieces."""

from __future__ import annotations

from typing import NamedTuple

from taskrun.language.diagnostics import CAP, Diagnostic, first_error
from taskrun.language.grammar import parse_lines
from taskrun.language.items import Item, Lines, above
from taskrun.language.meaning import Meaning
from taskrun.language.order import Order
from taskrun.language.raw_text import RawText


class Whole(NamedTuple):
    """What a task file says above its first error, every task a `Lines` of its own, and what is wrong with it."""

    items: list[Item]
    diagnostics: list[Diagnostic]


def parse_whole(data: bytes, name: str = "tasks.txt", *, ignore_unknown: bool = False) -> Whole:
    """The program in `data`. Any bytes are a task file, so nothing is raised. For tests and short texts: a tree of every line is built."""
    end = data.rfind(b"\n") + 1
    raw_text = RawText(name)
    text, early = raw_text.admit(data[:end], 1) if end else (b"", iter(()))
    found = list(early)
    if end < len(data):
        last, more = raw_text.admit(data[end:], text.count(b"\n") + 1)
        text += last
        found += more

    order = Order(ignore_unknown)
    items: list[Item] = []
    raws = text.split(b"\n")
    for parsed in parse_lines(text):
        raw = raws[parsed.line - 1]
        if not isinstance(parsed, Meaning):
            order.close(parsed.line)
            items.append(Lines(parsed.line, parsed.encode("latin-1"), 1))
            continue
        item, findings = order.admit(parsed, parsed.line, raw)
        if item is not None:
            items.append(item)
        for finding in findings:
            severity = finding.severity(ignore_unknown)
            found.append(Diagnostic.at(severity, parsed.line, finding.column, finding.length, finding.message, finding.hint, raw))
    found.sort(key=lambda diagnostic: (diagnostic.line, diagnostic.column))
    error = first_error(found)
    kept = [place for severity in ("error", "warning") for place in [p for p, d in enumerate(found) if d.severity == severity][:CAP]]
    return Whole(above(items, error) if error else items, [found[place] for place in sorted(kept)])
