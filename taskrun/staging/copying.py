"""The bytes of one transfer: read, changed on the way if that is asked for, written, verified."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from taskrun.errors import Handled
from taskrun.sizes import size_text
from taskrun.staging.errands import Errands, Order, Reachable, Sent, Unable
from taskrun.staging.guard import Guard, is_record
from taskrun.staging.local import LocalStore, LocalWriter
from taskrun.staging.locations import Target
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import (
    ALGORITHMS,
    Arrived,
    Entry,
    FolderStore,
    Missing,
    NoSpace,
    Over,
    Permanent,
    PinnedStore,
    Progress,
    Promising,
    Raced,
    Range,
    Store,
    StoreError,
    Summed,
    Taken,
    Transient,
    Writer,
)
from taskrun.staging.transfers import Delivery, Transfer
from taskrun.status import names

_LISTED_MOST = 60.0  # seconds for which a list is believed
#: A large file comes from a store in so many ranges side by side; bytes from which one is large.
_RANGES, _RANGES_FROM = 4, 24 << 20


class _Spooled(NamedTuple):
    """What is to be put, as a file of this machine."""

    version: str  # of the source
    path: Path
    sha256: str
    source_sha256: str


class Copy:
    """One transfer over all its tries: what a broken try has brought is used by the next one.

    `progress` is told the bytes read, less those that have to be read again. `spool`: a folder only we can read, for what cannot be
    streamed to its destination; never holds the cleartext of what is encrypted. `known`: an earlier delivery to this destination.
    `replace`: whether a file that this run, or one that it carries on, has not brought may be replaced.
    """

    def __init__(
        self,
        transfer: Transfer,
        source: Store,
        dest: Store,
        spool: Path,
        progress: Progress,
        known: Delivery | None,
        guard: Guard | None = None,
        *,
        replace: bool = True,
    ) -> None:
        self._transfer = transfer
        self._source = source
        self._dest = dest
        self._spool = spool
        self._progress = progress
        self._known = known
        self._guard = guard
        self._replace = replace
        self._went = ""  # the sha256 of what a try has sent: it may have arrived although its answer was lost
        self._replaced = ""  # the version of a file of others that is in the place
        self._begun = time.monotonic()
        self._counted = 0
        self._hashed: tuple[str, str] | None = None  # version and sha256 of a local source
        self._said: tuple[str, str] | None = None  # the checksum by which the source knows its content
        self._gone = 0  # tries that did not find the source
        self._spooled: _Spooled | None = None
        self._half: _Half | None = None
        self._not_there = False  # no engine can move it
        self.tries = 0

    def run(self) -> Delivery:
        """One try. Raises StoreError, Cancelled."""
        self.tries += 1
        self._said = None
        transfer = self._transfer
        entry = self._as_found() or self._source.stat(transfer.source.path)
        if entry is None:
            # It was found a moment ago: asked again before that is believed.
            self._gone += 1
            raise (Missing if self._gone > 1 else Transient)(f"{transfer.source}: there is no such file")
        if self.tries == 1 and self._known is None and isinstance(self._dest, PinnedStore) and self._dest.is_new:
            try:
                return self._bring(entry, "nothing")
            except Raced:  # then it is looked at what is there
                self.recede()
        there = self._dest.stat(transfer.target.path)
        if there is not None and self._same_file(entry, there):
            sha256 = self._digest(self._source, entry, "sha256") or ""
            return self._delivery(entry, there, sha256, sha256, "sha256", "same")
        if there is not None and (done := self._there_already(entry, there)) is not None:
            return done
        self._replaced = self._replaces(there)
        self._spare(there)
        return self._bring(entry, there or "nothing")

    def _bring(self, entry: Entry, over: Over) -> Delivery:
        """Move the bytes. `over`: what may be replaced. Raises StoreError, Cancelled."""
        transfer = self._transfer
        self._room(entry.size)
        if (errand := self._by_engine(entry, over)) is not None:
            arrived, sha256 = errand
            return self._delivery(entry, arrived.entry, sha256, sha256, arrived.verified, "moved", by=arrived.by)
        try:
            if not isinstance(self._dest, FolderStore):
                path, sha256, source_sha256 = self._as_file(entry)
                self._went = sha256
                told = self._count if self._spooled is None else self._look  # what was spooled has been counted
                arrived = self._dest.put(path, transfer.target, sha256, told, executable=transfer.executable, over=over)
            elif transfer.change is None:
                arrived, sha256 = self._stream(entry, self._dest)
                source_sha256 = sha256
            else:
                writer = self._dest.writer(transfer.target, None, private=not transfer.change.recipients)  # what was decrypted is secret
                arrived, sha256, source_sha256 = self._changed(entry, writer)
        except Handled as error:  # of the change
            raise Permanent(f"{transfer.source}: {error}") from error
        except BrokenPipeError as error:  # a program was killed that the change has to do with; stores explain their own
            raise Transient(f"{transfer.source}: gpg has ended in the middle of the file") from error
        return self._delivery(entry, arrived.entry, sha256, source_sha256, arrived.verified, "moved")

    def recede(self) -> None:
        """Called after a broken try: takes back what was counted and is of no use to the next one."""
        kept = self._half.size if self._half is not None else 0
        if self._spooled is not None:
            kept = self._counted
        self._progress(kept - self._counted)
        self._counted = kept

    def abandon(self) -> None:
        """Removes what is unfinished. To be called after the last try, also of one that went well."""
        self._drop_half()
        self._drop_spooled()

    def _as_found(self) -> Entry | None:
        """The source as it was found a moment ago, for the first try, where what comes tells whether it is still the same."""
        found = self._transfer.found
        if found is None or self.tries > 1:
            return None
        listed = isinstance(found, Summed) and found.certain and time.monotonic() - found.seen < _LISTED_MOST
        return found if listed or isinstance(self._source, PinnedStore) else None

    def _count(self, size: int) -> None:
        self._counted += size
        self._progress(size)

    def _look(self, size: int) -> None:
        del size
        self._progress(0)

    def _same_file(self, entry: Entry, there: Entry) -> bool:
        """Whether source and destination are one file of this machine: nothing is to be moved, and it is nobody's copy."""
        if not (isinstance(self._source, LocalStore) and isinstance(self._dest, LocalStore)) or self._transfer.change is not None:
            return False
        return self._source.path(entry.name).samefile(self._dest.path(there.name))

    def _replaces(self, there: Entry | None) -> str:
        """Return the version of somebody else's file that is about to be replaced; '' if there is none. Raises Taken where none may be."""
        known = self._known
        if there is None:
            return ""
        if known is not None and known.size == there.size and self._is(self._dest, there, known.dest_version, known.sha256):
            return known.replaced
        if self._went and self._digest(self._dest, there, "sha256") == self._went:
            return self._replaced
        if not self._replace:
            raise Taken(
                f"{self._transfer.dest} is there already, with other content, and --no-replace leaves it alone; choose another DEST"
            )
        return there.version or "?"

    def _there_already(self, entry: Entry, there: Entry) -> Delivery | None:
        """The delivery if the right content is there: as recorded when it was brought, or by a checksum that both sides know."""
        change, known = self._transfer.change, self._known
        labels = (change.recipients, change.signer) if change is not None else ((), None)
        if (
            known is not None
            and (known.size, known.source_size, known.recipients, known.signer) == (there.size, entry.size, *labels)
            and self._is(self._dest, there, known.dest_version, known.sha256)
            and self._is(self._source, entry, known.source_version, known.source_sha256)
        ):
            how = "identical" if known.how == "identical" else "known"  # what was there before stays so: it is not ours to remove
            self._replaced = known.replaced
            return self._delivery(entry, there, known.sha256, known.source_sha256, known.verified, how)
        if change is not None or entry.size != there.size:
            return None
        promised = self._promise(entry)
        if promised and self._digest(self._dest, there, "sha256") == promised:
            return self._delivery(entry, there, promised, promised, "sha256", "identical")
        if promised or isinstance(self._source, Promising):
            return None
        for algorithm in ALGORITHMS:
            # Hashing here costs a pass over the file: only when the other side has something to compare with.
            first, second = ((self._source, entry), (self._dest, there))
            if isinstance(self._source, LocalStore):
                first, second = second, first
            one = self._digest(*first, algorithm)
            if one is None:
                continue
            other = self._digest(*second, algorithm)
            if other is None:
                continue
            if one != other:
                return None
            sha256 = one if algorithm == "sha256" else self._digest(self._source, entry, "sha256") or ""
            return self._delivery(entry, there, sha256, sha256, algorithm, "identical")
        return None

    def _promise(self, entry: Entry) -> str:
        """Return the sha256 that the source is to have, '' if nobody has said so."""
        return self._transfer.promised or (self._source.promise(entry) if isinstance(self._source, Promising) else "")

    def _keep_promise(self, entry: Entry, sha256: str) -> None:
        """Raises Permanent if what came is not what it is to be."""
        promised = self._promise(entry)
        if promised and sha256 != promised:
            who = "its SHA256SUMS" if self._transfer.promised else "the task file"
            raise Permanent(f"{self._transfer.source}: its sha256 is {sha256}: not what {who} says; nothing was kept")

    def _is(self, store: Store, entry: Entry, version: str, sha256: str) -> bool:
        """Whether a file is what a delivery has recorded, by its version then or by a checksum."""
        if entry.certain and entry.version == version:
            return True
        algorithm, _, value = version.rpartition(":")
        if algorithm not in ALGORITHMS:
            algorithm, value = "sha256", sha256
        return self._digest(store, entry, algorithm) == value

    def _version(self, store: Store, entry: Entry) -> str:
        """What will tell this content later: its version, or where that is not certain a checksum that the store knows."""
        if entry.certain:
            return entry.version
        if store is self._source and self._said is not None:
            return ":".join(self._said)
        found = ((algorithm, store.digest(entry, algorithm)) for algorithm in ALGORITHMS)
        return next((f"{algorithm}:{value}" for algorithm, value in found if value is not None), "")

    def _digest(self, store: Store, entry: Entry, algorithm: str) -> str | None:
        if not isinstance(store, LocalStore):
            return store.digest(entry, algorithm)
        ours = store is self._source and algorithm == "sha256"
        if ours and self._hashed is not None and self._hashed[0] == entry.version:
            return self._hashed[1]
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for data in store.read(entry):
            digest.update(data)
            self._progress(0)
        if ours:
            self._hashed = (entry.version, digest.hexdigest())
        return digest.hexdigest()

    def _spare(self, there: Entry | None) -> None:
        """Raises Permanent for a name that is not to be written. Of folders of this machine the store itself says more of that."""
        path, kind = self._transfer.target.path, self._transfer.store.kind
        if kind == "engine" and self._guard is not None and (why := self._guard.why_not_there(path, there)):
            raise Permanent(f"{self._transfer.dest}: {why}, which nothing that is staged may replace; choose another DEST")
        known = self._known
        ours = known is not None and known.how in ("moved", "known")
        if kind in ("local", "engine") and there is not None and self._is_record(there):
            if ours and known is not None and self._is(self._dest, there, known.dest_version, known.sha256):
                return  # what the run itself brought there
            raise Permanent(f"{self._transfer.dest}: the record of a run is there, which -r would obey; remove it, or choose another DEST")

    def _is_record(self, there: Entry) -> bool:
        """Of a run, whether that goes on or not: by what it says, or by the sidecar beside it."""
        folder, slash, name = there.name.rpartition("/")
        sidecars = (self._dest.stat(f"{folder}{slash}{run}{names.SIDECAR}") for run in names.runs_of(name))
        return (names.is_obeyed(name) and self._says_so(there)) or any(each is not None and self._says_so(each) for each in sidecars)

    def _says_so(self, there: Entry) -> bool:
        if not there.size:
            return False
        try:
            return is_record(there.name, next(iter(self._dest.read(there)), b""))
        except Transient:
            raise
        except StoreError:
            return True  # it cannot be known

    def _room(self, size: int) -> None:
        free = self._dest.free(self._transfer.target)
        if free is not None and free < size:
            raise NoSpace(f"{self._transfer.dest}: needs {size_text(size)} where {size_text(free)} are free")

    def _by_engine(self, entry: Entry, over: Over) -> tuple[Arrived, str] | None:
        """What arrived, and its sha256, if an engine itself may move the file and can; else None: the driver moves it.

        What fails there for good is tried from here: the host may not reach the store, or know less of it.
        """
        source, dest = self._source, self._dest
        if self._transfer.change is not None or self._not_there:
            return None
        try:
            if isinstance(dest, SftpStore) and dest.errands is not None and isinstance(source, Reachable):
                return self._fetched(entry, source, dest, dest.errands)
            if isinstance(source, SftpStore) and source.errands is not None and isinstance(dest, Reachable):
                return self._sent(entry, source, dest, source.errands, over)
        except (Unable, Permanent):
            self._not_there = True
            self.recede()
        return None

    def _fetched(self, entry: Entry, source: Store, dest: SftpStore, errands: Errands) -> tuple[Arrived, str]:
        assert isinstance(source, Reachable)
        order = source.fetching(errands.remote(source), entry)
        writer = dest.writer(self._transfer.target, entry.size, executable=self._transfer.executable)
        try:
            came = errands.run(order, writer.temporary, self._count, lambda: self._still_is(source, entry))
            self._check(entry, self._expected(entry), came.size, lambda algorithm: came.sums.get(algorithm, ""))
            writer.written_there(came.size)
            return writer.commit(came.sums["sha256"])._replace(by=errands.host), came.sums["sha256"]
        finally:
            writer.abandon()

    def _sent(self, entry: Entry, source: SftpStore, dest: Store, errands: Errands, over: Over) -> tuple[Arrived, str]:
        assert isinstance(dest, Reachable)

        def send(order: Order) -> Sent:
            return errands.run(order, source.path(entry.name), self._count, lambda: self._still_is(source, entry))

        arrived, sha256 = dest.receive(errands.remote(dest), send, self._transfer.target, entry.size, over)
        return arrived._replace(by=errands.host), sha256

    def _still_is(self, store: Store, entry: Entry) -> None:
        again = store.stat(entry.name)
        if again is None or (again.size, again.version) != (entry.size, entry.version):
            raise Transient(f"{self._transfer.source} changed while it was read")

    def _stream(self, entry: Entry, dest: FolderStore) -> tuple[Arrived, str]:
        """Straight into the destination; after a source that broke off, from there on."""
        if isinstance(self._source, PinnedStore) and isinstance(dest, LocalStore) and entry.size >= _RANGES_FROM:
            return self._stream_ranges(entry, self._source, dest)
        if self._half is not None and self._half.version != entry.version:
            self._drop_half()
        half, self._half = self._half, None
        goes_on = half is not None
        if half is None:
            sums = _Sums(self._expected(entry))
            half = _Half(entry.version, dest.writer(self._transfer.target, entry.size, executable=self._transfer.executable), sums)
        try:
            if goes_on:
                half.writer.go_on()
            chunks = self._read(entry, half.sums)
            while (data := self._next(chunks, half)) is not None:
                half.writer.write(data)
                half.sums.add(data)
                self._count(len(data))
            self._check(entry, half.sums.expected, half.sums.size, half.sums.sum_of)
            return half.writer.commit(half.sums.sha256), half.sums.sha256
        finally:
            if self._half is None:
                half.writer.abandon()

    def _stream_ranges(self, entry: Entry, source: PinnedStore, dest: LocalStore) -> tuple[Arrived, str]:
        """The same in ranges that come side by side: one stream is slower than most networks."""
        if self._half is not None and self._half.version != entry.version:
            self._drop_half()
        if self._half is None:
            writer = dest.writer(self._transfer.target, entry.size, executable=self._transfer.executable)
            self._half = _Half(entry.version, writer, _Sums(None), _ranges(entry.size))
        half = self._half
        assert isinstance(half.writer, LocalWriter)
        lock = threading.Lock()

        def write(offset: int, data: bytes) -> None:
            half.writer.write_at(offset, data)  # type: ignore[attr-defined]
            with lock:
                self._count(len(data))

        try:
            source.fetch(entry, [one for one in half.ranges if one.next < one.end], write, half.sums.expect)
        except Transient:
            raise  # what has been written is good
        except BaseException:
            self._drop_half()
            raise
        try:
            for data in half.writer.content():
                half.sums.add(data)
            self._check(entry, half.sums.expected, half.sums.size, half.sums.sum_of)
            return half.writer.commit(half.sums.sha256), half.sums.sha256
        finally:
            self._drop_half()

    def _read(self, entry: Entry, sums: _Sums) -> Iterator[bytes]:
        """Yield what `sums` has not seen yet."""
        if isinstance(self._source, PinnedStore):
            return self._source.read_pinned(entry, sums.expect, sums.size)
        return self._source.read(entry, sums.size)

    def _next(self, chunks: Iterator[bytes], half: _Half) -> bytes | None:
        try:
            return next(chunks, None)
        except Transient:
            half.writer.rest()
            self._half = half  # what has been written is good
            raise

    def _as_file(self, entry: Entry) -> tuple[Path, str, str]:
        """(a file of this machine with what is to be put, its sha256, the source's): the source itself, or made in the spool folder."""
        if self._transfer.change is None and isinstance(self._source, LocalStore):
            sha256 = self._digest(self._source, entry, "sha256") or ""
            return self._source.path(entry.name), sha256, sha256
        if self._spooled is not None and self._spooled.version != entry.version:
            self._drop_spooled()
        if self._spooled is None:
            name = f"{os.urandom(8).hex()}~"
            writer = LocalStore(self._spool, "spool").writer(Target("", name), None, private=True)
            _, sha256, source_sha256 = self._changed(entry, writer)
            self._spooled = _Spooled(entry.version, self._spool / name, sha256, source_sha256)
        return self._spooled.path, self._spooled.sha256, self._spooled.source_sha256

    def _changed(self, entry: Entry, writer: Writer) -> tuple[Arrived, str, str]:
        """Through the change, if there is one, into `writer`: what arrived, its sha256, the source's."""
        went = _Sums(None)
        came: _Sums

        def read() -> Iterator[bytes]:
            for data in self._read(entry, came):
                came.add(data)
                self._count(len(data))
                yield data

        def write(data: bytes) -> None:
            writer.write(data)
            went.add(data)

        try:
            came = _Sums(self._expected(entry))
            if self._transfer.change is not None:
                self._transfer.change.apply(read(), write)
            else:
                for data in read():
                    write(data)
            self._check(entry, came.expected, came.size, came.sum_of)
            return writer.commit(went.sha256), went.sha256, came.sha256
        finally:
            writer.abandon()

    def _expected(self, entry: Entry) -> tuple[str, str] | None:
        """What the source says that its content is, by the best checksum that it knows."""
        if promised := self._promise(entry):
            return "sha256", promised
        if not isinstance(self._source, LocalStore | PinnedStore):
            for algorithm in ALGORITHMS:
                if (value := self._source.digest(entry, algorithm)) is not None:
                    self._said = (algorithm, value)
                    return self._said
        return None

    def _check(self, entry: Entry, expected: tuple[str, str] | None, size: int, sum_of: Callable[[str], str]) -> None:
        """What came is the source."""
        if entry.size >= 0 and size != entry.size:
            raise Transient(f"{self._transfer.source}: {size} of {entry.size} bytes came")
        if expected is not None and sum_of(expected[0]) != expected[1]:
            self._keep_promise(entry, sum_of("sha256"))
            raise Transient(f"{self._transfer.source}: what came is not what its {expected[0]} says")

    def _drop_half(self) -> None:
        if self._half is not None:
            self._half.writer.abandon()
            self._half = None

    def _drop_spooled(self) -> None:
        if self._spooled is not None:
            self._spooled.path.unlink(missing_ok=True)
            self._spooled = None

    def _delivery(
        self, entry: Entry, there: Entry, sha256: str, source_sha256: str, verified: str, how: str, by: str = "driver"
    ) -> Delivery:
        change = self._transfer.change
        return Delivery(
            source=str(self._transfer.source),
            dest=str(self._transfer.dest),
            size=there.size,
            sha256=sha256,
            source_size=entry.size,
            source_sha256=source_sha256,
            source_version=self._version(self._source, entry),
            dest_version=f"sha256:{sha256}" if verified == "sha256" and not there.certain else self._version(self._dest, there),
            verified=verified,
            how=how,
            recipients=change.recipients if change is not None else (),
            signer=change.signer if change is not None else None,
            seconds=time.monotonic() - self._begun,
            tries=self.tries,
            by=by,
            replaced=self._replaced,
        )


