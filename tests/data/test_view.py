"""What a person sees of data that is on its way."""

from __future__ import annotations

import signal
from collections.abc import Callable

from cli.test_live_view import Session, on_terminal
from data.conftest import Bucket
from harness import Taskrun

from taskrun.driver.data import tally_text
from taskrun.observers.progress import Progress, Times, plain_line
from taskrun.staging.transfers import Tally

__all__ = ["on_terminal"]  # a fixture that is written elsewhere

#: The rate and the time left follow when a second has gone by: a quick disk is done before that.
SIZE = 900_000_000
BYTES = r"[0-9.]+ k?M?B of 900\.0 MB"


def test_bytes_that_are_under_way(on_terminal: Callable[..., Session], taskrun: Taskrun) -> None:
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


def test_rate_and_time_left() -> None:
    tally = Tally()
    tally.found(2, 2_000_000_000)
    assert tally_text(tally) == "0 B of 2.0 GB"
    for second in range(3):
        tally.advanced(400_000_000, float(second))
    assert tally_text(tally) == "1.2 GB of 2.0 GB, 400.0 MB/s, about 2 s to go"


def test_in_words() -> None:
    times = Times(5.0)
    assert plain_line(Progress(done=1, data="2 MB of 3 MB"), times).endswith("data 2 MB of 3 MB")
    assert plain_line(Progress(done=1, data="2 MB of 3 MB", waiting="fetching data: 2 MB of 3 MB"), times).count("2 MB of 3 MB") == 1
