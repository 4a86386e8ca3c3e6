"""One `rclone rcd` that carries out all calls of a store: a process for each of them costs more than a small file does."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from taskrun.staging.rclone_words import NOT_FOUND, meaning
from taskrun.staging.store import Permanent, StoreError, Transient

#: Ends rclone with the pipe that is its stdin, which breaks also when the driver is killed.
_KEPT = '"$@" </dev/null & p=$!; exec 2>/dev/null; read -r _; kill $p; wait $p'
_SERVING = re.compile(r"Serving remote control on http://127\.0\.0\.1:(\d+)")
_UNKNOWN = "couldn't find method"
#: Go ends the answer to a call that takes longer than these.
_FOR_EVER = ("--rc-server-read-timeout", "8760h", "--rc-server-write-timeout", "8760h")
_START_MOST = 30.0  # seconds
_END_MOST = 5.0
_LOOK_EVERY = 0.25  # while a call goes on
_ANSWER_MOST = 16 << 20  # bytes
_SAID_MOST = 4096
_HEADERS_MOST = 100


class Server:
    """Started at the first call, and anew after its end. Calls come from several threads; each has a connection to itself."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._closed = False

    def call(self, place: str, method: str, given: Mapping[str, Any], waiting: Callable[[], None] | None = None) -> dict[str, Any]:
        """The answer. `waiting` is called now and then until it comes; what it raises ends the call, there as well.

        `place`: what errors are about.
        """
        with self._asked(place, "POST", method, json.dumps(given).encode(), waiting) as answer:
            text = answer.read(_ANSWER_MOST + 1)
            if len(text) > _ANSWER_MOST:
                raise Permanent(f"{place}: the answer of rclone has more than {_ANSWER_MOST >> 20} MiB")
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise Transient(f"{place}: rclone broke off in the middle of an answer") from error
        return found

    @contextlib.contextmanager
    def content(self, place: str, remote: str, name: str, offset: int) -> Iterator[http.client.HTTPResponse]:
        """A file of a remote from `offset`, to be read."""
        more = f"Range: bytes={offset}-\r\n" if offset else ""
        with self._asked(place, "GET", quote(f"[{remote}]/{name}"), b"", None, more) as answer:
            if offset and answer.status != http.client.PARTIAL_CONTENT:  # of a size that nobody knows
                while offset and (skipped := answer.read(min(offset, 1 << 20))):
                    offset -= len(skipped)
            yield answer

    def close(self) -> None:
        """Ends the process, and with it all calls."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.end()

    @contextlib.contextmanager
    def _asked(
        self, place: str, verb: str, what: str, body: bytes, waiting: Callable[[], None] | None, more: str = ""
    ) -> Iterator[http.client.HTTPResponse]:
        process = self._running(place)
        try:
            with process.connection() as connection:
                head = f"{verb} /{what} HTTP/1.1\r\n{process.headers}{more}Content-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                if waiting is not None:
                    answered = select.poll()
                    answered.register(connection, select.POLLIN)
                    while not answered.poll(_LOOK_EVERY * 1000):
                        waiting()
                answer = _Answer(connection, method=verb)
                answer.begin()
                if answer.status >= http.client.BAD_REQUEST:
                    raise _wrong(place, answer.status, answer.read(_ANSWER_MOST))
                yield answer
                if not answer.isclosed() or answer.length or answer.will_close:  # what follows is no answer to another call
                    connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"{place}: rclone broke off: {str(error) or type(error).__name__}") from error

    def _running(self, place: str) -> _Process:
        with self._lock:
            if self._closed:
                raise Transient(f"{place}: rclone was ended")
            if self._process is not None and self._process.ended:
                self._process.end()
                self._process = None
            if self._process is None:
                self._process = self._start(place)
            return self._process

    def _start(self, place: str) -> _Process:
        process = _Process(self._argv)
        if process.port:
            return process
        process.end()
        raise meaning(place, 1, process.said or "rclone rcd does not start")


class _Answer(http.client.HTTPResponse):
    """Reads of the headers what says where the answer ends: all of them, as mail has them, take as long as the call."""

    def begin(self) -> None:
        version, self.status, _ = self._read_status()  # type: ignore[attr-defined]
        if version != "HTTP/1.1":
            raise http.client.UnknownProtocol(version)
        self.chunked, self.length, self.will_close = False, None, False
        for _ in range(_HEADERS_MOST):
            name, _, value = self.fp.readline(_SAID_MOST).strip().lower().partition(b":")
            if not name:
                break
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                self.chunked = value.strip() == b"chunked"
        if self.chunked:
            self.length, self.chunk_left = None, None
        elif self.length is None:
            self.will_close = True


class _Process:
    """A running rclone, and connections to it that nobody uses at the moment."""

    def __init__(self, argv: Sequence[str]) -> None:
        user, password = secrets.token_hex(8), secrets.token_hex(16)
        env = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_RC")}
        env |= {"RCLONE_RC_USER": user, "RCLONE_RC_PASS": password}
        key = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = f"Host: 127.0.0.1\r\nAuthorization: Basic {key}\r\nContent-Type: application/json\r\n"
        self.port = 0
        self.said = ""
        self.ended = False
        self._free: list[socket.socket] = []
        self._started = threading.Event()
        program, *options = argv
        command = [program, "rcd", *options, "--log-level", "NOTICE", "--log-file=", "--rc-serve", "--rc-addr", "127.0.0.1:0", *_FOR_EVER]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _KEPT, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,  # a Ctrl-C is the driver's to answer
        )
        self._listener = threading.Thread(target=self._listen, name="rclone", daemon=True)
        self._listener.start()
        self._started.wait(_START_MOST)

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """One for a single call. After an error it is shut down, which ends the call there."""
        try:
            connection = self._free.pop()
        except IndexError:
            connection = socket.create_connection(("127.0.0.1", self.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = False
        try:
            yield connection
            whole = True
        finally:
            if whole and not self.ended and connection.fileno() >= 0:
                self._free.append(connection)
            else:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # an answer that is not read to its end would keep it open
                connection.close()

    def end(self) -> None:
        """Ends it, and waits for that. What it does for others is not finished."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_MOST)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listener.join(_END_MOST)
        while self._free:
            self._free.pop().close()

    def _listen(self) -> None:
        """Reads what rclone says, to its end."""
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            while line := errors.readline(_SAID_MOST):
                text = line.decode("utf-8", "replace")
                if not self.port and (found := _SERVING.search(text)):
                    self.port = int(found[1])
                    self._started.set()
                self.said = (self.said + text)[-_SAID_MOST:]
        self.ended = True
        self._started.set()


def _wrong(place: str, status: int, text: bytes) -> StoreError:
    """Return the meaning of an answer that says no."""
    said = text.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        said = str(json.loads(said)["error"])
    if _UNKNOWN in said:
        return Permanent(f"{place}: rclone 1.56 or later is needed, and this one is older ({said})")
    return meaning(place, NOT_FOUND[0] if status == http.client.NOT_FOUND else 1, said)