class _Sums:
    """Checksums of what has gone by: sha256, and the one by which the source knows its content."""

    def __init__(self, expected: tuple[str, str] | None) -> None:
        self.size = 0
        self.expected = expected
        self._made = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *(expected or ())[:1]}}

    def expect(self, algorithm: str, value: str) -> None:
        """Note what the source says, when it begins to send."""
        if self.expected is None and self.size == 0:
            self.expected = (algorithm, value)
            self._made.setdefault(algorithm, hashlib.new(algorithm, usedforsecurity=False))

    def add(self, data: bytes) -> None:
        self.size += len(data)
        for each in self._made.values():
            each.update(data)

    def sum_of(self, algorithm: str) -> str:
        return self._made[algorithm].hexdigest()

    @property
    def sha256(self) -> str:
        return self.sum_of("sha256")


class _Half:
    """A destination file that a broken try has begun. `ranges`: what is still to come, where it comes in ranges."""

    def __init__(self, version: str, writer: Writer, sums: _Sums, ranges: tuple[Range, ...] = ()) -> None:
        self.version = version
        self.writer = writer
        self.sums = sums
        self.ranges = ranges
        self._whole = sum(one.end - one.next for one in ranges)

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._whole - sum(one.end - one.next for one in self.ranges) if self.ranges else self.sums.size


def _ranges(size: int) -> tuple[Range, ...]:
    """A file in as many ranges as come side by side."""
    length = -(-size // _RANGES)
    return tuple(Range(start, min(start + length, size)) for start in range(0, size, length))
