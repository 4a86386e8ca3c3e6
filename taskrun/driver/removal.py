"""Removing files in three steps, so that none goes that was the only copy.

All files are put aside first, each in a folder beside it. Then the other copies are asked for again: one that was the very file, by
whatever name a server, a mount or a remote gives it, is not there now. What has no other copy gets its name back; the rest is removed.
What a killed driver has put aside gets its name back from the next run in the directory (leftovers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from taskrun.driver.proofs import Proof
from taskrun.staging.store import FolderStore, Missing, StoreError, aside_name

#: Rounds in which files prove to have no other copy. After the last one nothing more is removed.
_ROUNDS = 8


class Doomed(NamedTuple):
    """A file that may go once its proofs hold."""

    shown: str
    store: FolderStore
    path: str
    proofs: tuple[Proof, ...]


class Outcome(NamedTuple):
    """The end of a removal. `kept`: shown name and why; `lost`: copies that were there before the removal and are not any more."""

    removed: int
    kept: tuple[tuple[str, str], ...]
    lost: tuple[str, ...]


class Remover:
    """`why_not` asks a store for a proof, with the content compared or not, and blocks.

    `held` names the files that a process has open, with why they are kept.
    """

    def __init__(
        self,
        tag: str,
        why_not: Callable[[Proof, bool], str],
        held: Callable[[list[Doomed], bool], Mapping[Doomed, str]],
        over: Callable[[], bool],
        side_by_side: int,
    ) -> None:
        """`tag`: in the names of the folders aside. `over`: the person does not wait any more. `side_by_side`: proofs asked at a time."""
        self._tag = tag
        self._why_not = why_not
        self._held = held
        self._over = over
        self._side_by_side = side_by_side
        self._kept: list[tuple[str, str]] = []

    def remove(self, doomed: Iterable[Doomed], watched: Iterable[Proof], again: Iterable[Proof] = ()) -> Outcome:
        """Remove what is safe. `watched`: further copies that no removal may take away; `again`: those to be asked once more at the end."""
        left = list(doomed)
        watch, again = set(watched), set(again)
        removed = 0
        gone = set(self._bad(again, compare=False)) if left else set()  # for another reason, before anything was touched
        for number in range(_ROUNDS):
            left = self._without_held(left, aside=False)
            left = self._put_aside(left)
            try:
                left = self._without_held(left, aside=True)
                proofs = {proof for each in left for proof in each.proofs}
                bad = self._bad(proofs | watch) if not self._over() else {}
            except BaseException:
                self._put_back(left)
                raise
            if not bad and not self._over():
                removed = self._unlink(left)
                break
            self._put_back(left)
            if self._over():
                self._kept.append(("--clean", "it was interrupted: nothing was removed"))
                break
            still = self._bad(bad)
            here = {proof for proof, why in bad.items() if still.get(proof, "") != why}  # there as before with the names back
            watch -= bad.keys() - here  # no matter what lies aside
            spared = {each: _why(each, still) for each in left}
            for proof in here:
                spared |= dict.fromkeys(_same_file(proof, left), f"{proof.place} is this very file by another name")
            if number == _ROUNDS - 1 and here:
                spared = {each: spared[each] or f"{min(here).place} is one of these files by another name" for each in left}
            self._kept += [(each.shown, why) for each, why in spared.items() if why]
            left = [each for each in left if not spared[each]]
        lost = sorted(proof.place for proof in self._bad(again - gone, compare=False)) if removed else []
        return Outcome(removed, tuple(self._kept), tuple(lost))

    def _without_held(self, doomed: list[Doomed], *, aside: bool) -> list[Doomed]:
        held = self._held(doomed, aside)
        if aside:
            self._put_back(list(held))
        self._kept += [(each.shown, why) for each, why in held.items()]
        return [each for each in doomed if each not in held]

    def _put_aside(self, doomed: list[Doomed]) -> list[Doomed]:
        done = []
        for each in doomed:
            try:
                each.store.rename(each.path, aside_name(self._tag, each.path))
                done.append(each)
            except Missing:
                continue
            except StoreError as error:
                self._kept.append((each.shown, str(error)))
        return done

    def _put_back(self, doomed: list[Doomed]) -> None:
        for each in doomed:
            aside = aside_name(self._tag, each.path)
            try:
                each.store.rename(aside, each.path)
            except StoreError as error:
                self._kept.append((each.shown, f"{error}; the file is {aside}"))
        self._remove_folders(doomed)

    def _unlink(self, doomed: list[Doomed]) -> int:
        removed = 0
        for at, each in enumerate(doomed):
            if self._over():
                self._put_back(doomed[at:])
                self._kept.append(("--clean", f"it was interrupted: {len(doomed) - at} files stay"))
                return removed
            try:
                each.store.remove(aside_name(self._tag, each.path))
                removed += 1
            except StoreError as error:
                self._kept.append((each.shown, f"{error}; the file is {aside_name(self._tag, each.path)}"))
        self._remove_folders(doomed)
        return removed

    def _remove_folders(self, doomed: list[Doomed]) -> None:
        for store, folder in {(each.store, aside_name(self._tag, each.path).rpartition("/")[0]) for each in doomed}:
            store.remove_folder(folder)

    def _bad(self, proofs: Iterable[Proof], *, compare: bool = True) -> dict[Proof, str]:
        """Return the proofs that do not hold, with why."""
        asked = list(proofs)
        if not asked:
            return {}
        with ThreadPoolExecutor(self._side_by_side, "proof") as pool:
            return {
                proof: why for proof, why in zip(asked, pool.map(lambda proof: self._why_not(proof, compare), asked), strict=True) if why
            }


def _why(doomed: Doomed, bad: Mapping[Proof, str]) -> str:
    """Return why a file has no other copy for certain, '' if all of its proofs hold."""
    return next((bad[proof] for proof in doomed.proofs if proof in bad), "")


def _same_file(proof: Proof, doomed: list[Doomed]) -> list[Doomed]:
    """Return the files one of which is most likely the copy: by the end of its path, else those that it proves, else all without a copy."""
    common = {each: _common(proof.place, each.path) for each in doomed}
    longest = max(common.values(), default=0)
    if longest:
        return [each for each in doomed if common[each] == longest]
    proven = [each for each in doomed if proof in each.proofs]
    return proven or [each for each in doomed if not each.proofs] or doomed


def _common(one: str, other: str) -> int:
    """Return how many parts of two paths are the same, from the end."""
    count = 0
    for left, right in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if left != right:
            break
        count += 1
    return count
