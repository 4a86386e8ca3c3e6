"""What an agent says, made sure of: a frame from the link becomes a message of known types and ranges, or it is a BadFrame.

An agent is another program on another machine, perhaps a broken or a hostile one. What is past this module can be reckoned with, written to
the status file and shown to a person. Pure functions; each kind of engine uses the same.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

from taskrun.agent import wire
from taskrun.agent.wire import BadFrame
from taskrun.model import TAIL, Result
from taskrun.scheduling.messages import Key
from taskrun.visible import visible

FRAME_MOST = 4 << 20  # bytes of a frame that is a list of attempts
SMALL_MOST = wire.Decoder.small  # bytes of any other
PARTS_MOST = 1 << 15  # lists and objects in such a frame, a result being one: a million empty ones would take 90 MiB
_LISTS = frozenset((b"done", b"lost", b"recalled"))
_kind = re.compile(rb'\s*\{\s*"k"\s*:\s*"(\w{1,16})"').match
SENTENCE = 500  # characters of a text that an agent may have us say
SNIPPET = 16384  # bytes of a snippet: 83, or why a task could not start, which may name a path
OUTLIVING_MOST = 20  # processes that an agent names
_NUMBER = 10**18  # what a column of the status file has room for
_COUNT = 2**31  # of attempts, slots, processes: what the system has room for
_BYTES = 2**63
_PATH = 4096  # characters
_SECONDS = 1e11  # a time of day (until the year 5138) or a length of time
_CODES = range(-128, 4096)  # signals, exit codes, errno

KINDS = frozenset(("task", "start", "stop"))
#: The endings that an agent sees; what else there is, the scheduler alone knows.
CAUSES = frozenset((
    "ok", "exit", "signal", "start", "timeout", "memory", "stage-in", "stage-out", "leftovers",
    "engine-lost", "preempted", "cancelled", "throttled",
))  # fmt: skip
GIVEN_BACK = frozenset(("preempted", "cancelled"))  # whatever the exit code


class Hello(NamedTuple):
    """The agent is there. `facts`: what it says of its node."""

    protocol: int
    facts: dict[str, str | int]


class Looked(NamedTuple):
    """What a host says when it is only looked at."""

    now: float  # its clock, epoch seconds
    shared: bool  # it sees the driver's working directory
    why: str = ""  # tasks cannot run there


class Pong(NamedTuple):
    """The answer to a `ping`."""

    now: float  # its clock, epoch seconds


class Ready(NamedTuple):
    """Its slots can be used."""

    starter: str  # what starts them
    shared: bool  # it sees the driver's working directory
    came: float  # when the config came, by its clock
    now: float  # when it said so
    slots: int = 0  # how many, if there are fewer than were asked for
    cwd: str = ""  # where its tasks run
    folder: str = ""  # its private one; '' if it does not say
    leftovers: str = "keep"  # what it does with what tasks leave behind: an older one keeps it


class Done(NamedTuple):
    """Attempts that ended, and attempts that slots have started."""

    results: list[Result]
    taken: list[Key]


class Lost(NamedTuple):
    """Nothing is left of these attempts."""

    keys: list[Key]


class Recalled(NamedTuple):
    keys: list[Key]


class Told(NamedTuple):
    """The system told the node to stop."""

    signal: int


class Useless(NamedTuple):
    why: str


class Note(NamedTuple):
    level: str
    text: str


class Beat(NamedTuple):
    """It lives. `load`: of its node, over a minute; `memory`: available there, bytes, 0 if unknown; `running`: tasks.

    `free`: bytes that fit into its folder, `room`: bytes of the file system that is on, 0 where nobody has looked.
    """

    load: float
    memory: int
    running: int
    free: int = 0
    room: int = 0


class Outliving(NamedTuple):
    """A process that an attempt has left, and that lived when its engine left."""

    key: Key
    pid: int
    command: str


class Outlive(NamedTuple):
    """How many processes of its attempts live on, and the first of them."""

    total: int
    processes: list[Outliving]


class Cleared(NamedTuple):
    """Nothing is left there of the earlier runs that were asked about."""


class Other(NamedTuple):
    """A sign of life, or what a newer agent says: that it was heard is all."""

    kind: str


Message: TypeAlias = Hello | Looked | Pong | Ready | Done | Lost | Recalled | Told | Useless | Note | Beat | Outlive | Cleared | Other


class Decoder(wire.Decoder):
    """Bytes of an agent in as they come, its frames out. One that is too long is refused when its length comes, before it is kept."""

    def admit(self, length: int, head: bytes) -> None:
        """Raises BadFrame."""
        if length > FRAME_MOST:
            raise BadFrame(f"a frame of {length} bytes is longer than {FRAME_MOST}")
        if len(head) == wire.HEAD:
            kind = _kind(head)
            if kind is None or kind[1] not in _LISTS:
                raise BadFrame(f"a frame of {length} bytes that is no list of attempts is longer than {SMALL_MOST}")

    def parse(self, body: bytes) -> dict[str, Any]:
        """Raises BadFrame."""
        return wire.parse(body) if len(body) <= SMALL_MOST else parse_long(body)


def _int(digits: str) -> int:
    """For Pythons before 3.10.7, which take an hour for a number of four million digits."""
    if len(digits) > 20:
        raise ValueError("a number is too long")
    return int(digits)


_long = json.loads if hasattr(sys, "get_int_max_str_digits") else json.JSONDecoder(parse_int=_int).decode


def parse_long(body: bytes, parts: int = PARTS_MOST) -> dict[str, Any]:
    """The message of a long frame, if it has no more than so many lists and objects. Raises BadFrame.

    What is counted are brackets, also those in texts: an honest agent sends no long frame (wire.portions).
    """
    if body.count(b"[") + body.count(b"{") > parts:
        raise BadFrame(f"a frame has more than {parts} parts")
    return wire.parse(body, _long)


def message_of(frame: dict[str, Any]) -> Message:
    """What a frame says. Raises BadFrame with what is wrong about it."""
    kind = frame["k"]
    make = _MAKE.get(kind)
    return Other(sentence(kind)) if make is None else make(frame)


def sentence(text: str) -> str:
    """Fit to be shown: one line, of bounded length, without anything a terminal would obey."""
    if len(text) > SENTENCE:
        text = text[: SENTENCE - 1] + "…"
    return visible(text)


def _hello(frame: dict[str, Any]) -> Hello:
    facts: dict[str, str | int] = {}
    for name in ("host", "boot", "python", "parallel"):
        facts[name] = _text(frame, name, "")
    for name in ("pid", "cores", "memory", "perl"):
        facts[name] = _whole(frame, name, _BYTES, 0)
    return Hello(_whole(frame, "protocol", _COUNT), facts)


def _ready(frame: dict[str, Any]) -> Ready:
    for name in ("cwd", "folder"):
        path = frame.get(name, "")
        if type(path) is not str or "\0" in path or len(path) > _PATH:
            raise BadFrame("`ready` has a folder that cannot be one")
    return Ready(
        _text(frame, "starter"), _flag(frame, "shared"), _time(frame, "came"), _time(frame, "now"), _whole(frame, "slots", _COUNT, 0),
        frame.get("cwd", ""), frame.get("folder", ""), _text(frame, "leftovers", "keep"),
    )  # fmt: skip


def _looked(frame: dict[str, Any]) -> Looked:
    return Looked(_time(frame, "now"), _flag(frame, "shared"), _text(frame, "why", ""))


def _pong(frame: dict[str, Any]) -> Pong:
    return Pong(_time(frame, "now"))


def _told(frame: dict[str, Any]) -> Told:
    number = _whole(frame, "signal", 65)
    if not number:
        raise BadFrame("`told` has no signal")
    return Told(number)


def _useless(frame: dict[str, Any]) -> Useless:
    return Useless(_text(frame, "why"))


def _note(frame: dict[str, Any]) -> Note:
    return Note(_text(frame, "level"), _text(frame, "text"))


def _beat(frame: dict[str, Any]) -> Beat:
    load = frame.get("load", 0.0)
    if not (type(load) in (float, int) and 0 <= load < _SECONDS):
        raise BadFrame("`beat` has no load that it can have")
    counts = [frame.get(name, 0) for name in ("memory", "running", "free", "room")]
    if not all(type(count) is int and 0 <= count < _BYTES for count in counts):
        raise BadFrame("`beat` has no numbers that it can have")
    return Beat(float(load), *counts)


def _done(frame: dict[str, Any]) -> Done:
    return Done([_result(row) for row in _list(frame, "r")], _keys(frame, "t"))


def _result(row: Any) -> Result:
    if type(row) is not list or not 18 <= len(row) <= len(Result._fields):
        raise BadFrame("a result has not its 18 fields")
    kind, number, n, cause, code, pid, slot, start, end, elapsed, utime, stime, maxrss, out_bytes, out, err_bytes, err, left, *tail = row
    if not (
        type(kind) is str
        and kind in KINDS
        and type(number) is type(n) is type(code) is type(pid) is type(slot) is type(maxrss) is type(out_bytes) is type(err_bytes) is int
        and type(cause) is str
        and cause in CAUSES
        and ((cause == "ok") is (code == 0) or (code == 0 and cause in GIVEN_BACK))
        and code in _CODES
        and 0 <= number < _NUMBER
        and 0 <= n < _COUNT
        and -1 <= pid < _COUNT
        and -1 <= slot < _COUNT
        and 0 <= maxrss < _BYTES
        and 0 <= out_bytes < _NUMBER
        and 0 <= err_bytes < _NUMBER
        and type(left) is bool
        and type(out) is type(err) is str
    ):
        raise BadFrame(f"a result has a value it cannot have: {_shown(row)}")
    for seconds in (start, end, elapsed, utime, stime):
        # a comparison with what is not finite is never true
        if not (type(seconds) in (float, int) and 0 <= seconds < _SECONDS):
            raise BadFrame(f"a result has a time it cannot have: {_shown(row)}")
    try:
        row[14] = out.encode("utf-8", "surrogateescape")
        row[16] = err.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadFrame(f"a result has text that no bytes stand for: {_shown(row)}") from None
    if len(row[14]) > SNIPPET or len(row[16]) > SNIPPET:
        raise BadFrame("a result has a snippet that is too long")
    if tail:
        row[18] = _tail(row, tail[0])
    return Result(*row)


def _tail(row: Any, text: Any) -> bytes:
    try:
        tail = text.encode("utf-8", "surrogateescape") if type(text) is str and len(text) <= TAIL else None
    except UnicodeEncodeError:
        tail = None
    if tail is None or len(tail) > TAIL:
        raise BadFrame(f"a result has an end of its output that it cannot have: {_shown(row)}")
    return tail


def _outlive(frame: dict[str, Any]) -> Outlive:
    rows = _list(frame, "p")
    if len(rows) > OUTLIVING_MOST or not all(type(row) is list and len(row) == 5 for row in rows):
        raise BadFrame("`outlive` names what is no process")
    keys = _keys({"k": frame["k"], "keys": [row[:3] for row in rows]}, "keys")
    found = []
    for key, (*_, pid, command) in zip(keys, rows, strict=True):
        if type(pid) is not int or not 1 < pid < _COUNT or type(command) is not str:
            raise BadFrame("`outlive` names what is no process")
        found.append(Outliving(key, pid, sentence(command)))
    return Outlive(_whole(frame, "n", _COUNT), found)


def _lost(frame: dict[str, Any]) -> Lost:
    return Lost(_keys(frame, "keys"))


def _recalled(frame: dict[str, Any]) -> Recalled:
    return Recalled(_keys(frame, "keys"))


_MAKE: dict[str, Callable[[dict[str, Any]], Message]] = {
    "hello": _hello,
    "looked": _looked,
    "pong": _pong,
    "ready": _ready,
    "done": _done,
    "lost": _lost,
    "recalled": _recalled,
    "told": _told,
    "useless": _useless,
    "note": _note,
    "outlive": _outlive,
    "cleared": lambda _: Cleared(),
    "beat": _beat,
}


def _keys(frame: dict[str, Any], name: str) -> list[Key]:
    keys = []
    for key in _list(frame, name):
        if type(key) is not list or len(key) != 3:
            raise BadFrame(f"`{frame['k']}` names what is no attempt: {_shown(key)}")
        kind, number, n = key
        if not (type(kind) is str and kind in KINDS and type(number) is type(n) is int and 0 <= number < _NUMBER and 0 <= n < _COUNT):
            raise BadFrame(f"`{frame['k']}` names what is no attempt: {_shown(key)}")
        keys.append(cast("Key", (kind, number, n)))
    return keys


def _list(frame: dict[str, Any], name: str) -> list[Any]:
    value = frame.get(name)
    if type(value) is not list:
        raise BadFrame(f"`{frame['k']}` has no list `{name}`")
    return value


def _text(frame: dict[str, Any], name: str, default: str | None = None) -> str:
    value = frame.get(name, default)
    if type(value) is not str:
        raise BadFrame(f"`{frame['k']}` has no text `{name}`")
    return sentence(value)


def _whole(frame: dict[str, Any], name: str, most: int, default: int | None = None) -> int:
    value = frame.get(name, default)
    if type(value) is not int or not 0 <= value < most:
        raise BadFrame(f"`{frame['k']}` has no number `{name}` that it can have")
    return value


def _flag(frame: dict[str, Any], name: str) -> bool:
    value = frame.get(name)
    if type(value) is not bool:
        raise BadFrame(f"`{frame['k']}` does not say `{name}`")
    return value


def _time(frame: dict[str, Any], name: str) -> float:
    value = frame.get(name)
    if not (type(value) in (float, int) and 0 <= value < _SECONDS):  # type: ignore[operator]
        raise BadFrame(f"`{frame['k']}` has no time `{name}` that it can have")
    return float(value)  # type: ignore[arg-type]


def _shown(value: Any) -> str:
    try:
        return sentence(repr(value)[:200])
    except RecursionError:
        return "lists in lists"
