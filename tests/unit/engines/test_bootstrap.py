"""The command that takes the agent in: fit for every login shell, small, the same for the same files."""

from __future__ import annotations

import json
import re
import subprocess
import zlib

import pytest

from taskrun.engines import bootstrap
from taskrun.engines.command import check_ssh, ssh_command
from taskrun.errors import Refused


def test_one_word_for_any_shell() -> None:
    text = bootstrap.script()
    assert not re.search(r"['\\\n!]", text)
    assert bootstrap.remote_command() == f"exec /bin/sh -c '{text}'"
    assert len(text) < 8000, "some shells and sshds cut long commands"


def test_the_archive() -> None:
    data = bootstrap.archive()
    names = json.loads(zlib.decompress(data))
    assert {"agent", "agent.main", "agent.slot"} <= set(names)
    assert "agent.boot" not in names
    assert len(data) < 60_000


def test_how_it_ended_is_said() -> None:
    """A host without Python, and an agent that is killed: exit codes, not signals."""
    done = subprocess.run(["/bin/sh", "-c", bootstrap.script()], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False)
    assert done.returncode == 127 or "ended before the agent had come" in done.stderr


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
