"""Whether what a run makes will have somewhere to go: looked at as the run begins, or a person learns of it when all is computed.

Only said: a bucket may be made meanwhile, and what cannot be delivered is tried again at the end.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

from taskrun import threads
from taskrun.driver.places import Places
from taskrun.errors import Handled, Refused
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.store import Denied, StoreError, Transient

PROBE = ".taskrun-is-it-there"  # a name that nothing has


class Destinations:
    """`wake`: has `tick` called, in the loop, where `note` says a sentence (level, text)."""

    def __init__(self, places: Places, wake: Callable[[], None], note: Callable[[str, str], None]) -> None:
        self._places = places
        self._wake = wake
        self._note = note
        self._seen: set[tuple[str, str]] = set()
        self._found: deque[str] = deque()

    def look(self, stagings: list[Staging]) -> None:
        """Looks at the stores of these lines that were not looked at, in a thread of its own: a host may be far away."""
        new: list[tuple[int, Location]] = []
        for staging in stagings:
            if staging.way == "out" and "$" not in staging.dest:
                dest = self._places.of(staging.dest)
                key = (dest.kind, dest.where)
                if dest.kind != "local" and key not in self._seen:
                    self._seen.add(key)
                    new.append((staging.line, dest))
        if new:
            with contextlib.suppress(Refused):  # without room for a thread it is found out at the end
                threads.start(self._look, "the destinations", new)

    def tick(self) -> None:
        """Once a second, and whenever the loop was woken."""
        while self._found:
            self._note("warning", self._found.popleft())

    def _look(self, new: list[tuple[int, Location]]) -> None:
        for line, dest in new:
            try:
                self._places.stores.of(dest).stat(dest.path.rpartition("/")[0] + "/" + PROBE if "/" in dest.path else PROBE)
            except Transient:
                continue  # it may pass until there is something to deliver
            except Denied as error:
                if dest.kind == "s3":
                    continue  # who may write need not be allowed to look
                problem = str(error)
            except (StoreError, Handled) as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - a library's own: said when there is something to deliver
                problem = f"{type(error).__name__}: {error}"
            else:
                continue
            problem = problem.replace(PROBE, "")
            self._found.append(f"line {line}: nothing can be delivered now: {problem}; it is tried when there is something")
            self._wake()
