"""Where the plan waits for data: STAGE-IN lines hold back what is below them. Costs nothing until the first one comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from taskrun.model import Planned, Staging, Supplied

if TYPE_CHECKING:
    from taskrun.driver.data import Data


class Gate:
    """`make`: called at the first STAGE line; may raise Refused."""

    def __init__(self, make: Callable[[], Data]) -> None:
        self.data: Data | None = None
        self._make = make

    def admit(self, items: list[Supplied]) -> list[Planned]:
        """What may be handed on now, of these and of what was kept. Raises Refused for a line that cannot be."""
        if self.data is None:
            if not any(type(item) is Staging for item in items):
                return cast("list[Planned]", items)
            self.data = self._make()
        return self.data.admit(items)

    def open(self) -> Data:
        """The data of a run that is known to have some. Raises Refused."""
        if self.data is None:
            self.data = self._make()
        return self.data

    @property
    def waits(self) -> bool:
        """The next item waits for its data."""
        return self.data is not None and self.data.stager.waits

    @property
    def keeps(self) -> bool:
        """Items wait here, or the run for who is to come."""
        return self.data is not None and (self.data.stager.keeps or bool(self.data.awaited))
