"""Files that are no lists of tasks: a shell script, a script for a queue, a program or data of another kind.

What a file is shows within its first lines. It is told once; that its lines are no whole commands goes without saying then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIND = "not-tasks"
_LENGTH = 1000  # bytes of one that are looked at
_SHELLS = (b"sh", b"bash", b"dash", b"ksh", b"zsh")
_ONE_TASK = "a task file holds one command per line; to run this one as a single task: echo '{} FILE' | taskrun -"

_interpreter = re.compile(rb"#![ \t]*(?:\S*/env[ \t]+(?:-\S+[ \t]+)*)?(?:\S*/)?([A-Za-z]+)[0-9.]*(?:[ \t]+-\S*)*[ \t]*$").match
_programs = {
    b"python": "python3",
    b"pypy": "pypy",
    b"perl": "perl",
    b"Rscript": "Rscript",
    b"julia": "julia",
    b"ruby": "ruby",
    b"node": "node",
}
_queue = re.compile(rb"#(SBATCH|PBS|BSUB)[ \t]+-").match
#: What makes sense only for the lines that follow in the same shell.
_setting = re.compile(
    rb"(?:set [-+][A-Za-z]+(?: [a-z]+)?|(?:cd|export|module|source|\.|conda activate|ulimit|umask) [^;&|]+"
    rb"|\w+=(?:[^ \t;&|'\"]|\"[^\"]*\"|'[^']*')*)[ \t]*$",
    re.ASCII,
).match
_statement = re.compile(
    rb"(?:(?P<python3>from [\w.]+ import [\w*(]|import [\w.]+ as \w+[ \t]*$|def \w+\(.*:[ \t]*$"
    rb"|class \w+(?:\([\w., ]*\))?:[ \t]*$|if __name__ ==)"
    rb"|(?P<Rscript>library\([\w.\"']+\)[ \t]*$|[\w.]+ <- function\()"
    rb"|(?P<perl>use (?:strict|warnings);))",
    re.ASCII,
).match
_json = re.compile(rb"(?:\{[ \t]*\"|\[[ \t]*[\[{\"])").match
_json_key = re.compile(rb"[ \t]*\"[^\"]*\"[ \t]*:").match
_markup = re.compile(rb"<(?:\?xml|!DOCTYPE|html)", re.IGNORECASE).match


class NotTasks:
    """Follows a task file from its first line to its last."""

    def __init__(self, head: int) -> None:
        """`head`: in how many of the first lines it is looked for."""
        self._head = head
        self._shell = False  # the first line names one
        self._bracket = False  # the first line is only one
        self._told = False

    def judge(self, block: Block, found: list[Slip]) -> list[Slip]:
        """The slips of a block, with one that tells what the file is and without those that it explains. `found` is in order."""
        if not self._told and block.line <= self._head and not block.directive:
            incomplete = next((slip for slip in found if slip.kind == "incomplete"), None)
            slip = next(self._lines(block, incomplete), None)
            if slip is not None:
                self._told = True
                rest = [each for each in found if each.kind != "incomplete" or each.line < slip.line]
                return sorted([*rest, slip], key=lambda each: (each.line, each.column))
        return [slip for slip in found if slip.kind != "incomplete"] if self._told and found else found

    def _lines(self, block: Block, incomplete: Slip | None) -> Iterator[Slip]:
        lines = block.text[block.start : block.end].split(b"\n", self._head - block.line + 1)[: self._head - block.line + 1]
        bare = not block.prefix.text and not block.suffix.text
        for number, line in enumerate(lines, block.line):
            told = self._line(number, line[:_LENGTH], bare)
            if told is None and self._shell and incomplete is not None and incomplete.line == number:
                told = "this file is a shell script, and each of its lines would be a task: " + incomplete.message, _ONE_TASK.format("bash")
            if told is not None:
                yield Slip(number, 1, max(1, len(line)), _KIND, *told, line)

    def _line(self, number: int, line: bytes, bare: bool) -> tuple[str, str] | None:
        """What a line says of its file, and what to do."""
        if number == 1:
            program = _interpreter(line)
            self._shell = bool(program and program[1] in _SHELLS)
            self._bracket = line.strip() in (b"{", b"[")
            if program and program[1] in _programs:
                return f"this file is a program for {program[1].decode()}, no list of tasks", _ONE_TASK.format(_programs[program[1]])
            if _json(line) or _markup(line):
                return "this file is data, no list of tasks", "a task file holds one command per line"
        if number == 2 and self._bracket and (_json_key(line) or line.strip() in (b"{", b"[")):
            return "this file is data, no list of tasks", "a task file holds one command per line"
        queue = _queue(line)
        if queue:
            hint = "submit it to the queue, and let it run `taskrun TASKFILE` on a list of tasks: one command per line"
            return f"this file is a job script (#{queue[1].decode()}), and each of its lines would be a task", hint
        if not bare:
            return None
        if self._shell and _setting(line):
            message = "this file is a shell script, and each of its lines would be a task: this one changes nothing for those below"
            return message, _ONE_TASK.format("bash")
        statement = _statement(line)
        if statement:
            runs = str(statement.lastgroup)
            name = {"python3": "Python", "Rscript": "R", "perl": "Perl"}[runs]
            return f"this file is a program in {name}, no list of tasks", _ONE_TASK.format(runs)
        return None
