"""Files that an engine moves itself (--stage-on-engine): a program on its host does it, told from here and looked after from here.

Of S3 a host gets presigned URLs, each for one request about one object, when it needs them: no key leaves the driver. For other remotes
the rclone of the host is told all that it has to know. Both go through the engine's connection to that one process: they are in no command
line, on no disk and in no log, and the host needs no configuration. It ends with the connection.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from taskrun.staging.locations import Target
from taskrun.staging.store import Arrived, Entry, Over, Permanent, Progress, StoreError, Transient

#: The program that moves a file there (agent/).
By: TypeAlias = Literal["by_rclone", "by_url"]

_SIGN_OF_LIFE = 10.0  # seconds at most
_AT_A_TIME = 2  # on one host: sshd allows ten sessions of all kinds (see sftp)
_TRIES = 3  # that fail in a row before the driver moves what goes there and comes from there
_LINE_MOST = 1 << 20  # bytes of one answer, or of the noise of a login shell
_HEX = re.compile("[0-9a-f]+")


class Unable(StoreError):
    """A host that cannot move a file: the driver moves it. `where`: the store, or the kind of stores, for which that holds."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Remote(NamedTuple):
    """A store as other machines are told of it."""

    by: By
    where: str  # as a person knows it
    settings: Mapping[str, str]  # of rclone, with secrets, or certificates to be trusted
    needs: str = ""  # what is missing where a host cannot reach it, as the name of all stores that need it

    def __repr__(self) -> str:
        return "Remote(…)"


class Sent(NamedTuple):
    """A file that a host has moved. `sums`: algorithm → hex."""

    size: int
    sums: Mapping[str, str]


class Order:
    """One file that a host is to move. `place`: of the store, as a person knows it. `wanted`: what its program is told first."""

    def __init__(self, remote: Remote, place: str, wanted: Mapping[str, Any]) -> None:
        self.remote = remote
        self.place = place
        self.wanted = wanted

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a host is told that asks. Raises ValueError, KeyError or TypeError over what nobody may ask, StoreError."""
        raise ValueError(f"it has asked for {question.get('number')}")

    def part(self, told: Mapping[str, Any]) -> None:
        """Take note of a part that has arrived. Raises as `answer`."""

    def finish(self, sent: Sent) -> None:
        """Complete what was sent. Raises StoreError."""

    def failure(self, host: str, answer: Mapping[str, Any]) -> StoreError:
        """Return how it failed, from the last answer of a host."""
        return Transient(f"{self.place}, moved by {host}: {answer.get('said')}")


#: Has the host carry out an order about the file that is to be sent.
Send: TypeAlias = Callable[[Order], Sent]


@runtime_checkable
class Reachable(Protocol):
    """A store that other machines may reach, too."""

    def remote(self) -> Remote:
        """Raises Unable: only from here. StoreError where that cannot be found out."""

    def fetching(self, remote: Remote, entry: Entry) -> Order:
        """Return how a host gets a file of this store."""

    def receive(self, remote: Remote, send: Send, target: Target, size: int, over: Over = "anything") -> tuple[Arrived, str]:
        """A file that another machine sends there, whole or not at all, verified as it would be from here; and its sha256.

        Nothing that was begun is left where it did not come to its end.
        """


class Errands:
    """Of one host. `begin`: begins a program there; gives its standard streams, as a socket. `note`: says a sentence.

    `silent`: seconds after which the driver takes the host for lost; a program there hears nothing for two thirds of that and ends.
    """

    def __init__(
        self,
        host: str,
        begin: Callable[[By], Any],
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
        self._useless: dict[str, str] = {}  # store, or what all of a kind need → why
        self._failures: Counter[str] = Counter()  # store → tries in a row that have failed there and might pass

    def remote(self, store: Reachable) -> Remote:
        """The store as it is told there. Raises Unable: the driver has to move what goes there and comes from there."""
        try:
            remote = store.remote()
        except Unable as error:
            self._give_up(error)
            raise
        for where in (remote.needs, remote.where):
            if where in self._useless:
                raise Unable(where, self._useless[where])
        return remote

    def _give_up(self, problem: Unable) -> None:
        """From now on the driver moves what goes between this host and that store. Said once."""
        where, why = problem.where, str(problem)
        if where not in self._useless:
            self._useless[where] = why
            self._note(f"--stage-on-engine: the driver moves what goes between {self.host} and {where}: {why}")

    def run(self, order: Order, file: bytes, progress: Progress, still: Callable[[], None] = lambda: None) -> Sent:
        """Moves a file over there: one that is empty and has a temporary name, or one that is to be sent.

        `still` raises where that is not the same file any more; then nothing of it appears in the store.
        """
        told = 0
        wanted = {**order.wanted, "file": file.decode("utf-8", "surrogateescape"), "silent": self._patience}
        with self._connected(order.remote.by) as channel:
            _say(channel, wanted)
            alive = time.monotonic()
            for answer in _answers(channel):
                if "none" in answer:
                    self._give_up(problem := Unable(order.remote.needs or order.remote.where, str(answer["none"])))
                    raise problem
                if "end" in answer:
                    sent = self._sent(answer, order)
                    progress(sent.size - told)
                    still()
                    order.finish(sent)
                    with contextlib.suppress(OSError, *self._lost):
                        _say(channel, {"done": True})
                    return sent
                if "ask" in answer:
                    _say(channel, {**order.answer(answer), "for": int(answer["ask"])})
                elif "part" in answer:
                    order.part(answer)
                done = int(answer.get("bytes", told))
                progress(done - told)
                told = done
                if time.monotonic() - alive > min(_SIGN_OF_LIFE, self._patience / 4):
                    channel.sendall(b"\n")
                    alive = time.monotonic()
        raise Transient(f"{self.host}: what moved {order.place} was ended there")

    def _sent(self, answer: dict[str, Any], order: Order) -> Sent:
        where = order.remote.where
        if not answer["end"]:
            self._failures.pop(where, None)
            sums = {str(name): str(value) for name, value in answer["sums"].items()}
            if len(sums["sha256"]) != 64 or not all(map(_HEX.fullmatch, sums.values())):
                raise ValueError("it has said a checksum that is none")
            return Sent(int(answer["size"]), sums)
        problem = order.failure(self.host, answer)
        if isinstance(problem, Transient):
            self._failures[where] += 1
            if self._failures[where] >= _TRIES:
                self._give_up(Unable(where, str(problem)))
        raise problem

    @contextlib.contextmanager
    def _connected(self, by: By) -> Iterator[Any]:
        try:
            with self._room, contextlib.closing(self._begin(by)) as channel:
                yield channel
        except self._lost as error:
            raise Transient(f"{self.host}: the connection was lost: {str(error) or type(error).__name__}") from error
        except (OSError, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Permanent(f"{self.host}: {error}") from error


def _say(channel: Any, message: Mapping[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode("ascii") + b"\n")


def _answers(channel: Any) -> Iterator[dict[str, Any]]:
    """Lines that are answers: a login shell may have said something before. Raises ValueError over a line without an end."""
    left = b""
    while data := channel.recv(65536):
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found
        if len(left) > _LINE_MOST:
            raise ValueError("it has sent a line without an end")
