"""A real sshd on loopback, for this user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import paramiko
from cloud import free_port
from harness import need, until


class Sshd:
    """A real sshd on loopback, for this user, with keys of its own."""

    def __init__(self, more: str = "") -> None:
        """`more`: lines for its configuration."""
        program = need("sshd")
        need("ssh-keygen")
        self.folder = Path(tempfile.mkdtemp(prefix="sshd-", dir="/tmp"))
        self.port = free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True, stdin=subprocess.DEVNULL)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/user.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\n" + more
        )
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._answers, what="sshd")

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except (OSError, paramiko.SSHException):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            return False
        return True

    def connect(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", self.port, pwd.getpwuid(os.getuid()).pw_name, key_filename=str(self.folder / "user"), allow_agent=False,
            look_for_keys=False,
        )  # fmt: skip
        return client

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self.folder)
