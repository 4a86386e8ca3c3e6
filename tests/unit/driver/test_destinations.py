"""What is said of destinations before there is anything to deliver."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskrun.driver.destinations import Destinations
from taskrun.driver.places import new_places
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.store import Denied, Missing, Transient


@pytest.mark.parametrize(
    ("dest", "problem", "said"),
    [
        ("s3://bucket/out/", Missing("s3://bucket/out/.taskrun-is-it-there: there is no bucket"), "s3://bucket/out/: there is no bucket;"),
        ("s3://bucket/out/", Denied("forbidden"), ""),  # who may write need not be allowed to look
        ("sftp://me@host/out/", Denied("host: no key is taken"), "host: no key is taken;"),
        ("sftp://me@host/out/", Transient("the connection was lost"), ""),
        ("sftp://me@host/out/", None, ""),
        ("out/", Missing("never asked"), ""),
    ],
)
def test_what_is_wrong_for_good_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dest: str, problem: Exception | None, said: str
) -> None:
    asked = []

    def stat(name: str) -> None:
        asked.append(name)
        if problem is not None:
            raise problem

    places = new_places(tmp_path, "tag", 1, "", print)
    stores = {"s3": SimpleNamespace(stat=stat), "sftp": SimpleNamespace(stat=stat)}

    def of(location: Location) -> object:
        return stores[location.kind]

    monkeypatch.setattr(places.stores, "of", of)
    heard: list[str] = []
    looked = Destinations(places, lambda: None, lambda _, text: heard.append(text))
    lines = [Staging(line, "out", "RUN", "x", dest, None) for line in (3, 7)] + [Staging(9, "in", "RUN", "s3://other/x", "", None)]
    looked.look(lines)
    for thread in threading.enumerate():
        if thread.name == "the destinations":
            thread.join(10)
    looked.tick()
    assert [text.partition(" now: ")[2].partition(" it is tried")[0] for text in heard] == [said] * bool(said)
    assert len(asked) == (dest != "out/"), "each store once"
