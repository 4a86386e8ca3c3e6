"""One file moved by the host's own rclone, between a store and a file here. Not part of the agent: run by itself for each file.

The first line of standard input says what is wanted (JSON, with what rclone needs to know of the store); after it the driver gives a sign
of life now and then. When there is none for a while, or standard input ends, rclone ends, and so do we. Answers are lines of JSON:
{"bytes": so many have gone}, at last {"end": rclone's exit code, "said": its last words, "size": …, "sums": {algorithm: hex}},
or {"none": why there is no rclone}.
"""

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List

TELL = 0.5  # seconds between two answers
KIND = 5.0  # seconds for rclone to end
CHUNK = 1 << 20
WORDS = 4096  # bytes of what rclone says last
PARTS = 9999  # of a file at most; S3 takes one more
MIB = 1 << 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Errand(object):
    def __init__(self, wanted: "Dict[str, Any]", program: str) -> None:
        self.wanted = wanted
        self.program = program
        self.process: "subprocess.Popen[bytes]"
        self.done = 0  # bytes
        self.over = threading.Event()
        self.lock = threading.Lock()

    def tell(self, message: "Dict[str, Any]") -> None:
        with self.lock:
            try:
                os.write(1, json.dumps(message).encode("ascii") + b"\n")
            except OSError:
                pass  # nobody hears it: standard input ends, too

    def start(self, arguments: "List[str]", output: "Any", errors: "Any") -> "subprocess.Popen[bytes]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_", "AWS_"))}
        self.process = subprocess.Popen(
            [self.program, *[each.encode("utf-8", "surrogateescape") for each in arguments]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(kept, **self.wanted["env"]),
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread is there yet
        )
        threading.Thread(target=self.watch, daemon=True).start()
        return self.process

    def watch(self) -> None:
        """Says how far it is; ends all when the driver is gone."""
        heard = time.time()
        while not self.over.is_set():
            if select.select([0], [], [], TELL)[0]:
                heard = time.time()
                if not os.read(0, 4096):
                    self.abort()
            elif abs(time.time() - heard) > self.wanted["silent"]:  # the clock may have been set: better once too often
                self.abort()
            self.tell({"bytes": self.done})

    def abort(self) -> None:
        """Told kindly rclone takes back what it has begun."""
        self.process.terminate()
        try:
            self.process.wait(KIND)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os._exit(1)

    def fetch(self) -> None:
        """From the store into a file that is there, empty."""
        sums = digests(self.wanted["sums"])
        fd = os.open(self.wanted["file"].encode("utf-8", "surrogateescape"), os.O_WRONLY | os.O_NOFOLLOW)
        with tempfile.TemporaryFile() as errors:
            process = self.start([*self.wanted["arguments"], self.wanted["place"]], subprocess.PIPE, errors)
            assert process.stdout is not None
            while True:
                data = os.read(process.stdout.fileno(), CHUNK)
                if not data:
                    break
                for each in sums.values():
                    each.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                self.done += len(data)
            code = process.wait()
            os.fsync(fd)
            self.finish(code, said(errors), sums)

    def send(self) -> None:
        """A file into the store; the name of the file is the descriptor's, so rclone sends the very file that was summed up."""
        fd = os.open(self.wanted["file"].encode("utf-8", "surrogateescape"), os.O_RDONLY | os.O_NONBLOCK)
        sums = digests(self.wanted["sums"])
        flags = self.in_parts(os.fstat(fd).st_size, sums) if self.wanted["part"] else []
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
        marked = ["--header-upload", "%s: %s" % (self.wanted["header"], sums["sha256"].hexdigest())] if self.wanted["header"] else []
        ends = ["/proc/%d/fd/%d" % (os.getpid(), fd), self.wanted["place"]]
        process = self.start([*self.wanted["arguments"], *flags, *marked, *ends], subprocess.DEVNULL, subprocess.PIPE)
        assert process.stderr is not None
        last = self.follow(process.stderr)
        code = process.wait()
        self.done = size
        self.finish(code, last, sums)

    def in_parts(self, size: int, sums: "Dict[str, Any]") -> "List[str]":
        """Tells rclone how long a part is, so that what S3 makes of their checksums can be made here, too."""
        part = self.wanted["part"]
        length = max(part, -(-size // PARTS // MIB) * MIB)
        if size >= 2 * part and "md5" in sums:
            sums["parts"] = Parts(length)
        return ["--s3-chunk-size", "%dM" % (length // MIB), "--s3-upload-cutoff", "%dM" % (2 * part // MIB)]

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

    def finish(self, code: int, words: str, sums: "Dict[str, Any]") -> None:
        self.over.set()
        self.tell({"end": code, "said": words, "size": self.done, "sums": {name: each.hexdigest() for name, each in sums.items()}})


class Parts(object):
    """What S3 says of a file that came in parts: the md5 of their md5s, and how many they were."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.made: "List[bytes]" = []
        self.part = hashlib.md5()  # noqa: S324
        self.size = 0  # of the part that is being read

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self.size == self.length:
                self.made.append(self.part.digest())
                self.part = hashlib.md5()  # noqa: S324
                self.size = 0
            piece = view[: self.length - self.size]
            self.part.update(piece)
            self.size += len(piece)
            view = view[len(piece) :]

    def hexdigest(self) -> str:
        made = [*self.made, self.part.digest()]
        return "%s-%d" % (hashlib.md5(b"".join(made)).hexdigest(), len(made))  # noqa: S324


def digests(names: "List[str]") -> "Dict[str, Any]":
    """Those that this Python may make: where FIPS rules there is no md5."""
    made = {}
    for name in names:
        try:
            made[name] = hashlib.new(name)
        except ValueError:
            pass
    return made


def die_with_parent() -> None:
    """Whoever kills us has killed rclone."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    except Exception:  # noqa: BLE001, S110 - a Python without ctypes
        pass


def said(errors: "IO[bytes]") -> str:
    errors.seek(0)
    return errors.read()[-WORDS:].decode("utf-8", "replace")


def main() -> None:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 65536)
        if not data:
            return
        line += data
    wanted = json.loads(line.decode("ascii"))
    program = shutil.which("rclone")
    errand = Errand(wanted, program or "")
    if program is None:
        errand.tell({"none": "it has no rclone"})
        return
    try:
        getattr(errand, wanted["way"])()
    except OSError as error:
        errand.over.set()
        errand.tell({"end": -1, "said": error.strerror or str(error), "size": 0, "sums": {}})


if __name__ == "__main__":
    main()
