"""What is to be moved, how often it is tried, what it came to. Pure: the mover does it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from taskrun.errors import Refused
from taskrun.staging.locations import Location, Target, target
from taskrun.staging.store import Entry


class Change(Protocol):
    """What happens to the bytes of a file on their way: encryption or decryption. Raises Refused when it fails."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """For whom the result is encrypted."""

    @property
    def signer(self) -> str | None:
        """Who signs it, or whose signature was verified."""

    def apply(self, chunks: Iterator[bytes], write: Callable[[bytes], None]) -> None:
        """Reads all chunks and writes the result. It is not valid before this has returned."""


class Renamed(NamedTuple):
    """What a change makes of a file: the new name and how."""

    name: str
    change: Change


#: Asked for each file's name below its destination: None to move it as it is.
Rule = Callable[[str], "Renamed | None"]


#: Asked what keeps the files that were found from being moved, '' if nothing does; asked anew until then. Raises StoreError to give up.
Unready = Callable[[list[Entry]], str]


class Transfer(NamedTuple):
    """One file that is to be moved."""

    source: Location  # of the one file
    store: Location  # any location of the destination's store
    target: Target
    size: int  # at the source
    executable: bool
    change: Change | None
    found: Entry | None = None  # the source as it was found a moment ago
    promised: str = ""  # the sha256 that the source is to have

    @property
    def dest(self) -> Location:
        return self.store.at(self.target.path)


class Request(NamedTuple):
    """One directive's wish: all files of `source` go to `dest`."""

    id: Hashable  # the asker's
    source: Location
    dest: Location
    rule: Rule = lambda _: None
    workfactor: float = 1.0  # the destination needs this many times the size
    unready: Unready = lambda _: ""
    verify: bool = False  # by a SHA256SUMS beside the source, where there is one


class Delivery(NamedTuple):
    """A file that is at its destination, verified. Sizes in bytes, times in seconds."""

    source: str
    dest: str
    size: int  # at the destination
    sha256: str
    source_size: int
    source_sha256: str  # differs from sha256 where it was encrypted or decrypted
    source_version: str
    dest_version: str
    verified: str  # by what at the destination: sha256, sha1, md5, size
    how: str  # moved, identical (was there before), known (this or an earlier run brought it), same (source and destination are one file)
    recipients: tuple[str, ...]
    signer: str | None
    seconds: float
    tries: int
    by: str = "driver"  # who moved it: the driver, or a host
    replaced: str = ""  # the version, at the destination, of somebody else's file that this one has replaced; `?` if it has none

    def to_json(self) -> dict[str, Any]:
        """For the manifest and the events file."""
        return {**self._asdict(), "recipients": list(self.recipients)}


def delivery_from_json(value: Mapping[str, Any]) -> Delivery | None:
    """What `to_json` made; None for anything else."""
    recipients, seconds = value.get("recipients"), value.get("seconds")
    if not isinstance(recipients, list) or type(seconds) not in (int, float) or not 0 <= seconds < 1e12:  # type: ignore[operator]
        return None
    try:
        made = Delivery(**{**value, "recipients": tuple(recipients)})
    except TypeError:
        return None
    numbers = (made.size, made.source_size, made.tries)
    texts = (
        made.source,
        made.dest,
        made.sha256,
        made.source_sha256,
        made.source_version,
        made.dest_version,
        made.verified,
        made.how,
        made.by,
        made.replaced,
        *((made.signer,) if made.signer is not None else ()),
        *made.recipients,
    )
    return made if all(type(number) is int for number in numbers) and all(map(_is_text, texts)) else None


def _is_text(value: object) -> bool:
    """Return whether a value can be the name of a file or of a store."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


class Patience(NamedTuple):
    """How often something transient is tried, and how long the waits are: doubling, capped, each shortened by chance up to a half."""

    tries: int = 8
    first: float = 0.5  # seconds
    longest: float = 60.0

    def wait(self, failed: int, dice: float) -> float | None:
        """Seconds to wait after `failed` tries, `dice` in [0, 1); None: that was the last."""
        if failed >= self.tries:
            return None
        return float(min(self.longest, self.first * 2 ** (failed - 1)) * (1 - dice / 2))


def plan(request: Request, entries: Iterable[Entry]) -> list[Transfer]:
    """What a request comes to, in the order of the names. Raises Refused: outside of DEST, two files for one name."""
    found: dict[str, Transfer] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        relative = request.source.named(request.source.pattern.relative(entry.name) or entry.name.rpartition("/")[2])
        goal = target(request.dest, request.source, relative)
        renamed = request.rule(goal.name if request.source.pattern.plain is None or request.dest.is_folder else relative)
        if renamed is not None:
            goal = goal._replace(name=_renamed(goal.name, relative, renamed.name))
        one = Transfer(
            request.source.at(entry.name), request.dest, goal, entry.size, entry.executable, renamed.change if renamed else None, entry
        )
        if (other := found.setdefault(goal.path, one)) is not one:
            raise Refused(f"{other.source} and {one.source} would both become {one.dest}; nothing was moved")
    return list(found.values())


def without_products(transfers: Sequence[Transfer], path: Callable[[str], str]) -> list[Transfer]:
    """Without what another of them makes: a pattern that matches its own destinations would go on for ever.

    `path`: of a name of the one store that source and destination are in, the same for the same file.
    """
    made = {path(one.target.path): one for one in transfers}
    return [one for one in transfers if made.get(path(one.source.path), one) is one]


def _renamed(name: str, source: str, changed: str) -> str:
    """The name at the destination: a single file that was given a name of its own keeps it, but for the suffix that the change asks for."""
    if name.rpartition("/")[2] == source.rpartition("/")[2]:
        return changed
    if changed.startswith(source):  # a suffix was added
        suffix = changed[len(source) :]
        return name if name.endswith(suffix) else name + suffix
    suffix = source[len(changed) :]
    return name.removesuffix(suffix)


def shortage(sizes: Iterable[int], workfactor: float, free: int | None) -> int:
    """Bytes that are missing at a destination, 0 if all fits."""
    needed = int(sum(sizes) * workfactor)
    return 0 if free is None else max(0, needed - free)


class Tally:
    """What a view shows of all transfers together: bytes, rate, time left. Times are the caller's clock, seconds."""

    def __init__(self) -> None:
        self.files = 0
        self.done_files = 0
        self.bytes = 0
        self.done_bytes = 0
        self._seen: list[tuple[float, int]] = []

    def found(self, files: int, size: int) -> None:
        """More is to be moved."""
        self.files += files
        self.bytes += size

    def advanced(self, more: int, now: float) -> None:
        """So many bytes more have gone (or fewer, when a try began anew)."""
        self.done_bytes += more
        self._seen = [(when, done) for when, done in self._seen if now - when < 10] + [(now, self.done_bytes)]

    def rate(self) -> float:
        """Bytes a second over the last ten seconds."""
        if len(self._seen) < 2:
            return 0.0
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return max(0.0, (after - before) / (last - first)) if last > first else 0.0

    def left(self) -> float | None:
        """Seconds until all is there at this rate, None if that cannot be said."""
        rate = self.rate()
        return max(0, self.bytes - self.done_bytes) / rate if rate > 0 else None
