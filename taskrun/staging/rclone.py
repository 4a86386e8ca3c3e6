"""Every other remote, through the `rclone` program: it alone reads its configuration, and no shell sees the names of files."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from taskrun.errors import Refused
from taskrun.staging.errands import Order, Remote, Send, Unable
from taskrun.staging.locations import Pattern, Target
from taskrun.staging.rclone_daemon import Daemon, Refusal
from taskrun.staging.rclone_words import NOT_FOUND, PICTURED, from_rclone, is_text, meaning, to_rclone
from taskrun.staging.store import (
    ALGORITHMS,
    CHUNK,
    Arrived,
    Entry,
    Listing,
    Missing,
    Over,
    Permanent,
    Progress,
    StoreError,
    Transient,
    unfinished_name,
)

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
#: The same for a copy by the daemon. Checksums are compared here.
_COPYING = {"IgnoreTimes": True, "NoCheckDest": True, "IgnoreChecksum": True}
#: On another machine.
_THERE = (*_ALWAYS, "--contimeout", "20s", "--timeout", "60s")
_NAME = "taskrun"  # of the remote there
_LINE_MOST = 1 << 16  # bytes of what rclone says of one file
_ANSWER_MOST = 16 << 20  # bytes of any other answer
_AT_ONCE = 4 << 20  # bytes that are copied in one call; of more it is asked how far it is
_ASK = 0.2  # seconds between two such questions
_ROOM_KNOWN = 5.0  # seconds for which the free space of a remote is believed


class Rclone:
    """The program and its daemon, for all remotes of a run. `config`: rclone's configuration file, None for the usual one."""

    def __init__(self, config: Path | None = None) -> None:
        """Raises Refused."""
        program = shutil.which("rclone")
        if program is None:
            raise Refused("for remotes rclone is needed and not installed; a path is written with ./ before it")
        self.argv = [program, *_ALWAYS]
        if config is not None:
            if not config.exists():  # rclone would go on without it
                raise Refused(f"--rclone-config {config}: there is no such file")
            self.argv += ["--config", str(config)]
        self.daemon = Daemon(self.argv)


