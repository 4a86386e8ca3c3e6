"""What a run may have begun on the hosts of who attached them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskrun.driver import serving
from taskrun.driver.serving import Serving
from taskrun.engines.link import Link
from taskrun.engines.request import EngineRequest


@pytest.fixture
def made() -> Iterator[Serving]:
    here = Serving({"here": EngineRequest("here", 1, 1, 1, "local", "here")}, None, "", lambda _: None)
    yield here
    here.close()


def said(link: Link, until: bytes) -> bytes:
    """What comes, to the end or as far as that."""
    found, end = b"", time.monotonic() + 20
    while not found.endswith(until) and time.monotonic() < end:
        try:
            data = os.read(link.read_fd, 4096)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if not data:
            break
        found += data
    return found


def test_a_session_with_this_machine(made: Serving, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    link = made.begin(3, "here", "sums")
    link.send_bytes(json.dumps(str(tmp_path / "a")).encode() + b"\n")
    assert said(link, b'"}\n').split(b"\n")[-2] == json.dumps({"sum": hashlib.sha256(b"x").hexdigest()}).encode()
    assert 3 in made
    assert made.end(3) == ("", False)
    link.close()
    assert 3 not in made


def test_what_is_not_begun(made: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that are none of the context, and more than there may be: the session ends at once, and why is known."""
    link = made.begin(1, "elsewhere", "sftp")
    assert said(link, b"\n") == b""
    assert made.end(1) == ("elsewhere is no host of this context", True)
    link.close()
    monkeypatch.setattr(serving, "SESSIONS_MOST", 0)
    link = made.begin(2, "here", "sftp")
    assert said(link, b"\n") == b""
    assert made.end(2) == ("there are too many sessions", False)
    link.close()
