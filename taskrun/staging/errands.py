"""Files that an engine moves itself (--stage-on-engine): the rclone of its host does it, told from here and looked after from here.

What rclone there has to know of a store goes through the engine's connection into the environment of that one process: it is in no
command line, on no disk and in no log, and the host needs no configuration. It ends with the connection.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from taskrun.staging.locations import Target
from taskrun.staging.rclone_words import meaning
from taskrun.staging.store import ALGORITHMS, Arrived, Permanent, Progress, StoreError, Transient

#: What a store is called there, and the flags that every errand has. Whole transfers are tried again by the mover.
NAME = "taskrun"
_ALWAYS = (
    "--ask-password=false", "--retries", "1", "--low-level-retries", "3", "--contimeout", "20s", "--timeout", "60s", "--log-level", "ERROR",
)  # fmt: skip
_SEND = ("--copy-links", "--ignore-times", "--no-check-dest", "--stats", "500ms", "--stats-log-level", "ERROR", "--use-json-log")
_SIGN_OF_LIFE = 10.0  # seconds at most
_AT_A_TIME = 2  # on one host: sshd allows ten sessions of all kinds (see sftp)
_TRIES = 3  # that fail in a row before the driver moves what goes there and comes from there


class Unable(StoreError):
    """It cannot be done there: the driver does it. `where`: the store for which that holds, '' for all of them."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Remote(NamedTuple):
    """A store as rclone of another machine is told of it."""

    where: str  # as a person knows it
    settings: Mapping[str, str]  # with secrets
    flags: tuple[str, ...] = ()
    header: str = ""  # under which the sha256 is kept with a file
    part: int = 0  # bytes, whole MiB: files of twice that and more go in such parts (longer ones where they would be too many)

    def __repr__(self) -> str:
        return "Remote(…)"

    def env(self) -> dict[str, str]:
        """What names the store for one process."""
        prefix = f"RCLONE_CONFIG_{NAME.upper()}_"
        return {"RCLONE_CONFIG": "", **{prefix + name.upper(): value for name, value in self.settings.items()}}


class Sent(NamedTuple):
    """What was read there and given to rclone. `sums`: algorithm → hex; `parts` is the ETag that S3 makes of a file that came in parts."""

    size: int
    sums: Mapping[str, str]


#: Sends the file to a name that rclone understands, below the store's own name.
Send = Callable[[str], Sent]


@runtime_checkable
class Reachable(Protocol):
    """A store that other machines' rclone may reach, too."""

    def remote(self) -> Remote:
        """Raises Unable: only from here. StoreError where that cannot be found out."""

    def rclone_name(self, name: str) -> str:
        """What rclone calls a file of it."""

    def receive(self, send: Send, target: Target, size: int) -> tuple[Arrived, str]:
        """A file that another machine sends there, whole or not at all, verified as it would be from here; and its sha256.

        Nothing that it has begun is left where it did not come to its end.
        """


class Errands:
    """Of one host. `begin`: begins an errand there (agent/errand.py); gives its standard streams, as a socket. `note`: says a sentence.

    `silent`: seconds after which the driver takes the host for lost; rclone there hears nothing for two thirds of that and ends.
    """

    def __init__(
        self,
        host: str,
        begin: Callable[[], Any],
        note: Callable[[str], None],
        lost: tuple[type[Exception], ...],
        silent: float,
    ) -> None:
        self.host = host
        self._begin = begin
        self._note = note
        self._patience = silent * 2 / 3
        self._lost: tuple[type[BaseException], ...] = (*lost, EOFError, ConnectionError, TimeoutError)
        self._room = threading.Semaphore(_AT_A_TIME)
        self._useless: dict[str, str] = {}  # store, or '' for all of them → why
        self._failures: Counter[str] = Counter()  # store → tries in a row that rclone there said had failed and might pass

    def remote(self, store: Reachable) -> Remote:
        """The store as it is told there. Raises Unable: the driver has to move what goes there and comes from there."""
        try:
            remote = store.remote()
        except Unable as error:
            self._give_up(error)
            raise
        for where in ("", remote.where):
            if where in self._useless:
                raise Unable(where, self._useless[where])
        return remote

    def _give_up(self, problem: Unable) -> None:
        """From now on the driver moves what goes between this host and that store. Said once."""
        where, why = problem.where, str(problem)
        if where not in self._useless:
            self._useless[where] = why
            self._note(f"--stage-on-engine: the driver moves what goes between {self.host} and {where or 'all stores'}: {why}")

    def fetch(self, remote: Remote, name: str, file: bytes, progress: Progress) -> Sent:
        """A file of the store into one over there that is empty and has a temporary name."""
        return self._run({"way": "fetch", "arguments": ["cat", *_ALWAYS, *remote.flags]}, remote, name, file, progress)

    def send(self, remote: Remote, name: str, file: bytes, progress: Progress) -> Sent:
        """A file over there to a name in the store."""
        wanted = {"way": "send", "arguments": ["copyto", *_ALWAYS, *_SEND, *remote.flags], "header": remote.header, "part": remote.part}
        return self._run(wanted, remote, name, file, progress)

    def _run(self, wanted: dict[str, Any], remote: Remote, name: str, file: bytes, progress: Progress) -> Sent:
        told = 0
        ends = {"file": file.decode("utf-8", "surrogateescape"), "place": f"{NAME}:{name}", "env": remote.env()}
        wanted = {**wanted, **ends, "sums": ALGORITHMS, "silent": self._patience}
        with self._connected() as channel:
            channel.sendall(json.dumps(wanted).encode("ascii") + b"\n")
            alive = time.monotonic()
            for answer in _answers(channel):
                if "none" in answer:
                    self._give_up(problem := Unable("", str(answer["none"])))
                    raise problem
                if "end" in answer:
                    progress(int(answer["size"]) - told)
                    return self._sent(answer, name, remote.where)
                done = int(answer.get("bytes", told))
                progress(done - told)
                told = done
                if time.monotonic() - alive > min(_SIGN_OF_LIFE, self._patience / 4):
                    channel.sendall(b"\n")
                    alive = time.monotonic()
        raise Transient(f"{self.host}: rclone was ended there")

    def _sent(self, answer: dict[str, Any], name: str, where: str) -> Sent:
        if not answer["end"]:
            self._failures.pop(where, None)
            return Sent(int(answer["size"]), dict(answer["sums"]))
        problem = meaning(f"{name}, moved by rclone on {self.host}", int(answer["end"]), str(answer.get("said", "")))
        if isinstance(problem, Transient):
            self._failures[where] += 1
            if self._failures[where] >= _TRIES:
                self._give_up(Unable(where, str(problem)))
        raise problem

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            with self._room, contextlib.closing(self._begin()) as channel:
                yield channel
        except self._lost as error:
            raise Transient(f"{self.host}: the connection was lost: {str(error) or type(error).__name__}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Permanent(f"{self.host}: {error}") from error


def _answers(channel: Any) -> Iterator[dict[str, Any]]:
    """Lines that are answers: a login shell may have said something before."""
    left = b""
    while data := channel.recv(65536):
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found
