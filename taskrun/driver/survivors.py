"""Other hosts on which something of this run, or of earlier ones that it carries on, may still live. Pure; times are monotonic seconds.

Hosts are called as in `lineage.host_key`: one that was attached is not the host of that address, and cannot speak for it.
"""

from __future__ import annotations


class Survivors:
    def __init__(self) -> None:
        self.runs: list[str] = []  # earlier ones
        self.anybody = False  # their processes may be another user's
        self.silence = 0.0  # seconds after which what is not heard has ended
        self._earlier: dict[str, float] = {}  # host -> until when something of earlier runs may live there
        self._silent: dict[str, float] = {}  # host of an engine of this run that was lost -> when it was heard

    def expect(self, runs: list[str], hosts: dict[str, float], *, anybody: bool) -> None:
        """Something of these runs may live on these hosts: host -> until when. `anybody`: as another user."""
        self.runs = runs
        self.anybody = anybody
        self._earlier = hosts

    @property
    def unsure(self) -> bool:
        """It is not known of every host that nothing of earlier runs is left there: nothing may be started yet."""
        return bool(self._earlier)

    def cleared(self, host: str) -> None:
        """The host has said that nothing of earlier runs is left."""
        self._earlier.pop(host, None)

    def wait_is_over(self, now: float) -> bool:
        """What was waited for has ended by now, whether the hosts have said so or not. True once."""
        if not self._earlier or max(self._earlier.values()) > now:
            return False
        self._earlier.clear()
        return True

    def lost(self, host: str, heard: float) -> None:
        """An engine there, and whether it lives nobody can say."""
        self._silent[host] = heard

    def back(self, host: str) -> None:
        """The engine in the place of a lost one has made sure that nothing of that is left."""
        self._silent.pop(host, None)

    def ends(self, now: float) -> dict[str, float]:
        """host -> until when something may live there."""
        ends = dict(self._earlier)
        for host, heard in self._silent.items():
            ends[host] = max(ends.get(host, 0.0), heard + self.silence)
        return {host: end for host, end in ends.items() if end > now}
