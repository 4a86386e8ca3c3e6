"""A whole task file parsed at once by the grammar: the definition of the language. The reader must give the same, in any pieces."""

from __future__ import annotations

from typing import NamedTuple

from taskrun.language.diagnostics import Diagnostic, Problems, first_error
from taskrun.language.grammar import parse_lines
from taskrun.language.items import Allow, Item, Lines, above
from taskrun.language.meaning import Meaning
from taskrun.language.order import Order
from taskrun.language.raw_text import RawText
from taskrun.language.recognition import Recognition
from taskrun.language.slips import Slip


class Whole(NamedTuple):
    """What a task file says above its first error, every task a `Lines` of its own, and what is wrong with it."""

    items: list[Item]
    diagnostics: list[Diagnostic]


def parse_whole(data: bytes, name: str = "tasks.txt", *, ignore_unknown: bool = False, strict: bool = False) -> Whole:
    """The program in `data`. Any bytes are a task file, so nothing is raised. For tests and short texts: a tree of every line is built."""
    end = data.rfind(b"\n") + 1
    raw_text = RawText(name)
    text, early = raw_text.admit(data[:end], 1) if end else (b"", iter(()))
    found: list[Diagnostic | Slip] = [*early]
    if end < len(data):
        last, more = raw_text.admit(data[end:], text.count(b"\n") + 1)
        text += last
        found += more

    order, slips, problems = Order(ignore_unknown), Recognition(), Problems(strict)
    items: list[Item] = []
    raws = text.split(b"\n")
    parsed = {each.line: each for each in parse_lines(text)}
    for line, raw in enumerate(raws if raws[-1] else raws[:-1], 1):
        meaning = parsed.get(line)
        if not isinstance(meaning, Meaning):
            found += slips.of_lines(b"\n%b\n" % raw, 1, len(raw) + 1, line, meaning is None)
            if meaning is not None:
                order.close(line)
                items.append(Lines(line, meaning.encode("latin-1"), 1))
            continue
        item, findings = order.admit(meaning, line, raw)
        if isinstance(item, Allow):
            problems.allow(item.kinds, line)
            item = None
        elif item is not None:
            items.append(item)
        found += [finding.of(line, raw, ignore_unknown) for finding in findings]
        found += slips.of_directive(item, line, raw)
    for each in sorted(found, key=lambda each: (each.line, each.column)):
        if isinstance(each, Slip):
            problems.add_slip(each)
        else:
            problems.add(each)
    error = first_error(problems.kept)
    return Whole(above(items, error) if error else items, problems.kept)
