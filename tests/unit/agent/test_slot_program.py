"""The slot as a program of its own, started for an agent that is no more."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from taskrun.agent.main import make_folder, slot_command


@pytest.mark.parametrize("lives", [True, False], ids=["the agent lives", "the agent was killed"])
def test_a_slot_that_comes_too_late_removes_what_a_killed_agent_left(lives: bool) -> None:
    folder = Path(make_folder("taskrun-test"))
    inner = folder / "parallel" / "tmp"
    inner.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        if not lives:
            listener.close()
        program = subprocess.Popen([*slot_command(str(folder)), str(folder / "s"), "1"])
        if lives:  # and has no use for it
            listener.accept()[0].close()
        assert program.wait(20) == 0
    assert folder.exists() is lives
    if lives:
        subprocess.run(["rm", "-r", str(folder)], check=True)
    assert not os.listdir(os.environ["TMPDIR"])


def test_a_slot_whose_program_has_gone_has_nothing_to_say(tmp_path: Path) -> None:
    done = subprocess.run([*slot_command(str(tmp_path / "gone")), str(tmp_path / "gone" / "s"), "1"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_folder_is_made_that_its_owner_could_not_enter() -> None:
    before = os.umask(0o277)
    try:
        with pytest.raises(OSError, match="umask 277 takes new files from their owner here"):
            make_folder("taskrun-test")
    finally:
        os.umask(before)
    assert not os.listdir(os.environ["TMPDIR"])
