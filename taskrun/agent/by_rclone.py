"""One file moved by the rclone of this host. A program of its own, see errand.py.

What rclone needs to know of the store comes with the first line of standard input, and goes into its environment.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

try:
    from .errand import CHUNK, KIND, TELL, WORDS, Errand, Unable, digests, main, write
except ImportError:  # as a program: that text is before this one
    from errand import CHUNK, KIND, TELL, WORDS, Errand, Unable, digests, main, write  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List, Optional

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Rclone(Errand):
    """By the rclone of this host."""

    def __init__(self, wanted: "Dict[str, Any]") -> None:
        Errand.__init__(self, wanted)
        self.process: "Optional[subprocess.Popen[bytes]]" = None
        self.program = shutil.which("rclone")

    def run(self) -> None:
        if self.program is None:
            raise Unable("it has no rclone")
        Errand.run(self)

    def start(self, arguments: "List[str]", output: "Any", errors: "Any") -> "subprocess.Popen[bytes]":
        assert self.program is not None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_", "AWS_"))}
        self.process = subprocess.Popen(
            [self.program, *[each.encode("utf-8", "surrogateescape") for each in arguments]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(kept, **self.wanted["env"]),
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread is there yet
        )
        self.begin()
        return self.process

    def take_back(self) -> None:
        """Told kindly rclone takes back what it has begun."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(KIND)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def fetch(self) -> None:
        """From the store into a file that is there, empty."""
        sums = digests(self.wanted["sums"])
        fd = os.open(self.path(), os.O_WRONLY | os.O_NOFOLLOW)
        with tempfile.TemporaryFile() as errors:
            process = self.start([*self.wanted["arguments"], self.wanted["place"]], subprocess.PIPE, errors)
            assert process.stdout is not None
            while True:
                data = os.read(process.stdout.fileno(), CHUNK)
                if not data:
                    break
                write(fd, data, sums)
                self.done += len(data)
            code = process.wait()
            os.fsync(fd)
            errors.seek(0)
            self.over.set()
            self.finish(code, errors.read()[-WORDS:].decode("utf-8", "replace"), sums)

    def send(self) -> None:
        """A file into the store; the name of the file is the descriptor's, so rclone sends the very file that was summed up."""
        fd = os.open(self.path(), os.O_RDONLY | os.O_NONBLOCK)
        sums = digests(self.wanted["sums"])
        size = 0
        told = time.time()
        while True:
            data = os.read(fd, CHUNK)
            if not data:
                break
            size += len(data)
            for each in sums.values():
                each.update(data)
            if time.time() - told > TELL:
                told = time.time()
                self.tell({"bytes": 0})
                if select.select([0], [], [], 0)[0] and not os.read(0, 4096):
                    return
        ends = ["/proc/%d/fd/%d" % (os.getpid(), fd), self.wanted["place"]]
        process = self.start([*self.wanted["arguments"], *ends], subprocess.DEVNULL, subprocess.PIPE)
        assert process.stderr is not None
        last = self.follow(process.stderr)
        code = process.wait()
        self.over.set()
        self.done = size
        self.finish(code, last, sums)

    def follow(self, lines: "IO[bytes]") -> str:
        """rclone's log while it copies: how far it is, and what went wrong last."""
        last = ""
        for line in lines:
            try:
                found = json.loads(line.decode("utf-8", "replace"))
            except ValueError:
                found = {"msg": line.decode("utf-8", "replace")}
            if "stats" in found:
                self.done = int(found["stats"].get("bytes", 0))
            else:
                last = str(found.get("msg", ""))[-WORDS:]
        return last


def die_with_parent() -> None:
    """End rclone with this process."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    except Exception:  # noqa: BLE001, S110 - a Python without ctypes
        pass


if __name__ == "__main__":
    main(Rclone)
