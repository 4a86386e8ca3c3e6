"""An SFTP server on standard input and output whose folders are as its argument says. Knows only what a listing takes.

endless: names without end · empty: answers without names, for ever · itself: each folder contains itself · stuck: no answer at all;
slash, up, nul, long, garbage: one name or answer that cannot be. A second argument: a file that it makes after a hundred answers.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys

VERSION, CLOSE, LSTAT, OPENDIR, READDIR, STAT = 1, 4, 7, 11, 12, 17
STATUS, HANDLE, NAME, ATTRS = 101, 102, 104, 105
FOLDER, FILE = 0o040755, 0o100644


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def send(kind: int, data: bytes) -> None:
    sys.stdout.buffer.write(struct.pack(">IB", len(data) + 1, kind) + data)
    sys.stdout.buffer.flush()


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def attributes(mode: int) -> bytes:
    return struct.pack(">IQI", 1 | 4, 0, mode)


def names(number: bytes, found: list[tuple[bytes, int]]) -> None:
    send(NAME, number + struct.pack(">I", len(found)) + b"".join(text(name) + text(name) + attributes(mode) for name, mode in found))


def serve(what: str, began: str) -> None:
    counter = itertools.count()
    asked: dict[bytes, int] = {}
    handles = itertools.count()
    while True:
        (length,) = struct.unpack(">I", read(4))
        packet = read(length)
        kind, number = packet[0], packet[1:5]
        if kind == VERSION:
            send(2, struct.pack(">I", 3))
        elif kind == OPENDIR:
            send(HANDLE, number + text(b"%d" % next(handles)))
        elif kind == READDIR:
            handle = packet[9:]
            asked[handle] = asked.get(handle, 0) + 1
            if began and asked[handle] == 100:
                os.close(os.open(began, os.O_WRONLY | os.O_CREAT))
            if what == "endless":
                names(number, [(b"file-%012d.data" % next(counter), FILE) for _ in range(500)])
            elif what == "empty":
                names(number, [])
            elif what == "stuck":
                read(1 << 30)
            elif asked[handle] > 1:
                send(STATUS, number + struct.pack(">I", 1) + text(b"") + text(b""))
            elif what == "itself":
                names(number, [(b".", FOLDER), (b"..", FOLDER), (b"sub", FOLDER)])
            elif what == "garbage":
                send(NAME, number + struct.pack(">I", 1 << 30))
            else:
                name = {"slash": b"a/../../b", "up": b"..", "nul": b"a\0b", "long": b"x" * (1 << 20)}[what]
                names(number, [(name, FILE), (b"good.txt", FILE)])
        elif kind in (STAT, LSTAT):
            path = packet[9:]
            send(ATTRS, number + attributes(FILE if path.endswith((b".txt", b".data")) else FOLDER))
        else:
            send(STATUS, number + struct.pack(">I", 0 if kind == CLOSE else 8) + text(b"") + text(b""))


if __name__ == "__main__":
    serve(sys.argv[1], *sys.argv[2:] or [""])
