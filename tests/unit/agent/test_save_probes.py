"""What GNU Parallel finds out in a fresh home is what we put there beforehand."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from harness import need

from taskrun.agent import starter


def test_gnu_parallel_finds_out_the_same(tmp_path: Path) -> None:
    need("parallel")
    path, version = starter.find_parallel(os.environ["PATH"])
    assert version
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for home in (ours, theirs):
        home.mkdir()
    starter.save_probes(path, str(ours))
    env = {"PATH": os.environ["PATH"], "PARALLEL_HOME": str(theirs), "PARALLEL_SHELL": "/bin/sh"}
    command = starter.parallel_command(path, 1)
    assert subprocess.run(command, input=b"echo found\n", env=env, capture_output=True, check=True).stdout == b"found\n"
    found = theirs / "tmp" / "sshlogin" / socket.gethostname()
    saved = ours / "tmp" / "sshlogin" / socket.gethostname()
    assert (saved / "setpgrp_func").read_bytes() == (found / "setpgrp_func").read_bytes()
    assert int((saved / "linelen").read_bytes()) <= int((found / "linelen").read_bytes()) + 1000
    shutil.rmtree(theirs)
    env["PARALLEL_HOME"] = str(ours)
    assert subprocess.run(command, input=b"echo again\n", env=env, capture_output=True, check=True).stdout == b"again\n"
