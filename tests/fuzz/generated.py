"""Where examples come from: what is right, what is nearly right, and anything."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

from taskrun.agent import wire

# task files

NAMES = [b"PREFIX", b"SUFFIX", b"BARRIER", b"REPEAT", b"PERENGINE", b"STAGE-IN", b"STAGE-OUT", b"ENCRYPT", b"FOREACH"]
blanks = st.sampled_from([b" ", b" ", b" ", b"", b"  ", b"\t", b" \t", b"\f", b"\v", b"\r"])
words = st.sampled_from(
    b"|CHECK|check|key|START|START CHECK|"
    b"stop|start|step|2|-5|007|12x|1000000|9999999999999999999|echo|'|\"|\xff|\xc3\xa4|\xe2\x80\xa8|\0|#|{}|*.txt|[a|\\".split(b"|")
)
arguments = st.lists(st.tuples(blanks, words).map(b"".join), max_size=5).map(b"".join)
name = st.sampled_from([*NAMES, *(each.lower() for each in NAMES), b"Barrier", b"BARRIERxyz", b"BARIER", b"FOREACH", b"FOREACH", b""])
directives = st.one_of(
    st.tuples(st.sampled_from([b"#TASKRUN", b"#DISBATCH"]), blanks, name, arguments).map(b"".join),
    st.tuples(st.just(b"#"), st.sampled_from(NAMES), arguments).map(b"".join),
)
plain = st.sampled_from([b"", b" ", b"true", b" true ", b"# comment", b"#taskrun x", b" #DISBATCH BARRIER", b"a\rb", b"\xef\xbb\xbftrue"])
line = st.one_of(directives, directives, plain, st.binary(max_size=12))
ends = st.sampled_from([b"\n", b"\n", b"\n", b"\n", b"\r\n"])
task_files = st.one_of(
    st.tuples(st.lists(st.tuples(line, ends).map(b"".join), max_size=15).map(b"".join), line).map(b"".join),
    st.lists(line, max_size=8).map(lambda lines: re.sub(rb"\r?\n", b"\r\n", b"\n".join(lines))),
    st.binary(max_size=80),
)

# status files

column = st.sampled_from(
    [b"0", b"1", b"-1", b"00", b"999999999999999999", b"9" * 30, b"0.001", b"1e3", b"nan", b"inf", b"-", b"", b"vm", b"''", b"'a\\tb'",
     b'"it\'s"', b"'\\q'", b"'\\x'", b"'", b"b'\\xff'", b"b'a\\nb'", b"true", b"\xff", b"\xc2\x85"]
)  # fmt: skip
flags = st.sampled_from([b"    ", b"R   ", b"ROE ", b"   S", b"   P", b"   Z", b"B    ", b"C    ", b"ROE[ PSZ]", b"", b"x"])
GOOD = [b"    ", b"3", b"1", b"-1", b"vm", b"9", b"0", b"0.100", b"1.000", b"1.100", b"0", b"''", b"0", b"''", b"true"]


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A record with a few columns that are something else, more or fewer of them, cut somewhere."""
    columns = list(GOOD)
    columns[0] = draw(flags)
    columns[1] = draw(st.sampled_from([b"0", b"1", b"2", b"3", b"70000", b"007"]))
    for _ in range(draw(st.integers(0, 3))):
        columns[draw(st.integers(0, 14))] = draw(column)
    text = b"\t".join(columns[: draw(st.sampled_from([15, 15, 15, 15, 14, 3]))])
    return text + draw(st.sampled_from([b"\n", b"\n", b"\n", b"\n", b"", b"\r\n", b"\tx\n", b"\0\n"]))


status_files = st.one_of(
    st.lists(records(), max_size=8).map(b"".join),
    st.lists(st.one_of(records(), st.binary(max_size=9)), max_size=8).map(b"".join),
    st.binary(max_size=60),
)

# JSON

odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**18, 10**30]), st.floats(),
    st.text(max_size=8), st.sampled_from(["", "\0", "\ud800", "\udcff", "\x1b[2J", "x" * 600, "/nowhere", "task", "ok", "1"]),
    st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                                                                max_size=3), max_leaves=5),
)  # fmt: skip


