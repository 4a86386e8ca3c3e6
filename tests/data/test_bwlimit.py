"""--bwlimit: all transfers together, over every kind of store, and a signal ends the wait."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from data.conftest import Bucket
from harness import Taskrun, until

KIB = 1 << 10


@pytest.mark.parametrize("source", ["s3://genomes/in/", "disk:in/", "./from/"])
def test_all_transfers_together(taskrun: Taskrun, bucket: Bucket, remote: tuple[Path, Path], source: str) -> None:
    config, disk = remote
    for number in range(4):
        data = os.urandom(256 * KIB)
        bucket.put(f"in/{number}", data)
        for folder in (disk / "in", taskrun.folder / "from"):
            folder.mkdir(exist_ok=True)
            (folder / f"{number}").write_bytes(data)
    begun = time.monotonic()
    text = f"#TASKRUN STAGE-IN {source} in/\ntrue\n"
    flags = ("-s", "localhost:1", "-p", "run", "--bwlimit", "512k", "--rclone-config", config)
    result = taskrun("tasks.txt", *flags, files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert time.monotonic() - begun > 1.9, "1 MiB at 512 KiB/s"
    assert {path.name for path in (taskrun.folder / "in").iterdir()} == {"0", "1", "2", "3"}


def test_a_signal_ends_it(taskrun: Taskrun) -> None:
    (taskrun.folder / "big").write_bytes(bytes(4096 * KIB))
    text = "#TASKRUN STAGE-IN big in/\ntrue\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", "--bwlimit", "100k", files={"tasks.txt": text})
    until(lambda: any((taskrun.folder / "in").glob(".taskrun-*")) if (taskrun.folder / "in").exists() else False, 30, "the transfer")
    os.kill(running.pid, signal.SIGTERM)
    result = running.finish(30)
    assert result.code == 3
    assert list((taskrun.folder / "in").iterdir()) == []


def test_what_is_no_rate(taskrun: Taskrun) -> None:
    for word in ("0", "fast", "-1", "1T"):
        result = taskrun("tasks.txt", "--bwlimit", word, files={"tasks.txt": "true\n"})
        assert result.code == 2
        assert "--bwlimit" in result.err
