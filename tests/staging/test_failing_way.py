"""A store that does not answer leaves the mover's threads to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from staging.conftest import Moving

from taskrun.staging.local import LocalStore
from taskrun.staging.locations import Location
from taskrun.staging.mover import Delivered, Staged
from taskrun.staging.store import Entry, Listing, Transient
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Patience


class Dead(LocalStore):
    """A host on which each file hangs until `answer` is set, and fails."""

    def __init__(self, folder: Path, answer: threading.Event) -> None:
        super().__init__(folder, "test")
        self.answer = answer
        self.asked = 0
        self.most = 0

    def find(self, pattern: Any, listing: Listing | None = None) -> Any:
        return iter([Entry(f"{number}", 1, "1") for number in range(40)])

    def stat(self, name: str) -> Entry | None:
        self.asked += 1
        self.most = max(self.most, self.asked)
        self.answer.wait(0.2)
        self.asked -= 1
        raise Transient("nobody answers")


def test_one_at_a_time(moving: Callable[..., Moving], folder: Path) -> None:
    answer = threading.Event()
    dead = Dead(folder, answer)
    stores = Stores(Settings(folder, "test"), lambda _: dead)
    move = moving(stores=stores, transfers=4, patience=Patience(2, 0.01, 0.02))
    first = move.start(Location("sftp", "dead", "/"), "in/")
    for number in range(20):
        (folder / f"here{number}").write_text("x")
    ends = [move.start(f"here{number}", f"there{number}") for number in range(20)]
    while len(move.of(Delivered)) < len(ends):
        move.next()
    assert not move.of(Staged) or first not in {end.request for end in move.of(Staged)}
    answer.set()
    assert len(move.end(first).failures) == 40
    assert dead.most <= 4
