"""Hosts that somebody has attached move no files themselves: whoever has an invitation is told nothing of a store."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from taskrun.driver.places import Folder, Places
from taskrun.driver.serving import Serving
from taskrun.engines.relayed import RelayedAgent
from taskrun.engines.request import EngineRequest, Reach
from taskrun.staging.locations import Location
from taskrun.staging.sftp import SftpStore
from taskrun.staging.stores import Settings


def never(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize(("reach", "itself"), [("ssh", True), ("relay", False)])
def test_with_stage_on_engine_only_hosts_of_the_run_itself_are_asked(tmp_path: Path, reach: Reach, itself: bool) -> None:
    places = Places(Settings(tmp_path, "tag"), never, on_engine=True)
    places.remember(Folder("SSH0,host1", "/work", 0.0, reach))
    places._attached["SSH0,host1"] = cast("RelayedAgent", object())
    store = places.stores.of(Location("engine", "SSH0,host1", ""))
    assert isinstance(store, SftpStore)
    assert (store.errands is not None) == itself


@pytest.mark.parametrize("what", ["by_rclone", "by_url", "errand", "agent", ""])
def test_who_attaches_starts_nothing_that_moves_files_itself(what: str) -> None:
    """Also where an older run asks for it, with its keys."""
    serving = Serving({"host1": EngineRequest("host1", 1, 1, 1)}, None, "", never)
    link = serving.begin(1, "host1", what)
    assert serving.end(1) == ("files of attached hosts are moved by the driver", True)
    link.close()
