"""One file moved by this host itself, between a store and a file here: what all ways of doing that have in common.

Not part of the agent: a way (by_url.py, by_rclone.py) is run by itself for each file, with this text before it. The first line of standard
input says what is wanted (JSON). After it come answers, and an empty line now and then as a sign of life. When there is none for a while,
or standard input ends, the transfer ends, and so do we.

Lines to the driver: {"bytes": so many have gone}; {"ask": number, …}, answered with {"for": number, …}; {"part": number, …}, which has
arrived; at last {"end": 0 or how it failed, "said": why, "size": …, "sums": {algorithm: hex}}, or {"none": why it cannot be done here}.
"""

import hashlib
import json
import os
import queue
import re
import select
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List

TELL = 0.5  # seconds between two answers
KIND = 5.0  # seconds for what was begun to be taken back
CHUNK = 1 << 20
WORDS = 4096  # bytes of what rclone or a store says last


class Failed(Exception):
    """A store has refused, or cannot be reached. `status`: of HTTP, -1 without an answer."""

    def __init__(self, status: int, said: str, code: str = "") -> None:
        Exception.__init__(self, said)
        self.status = status
        self.code = code


class Unable(Exception):
    """The file cannot be moved by this host."""


class Errand(object):
    """A way of moving one file."""

    def __init__(self, wanted: "Dict[str, Any]") -> None:
        self.wanted = wanted
        self.done = 0  # bytes
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.patience = float(wanted["silent"])  # seconds
        self.asked = 0
        self.waiting: "Dict[int, queue.Queue[Dict[str, Any]]]" = {}

    def path(self) -> bytes:
        name: "str" = self.wanted["file"]
        return name.encode("utf-8", "surrogateescape")

    def tell(self, message: "Dict[str, Any]") -> None:
        with self.lock:
            try:
                os.write(1, json.dumps(message).encode("ascii") + b"\n")
            except OSError:
                pass  # nobody hears it: standard input ends, too

    def ask(self, question: "Dict[str, Any]") -> "Dict[str, Any]":
        box: "queue.Queue[Dict[str, Any]]" = queue.Queue()
        with self.lock:
            self.asked += 1
            number = self.asked
            self.waiting[number] = box
        self.tell(dict(question, ask=number))
        return box.get()

    def count(self, more: int) -> None:
        with self.lock:
            self.done += more

    def watch(self) -> None:
        """Hears answers, and says how far it is; ends all when the driver is gone."""
        heard = time.time()
        left = b""
        while not self.over.is_set():
            if select.select([0], [], [], TELL)[0]:
                heard = time.time()
                data = os.read(0, 65536)
                if not data:
                    self.abort()
                lines = (left + data).split(b"\n")
                left = lines.pop()
                for line in filter(None, lines):
                    self.hear(json.loads(line.decode("ascii")))
            elif abs(time.time() - heard) > self.patience:  # the clock may have been set: better once too often
                self.abort()
            self.tell({"bytes": self.done})

    def hear(self, answer: "Dict[str, Any]") -> None:
        if "done" in answer:
            self.over.set()
        else:
            self.waiting.pop(answer["for"]).put(answer)

    def abort(self) -> None:
        if not self.over.is_set():
            try:
                self.take_back()
            finally:
                os._exit(1)

    def take_back(self) -> None:
        """Ends what was begun."""

    def begin(self) -> None:
        threading.Thread(target=self.watch, daemon=True).start()

    def finish(self, code: int, words: str, sums: "Dict[str, Any]", more: str = "") -> None:
        """The last word. It ends with the driver's, where that has something to complete."""
        said = {name: each.hexdigest() for name, each in sums.items()}
        self.tell({"end": code, "said": words[-WORDS:], "code": more, "size": self.done, "sums": said})

    def run(self) -> None:
        getattr(self, self.wanted["way"])()


def write(fd: int, data: bytes, sums: "Dict[str, Any]") -> None:
    for each in sums.values():
        each.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def digests(names: "List[str]") -> "Dict[str, Any]":
    """Those that this Python may make: where FIPS rules there is no md5."""
    made = {}
    for name in names:
        try:
            made[name] = hashlib.new(name)
        except ValueError:
            pass
    return made


def plain(error: Exception) -> str:
    """Return what went wrong, without the signature of a URL."""
    return re.sub(r"\?\S*", "", getattr(error, "strerror", None) or str(error) or type(error).__name__)


def main(way: "Callable[[Dict[str, Any]], Errand]") -> None:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 65536)
        if not data:
            return
        line += data
    errand = way(json.loads(line.decode("ascii")))
    try:
        errand.run()
    except Unable as problem:
        errand.tell({"none": str(problem)})
    except Failed as problem:
        errand.finish(problem.status, str(problem), {}, problem.code)
    except Exception as error:  # noqa: BLE001 - nothing may keep it from ending
        errand.finish(-1, plain(error), {})
    os._exit(0)  # without waiting for requests that nobody needs any more
