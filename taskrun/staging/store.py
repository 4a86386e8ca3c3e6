"""What every store can do, and how it fails. One line of the registry (stores.py) makes a store usable in a task file."""

from __future__ import annotations

import abc
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from taskrun.staging.locations import Pattern, Target

#: Bytes read and written at a time.
CHUNK = 1 << 20
#: Checksums that two stores may have in common, the best first.
ALGORITHMS = ("sha256", "sha1", "md5")

#: The beginning of the names of folders where files wait for their removal (`aside_name`).
ASIDE = ".taskrun-aside-"

#: Told the name of a checksum and its value in hex.
Said = Callable[[str, str], None]
#: Told how many bytes more have gone; may raise Cancelled.
Progress = Callable[[int], None]


class StoreError(Exception):
    """Something a store could not do; the text is a sentence for a person, without secrets."""


class Transient(StoreError):
    """It may go well in a moment: a timeout, a server error, throttling, a lost connection, a source that just changed."""


class Permanent(StoreError):
    """It will fail again: trying further is of no use."""


class Missing(Permanent):
    """There is no such file, bucket, remote."""


class Denied(Permanent):
    """These credentials or rights do not allow it."""


class Taken(Permanent):
    """Something has the name already, and nothing is to be replaced."""


class NoSpace(Permanent):
    """The destination is full, or would be."""


class Raced(Transient):
    """The file at the destination is not the one that was seen there: somebody else has written it meanwhile."""


class Cancelled(Exception):
    """Nobody wants this transfer any more."""


class Seen(NamedTuple):
    """A file or folder that a walk has found. `inode`: its number, 0 where the store does not tell."""

    name: str
    is_folder: bool
    inode: int = 0


class Entry(NamedTuple):
    """One file of a store. `version` differs when the content does; one that begins with ~ only most of the time (whole seconds)."""

    name: str  # as the store knows it
    size: int
    version: str = ""
    executable: bool = False

    @property
    def certain(self) -> bool:
        """Whether the same version is the same content."""
        return self.version != "" and not self.version.startswith("~")


class Summed(Entry):
    """A file with checksums that came with it: what is read can be compared with them, so it needs no second look just before."""

    sums: Mapping[str, str] = MappingProxyType({})  # by algorithm, "" where it has none
    seen: float = 0.0  # time.monotonic()


#: What a write may replace.
Over: TypeAlias = 'Entry | Literal["nothing", "anything"]'


class Arrived(NamedTuple):
    """A file that is at its destination, by what that was verified there (a checksum or `size`), and who has moved it."""

    entry: Entry
    verified: str
    by: str = "driver"


class Listing:
    """The limits of one look at what a store has: a hostile server may list for ever. `over`: nobody wants to know any more."""

    NAMES_MOST = 1_000_000
    BYTES_MOST = 256 << 20  # of all names together
    NAME_MOST = 4096  # characters of one, with its folders
    DEPTH_MOST = 100  # folders below the first: a folder may contain itself
    SECONDS, SECONDS_EACH = 600.0, 0.1  # for all of it: ten minutes, and more for each name: large stores are slow

    def __init__(self, over: Callable[[], bool] = lambda: False) -> None:
        self._over = over
        self._began = time.monotonic()
        self._names = 0
        self._bytes = 0

    def found(self, place: str, name: str, *, here: bool = False) -> None:
        """Counts a name, or '' for an answer without one. `here`: of this machine, whose folders may be as large as they like.

        Raises Permanent beyond a limit, Cancelled.
        """
        self._names += 1
        self._bytes += len(name)
        if self._over():
            raise Cancelled
        if len(name) > self.NAME_MOST:
            raise Permanent(f"{place}: it lists a name of {len(name)} characters, where {self.NAME_MOST} is the most")
        if not here and (self._names > self.NAMES_MOST or self._bytes > self.BYTES_MOST):
            raise Permanent(f"{place}: it lists more than {self._names - 1} names; name a folder with fewer of them")
        if time.monotonic() - self._began > self.SECONDS + self.SECONDS_EACH * self._names:
            raise Permanent(f"{place}: its list has no end after {time.monotonic() - self._began:.0f} s; name a smaller folder")

    def enter(self, place: str, depth: int) -> None:
        """Before a folder so many below the first one is looked into. Raises Permanent."""
        if depth > self.DEPTH_MOST:
            raise Permanent(f"{place}: folders more than {self.DEPTH_MOST} deep; does one contain itself?")


