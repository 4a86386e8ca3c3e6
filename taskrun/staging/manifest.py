"""PREFIX_manifest.json: what went in, what came out, and what it took. Written whole, before anything is removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.errors import RecordsFailed
from taskrun.staging.transfers import Delivery, delivery_from_json
from taskrun.status.durable import replace_whole


class Account(NamedTuple):
    """One run, as its manifest tells it. Times are epoch seconds."""

    run_id: str
    job: str  # the prefix's name
    host: str
    started: float
    ended: float
    exit_code: int
    counts: Mapping[str, int]  # done, failed, skipped …
    resources: Mapping[str, float]  # cpu_seconds, peak_memory_bytes …
    inputs: tuple[Delivery, ...]
    outputs: tuple[Delivery, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "v": 1,
            **self._asdict(),
            "seconds": round(self.ended - self.started, 3),
            "counts": dict(self.counts),
            "resources": dict(self.resources),
            "inputs": [delivery.to_json() for delivery in self.inputs],
            "outputs": [delivery.to_json() for delivery in self.outputs],
        }


def write(path: Path, account: Account) -> None:
    """Puts the manifest in place, durable when this returns. Raises RecordsFailed: then nothing may be removed."""
    text = json.dumps(account.to_json(), ensure_ascii=True, indent=1) + "\n"  # surrogates of odd names survive as escapes
    try:
        replace_whole(path, text.encode("ascii"))
    except OSError as error:
        raise RecordsFailed(f"{path} cannot be written: {(error.strerror or str(error)).lower()}; nothing was removed") from error


def deliveries(path: Path) -> tuple[tuple[Delivery, ...], tuple[Delivery, ...]]:
    """(inputs, outputs) of the manifest of an earlier run; what is not one, or cannot be read, is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return (), ()
    if not isinstance(value, dict):
        return (), ()
    return _deliveries(value.get("inputs")), _deliveries(value.get("outputs"))


def latest(found: Iterable[Delivery]) -> tuple[Delivery, ...]:
    """One delivery for each destination, the last: a file that changed was brought more than once."""
    return tuple({delivery.dest: delivery for delivery in found}.values())


def _deliveries(value: object) -> tuple[Delivery, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(made for one in value if isinstance(one, dict) and (made := delivery_from_json(one)) is not None)
