"""A fake AWS of this process's own (moto, tests/testbed/cloud), which ends when the process does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import cannot

_SCRIPT = Path(__file__).resolve().parent / "testbed" / "cloud"


class Cloud:
    """S3 and EC2 (`endpoint`), and a metadata service (`metadata`). `env`: what clients need."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cloud-", dir="/tmp"))
        ports = [free_port(), free_port()]
        self.endpoint, self.metadata = (f"http://127.0.0.1:{port}" for port in ports)
        self.env = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.metadata}/",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder),
            "TESTBED_DIR": str(self.folder / "bed"),
            "TESTBED_PYTHON": sys.executable,
            "TESTBED_AWS_PORT": str(ports[0]),
            "TESTBED_IMDS_PORT": str(ports[1]),
        }
        # It waits for the end of its stdin, which comes however this process ends.
        self._keeper = subprocess.Popen(
            [_SCRIPT, "down-at-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,
        )
        self.call("up")

    def call(self, verb: str, *arguments: str) -> str:
        """One verb of the script: what it prints."""
        done = subprocess.run(
            [_SCRIPT, verb, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self._env, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"cloud {verb}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def client(self, service: str = "s3") -> Any:
        """A client of boto3 that talks to it."""
        import boto3

        return boto3.client(
            service, endpoint_url=self.endpoint, aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
        )

    def close(self) -> None:
        """Down; returns when it is gone."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(30)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A fake AWS, one for each worker."""
    try:
        import flask_cors  # noqa: F401
        import moto.server  # noqa: F401
    except ImportError as error:
        cannot(f"{error.name} is not installed")
    made = Cloud()
    yield made
    made.close()
