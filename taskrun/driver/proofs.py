"""Proofs that a delivery is safe now: its file at the destination, or its source, asked of the store anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.staging.locations import Location
from taskrun.staging.store import ALGORITHMS, Entry, StoreError
from taskrun.staging.transfers import Delivery


class Proof(NamedTuple):
    """One end of a delivery that has to be there, with the content that was recorded."""

    place: str  # as the delivery names it
    size: int
    version: str
    sha256: str


def at_dest(delivery: Delivery) -> Proof:
    """Return the proof that an output can be spared here."""
    return Proof(delivery.dest, delivery.size, delivery.dest_version, delivery.sha256)


def at_source(delivery: Delivery) -> Proof:
    """Return the proof that an input can be fetched again."""
    return Proof(delivery.source, delivery.source_size, delivery.source_version, delivery.source_sha256)


def location(places: Places, proof: Proof) -> Location | None:
    """Return where the file is to be, None where that is nowhere now."""
    try:
        return places.recorded(proof.place)
    except Refused:
        return None


def why_not(places: Places, proof: Proof, *, compare: bool = True) -> str:
    """Return why the file is not certain to be there, whole; '' if it is. Blocks.

    `compare`: its content, too, which the store may have to read for that; else its size alone.
    """
    try:
        place = places.recorded(proof.place)
        store = places.stores.of(place)
        entry = store.stat(place.path)
        if entry is None:
            return f"{proof.place} is not there"
        if 0 <= entry.size != proof.size:
            return f"{proof.place} has another size"
        if not compare or (entry.certain and entry.version == proof.version):
            return ""
        return _compared(store.digest, entry, proof)
    except (StoreError, Refused) as error:
        return f"it is not certain that {proof.place} is there, whole: {error}"


def _compared(digest: Callable[[Entry, str], str | None], entry: Entry, proof: Proof) -> str:
    """By a checksum that the store knows: sha256, or the one that it told when the file had arrived."""
    algorithm, _, value = proof.version.rpartition(":")
    known = {"sha256": proof.sha256} | ({algorithm: value} if algorithm in ALGORITHMS else {})
    found = {name: digest(entry, name) for name in known}
    if any(found[name] == value for name, value in known.items()):
        return ""
    if any(found.values()):
        return f"{proof.place} has other content"
    if entry.certain:
        return f"{proof.place} is another version"
    return f"it is not certain that {proof.place} is there, whole: its store tells no checksum"
