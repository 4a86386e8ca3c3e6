"""One line of the status file: 15 tab-separated columns, byte for byte as disBatch writes and reads them.

How the Command column is read. It holds the command itself; only a command that could not stand there (not UTF-8, or with a newline)
is written as a Python bytes literal. A reader therefore takes a literal for one only if what it means could *not* have been written
plainly: `b'x'` is the command `b'x'`, while `b'\\xff'` is one byte. What is left of the ambiguity (a command that is, letter by letter,
the literal of bytes that are not UTF-8) never matters when a task is compared with its own record: `same_command` takes either reading.
"""

from __future__ import annotations

import contextlib
import re
from ast import literal_eval
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from taskrun.model import NO_REPEAT, Barrier, PerEngine, Result, Task

_SNIPPET = rb"(?:'[^'\\\t\n]*(?:\\[^\t\n][^'\\\t\n]*)*'|\"[^\"\\\t\n]*(?:\\[^\t\n][^\"\\\t\n]*)*\")"
_INT = rb"-?\d{1,18}"
_FLOAT = rb"[-+.0-9a-z]{1,40}"
#: What a whole record looks like, as a pattern without its newline. Groups: kind of a task's flags, id.
SHAPE = (
    rb"(?:[R ][O ][E ]([ PSZ])|[BC]    )\t(\d{1,18})"
    + (rb"\t" + _INT) * 2
    + rb"\t[^\t\n]*"
    + (rb"\t" + _INT) * 2
    + (rb"\t" + _FLOAT) * 3
    + (rb"\t\d{1,18}\t" + _SNIPPET) * 2
    + rb"\t[^\n]*"
)
_LINE = re.compile(SHAPE + rb"\n")
_BEGINNING = re.compile(rb"(?:[R ][O ][E ][ PSZ]|[BC]    )(?:\t\d{0,18}(?:\t[^\n]*)?)?")
_ESCAPES = re.compile(r"[^\\]*(?:\\(?:[\\'\"ntr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})[^\\]*)*")


class BadRecord(ValueError):
    """A line that is not a whole record; the text says why."""


def command_column(command: bytes) -> bytes:
    """The Command column of a command: itself, or a bytes literal where it is not UTF-8 (or holds a newline, which no line can)."""
    if b"\n" not in command:
        if command.isascii():
            return command
        try:
            command.decode()
        except UnicodeDecodeError:
            pass
        else:
            return command
    return repr(command).encode()


def _literal(column: bytes) -> bytes | None:
    """What a bytes literal in any quoting means; None if the column is not one."""
    if column[:2] not in (b"b'", b'b"') or column[-1:] != column[1:2] or not column.isascii():
        return None
    text = column.decode()
    if not _ESCAPES.fullmatch(text):  # also keeps Python from warning about an escape it does not know
        return None
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, bytes) else None


def command_of(column: bytes) -> bytes:
    """The command that a Command column stands for (the reading described at the top of this module)."""
    value = _literal(column)
    return column if value is None or command_column(value) == value else value


def same_command(command: bytes, column: bytes) -> bool:
    """Whether `command` is what the Command column of a record says, in either reading and every quoting."""
    return column in (command, command_column(command)) or (column.startswith(b"b") and command == command_of(column))


def _text(value: object) -> bytes:
    return str(value).encode("utf-8", "surrogateescape")


def _seconds(value: float) -> bytes:
    return f"{value:.3f}".encode()


def _quoted(value: str) -> bytes:
    return repr(value).encode()


def _unquoted(column: bytes) -> str:
    text = column.decode()
    if not _ESCAPES.fullmatch(text):
        raise BadRecord("a snippet has an escape that no record has")
    value = literal_eval(text)
    if not isinstance(value, str):
        raise BadRecord("a snippet is not a string")
    return value


def _name(column: bytes) -> str:
    return column.decode("utf-8", "surrogateescape")


def _column(header: str, write: Callable[[Any], bytes] = _text, read: Callable[[bytes], Any] = int) -> Any:
    return field(metadata={"header": header, "write": write, "read": read})


