"""Other hosts on which something of this run, or of earlier ones that it carries on, may still live. Pure; times are monotonic seconds."""

from __future__ import annotations


class Survivors:
    def __init__(self) -> None:
        self.runs: list[str] = []  # earlier ones
        self.anybody = False  # their processes may be another user's
        self.silence = 0.0  # seconds after which what is not heard has ended
        self._earlier: dict[str, float] = {}  # address -> until when something of earlier runs may live there
        self._silent: dict[str, float] = {}  # address of an engine of this run that was lost -> when it was heard

    def expect(self, runs: list[str], hosts: dict[str, float], *, anybody: bool) -> None:
        """Something of these runs may live on these hosts: address -> until when. `anybody`: as another user."""
        self.runs = runs
        self.anybody = anybody
        self._earlier = hosts

    @property
    def unsure(self) -> bool:
        """It is not known of every host that nothing of earlier runs is left there: nothing may be started yet."""
        return bool(self._earlier)

    def cleared(self, address: str) -> None:
        """The host has said that nothing of earlier runs is left."""
        self._earlier.pop(address, None)

    def wait_is_over(self, now: float) -> bool:
        """What was waited for has ended by now, whether the hosts have said so or not. True once."""
        if not self._earlier or max(self._earlier.values()) > now:
            return False
        self._earlier.clear()
        return True

    def lost(self, address: str, heard: float) -> None:
        """An engine there, and whether it lives nobody can say."""
        self._silent[address] = heard

    def back(self, address: str) -> None:
        """The engine in the place of a lost one has made sure that nothing of that is left."""
        self._silent.pop(address, None)

    def ends(self, now: float) -> dict[str, float]:
        """address -> until when something may live there."""
        ends = dict(self._earlier)
        for address, heard in self._silent.items():
            ends[address] = max(ends.get(address, 0.0), heard + self.silence)
        return {address: end for address, end in ends.items() if end > now}
