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
SIZE = 900 << 20
BYTES = r"[0-9.]+ (?:[KM]i)?B of 900\.0 MiB"


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
    tally.found(2, 2 << 30)
    assert tally_text(tally) == "0 B of 2.0 GiB"
    for second in range(3):
        tally.advanced(400 << 20, float(second))
    assert tally_text(tally) == "1.2 GiB of 2.0 GiB, 400.0 MiB/s, about 2 s to go"


def test_in_words() -> None:
    times = Times(5.0)
    assert plain_line(Progress(done=1, data="2 MiB of 3 MiB"), times).endswith("data 2 MiB of 3 MiB")
    assert plain_line(Progress(done=1, data="2 MiB of 3 MiB", waiting="fetching data: 2 MiB of 3 MiB"), times).count("2 MiB of 3 MiB") == 1
