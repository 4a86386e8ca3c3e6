"""Checksums of files here, one after the other. Not part of the agent: run by itself, for as long as there are files to be summed up.

Each line of standard input is a path (a JSON string, bytes that are no UTF-8 as surrogates). Each is answered by a line of JSON:
{"sum": its sha256 as hex}, or null for what is no file or cannot be read. Before the first of them {} says that somebody is there, and then
once a second that a file is still being read.
"""

import hashlib
import json
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

CHUNK = 1 << 20
TELL = 1.0  # seconds between two signs of life


def tell(message: "Dict[str, Any]") -> None:
    """Raises OSError when nobody hears it any more."""
    os.write(1, json.dumps(message).encode("ascii") + b"\n")


def sum_of(path: bytes) -> "Optional[str]":
    """Raises OSError."""
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        told = time.time()
        while True:
            data = os.read(fd, CHUNK)
            if not data:
                return digest.hexdigest()
            digest.update(data)
            if abs(time.time() - told) > TELL:
                told = time.time()
                tell({})
    finally:
        os.close(fd)


def main() -> None:
    try:
        tell({})
        for line in iter(sys.stdin.buffer.readline, b""):
            try:
                found = sum_of(json.loads(line.decode("ascii")).encode("utf-8", "surrogateescape"))
            except BrokenPipeError:
                raise
            except OSError:
                found = None
            tell({"sum": found})
    except BrokenPipeError:
        pass


if __name__ == "__main__":
    main()
