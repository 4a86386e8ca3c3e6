"""Suspects: tasks that may have caused the death of an engine or a slot, and the charges against them. Pure.

Only a death that a task may have caused comes here: its host stayed up, and nobody had told it to stop. The tasks that ran there become
suspects, and no engine holds more than one suspect at a time. A death with a single suspect is charged to that one alone; from then on
it runs with nothing beside it, so a task without guilt is charged once at most. A suspect that ends by itself is cleared.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from heapq import heappop, heappush
from typing import Literal, NamedTuple, TypeAlias

#: (context, node): where an engine was.
Place: TypeAlias = tuple[str, str]
#: The meaning of a loss for a task: none, it may have caused the loss, it is charged with it.
Blame: TypeAlias = Literal["", "suspect", "charged"]


class Death(NamedTuple):
    """The last death of an engine at a place, and what came of it."""

    boot: str  # boot id of the host
    suspected: tuple[int, ...]
    charged: int | None


class Suspects:
    def __init__(self, limit: int) -> None:
        self.limit = limit  # charges after which a task is given up
        self.charges: dict[int, int] = {}  # suspect -> deaths that it was charged with
        self.nodes: dict[int, tuple[str, ...]] = {}  # task -> nodes whose engine or slot was lost with it, whatever the reason
        self.row = 0  # charges since a task has ended
        self._deaths: dict[Place, Death] = {}
        # heaps of those that wait for an engine; they may hold what does not wait any more
        self._uncharged: dict[frozenset[str], list[int]] = {}  # by the nodes where they were lost
        self._charged: list[tuple[int, int]] = []  # (-charges, id)

    # --- what happens

    def engine_died(self, place: Place, boot: str, ran: list[int]) -> Blame:
        """An engine died with these tasks; `boot`: boot id of its host."""
        suspected, charged = self._accuse(ran)
        self._deaths[place] = Death(boot, suspected, charged)
        return _blame(suspected, charged)

    def slots_died(self, ran: list[int]) -> Blame:
        """Slots died with these tasks, and their engine goes on."""
        return _blame(*self._accuse(ran))

    def _accuse(self, ran: list[int]) -> tuple[tuple[int, ...], int | None]:
        accused = [task for task in ran if task in self.charges]
        if len(accused) == 1:
            self.charges[accused[0]] += 1
            self.row += 1
            return (), accused[0]
        if accused:
            return (), None
        self.charges.update(dict.fromkeys(ran, 0))
        return tuple(ran), None

    def lost(self, task: int, node: str) -> None:
        """An attempt of it was lost there."""
        self.nodes[task] = (*self.nodes.get(task, ()), node)

    def ended(self, task: int) -> None:
        """Forget a task that has a record."""
        self.charges.pop(task, None)
        self.nodes.pop(task, None)

    def came_back(self, place: Place, boot: str) -> list[int]:
        """An engine has joined there. Return those that are no suspects any more: the host has booted since, so no task did it."""
        death = self._deaths.pop(place, None)
        if death is None or not boot or not death.boot or boot == death.boot:
            return []
        charged = death.charged
        if charged is not None and self.charges.get(charged, 0) > 0:
            self.charges[charged] -= 1
            self.wait(charged)  # its place in the line has changed
        cleared = [task for task in death.suspected if self.charges.get(task) == 0]
        for task in cleared:
            del self.charges[task]
        return cleared

    # --- what that means

    def given_up(self, task: int) -> bool:
        """Return whether the task was charged as often as it may be."""
        return self.charges.get(task, 0) >= self.limit

    # --- the line of those that are to run again

    def wait(self, task: int) -> None:
        """The suspect is to run again."""
        charges = self.charges[task]
        if charges:
            heappush(self._charged, (-charges, task))
        else:
            heappush(self._uncharged.setdefault(frozenset(self.nodes.get(task, ())), []), task)

    @property
    def any_waiting(self) -> bool:
        """Return whether there may be suspects that wait."""
        return bool(self._uncharged or self._charged)

    def waiting_uncharged(self, again: Container[int]) -> list[int]:
        """Return of those without a charge the first for each set of nodes where they were lost; `again`: all that are to run."""
        found = []
        for nodes, line in list(self._uncharged.items()):
            while line and not (line[0] in again and self.charges.get(line[0]) == 0):
                heappop(line)
            if line:
                found.append(line[0])
            else:
                del self._uncharged[nodes]
        return sorted(found)

    def waiting_charged(self, again: Container[int]) -> Iterator[int]:
        """Yield the suspects that are to run alone, the one with the most charges first."""
        line = self._charged
        while line and not self._is_charged(line[0], again):
            heappop(line)
        seen = None
        for entry in sorted(line):
            if entry != seen and self._is_charged(entry, again):
                yield entry[1]
            seen = entry

    def _is_charged(self, entry: tuple[int, int], again: Container[int]) -> bool:
        return entry[1] in again and self.charges.get(entry[1], 0) == -entry[0]


def _blame(suspected: tuple[int, ...], charged: int | None) -> Blame:
    return "charged" if charged is not None else "suspect" if suspected else ""
