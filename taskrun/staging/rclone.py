"""Every other remote, through the `rclone` program: its arguments are lists, and its configuration is read by rclone alone."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from taskrun.errors import Refused
from taskrun.staging.errands import Order, Remote, Send, Unable
from taskrun.staging.locations import Pattern, Target
from taskrun.staging.rclone_words import NOT_FOUND, PICTURED, from_rclone, is_text, meaning, to_rclone
from taskrun.staging.store import (
    ALGORITHMS,
    CHUNK,
    Arrived,
    Denied,
    Entry,
    Listing,
    Missing,
    Over,
    Permanent,
    Progress,
    StoreError,
    Summed,
    Transient,
    unfinished_name,
)

if TYPE_CHECKING:
    from taskrun.staging.rclone_server import Server

#: Remotes that another machine may reach with nothing but their section of the configuration, unless that names what is only here.
_FAR = {"azureblob", "b2", "ftp", "http", "s3", "sftp", "swift", "webdav"}
_NEAR = {
    "bearer_token_command", "env_auth", "key_file", "key_use_agent", "known_hosts_file", "profile", "pubkey_file",
    "service_principal_file", "shared_credentials_file", "ssh", "use_emulator", "use_msi",
}  # fmt: skip
_LOOPBACK = re.compile(r"\blocalhost\b|\b127\.\d+\.\d+\.\d+\b|\[::1\]|^unix:")

#: --retries 1: a whole transfer is tried again by the mover. Nothing may ask a person.
_ALWAYS = ("--ask-password=false", "--retries", "1", "--low-level-retries", "3", "--log-level", "ERROR")
_COPY = (
    "copyto", "--copy-links", "--ignore-times", "--no-check-dest",
    "--stats", "500ms", "--stats-log-level", "ERROR", "--use-json-log",
)  # fmt: skip
#: On another machine.
_THERE = (*_ALWAYS, "--contimeout", "20s", "--timeout", "60s")
_NAME = "taskrun"  # of the remote there
_LINE_MOST = 1 << 16  # bytes of what rclone says of one file
_ANSWER_MOST = 16 << 20  # bytes of any other answer
_SETTLE_MOST = 10.0  # seconds that a copy may take to end when it is told to
_ROOM_MOST = 1.0  # seconds for which an answer to that question is believed
_LOCAL = ":local,copy_links:/"
_CALLS = "taskrun"  # the group of all calls whose progress nobody asks for: rclone keeps statistics of each group
_WRITE = {"IgnoreTimes": True, "NoCheckDest": True}


class RcloneStore:
    """One remote. `config`: rclone's configuration file, None for the usual one. `rate`: bytes a second, 0 without a limit."""

    def __init__(self, remote: str, tag: str, *, config: Path | None = None, rate: int = 0) -> None:
        program = shutil.which("rclone")
        if program is None:
            raise Refused(f"{remote}: for remotes rclone is needed and not installed; a path is written with ./ before it")
        self._remote = remote
        self._tag = tag
        self._argv = [program, *_ALWAYS]
        if config is not None:
            if not config.exists():  # rclone would go on without it
                raise Refused(f"--rclone-config {config}: there is no such file")
            self._argv += ["--config", str(config)]
        if rate:
            self._argv += ["--bwlimit", f"{rate}B"]
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None
        self._server: Server | None = None
        self._closed = False
        self._copies = itertools.count(1)
        self._room: tuple[str, int | None, float] = ("", None, float("-inf"))  # of a folder, bytes, when that was asked
        self._made_sure()

    def _made_sure(self) -> None:
        """Raises Refused where rclone says which remotes it has, and this is none of them."""
        try:
            names = self._run("", "listremotes").decode("utf-8", "replace").split("\n")
        except StoreError:
            return  # its configuration has a password, perhaps: it is asked again when there is something to do
        if f"{self._remote}:".casefold() not in (name.casefold() for name in names):
            hint = "`rclone listremotes` says which it has, --rclone-config FILE where"
            if self._remote in ("file", "s3", "sftp"):
                hint = f"did you mean {self._remote}://…?"
            raise Refused(f"rclone has no remote {self._remote}; {hint}")

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        if pattern.plain is not None:
            entry = self.stat(pattern.plain) or self._listed(pattern.plain)
            if entry is not None:
                yield entry
            return
        listing, place = listing or Listing(), self._place(pattern.base)
        deep = ["--recursive"] if pattern.levels is None else ["--recursive", "--max-depth", str(pattern.levels + 1)]
        more = [word for algorithm in self._cheap() for word in ("--hash-type", algorithm)]
        more += ["--hash", "--no-modtime"] if more else []  # S3 has to be asked again for each time
        with self._started("lsjson", "--files-only", "--no-mimetype", *more, *deep, self._place(pattern.base)) as (output, process, said):
            while line := output.readline(_LINE_MOST):  # one file a line, between brackets
                if not line.endswith(b"\n") and len(line) == _LINE_MOST:
                    raise Permanent(f"{place}: it lists a name that is too long")
                listing.found(place, "")
                if line.startswith(b"{"):
                    found = json.loads(line.rstrip().rstrip(b","))
                    name = pattern.base + from_rclone(found["Path"])
                    listing.found(place, name)
                    listing.enter(place, found["Path"].count("/"))
                    if pattern.relative(name) is not None:
                        yield _entry(name, found, self._cheap())
            if process.wait() and process.returncode not in NOT_FOUND:
                raise self._wrong(pattern.base, process.returncode, said())

    def stat(self, name: str) -> Entry | None:
        """May miss a file when the server has a bad moment: rclone then takes it for an empty folder."""
        try:
            return self._look(name, self._cheap())
        except Denied:  # S3 says so of a file that is not there to those who may not list
            return None

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        if algorithm not in self._hashes():
            return None
        found: Summed | None = entry if isinstance(entry, Summed) else None
        if found is None or algorithm not in found.sums:
            found = self._look(entry.name, (algorithm,))
        return (found.sums.get(algorithm) if found is not None else None) or None

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        left = entry.size - offset
        if left <= 0 and entry.size >= 0:
            return
        try:
            with self._serving().content(self._place(entry.name), *self._parts(entry.name), offset) as content:
                while data := content.read(CHUNK):
                    left -= len(data)
                    yield data
        except Missing as error:  # it was found a moment ago
            raise Transient(str(error)) from error
        if left and entry.size >= 0:
            raise Transient(f"{self._place(entry.name)}: it ended {left} bytes early")

    def put(
        self, path: Path, target: Target, sha256: str, progress: Progress, *, executable: bool = False, over: Over = "anything"
    ) -> Arrived:
        del executable, over
        size = path.stat().st_size
        with self._arriving(target) as name:
            self._copy(path, name, size, progress)
            verified, sums = self._verify(name, size, lambda algorithm: sha256 if algorithm == "sha256" else _sum_of(path, algorithm))
        return Arrived(_summed(Entry(target.path, size, "~"), sums), verified)

    def remote(self) -> Remote:
        """Its section of the configuration, if that means the same on every machine."""
        where = f"{self._remote}:"
        section = self._call("", "config/dump").get(self._remote)
        if not isinstance(section, dict) or section.get("type") not in _FAR or _NEAR.intersection(section):
            raise Unable(where, "its configuration of rclone is for this machine alone")
        if any(_LOOPBACK.search(str(value)) for value in section.values()):
            raise Unable(where, "only this machine reaches it")
        return Remote("by_rclone", where, {name: str(value) for name, value in section.items()}, "remotes of rclone")

    def fetching(self, remote: Remote, entry: Entry) -> Order:
        return _There(remote, "fetch", entry.name, ["cat", *_THERE])

    def receive(self, remote: Remote, send: Send, target: Target, size: int, over: Over = "anything") -> tuple[Arrived, str]:
        del size, over
        with self._arriving(target) as name:
            sent = send(_There(remote, "send", name, [*_COPY, *_THERE]))
            verified, sums = self._verify(name, sent.size, lambda algorithm: sent.sums.get(algorithm, ""))
        return Arrived(_summed(Entry(target.path, sent.size, "~"), sums), verified), sent.sums["sha256"]

    @contextlib.contextmanager
    def _arriving(self, target: Target) -> Iterator[str]:
        """The name to send a file to. A remote that can rename shows files while they grow; others (object stores) when they are whole."""
        if not is_text(target.path):
            raise Permanent(f"{self._place(target.path)}: rclone writes only names that are UTF-8, and this one is not: rename it")
        if not self._features()["Features"].get("Move"):
            yield target.path
            return
        folder, slash, _ = target.path.rpartition("/")
        name = f"{folder}{slash}{unfinished_name(self._tag, target.path)}"
        try:
            yield name
            (fs, source), (other, dest) = self._parts(name), self._parts(target.path)
            self._call(target.path, "operations/movefile", srcFs=fs, srcRemote=source, dstFs=other, dstRemote=dest, _config=_WRITE)
        except BaseException:
            with contextlib.suppress(StoreError):
                fs, dest = self._parts(name)
                self._call(name, "operations/deletefile", fs=fs, remote=dest)
            raise

    def free(self, target: Target) -> int | None:
        if not self._features()["Features"].get("About"):
            return None
        folder, free, when = self._room
        if folder != target.folder or time.monotonic() - when > _ROOM_MOST:
            free = self._asked_room(target)
            self._room = (target.folder, free, time.monotonic())
        return free

    def _asked_room(self, target: Target) -> int | None:
        try:
            found = self._call(target.folder, "operations/about", fs=self._place(target.folder))
        except StoreError:
            return None
        free = found.get("free")
        return free if isinstance(free, int) else None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            server = self._server
        if server is not None:
            server.close()

    def _copy(self, path: Path, name: str, size: int, progress: Progress) -> None:
        told = 0
        group = f"{_CALLS}/{next(self._copies)}"
        fs, dest = self._parts(name)

        def look() -> None:
            nonlocal told
            done = min(size, int(self._call(name, "core/stats", group=group).get("bytes", 0)))
            progress(max(0, done - told))
            told = max(told, done)

        with _plainly_named(path) as plain:
            names = {"srcFs": _LOCAL, "srcRemote": plain.lstrip("/"), "dstFs": self._quick(fs), "dstRemote": dest}
            try:
                self._call(name, "operations/copyfile", look, **names, _group=group, _config=_WRITE)
            except BaseException:
                self._settle(name, group)
                raise
        progress(size - told)

    def _settle(self, name: str, group: str) -> None:
        """Waits until a copy that was broken off has ended there: what it leaves can then be removed."""
        end = time.monotonic() + _SETTLE_MOST
        with contextlib.suppress(StoreError):  # rclone before 1.60 has only the end of the connection to go by
            self._call(name, "job/stopgroup", group=group)
        with contextlib.suppress(StoreError):
            while self._call(name, "core/stats", group=group).get("transferring") and time.monotonic() < end:
                time.sleep(0.01)

    def _listed(self, name: str) -> Entry | None:
        """The file if its folder's list has it: slower than `stat`, and sure."""
        folder = name.rpartition("/")[0]
        only = re.sub(r"([\\*?\[\]{}])", r"\\\1", to_rclone(name.rpartition("/")[2]))
        try:
            text = self._run(name, "lsjson", "--files-only", "--no-mimetype", "--include", f"/{only}", self._place(folder))
        except Missing:
            return None
        return next((_entry(name, found) for found in json.loads(text)), None)

    def _verify(self, name: str, size: int, sum_of: Callable[[str], str]) -> tuple[str, Mapping[str, str]]:
        """rclone has compared checksums itself; ours makes sure that it was this content that was sent. `sum_of`: by an algorithm.

        What was verified, and the checksums that the remote gave.
        """
        hashes = self._hashes()[:1]
        found = self._look(name, hashes)
        if found is None or found.size not in (size, -1):
            raise Transient(f"{self._place(name)} is not what was sent")
        sums = found.sums
        algorithm = next(iter(hashes), "")
        there = sums.get(algorithm)
        if not there:
            return "size", sums
        if there != sum_of(algorithm):
            raise Transient(f"{self._place(name)} is not what was sent: its {algorithm} differs")
        return algorithm, sums

    def _place(self, name: str) -> str:
        return f"{self._remote}:{to_rclone(name)}"

    def _parts(self, name: str) -> tuple[str, str]:
        """A name as calls have it: one root for all files, which rclone opens only once."""
        return f"{self._remote}:{'/' if name.startswith('/') else ''}", to_rclone(name.lstrip("/"))

    def _quick(self, fs: str) -> str:
        """The remote for writing: S3 need not be asked for what has just been sent, we ask ourselves."""
        where, colon, root = fs.partition(":")
        return f"{where},no_head=true{colon}{root}" if str(self._features().get("String", "")).startswith("S3 ") else fs

    def _look(self, name: str, hashes: Collection[str]) -> Summed | None:
        fs, remote = self._parts(name)
        asked = {"noMimeType": True, "filesOnly": True, "showHash": bool(hashes), "hashTypes": list(hashes)}
        try:
            found = self._call(name, "operations/stat", fs=fs, remote=remote, opt=asked).get("item")
        except Missing:
            return None
        if not isinstance(found, dict) or found.get("IsDir"):
            return None
        return _entry(name, found, hashes)

    def _hashes(self) -> tuple[str, ...]:
        """Return the checksums that are of use, the best first."""
        known = {str(name).lower() for name in self._features().get("Hashes") or ()}
        return tuple(algorithm for algorithm in ALGORITHMS if algorithm in known)

    def _cheap(self) -> tuple[str, ...]:
        """Checksums that are not made by reading the file."""
        return () if self._features()["Features"].get("SlowHash", True) else self._hashes()

    def _features(self) -> dict[str, Any]:
        if self._known is None:
            self._known = {"Features": {}, **self._call("", "operations/fsinfo", fs=self._place(""))}
        return self._known

    def _call(self, name: str, method: str, waiting: Callable[[], None] | None = None, /, **given: Any) -> dict[str, Any]:
        """The answer; `name`: the file that it is about. Progress is asked for, and the call can be broken off, only with `waiting`."""
        return self._serving().call(self._place(name), method, {"_group": _CALLS, **given}, waiting)

    def _serving(self) -> Server:
        with self._lock:
            if self._server is None:
                from taskrun.staging.rclone_server import Server

                self._server = Server(self._argv)
                if self._closed:
                    self._server.close()
            return self._server

    def _run(self, name: str, *arguments: str) -> bytes:
        with self._started(*arguments) as (output, process, said):
            text = output.read(_ANSWER_MOST + 1)
            if len(text) > _ANSWER_MOST:
                raise Permanent(f"{self._place(name)}: the answer of rclone has more than {_ANSWER_MOST >> 20} MiB")
            if process.wait():
                raise self._wrong(name, process.returncode, said())
        return text

    @contextlib.contextmanager
    def _started(self, *arguments: str) -> Iterator[tuple[IO[bytes], subprocess.Popen[bytes], Any]]:
        """The program while it runs; it is ended with the block. Its third value gives what it said on stderr, when it has ended."""
        with tempfile.TemporaryFile() as file:
            process = subprocess.Popen(
                [*self._argv, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,  # a Ctrl-C is the driver's to answer
            )
            assert process.stdout is not None

            def said() -> str:
                size = os.fstat(file.fileno()).st_size
                return os.pread(file.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace")

            try:
                yield process.stdout, process, said
            finally:
                if process.poll() is None:
                    process.kill()
                process.stdout.close()
                process.wait()

    def _wrong(self, name: str, code: int, said: str) -> StoreError:
        return meaning(self._place(name), code, said)


class _There(Order):
    """Carried out by the rclone of another machine; its environment says all that is to be known of the remote."""

    def __init__(self, remote: Remote, way: str, name: str, arguments: list[str]) -> None:
        env = {f"RCLONE_CONFIG_{_NAME.upper()}_{key.upper()}": value for key, value in remote.settings.items()}
        wanted = {"arguments": arguments, "place": f"{_NAME}:{to_rclone(name)}", "env": {"RCLONE_CONFIG": "", **env}}
        super().__init__(remote, f"{remote.where}{name}", {"way": way, "sums": ALGORITHMS, **wanted})

    def failure(self, host: str, answer: Mapping[str, Any]) -> StoreError:
        return meaning(f"{self.place}, moved by rclone on {host}", int(answer["end"]), str(answer.get("said", "")))


@contextlib.contextmanager
def _plainly_named(path: Path) -> Iterator[str]:
    """A path to a file of this machine that rclone reads as we do."""
    text = str(path.absolute())
    if not PICTURED.search(text):
        yield text
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "file")
        link.symlink_to(text)
        yield str(link)


def _sum_of(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def _entry(name: str, found: Mapping[str, Any], hashes: Collection[str] = ()) -> Summed:
    """`hashes`: those that were asked for."""
    version = f"~{found['Size']}-{found.get('ModTime', '')}-{found.get('ID', '')}"
    sums = found.get("Hashes") or {}
    return _summed(Entry(name, int(found["Size"]), version), {algorithm: sums.get(algorithm, "") for algorithm in hashes})


def _summed(entry: Entry, sums: Mapping[str, str]) -> Summed:
    """With the best of its checksums as its version."""
    algorithm = next((algorithm for algorithm in ALGORITHMS if sums.get(algorithm)), None)
    made = Summed(*entry) if algorithm is None else Summed(entry.name, entry.size, f"{algorithm}:{sums[algorithm]}")
    made.sums, made.seen = sums, time.monotonic()
    return made
