"""A program that reaches an agent: what its end means."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from taskrun.engines.command import CommandAgent


@pytest.mark.parametrize(("end", "code", "lives_on"), [("exit 7", 7, False), ("exit 255", 255, True), ("kill -9 $$", -9, True)])
def test_what_its_end_means_is_known_when_it_has_ended(tmp_path: Path, end: str, code: int, lives_on: bool) -> None:
    """Its output may end before; nobody waits for that in the driver's loop."""
    log = tmp_path / "log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    agent = CommandAgent(["/bin/sh", "-c", f"exec >&-; until test -e {tmp_path}/go; do sleep 0.02; done; {end}"], log, fd)
    os.close(fd)
    assert select.select([agent.link.read_fd], [], [], 20)[0]
    assert agent.link.read() is None
    assert (agent.settled, agent.lives_on) == (False, True)
    agent.link.close()
    (tmp_path / "go").touch()
    agent.settle()
    assert (agent.settled, agent.code, agent.lives_on) == (True, code, lives_on)