class Store(Protocol):
    """Names are the `path` of a Location. Every method may block, is called from several threads, and raises StoreError."""

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        """The files that match, in no order. None is an answer; a store, bucket or remote that is not there is Missing.

        `listing`: of this look; raises what it does.
        """

    def stat(self, name: str) -> Entry | None:
        """One file, None if it is not there."""

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        """A checksum of the file as hex, None if the store cannot tell it without sending the file."""

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset`. Transient when it is not the same file any more."""

    def put(
        self, path: Path, target: Target, sha256: str, progress: Progress, *, executable: bool = False, over: Over = "anything"
    ) -> Arrived:
        """Bring a file of this machine there, whole or not at all, and verify it as far as the store can.

        `over`: what may be replaced, as far as the store can make its writes depend on that. Raises Raced if it is something else.
        """

    def free(self, target: Target) -> int | None:
        """Bytes that fit, None where there is no such limit or nobody knows."""

    def close(self) -> None:
        """Ends connections, and what was begun and never finished."""


class PinnedStore(abc.ABC):
    """A store that sends the version of a file that was found or none, and with it a checksum: neither has to be asked for before."""

    @abc.abstractmethod
    def read_pinned(self, entry: Entry, said: Said, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `offset`. `said` is told a checksum, if there is one, before the first of them."""

    @abc.abstractmethod
    def fetch(self, entry: Entry, ranges: list[Range], write: Callable[[int, bytes], None], said: Said) -> None:
        """Bring ranges of a file side by side, each in order: `write` is told offset and bytes, from several threads.

        A range that has come is left with `next` at its end, also when this raises.
        """

    @property
    @abc.abstractmethod
    def is_new(self) -> bool:
        """Tell whether a write may go ahead without a look at the destination: the store refuses it if something is there."""


@runtime_checkable
class Promising(Protocol):
    """A store whose files the task file may describe."""

    def promise(self, entry: Entry) -> str:
        """Return the sha256 that the content must have, '' if nobody has said so."""


class Range:
    """Bytes of a file that are still to come: from `next` to `end`."""

    def __init__(self, start: int, end: int) -> None:
        self.next = start
        self.end = end


class Writer(abc.ABC):
    """A file that is being written under a temporary name."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None: ...

    def rest(self) -> None:  # noqa: B027 - most have nothing that others wait for
        """Nothing is written until `go_on`: others may go first."""

    def go_on(self) -> None:  # noqa: B027
        """After a rest."""

    @abc.abstractmethod
    def commit(self, sha256: str) -> Arrived:
        """Makes it durable, verifies it as far as the store can, and only then gives it its name, in one step."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Removes it. Never raises; does nothing after commit."""


class FolderStore(abc.ABC):
    """A store of folders, to which bytes can be sent as they come: local and sftp."""

    @abc.abstractmethod
    def writer(self, target: Target, size: int | None, *, executable: bool = False, private: bool = False) -> Writer:
        """Begins a file. `size`: its bytes, None if nobody knows yet; `private`: only its owner may read it (0600)."""

    @abc.abstractmethod
    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]: ...

    @abc.abstractmethod
    def digest(self, entry: Entry, algorithm: str) -> str | None: ...

    @abc.abstractmethod
    def changed(self, name: str) -> float | None:
        """When a file was made or changed, epoch seconds of the store's clock; None if it is not there."""

    def touched(self, name: str) -> float | None:
        """Return when the file was last written, or its rights or name were changed, if the store knows: never earlier than `changed`."""
        return self.changed(name)

    @abc.abstractmethod
    def walk(self, folder: str, listing: Listing) -> Iterator[Seen]:
        """Everything below a folder ("" or ends in "/"), a folder before what is in it. No link is followed."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, a link and not what it points to. Raises StoreError."""

    @abc.abstractmethod
    def rename(self, name: str, to: str) -> None:
        """Give a file another name, whose folder is made (0700). Raises StoreError, Taken if something has that name."""

    @abc.abstractmethod
    def remove_folder(self, name: str) -> bool:
        """Remove a folder if it is empty; return whether it is gone. Never raises."""

    def put(
        self, path: Path, target: Target, sha256: str, progress: Progress, *, executable: bool = False, over: Over = "anything"
    ) -> Arrived:
        del over
        digest = hashlib.sha256()
        with path.open("rb") as file:
            writer = self.writer(target, path.stat().st_size, executable=executable)
            try:
                while data := file.read(CHUNK):
                    writer.write(data)
                    digest.update(data)
                    progress(len(data))
                if digest.hexdigest() != sha256:
                    raise Transient(f"{path} changed while it was read")
                return writer.commit(sha256)
            finally:
                writer.abandon()


def is_unfinished(tag: str, name: str) -> bool:
    """Whether that is the temporary name of a file."""
    return name.startswith(f".taskrun-{tag}-") and name.endswith("~")


def aside_name(tag: str, name: str) -> str:
    """Return where a file waits for its removal: under its own name, in a folder beside it that no pattern matches."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{ASIDE}{tag}~/{base}"


def unfinished_name(tag: str, name: str) -> str:
    """The temporary name of a file: short, the same for a resumed run (`tag`), and matched by no pattern."""
    return f".taskrun-{tag}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}~"
