"""What a line may be depends on the lines above it: PERENGINE comes first, and two ways of writing directives do not mix."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from taskrun.language.items import Allow, Barrier, Encrypt, Foreach, Item, Lines, PerEngine, Prefix, Stage, Suffix
from taskrun.language.meaning import Finding

if TYPE_CHECKING:
    from taskrun.language.meaning import Meaning


class Order:
    """Follows a task file from its first line to its last."""

    def __init__(self, ignore_unknown: bool) -> None:
        self._ignore_unknown = ignore_unknown
        self._closed = 0  # the line that ended the block in which PERENGINE may stand
        self._written: dict[str, int] = {}  # sigil -> first line that has it
        self._told_mix = False

    @property
    def closed(self) -> bool:
        """Whether PERENGINE comes too late from here on."""
        return self._closed > 0

    def copy(self) -> Order:
        """One that goes on by itself."""
        other = copy(self)
        other._written = self._written.copy()
        return other

    def close(self, line: int) -> None:
        """A task stands in `line`."""
        self._closed = self._closed or line

    def admit(self, meaning: Meaning, line: int, raw: bytes) -> tuple[Item | Allow | None, tuple[Finding, ...]]:
        """The item that the directive line `raw` is in its place, if any, and what there is to say about it."""
        findings = meaning.findings
        item = meaning.item
        if item is None and self._ignore_unknown and all(finding.weight == "unknown" for finding in findings):
            item = Lines(line, raw, 1) if meaning.fallback == "task" else meaning.fallback
            if meaning.sigil != "#":  # a bare one is a comment to disBatch
                self.close(line)
        if isinstance(item, PerEngine):
            if self._closed:
                findings = (*findings, self._too_late(meaning.sigil))
        elif item is not None and not isinstance(item, Prefix | Suffix | Stage | Encrypt | Allow):
            self.close(line)
        if meaning.sigil not in self._written:
            self._written[meaning.sigil] = line
            if "#" in self._written and "#DISBATCH" in self._written and not self._told_mix:
                self._told_mix = True
                findings = (self._mix(meaning.sigil, raw),)
        return None if item is None else _placed(item, line, raw), findings

    def _too_late(self, sigil: str) -> Finding:
        column = len(sigil) + (1 if sigil == "#" else 2)
        hint = f"engines run it before any task: move it above line {self._closed}"
        return Finding("error", column, len("PERENGINE"), f"PERENGINE comes too late, below line {self._closed}", hint)

    def _mix(self, sigil: str, raw: bytes) -> Finding:
        word = raw.split(None, 1)[0].decode("ascii", "replace")
        other = "#DISBATCH" if sigil == "#" else "#"
        seen = f"`{other}` directives" if other == "#DISBATCH" else "bare directives"
        hint = "to disBatch a bare `#NAME` is a comment: write `#TASKRUN NAME` for a directive, `# NAME` for a comment"
        return Finding("error", 1, len(word), f"`{word}` in a file that has {seen} (line {self._written[other]})", hint)


def _placed(item: Item | Allow, line: int, raw: bytes) -> Item | Allow:
    if isinstance(item, Barrier | Foreach | Stage | Encrypt):
        return item._replace(line=line, text=raw)
    return item._replace(line=line)
