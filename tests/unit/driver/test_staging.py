"""What has arrived is accounted for, whatever becomes of who wanted it."""

from __future__ import annotations

import selectors
from pathlib import Path

from harness import until

from taskrun.driver.carrier import Carrier
from taskrun.driver.completing import Patience
from taskrun.driver.places import new_places
from taskrun.driver.staging import Stager
from taskrun.staging.mover import Staged


def test_what_arrived_before_its_attempt_was_taken_back(tmp_path: Path) -> None:
    """It is an input of the run, which --clean may remove."""
    (tmp_path / "x").write_text("input")
    places = new_places(tmp_path, "tag", 1, "", print)
    events: list[str] = []
    ends: list[Staged] = []
    with selectors.DefaultSelector() as selector:
        carrier = Carrier(
            places.stores, selector, print, lambda **fields: events.append(fields["dest"]), "tag", transfers=1, workfactor=1.0
        )
        stager = Stager(places, carrier, lambda: None, print, {}, [], [], Patience(0.0, 0.0))  # type: ignore[arg-type,return-value]
        number = carrier.request(places.of("x"), places.of("in/"), lambda _: None, "in", ends.append, task=0)
        until((tmp_path / "in/x").exists, what="the file")
        carrier.cancel(number)

        def look() -> bool:
            for key, _ in selector.select(0.05):
                key.data()
            return not carrier.busy

        until(look, what="the end of the request")
        carrier.close()
    assert ends == [], "nobody waits for it any more"
    assert [each.dest for each in stager.inputs] == events == ["in/x"]
