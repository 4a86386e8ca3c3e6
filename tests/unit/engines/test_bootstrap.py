"""The command that takes the agent in: fit for every login shell, small, the same for the same files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from taskrun.engines import bootstrap
from taskrun.engines.command import check_ssh, ssh_command
from taskrun.errors import Refused

BOOT = Path(bootstrap.__file__).resolve().parent.parent / "agent" / "boot.py"


def test_one_word_for_any_shell() -> None:
    command = bootstrap.remote_command()
    assert command.startswith("exec /bin/sh -c '")
    assert not re.search(r"[\\\n!]", command)
    assert shlex.split(command) == ["exec", *bootstrap.words()]
    assert len(command) < 1000, "it is seen by ps until Python has read all"


def test_the_archive() -> None:
    data = bootstrap.archive()
    names = json.loads(zlib.decompress(data))
    assert {"agent", "agent.main", "agent.slot"} <= set(names)
    assert "agent.boot" not in names
    assert len(data) < 60_000


def test_how_it_ended_is_said() -> None:
    """A host without Python, and an agent that is killed: exit codes, not signals."""
    done = subprocess.run(
        bootstrap.words(), env={"PATH": "/nowhere"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 127 or bootstrap.EATEN in done.stderr
    end = b"import os; os.kill(os.getpid(), 9)"  # in the agent's place
    run = f"import sys; sys.path.insert(0, {str(BOOT.parent)!r}); import boot; boot.guard(False); exec({end!r})"
    assert subprocess.run([sys.executable, "-c", run], check=False).returncode == 128 + 9


@pytest.mark.parametrize("eaten", [1, 700, 100_000])
def test_standard_input_that_was_read_before(eaten: int) -> None:
    """By a login script: never is a part of the program run."""
    sent = bootstrap.shipment()[eaten:]
    done = subprocess.run(bootstrap.words(), input=sent, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == bootstrap.EATEN


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ssh -p 22", ["ssh", "-p", "22", "-o", "BatchMode=yes", "-T", "--"]),
        ("/opt/ssh", ["/opt/ssh", "-o", "BatchMode=yes", "-T", "--"]),
        ("'my ssh' x", ["my ssh", "x"]),
    ],
)
def test_words_of_ssh(given: str, words: list[str]) -> None:
    """A host is never an option: OpenSSH is told where they end, another program is not given such a host."""
    assert ssh_command(given, "me@h") == [*words, "me@h", bootstrap.remote_command()]
    with pytest.raises(Refused, match="no name of a host"):
        ssh_command(given, "-oProxyCommand=touch x")


@pytest.mark.parametrize(
    ("given", "said"), [("'", "No closing quotation"), (" ", "names no program"), ("no-such-program -x", "there is no program")]
)
def test_ssh_that_cannot_be(given: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        check_ssh(given)