@dataclass(frozen=True, slots=True)
class Record:
    """One record. One field is one column: its name in the header, its text form, and how that is read back."""

    flags: str = _column("ROE[ PSZ]", read=_name)  # 4 characters for tasks, 5 for barriers
    id: int = _column("TaskID")
    line: int = _column("LineNum")
    repeat: int = _column("RepeatIndex")  # -1 = none
    node: str = _column("Node", read=_name)
    pid: int = _column("PID")
    code: int = _column("ReturnCode")
    elapsed: float = _column("Elapsed", _seconds, float)
    start: float = _column("Start", _seconds, float)  # epoch seconds
    finish: float = _column("Finish", _seconds, float)
    out_bytes: int = _column("BytesOfLeakedOutput")
    out: str = _column("OutputSnippet", _quoted, _unquoted)
    err_bytes: int = _column("BytesOfLeakedError")
    err: str = _column("ErrorSnippet", _quoted, _unquoted)
    command: bytes = _column("Command", command_column, command_of)

    def to_line(self) -> bytes:
        """The line with its newline."""
        return b"\t".join([write(getattr(self, name)) for name, write, _ in _COLUMNS]) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Record:
        """The record of a whole line (with its newline). Raises BadRecord."""
        if not line.endswith(b"\n"):
            raise BadRecord("the line has no newline: it is torn")
        if not _LINE.fullmatch(line):
            raise BadRecord(_what_is_wrong(line))
        try:
            return cls(*[read(text) for (_, _, read), text in zip(_COLUMNS, line[:-1].split(b"\t", 14), strict=True)])
        except BadRecord:
            raise
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise BadRecord(f"a column cannot be read: {error}") from None


_COLUMNS = tuple((f.name, f.metadata["write"], f.metadata["read"]) for f in fields(Record))

#: The first line of a status file that was asked for one (--status-header).
HEADER = "\t".join(f.metadata["header"] for f in fields(Record)).encode() + b"\n"


def _what_is_wrong(line: bytes) -> str:
    columns = line.count(b"\t") + 1
    if columns < len(_COLUMNS):
        return f"it has {columns} columns instead of {len(_COLUMNS)}"
    return "a column does not have the form it has in a record"


def is_beginning(torn: bytes) -> bool:
    """Whether a last line without newline can be what is left of a record (or of the header) after a crash.

    Some file systems leave NUL bytes where the data of the last moments should be; they are such a rest too.
    """
    text = torn.rstrip(b"\0")
    if HEADER.startswith(text):
        return True
    return bool(_BEGINNING.fullmatch(text) or (len(text) <= 4 and re.fullmatch(rb"[R ][O ]?[E ]?[ PSZ]?|[BC] {0,4}", text)))


def task_line(task: Task | PerEngine, result: Result, node: str) -> bytes:
    """The line, with its newline, of a task's final attempt or of a PERENGINE command. `node`: the engine's name in the node list."""
    kind, _, _, _, code, pid, _, start, end, elapsed, _, _, _, out_bytes, out, err_bytes, err, _, _ = result
    text = (
        f"{'R' if code else ' '}{'O' if out_bytes else ' '}{'E' if err_bytes else ' '}{' ' if kind == 'task' else 'P'}\t{task.id}\t"
        f"{task.line}\t{task.repeat if isinstance(task, Task) else NO_REPEAT}\t{node}\t{pid}\t{code}\t"
        f"{elapsed:.3f}\t{start:.3f}\t{end:.3f}\t"
        f"{out_bytes}\t{repr(out.decode('utf-8', 'replace')) if out else _NOTHING}\t"
        f"{err_bytes}\t{repr(err.decode('utf-8', 'replace')) if err else _NOTHING}\t"
    )
    return text.encode("utf-8", "surrogateescape") + command_column(task.command) + b"\n"


_NOTHING = "''"


def barrier_line(barrier: Barrier, node: str, pid: int, start: float, finish: float) -> bytes:
    """The line of a barrier that was met, or of a check that failed. `node` and `pid` are the driver's; times in epoch seconds."""
    text = (
        f"{'C' if barrier.check else 'B'}    \t{barrier.id}\t{barrier.line}\t{NO_REPEAT}\t{node}\t{pid}\t0\t"
        f"{finish - start:.3f}\t{start:.3f}\t{finish:.3f}\t0\t{_NOTHING}\t0\t{_NOTHING}\t"
    )
    return text.encode("utf-8", "surrogateescape") + command_column(barrier.text) + b"\n"


def skipped_line(old_line: bytes, task: Task | None = None) -> bytes:
    """The S line that repeats a task's whole old line. Elapsed is Finish - Start again; everything else stays as it was.

    `task`: what the task is now, when it was found by its text: the line then has the id, line number and repeat index that it has now.
    """
    columns = old_line.split(b"\t", 14)
    if task is not None:
        columns[1:4] = b"%d" % task.id, b"%d" % task.line, b"%d" % task.repeat
    flags, code, start, finish = columns[0], columns[6], columns[8], columns[9]
    columns[0] = (b"R" if int(code) else b" ") + flags[1:3] + b"S"
    with contextlib.suppress(ValueError):  # a time nobody can read is repeated as it is
        columns[7] = _seconds(float(finish) - float(start))
    return b"\t".join(columns)
