"""The link moves off descriptors 0 to 2, whatever of them was open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness import ROOT

PROGRAM = """
import os
from taskrun.agent.main import own_link
fds = own_link()
os.write(fds[1], b"%d" % min(fds))
os.write(2, b"not there")
"""


@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_the_link_is_apart(closed: str) -> None:
    command = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        capture_output=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2
    assert done.stderr == (b"" if closed else b"not there")
