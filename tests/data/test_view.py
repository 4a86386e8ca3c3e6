"""What a person sees of data that is on its way."""

from __future__ import annotations

import signal
from collections.abc import Callable

from cli.test_live_view import Session, on_terminal
from data.conftest import Bucket
from harness import Taskrun

from taskrun.observers.progress import Progress, Times, plain_line

__all__ = ["on_terminal"]  # a fixture that is written elsewhere

#: Bytes: what a quick disk needs seconds for.
SIZE = 2_000_000_000
BYTES = r"[0-9.]+ [MG]B of 2\.0 GB, [0-9.]+ [MG]B/s, about [0-9]+ s to go"


def test_bytes_and_rate_and_time_left(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
    with (taskrun.folder / "big").open("wb") as file:
        file.truncate(SIZE)
    session = on_terminal("#TASKRUN STAGE-IN big in/\ntrue\n", width=140)
    session.shows(f"fetching data: {BYTES}")
    assert session.finish() == 0
    (taskrun.folder / "in/big").unlink()
    session = on_terminal("sleep 2\n#TASKRUN STAGE-OUT TASK big out/\ntrue\n", "-p", "two", width=140)
    session.shows(f"data {BYTES}")
    assert session.finish() == 0
    (taskrun.folder / "out/big").unlink()


def test_the_end_of_a_run_that_delivers(on_terminal: Callable[..., Session], taskrun: Taskrun, bucket: Bucket) -> None:
    session = on_terminal("#TASKRUN STAGE-OUT out s3://genomes/\necho > out; sleep 1\n", width=140, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    session.shows("delivering what is left")
    session.process.send_signal(signal.SIGTERM)
    assert session.finish() == 3


def test_in_words() -> None:
    times = Times(5.0)
    assert plain_line(Progress(done=1, data="2 MB of 3 MB"), times).endswith("data 2 MB of 3 MB")
    assert plain_line(Progress(done=1, data="2 MB of 3 MB", waiting="fetching data: 2 MB of 3 MB"), times).count("2 MB of 3 MB") == 1
