"""What a resume waits for on hosts that it cannot ask."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver import elsewhere


@pytest.mark.parametrize(
    ("context", "waited"),
    [
        ({"kind": "ssh", "hosts": {"far": 1}}, ["far"]),
        ({"kind": "attached", "label": "SSH0", "hosts": {"friend": 1, "me@here.example": 1}}, ["SSH0,friend"]),
        ({"kind": "attached", "label": "SSH0", "hosts": {"here": 1}, "here": True}, []),
        ({"kind": "attached", "label": "SSH0", "hosts": {"here": 1}, "here": False}, ["SSH0,here"]),  # another machine of that name
        ({"kind": "attached", "label": "SSH0", "hosts": {"friend": 1}, "left": 5.0}, []),
        ({"kind": "local", "hosts": {"here": 1}}, []),
        ("damaged", []),
    ],
)
def test_hosts_of_a_run_that_was_killed(tmp_path: Path, context: Any, waited: list[str]) -> None:
    run: Any = SimpleNamespace(run_id="r", extra={}, options={}, ended=None, started=990.0, host="here", contexts=[context])
    found = elsewhere._left_by(run, tmp_path / "x_status.txt", 1000.0)
    assert list(found.hosts) == waited
    assert all(1000.0 < until <= 1000.0 + 180.0 + 30.0 for until in found.hosts.values())