def spoilt(value: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The same with up to three keys changed, missing or more."""

    def change(changes: list[tuple[str, Any, bool]]) -> dict[str, Any]:
        made = json.loads(json.dumps(value))
        for key, new, drop in changes:
            if drop:
                made.pop(key, None)
            else:
                made[key] = new
        return dict(made)

    keys = st.one_of(st.sampled_from(sorted(value)), st.text(max_size=4))
    return st.lists(st.tuples(keys, odd, st.booleans()), max_size=3).map(change)


OPTIONS = {"hosts": ["localhost:2"], "grace": 1.0, "exit_code": True, "tasks_per_node": 2, "cpus_per_task": 1.0, "starter": "auto"}
SIDECAR = {
    "v": 1, "run_id": "r-1", "version": "0.1", "argv": ["taskrun", "x"], "cwd": "/", "status": "x_status.txt",
    "contexts": [{"kind": "local", "label": "local0", "hosts": {"vm": 2}, "limit": 0}],
    "options": {key: {"value": value, "origin": "flag"} for key, value in OPTIONS.items()}, "host": "vm", "pid": 1, "boot_id": "b",
    "started": 1.5, "task_file": {"path": "/x", "sha256": "0", "size": 3}, "stream_complete": None, "ended": None, "exit_code": None,
    "counts": {"done": 1}, "resumed_from": [], "name": "x", "data_tag": "0a", "carried": True, "slurm": ["7@", 0],
    "elsewhere": {"runs": ["r-0"], "hosts": {"other": 1.0}},
}  # fmt: skip
LOCK = {
    "v": 1, "run_id": "r-1", "host": "vm", "boot_id": "b", "pid": 1, "start_time": 5, "since": 1.0, "machine": "", "pid_space": "",
    "token": "t",
}  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value within a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(way for key, item in inside for way in places(item, (*at, key)))]


@st.composite
def displaced(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    """The same with some other value, or nothing, at one place of it, however deep."""
    made: dict[str, Any] = json.loads(json.dumps(value))
    *above, last = draw(st.sampled_from([way for way in places(value) if way]))
    inner: Any = made
    for key in above:
        inner = inner[key]
    if draw(st.integers(0, 9)):
        inner[last] = draw(odd)
    else:
        del inner[last]
    return made


@st.composite
def spoilt_sidecars(draw: st.DrawFn) -> bytes:
    value = draw(spoilt(SIDECAR))
    if draw(st.booleans()) and isinstance(value.get("options"), dict):
        key = draw(st.sampled_from(sorted(OPTIONS)))
        value["options"][key] = draw(st.one_of(odd, odd.map(lambda new: {"value": new, "origin": "flag"})))
    return json.dumps(value).encode("ascii")


def _json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value).encode("ascii"))


sidecars = st.one_of(spoilt_sidecars(), _json(displaced(SIDECAR)), _json(odd), st.binary(max_size=40))
locks = st.one_of(_json(spoilt(LOCK)), _json(odd), st.binary(max_size=40))

ATTACH = {"v": 1, "run_id": "r-1", "addresses": [["localhost", 1], ["::1", 2]], "fingerprint": "0" * 64, "secret": "s", "control": ""}
attach_files = st.one_of(_json(displaced(ATTACH)), _json(odd), st.binary(max_size=40))

EVENTS: list[dict[str, Any]] = [
    {"v": 1, "t": 1.0, "kind": "run", "what": "start"},
    {"t": 1.0, "kind": "context", "what": "joined", "context": "c", "hosts": {"vm": 1}, "guest": "x"},
    {"t": 1.0, "kind": "engine", "what": "joined", "engine": "e", "context": "c", "host": "vm", "rank": 0, "slots": 2},
    {"t": 2.0, "kind": "sample", "engine": "e", "load": 0.5, "memory": 5, "running": 1},
    {"t": 3.0, "kind": "attempt", "id": 0, "engine": "e", "cause": "exit", "code": 0},
    {"t": 3.0, "kind": "wait", "why": "no engine"},
    {"t": 3.0, "kind": "told", "signal": "SIGINT", "how": "drain"},
    {"t": 4.0, "kind": "engine", "what": "gone", "engine": "e"},
]
events_files = st.lists(st.sampled_from(EVENTS).flatmap(lambda event: st.one_of(st.just(event), displaced(event))), max_size=12).map(
    lambda events: b"".join(json.dumps(event).encode() + b"\n" for event in events)
)
PICTURE = {
    "prefix": "p", "started": 1.0, "now": 2.0, "done": 1, "failed": 0, "skipped": 0, "running": 1, "left": None, "waiting": "",
    "stopping": "",
    "contexts": [{"name": "c", "state": "running", "finished": 1, "failed": 0, "limit_left": None, "from": ""}],
    "engines": [{"name": "e", "context": "c", "host": "vm", "rank": 0, "slots": 2, "state": "running", "running": 1, "held": 1,
                 "finished": 1,
                 "failed": 0, "load": None, "memory": 5, "quiet": 0.1}],
}  # fmt: skip
pictures = displaced(PICTURE)

file_lists = st.lists(
    st.sampled_from(
        [b"FOREACH d/*\n", b"FOREACH ", b"\td/a\n", b"\td/b\n", b"\t\0\n", b"END 1\n", b"END 2\n", b"END x\n", b"\n", b"\t", b"\xff"]
    ),
    max_size=9,
).map(b"".join)

# frames of an agent

RESULT = ["task", 0, 1, "ok", 0, 99, 0, 1.0, 2.0, 1.0, 0.1, 0.1, 4096, 0, "", 0, "", False]
#: Each kind of frame as it should be.
FRAMES: dict[str, dict[str, Any]] = {
    "hello": {"k": "hello", "protocol": wire.PROTOCOL, "host": "vm", "boot": "b", "pid": 9, "cores": 2, "memory": 1, "python": "3.11.0"},
    "ready": {"k": "ready", "starter": "builtin", "shared": True, "came": 1.0, "now": 1.0, "folder": ""},
    "cleared": {"k": "cleared"},
    "outlive": {"k": "outlive", "n": 2, "p": [["task", 1, 1, 4711, "sleep 9"], ["start", 0, 1, 4712, "\udcff\x1b"]]},
    "pong": {"k": "pong", "now": 1.0},
    "looked": {"k": "looked", "now": 1.0, "shared": False, "why": ""},
    "beat": {"k": "beat", "load": 0.5, "memory": 1, "running": 1, "free": 1, "room": 1},
    "done": {"k": "done", "r": [RESULT], "t": [["task", 1, 1]]},
    "lost": {"k": "lost", "keys": [["task", 1, 1]]},
    "recalled": {"k": "recalled", "keys": [["task", 1, 1]]},
    "told": {"k": "told", "signal": 15},
    "useless": {"k": "useless", "why": "no room"},
    "note": {"k": "note", "level": "warning", "text": "words"},
    "bye": {"k": "bye"},
}
keys = st.one_of(  # most of them of attempts that an agent may hold
    st.tuples(st.just("task"), st.integers(0, 5), st.just(1)),
    st.sampled_from([("start", 0, 0), ("stop", 0, 0), ("start", 0, 0)]),
    st.tuples(st.sampled_from(["task", "start", "stop"]), st.integers(0, 6), st.integers(0, 3)),
).map(list)


@st.composite
def results(draw: st.DrawFn) -> list[Any]:
    """A result of some attempt, with a few fields that are something else."""
    row: list[Any] = [*draw(keys), *RESULT[3:]]
    if draw(st.booleans()):
        row[3], row[4] = draw(
            st.sampled_from(
                [
                    ("exit", 3),
                    ("signal", -9),
                    ("engine-lost", -9),
                    ("preempted", 143),
                    ("preempted", 0),
                    ("start", 2),
                    ("ok", 1),
                    ("exit", 0),
                ]
            )
        )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        row[draw(st.integers(0, 17))] = draw(odd)
    return row[: draw(st.sampled_from([18, 18, 18, 18, 17]))]


right_frames = st.one_of(
    st.sampled_from(
        [FRAMES[kind] for kind in ("beat", "told", "useless", "note", "bye", "hello", "ready", "cleared", "outlive", "pong", "looked")]
    ),
    st.builds(lambda rows, taken: {"k": "done", "r": rows, "t": taken}, st.lists(results(), max_size=3), st.lists(keys, max_size=3)),
    st.builds(lambda kind, some: {"k": kind, "keys": some}, st.sampled_from(["lost", "recalled"]), st.lists(keys, max_size=4)),
)
any_frames = st.one_of(
    right_frames, right_frames, st.sampled_from(sorted(FRAMES)).flatmap(lambda kind: spoilt(FRAMES[kind])),
    st.dictionaries(st.text(max_size=4), odd, max_size=3),
)  # fmt: skip


def framed(frame: dict[str, Any]) -> bytes:
    body = json.dumps(frame).encode("ascii")
    return len(body).to_bytes(4, "big") + body


streams = st.tuples(
    st.sampled_from([b"", b"motd\n", wire.MARKER, wire.MARKER + b"\n"]),
    st.lists(st.one_of(any_frames.map(framed), any_frames.map(framed), st.binary(max_size=12)), max_size=5).map(b"".join),
).map(b"".join)