class RcloneStore:
    """One remote."""

    def __init__(self, remote: str, tag: str, rclone: Rclone) -> None:
        """Raises Refused."""
        self._remote = remote
        self._tag = tag
        self._argv = rclone.argv
        self._daemon = rclone.daemon
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None
        self._room: tuple[float, int | None] | None = None  # when it was asked, and the answer
        self._made_sure()

    def _made_sure(self) -> None:
        """Raises Refused where rclone says which remotes it has, and this is none of them."""
        try:
            names = [str(name) for name in self._call("", "config/listremotes", {})["remotes"] or ()]
        except (StoreError, KeyError):
            return  # its configuration has a password, perhaps: it is asked again when there is something to do
        if self._remote.casefold() not in (name.rstrip(":").casefold() for name in names):
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
        fast = [] if self._features().get("Features", {}).get("SlowHash") else ["--hash"]  # of others each file would be read
        deep = [*fast, "--recursive"] if pattern.levels is None else [*fast, "--recursive", "--max-depth", str(pattern.levels + 1)]
        with self._started("lsjson", "--files-only", "--no-mimetype", *deep, self._place(pattern.base)) as (output, process, said):
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
                        yield _entry(name, found, listed=bool(fast))
            if process.wait() and process.returncode not in NOT_FOUND:
                raise self._wrong(pattern.base, process.returncode, said())

    def stat(self, name: str) -> Entry | None:
        """May miss a file when the server has a bad moment: rclone then takes it for an empty folder."""
        found = self._look(name)
        return None if found is None else _entry(name, found)

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        if algorithm not in self._hashes():
            return None
        if entry.sums is not None:  # as it was listed a moment ago
            return dict(entry.sums).get(algorithm)
        found = self._look(entry.name, algorithm)
        return ((found or {}).get("Hashes") or {}).get(algorithm) or None

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        left = entry.size - offset
        if left <= 0 and entry.size >= 0:
            return
        try:
            with self._daemon.reading(f"{self._remote}:", to_rclone(entry.name), offset) as answer:
                while data := answer.read(CHUNK):
                    left -= len(data)
                    yield data
        except Refusal as refusal:
            raise self._refused(entry.name, refusal) from refusal
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"{self._place(entry.name)}: {str(error) or type(error).__name__}") from error
        if left and entry.size >= 0:
            raise Transient(f"{self._place(entry.name)}: it ended {left} bytes early")

    def put(
        self, path: Path, target: Target, sha256: str, progress: Progress, *, executable: bool = False, over: Over = "anything"
    ) -> Arrived:
        del executable, over
        size = path.stat().st_size
        with self._arriving(target) as name:
            self._copy(path, name, size, progress)
            verified = self._verify(name, size, lambda algorithm: sha256 if algorithm == "sha256" else _sum_of(path, algorithm))
        return Arrived(Entry(target.path, size, "~"), verified)

    def remote(self) -> Remote:
        """Its section of the configuration, if that means the same on every machine."""
        where = f"{self._remote}:"
        section = self._call("", "config/get", {"name": self._remote})
        if section.get("type") not in _FAR or _NEAR.intersection(section):
            raise Unable(where, "its configuration of rclone is for this machine alone")
        if any(_LOOPBACK.search(str(value)) for value in section.values()):
            raise Unable(where, "only this machine reaches it")
        return Remote("by_rclone", where, {name: str(value) for name, value in section.items()}, "remotes of rclone")

    def fetching(self, remote: Remote, entry: Entry) -> Order:
        return _There(remote, "fetch", entry.name, ["cat", *_THERE])

    def receive(self, remote: Remote, send: Send, target: Target, size: int) -> tuple[Arrived, str]:
        del size
        with self._arriving(target) as name:
            sent = send(_There(remote, "send", name, [*_COPY, *_THERE]))
            verified = self._verify(name, sent.size, lambda algorithm: sent.sums.get(algorithm, ""))
        return Arrived(Entry(target.path, sent.size, "~"), verified), sent.sums["sha256"]

    @contextlib.contextmanager
    def _arriving(self, target: Target) -> Iterator[str]:
        """The name to send a file to. A remote that can rename shows files while they grow; others (object stores) when they are whole."""
        if not is_text(target.path):
            raise Permanent(f"{self._place(target.path)}: rclone writes only names that are UTF-8, and this one is not: rename it")
        if not self._features().get("Features", {}).get("Move"):
            yield target.path
            return
        folder, slash, _ = target.path.rpartition("/")
        name = f"{folder}{slash}{unfinished_name(self._tag, target.path)}"
        try:
            yield name
            ends = {
                "srcFs": f"{self._remote}:",
                "srcRemote": to_rclone(name),
                "dstFs": f"{self._remote}:",
                "dstRemote": to_rclone(target.path),
            }
            self._call(target.path, "operations/movefile", ends | {"_config": _COPYING})
        except BaseException:
            with contextlib.suppress(StoreError):
                self._call(name, "operations/deletefile", self._file(name))
            raise

    def free(self, target: Target) -> int | None:
        if not self._features().get("Features", {}).get("About"):
            return None
        now = time.monotonic()
        if self._room is None or now - self._room[0] > _ROOM_KNOWN:
            found: Any = None
            with contextlib.suppress(StoreError):
                found = self._call(target.folder, "operations/about", {"fs": f"{self._remote}:"}).get("free")
            self._room = (now, found if isinstance(found, int) else None)
        return self._room[1]

    def close(self) -> None:
        pass

    def _copy(self, path: Path, name: str, size: int, progress: Progress) -> None:
        with _plainly_named(path) as plain:
            folder, _, base = plain.rpartition("/")
            ends = {"srcFs": folder or "/", "srcRemote": base, "dstFs": f"{self._remote}:", "dstRemote": to_rclone(name)}
            wanted = ends | {"_config": _COPYING}
            if size <= _AT_ONCE:
                self._call(name, "operations/copyfile", wanted)
                progress(size)
                return
            job = self._call(name, "operations/copyfile", wanted | {"_async": True})["jobid"]
            told = 0
            try:
                while not (status := self._call(name, "job/status", {"jobid": job})).get("finished"):
                    done = min(size, int(self._call(name, "core/stats", {"group": f"job/{job}"}).get("bytes", 0)))
                    progress(max(0, done - told))
                    told = max(told, done)
                    time.sleep(_ASK)
            except BaseException:
                with contextlib.suppress(StoreError):
                    self._call(name, "job/stop", {"jobid": job})
                    while not self._call(name, "job/status", {"jobid": job}).get("finished"):
                        time.sleep(0.01)
                raise
            if not status.get("success"):
                raise meaning(self._place(name), 1, str(status.get("error", "")))
        progress(size - told)

    def _listed(self, name: str) -> Entry | None:
        """The file if its folder's list has it: slower than `stat`, and sure."""
        folder = name.rpartition("/")[0]
        only = re.sub(r"([\\*?\[\]{}])", r"\\\1", to_rclone(name.rpartition("/")[2]))
        try:
            text = self._run(name, "lsjson", "--files-only", "--no-mimetype", "--include", f"/{only}", self._place(folder))
        except Missing:
            return None
        return next((_entry(name, found) for found in json.loads(text)), None)

    def _verify(self, name: str, size: int, sum_of: Callable[[str], str]) -> str:
        """rclone has compared checksums itself; ours makes sure that it was this content that was sent. `sum_of`: by an algorithm."""
        algorithm = next((one for one in ALGORITHMS if one in self._hashes()), None)
        found = self._look(name, algorithm or "")
        if found is None or found["Size"] not in (size, -1):
            raise Transient(f"{self._place(name)} is not what was sent")
        there = (found.get("Hashes") or {}).get(algorithm)
        if not algorithm or not there:
            return "size"
        if there != sum_of(algorithm):
            raise Transient(f"{self._place(name)} is not what was sent: its {algorithm} differs")
        return algorithm

    def _place(self, name: str) -> str:
        return f"{self._remote}:{to_rclone(name)}"

    def _file(self, name: str) -> dict[str, str]:
        return {"fs": f"{self._remote}:", "remote": to_rclone(name)}

    def _look(self, name: str, hashed: str = "") -> dict[str, Any] | None:
        """What rclone says of a file. `hashed`: a checksum to ask for."""
        wanted = {"noMimeType": True, "filesOnly": True, **({"showHash": True, "hashTypes": [hashed]} if hashed else {})}
        try:
            found = self._call(name, "operations/stat", {**self._file(name), "opt": wanted}).get("item")
        except Missing:
            return None
        return found if isinstance(found, dict) and not found.get("IsDir") else None

    def _call(self, name: str, command: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Raises StoreError, about a file."""
        try:
            return self._daemon.call(command, wanted)
        except Refusal as refusal:
            raise self._refused(name, refusal) from refusal

    def _refused(self, name: str, refusal: Refusal) -> StoreError:
        return meaning(self._place(name), NOT_FOUND[0] if refusal.status == http.client.NOT_FOUND else 1, str(refusal))

    def _hashes(self) -> tuple[str, ...]:
        return tuple(str(name).lower() for name in self._features().get("Hashes") or ())

    def _features(self) -> dict[str, Any]:
        with self._lock:
            if self._known is None:
                self._known = self._call("", "operations/fsinfo", {"fs": f"{self._remote}:"})
            return self._known

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


def _entry(name: str, found: dict[str, Any], *, listed: bool = False) -> Entry:
    sums = tuple((str(key).lower(), str(value)) for key, value in (found.get("Hashes") or {}).items() if value) if listed else None
    return Entry(name, int(found["Size"]), f"~{found['Size']}-{found.get('ModTime', '')}-{found.get('ID', '')}", sums=sums)
