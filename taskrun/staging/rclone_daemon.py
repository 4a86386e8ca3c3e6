"""One `rclone rcd` for all files of a run: a process for each file would take half a second of processor time each.

It listens on a port of the loopback interface with a user and a password made for it, which it has from its environment. It ends with this
process, also when that is killed: its standard input does. See https://rclone.org/rc/ for the commands.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

#: Runs rclone until it ends or standard input does, whichever is first.
_SCRIPT = 'exec 3<&0; "$@" 3<&- </dev/null & p=$!; (cat <&3 >/dev/null; kill $p) & w=$!; exec 3<&-; wait $p; r=$?; kill $w; exit $r'
_READY = re.compile(rb"Serving remote control on http://([0-9.]+):(\d+)/")
_START_SECONDS = 30.0
_END_SECONDS = 5.0
_LAST_WORDS = 4096
_ANSWER_MOST = 16 << 20  # bytes


class Refusal(Exception):
    """rclone could not do it. `status`: of HTTP, 404 for what is not there, 0 if nothing answered; the text is rclone's own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Daemon:
    """Started when it is first needed. Called from several threads."""

    def __init__(self, argv: list[str]) -> None:
        """`argv`: the program and its options, without the command."""
        self._argv = [*argv, "rcd", "--rc-addr", "127.0.0.1:0", "--rc-serve", "--copy-links", "--log-level", "NOTICE"]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ("", 0)
        self._headers: dict[str, str] = {}
        self._idle: list[http.client.HTTPConnection] = []

    def call(self, command: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Have a command carried out and return its answer. Raises Refusal."""
        self._start()
        connection = self._borrow()
        try:
            connection.request("POST", f"/{command}", json.dumps(dict(wanted)), {**self._headers, "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read(_ANSWER_MOST + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Refusal(0, f"rclone does not answer: {str(error) or type(error).__name__}{self._said()}") from error
        if len(text) > _ANSWER_MOST:
            connection.close()
            raise Refusal(0, f"the answer of rclone has more than {_ANSWER_MOST >> 20} MiB")
        self._give_back(connection)
        if answer.status != http.client.OK:
            raise _refusal(answer.status, text)
        found = json.loads(text)
        return found if isinstance(found, dict) else {}

    @contextlib.contextmanager
    def reading(self, fs: str, name: str, offset: int) -> Iterator[http.client.HTTPResponse]:
        """A file as a stream from `offset` on. Raises Refusal; reading raises OSError, HTTPException."""
        self._start()
        connection = self._borrow()
        whole = False
        try:
            path = f"/{quote(f'[{fs}]', safe='')}/{quote(name, safe='/', errors='surrogateescape')}"
            try:
                connection.request("GET", path, headers=self._headers | ({"Range": f"bytes={offset}-"} if offset else {}))
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Refusal(0, f"rclone does not answer: {str(error) or type(error).__name__}{self._said()}") from error
            if answer.status != (http.client.PARTIAL_CONTENT if offset else http.client.OK):
                raise _refusal(answer.status, answer.read(_LAST_WORDS))
            yield answer
            whole = answer.isclosed()
        finally:
            if whole:
                self._give_back(connection)
            else:
                connection.close()

    def close(self) -> None:
        """End it; what it is doing ends, too."""
        with self._lock:
            process, self._process = self._process, None
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            if process is None:
                return
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._errors.close()

    def _borrow(self) -> http.client.HTTPConnection:
        """A connection for one request."""
        with self._lock:
            return self._idle.pop() if self._idle else http.client.HTTPConnection(*self._address)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._process is not None:
                self._idle.append(connection)
                return
        connection.close()

    def _start(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._idle.clear()
            user, word = secrets.token_hex(16), secrets.token_hex(32)
            self._headers = {"Authorization": f"Basic {base64.b64encode(f'{user}:{word}'.encode()).decode()}"}
            self._errors = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "taskrun", *self._argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=os.environ | {"RCLONE_RC_USER": user, "RCLONE_RC_PASS": word},
                start_new_session=True,  # a Ctrl-C is the driver's to answer
            )
            end = time.monotonic() + _START_SECONDS
            while (ready := _READY.search(self._last_words())) is None:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise Refusal(0, f"rclone could not be started{self._said()}")
                time.sleep(0.01)
            self._address = (ready[1].decode(), int(ready[2]))

    def _last_words(self) -> bytes:
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS))

    def _said(self) -> str:
        """The last line that it said, if it has ended."""
        if self._process is None or self._process.poll() is None:
            return ""
        lines = self._last_words().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _refusal(status: int, text: bytes) -> Refusal:
    said = text.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, AttributeError):
        said = str(json.loads(text).get("error") or said)
    return Refusal(status, said)
