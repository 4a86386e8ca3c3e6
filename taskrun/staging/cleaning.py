"""What --clean removes: a plan, made from what is there and what has been delivered. Pure; removing is the caller's.

The table of the documentation, column by column: `keep` nothing; `output` the staged inputs and the outputs that are safe at their
destination; `encrypted` those of them that are not .gpg, and what else the run made that may be cleartext; `all` inputs, outputs and what
else the run made. The run's own files stay always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from taskrun.staging.transfers import Delivery

Mode: TypeAlias = Literal["keep", "output", "encrypted", "all"]
Row: TypeAlias = Literal["input", "output", "other"]


class Present(NamedTuple):
    """One file of the working directory, by its path as deliveries name it."""

    path: str
    version: str  # as the store says it now


class Removal(NamedTuple):
    """A file that may go, and why. `delivery`: what has to be safe elsewhere first; None for a file that was only made."""

    path: str
    row: Row
    why: str
    delivery: Delivery | None = None


class Kept(NamedTuple):
    """A file that this mode would remove, was it safe to; for a warning."""

    path: str
    why: str


class Plan(NamedTuple):
    """`remove` in the order of the names."""

    remove: tuple[Removal, ...]
    kept: tuple[Kept, ...]


def plan(
    mode: Mode,
    present: Iterable[Present],
    inputs: Mapping[str, Delivery],
    outputs: Mapping[str, Delivery],
    *,
    made: Callable[[str], bool],
    own: frozenset[str],
    unproven: Callable[[Delivery], bool],
) -> Plan:
    """Return what may be removed, provided that each delivery proves to be safe when its file has been put aside.

    `inputs` by the path they lie at, `outputs` by the path they were shipped from. `made`: whether the run made a file, as far as that is
    known; whatever it did not make stays. `own`: status, sidecar, events, manifest, logs. `unproven`: whether a store may have shown the
    very file for the copy that an output was found to have (`identical`).
    """
    remove: list[Removal] = []
    kept: list[Kept] = []
    if mode == "keep":
        return Plan((), ())
    encrypted = frozenset(path for path in (*inputs, *outputs) if path.lower().endswith(".gpg"))
    decrypted = any(_is_decrypted(each) for each in inputs.values())
    for file in sorted(present):
        if file.path in own:
            continue
        arrived, shipped = inputs.get(file.path), outputs.get(file.path)
        row: Row = "output" if shipped is not None else "input" if arrived is not None else "other"
        if not _goes(mode, row, file.path, encrypted, decrypted=decrypted) or (row == "other" and not made(file.path)):
            continue
        if shipped is not None:
            why = _unsafe_output(file, shipped, unproven)
        elif arrived is not None:
            why = _unsafe_input(file, arrived)
        else:
            why = ""
        if why:
            kept.append(Kept(file.path, why))
        else:
            remove.append(Removal(file.path, row, _because(arrived, shipped), shipped or arrived))
    return Plan(tuple(remove), tuple(kept))


def _goes(mode: Mode, row: Row, path: str, encrypted: frozenset[str], *, decrypted: bool) -> bool:
    """`decrypted`: inputs were, so whatever the run made may be their cleartext."""
    if mode == "all":
        return True
    if mode == "output":
        return row != "other"
    return not path.lower().endswith(".gpg") and (row != "other" or decrypted or f"{path}.gpg" in encrypted)


def _is_decrypted(arrived: Delivery) -> bool:
    return arrived.source_sha256 != arrived.sha256


def _unsafe_output(file: Present, shipped: Delivery, unproven: Callable[[Delivery], bool]) -> str:
    if shipped.how == "same":
        return f"it is the very file that {shipped.dest} names"
    if file.version != shipped.source_version:
        return f"it has changed since it was shipped to {shipped.dest}"
    if shipped.how == "identical" and unproven(shipped):
        return f"{shipped.dest} had the same content before it was shipped, and may be this very file by another name"
    return ""


def _unsafe_input(file: Present, arrived: Delivery) -> str:
    """An input can be fetched again, unless the run has written to it, or it is the only copy there is."""
    if arrived.how == "same":
        return f"it is the very file that {arrived.source} names"
    if arrived.how == "identical":
        return "it was there before the run"
    if arrived.replaced:
        return f"it has replaced another file when it was fetched from {arrived.source}"
    return "" if file.version == arrived.dest_version else f"it has changed since it was fetched from {arrived.source}"


def _because(arrived: Delivery | None, shipped: Delivery | None) -> str:
    if shipped is not None:
        return f"is at {shipped.dest}, verified by {shipped.verified}"
    return f"came from {arrived.source}" if arrived is not None else "made by the run"
