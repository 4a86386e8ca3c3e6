"""The events file: always valid JSON, one object a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskrun.errors import Refused
from taskrun.model import Result
from taskrun.status.events import EventsWriter, attempt_line, event_line

RESULT = Result("task", 12, 2, "exit", 3, 4711, 5, 1795167236.462, 1795167236.469, 0.007, 0.01, 0.002, 3 << 20, 7, b"x", 1, b"y", True)


def test_an_attempt() -> None:
    line = attempt_line(RESULT, "node01", 1795167236.4)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "t": 1795167236.469,
        "kind": "attempt",
        "id": 12,
        "n": 2,
        "engine": "node01",
        "slot": 5,
        "cause": "exit",
        "code": 3,
        "queued": 1795167236.4,
        "start": 1795167236.462,
        "end": 1795167236.469,
        "utime": 0.01,
        "stime": 0.002,
        "maxrss": 3 << 20,
        "out_bytes": 7,
        "err_bytes": 1,
        "left_behind": True,
    }


def test_an_attempt_of_a_per_engine_command() -> None:
    for kind, told in (("start", "START"), ("stop", "STOP")):
        values = json.loads(attempt_line(RESULT._replace(kind=kind, slot=-1), 'e"\udcff', 1.0, "node\n"))
        assert values["per_engine"] == told
        assert (values["engine"], values["node"]) == ('e"\udcff', "node\n")


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have(odd: float) -> None:
    values = json.loads(attempt_line(RESULT._replace(kind="stop", utime=odd), "e", odd, "n"), parse_constant=pytest.fail)
    assert values["utime"] is None
    assert values["queued"] is None
    assert values["per_engine"] == "STOP"
    assert values["node"] == "n"


def test_both_ways_of_making_an_attempt_have_the_same_keys() -> None:
    plain = json.loads(attempt_line(RESULT._replace(kind="start"), "e", 1.0, "n"))
    odd = json.loads(attempt_line(RESULT._replace(kind="start", utime=float("nan")), "e", 1.0, "n"))
    assert plain.keys() == odd.keys()


def test_bytes_and_paths_survive() -> None:
    line = event_line("transfer", 1.23456, source=b"a\xff", dest=Path("b"), sizes=(1, 2), odd={b"k": {1.5, float("nan")}, 3: object})
    values = json.loads(line)
    assert values["t"] == 1.235
    assert values["source"].encode("utf-8", "surrogateescape") == b"a\xff"
    assert values["dest"] == "b"
    assert values["sizes"] == [1, 2]
    assert set(values["odd"]) == {"k", "3"}


def test_batches_and_the_version(tmp_path: Path) -> None:
    path = tmp_path / "x_events.jsonl"
    writer = EventsWriter(path)
    writer.event("run", 1.0, what="start")
    writer.add(attempt_line(RESULT, "e", 1.0))
    assert path.read_bytes() == b""
    writer.flush()
    writer.flush()
    assert path.read_bytes().count(b"\n") == 2
    writer.event("run", 2.0, what="end")
    writer.close()
    first, _, last = map(json.loads, path.read_bytes().splitlines())
    assert first == {"t": 1.0, "kind": "run", "v": 1, "what": "start"}
    assert last == {"t": 2.0, "kind": "run", "what": "end"}


def test_continuing_a_file_with_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "x_events.jsonl"
    path.write_bytes(b'{"t":1}\n{"t":2,"ki')
    writer = EventsWriter(path, append=True)
    assert writer.path == path
    assert writer.torn == b'{"t":2,"ki'
    writer.event("run", 3.0, what="start")
    writer.close()
    assert path.read_bytes() == b'{"t":1}\n{"t":3.0,"kind":"run","v":1,"what":"start"}\n'
    path.write_bytes(b"something else")
    with pytest.raises(Refused):
        EventsWriter(path, append=True)
