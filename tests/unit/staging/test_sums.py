"""Checksums made elsewhere: one Python for many files, another one when it is lost, none where there is none. And sessions that wait."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskrun.engines.bootstrap import python_words
from taskrun.engines.streams import ProgramStream, SocketStream
from taskrun.staging import sessions
from taskrun.staging.sessions import Pool
from taskrun.staging.sums import Sums


class Begun:
    """Counts the sessions that were begun."""

    def __init__(self, *argv: str) -> None:
        self.argv = list(argv) or python_words("sums")
        self.streams: list[ProgramStream] = []
        self.sums = Sums(self._begin, ())

    def _begin(self) -> ProgramStream:
        self.streams.append(ProgramStream(self.argv, "sums", 10.0))
        return self.streams[-1]


@pytest.fixture
def begun() -> Iterator[Begun]:
    made = Begun()
    yield made
    made.sums.pool.close()
    assert all(stream.closed for stream in made.streams)


def test_one_session_sums_up_many_files(begun: Begun, tmp_path: Path) -> None:
    names = [b"a", b"b c", b"-d", b"new\nline", b'"\\', "ü".encode(), b"\xff\xfe"]
    for number, name in enumerate(names):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(b"x" * number * 1_000_000)
    for number, name in enumerate(names):
        assert begun.sums(os.fsdecode(bytes(tmp_path) + b"/" + name)) == hashlib.sha256(b"x" * number * 1_000_000).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    assert [begun.sums(str(tmp_path / name)) for name in ("none", "pipe", "a/b", ".")] == [None] * 4
    assert begun.sums(str(tmp_path / "a")) is not None
    assert len(begun.streams) == 1


def test_one_that_was_lost_while_it_waited_is_replaced(begun: Begun, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert begun.sums(str(tmp_path / "a"))
    os.kill(begun.streams[0]._process.pid, 9)
    assert begun.sums(str(tmp_path / "a"))
    assert len(begun.streams) == 2


def test_a_host_without_room_for_a_session_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    problems: list[Exception] = [ConnectionError("no more sessions"), EOFError()]

    def begin() -> ProgramStream:
        if problems:
            raise problems.pop()
        return ProgramStream(python_words("sums"), "sums", 10.0)

    sums = Sums(begin, ())
    assert sums(str(tmp_path / "a")) == hashlib.sha256(b"").hexdigest()
    sums.pool.close()
    problems = [ConnectionError("no more sessions"), PermissionError("nobody may")]
    assert sums(str(tmp_path / "a")) is None
    assert len(problems) == 1, "another try would end so, too"


def test_where_there_is_no_python_nobody_is_asked_again(tmp_path: Path) -> None:
    begun = Begun("/bin/sh", "-c", "echo Welcome; exit 127")
    assert [begun.sums(str(tmp_path)) for _ in range(3)] == [None] * 3
    assert len(begun.streams) == 1


def test_what_a_host_says_is_made_sure_of() -> None:
    """A login shell's noise is passed over; what is no checksum is none; a line has an end."""
    answers: list[Any] = ["a" * 63, 7, None, {"x": 1}, "A" * 64, "a" * 64 + "\n"]
    for answer in answers:
        assert said(b"Welcome!\n[1]\n7\n{}\n" + json.dumps({"sum": answer}).encode() + b"\n") is None
    assert said(b'Welcome!\n{}\n{"sum": "' + b"a" * 64 + b'"}\n') == "a" * 64
    assert said(b"{}\n" + b"x" * 100_000) is None
    assert said(b"[" * 50_000 + b"\n") is None


def said(text: bytes) -> str | None:
    """What is made of it when one file was asked for."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(text)
        theirs.shutdown(socket.SHUT_WR)
        sums = Sums(lambda: SocketStream(ours, 5.0), ())
        found = sums("a")
        sums.pool.close()
    ours.close()
    return found


def test_sessions_that_nobody_uses_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        closed = False

        def close(self) -> None:
            self.closed = True

    pool = Pool(Session, lambda session: session.closed)
    (first, fresh), (second, _) = pool.borrow(), pool.borrow()
    assert fresh
    for session in (first, second):
        pool.give_back(session, broken=False)
    assert not pool.stale
    assert pool.borrow() == (second, False)
    monkeypatch.setattr(sessions, "IDLE_SECONDS", -1.0)
    assert pool.stale
    pool.tidy()
    assert (first.closed, second.closed, pool.stale) == (True, False, False)
    pool.give_back(second, broken=True)
    assert second.closed
    assert pool.borrow()[1]
