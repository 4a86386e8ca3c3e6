"""One file moved by presigned URLs of S3, each asked of the driver when it is needed. A program of its own, see errand.py.

A URL allows one request for a short time, and is a secret for as long: nothing that is said here holds one.
"""

import hashlib
import http.client
import os
import re
import socket
import threading
import time
from base64 import b64encode
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

try:
    from .errand import CHUNK, KIND, WORDS, Errand, Failed, Unable, digests, main, plain, write
except ImportError:  # as a program: that text is before this one
    from errand import CHUNK, KIND, WORDS, Errand, Failed, Unable, digests, main, plain, write  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict, Iterator, List

SIDE_BY_SIDE = 4  # parts of a file
TRIES = 3  # of one request
FRESH = 300.0  # seconds that a URL is used again
CONNECT, SILENT = 20.0, 60.0  # seconds of patience with a store
LAST = 600.0  # seconds for the driver to complete what was sent
CHANGED = "the file changed while it was read"


class Web(Errand):
    """By presigned URLs, several parts at a time, over one connection for each thread."""

    def __init__(self, wanted: "Dict[str, Any]") -> None:
        Errand.__init__(self, wanted)
        self.own = threading.local()
        self.connections: "List[Any]" = []
        self.url: "Dict[str, Any]" = {}
        self.url_age = 0.0
        self.undo: "Dict[str, Any]" = {}  # a URL that aborts the upload

    def run(self) -> None:
        self.begin()
        Errand.run(self)

    def get(self) -> None:
        """An object into a file that is there, empty."""
        size, length = self.wanted["size"], self.wanted["length"]
        fd = os.open(self.path(), os.O_WRONLY | os.O_NOFOLLOW)
        sums = digests(self.wanted["sums"])
        pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        ahead: "Deque[Any]" = deque()
        for start in range(0, size, length):
            ahead.append(pool.submit(self.get_part, start, min(size, start + length)))
            if len(ahead) == SIDE_BY_SIDE:
                write(fd, ahead.popleft().result(), sums)
        while ahead:
            write(fd, ahead.popleft().result(), sums)
        os.fsync(fd)
        self.over.set()
        self.finish(0, "", sums)

    def get_part(self, start: int, end: int) -> bytes:
        def take(answer: "Any", count: "Callable[[int], None]") -> bytes:
            if answer.status != 206 and (start, end) != (0, self.wanted["size"]):
                raise Failed(-1, "the store does not send parts of objects")
            found = []
            left = end - start
            while left:
                data = answer.read(min(left, CHUNK))
                if not data:
                    raise http.client.IncompleteRead(b"", left)
                found.append(data)
                left -= len(data)
                count(len(data))
            return b"".join(found)

        return self.request("GET", self.lasting, {"Range": "bytes=%d-%d" % (start, end - 1)}, None, take)  # type: ignore[no-any-return]

    def lasting(self) -> "Dict[str, Any]":
        """The URL of the object, a new one now and then."""
        if not self.url or abs(time.time() - self.url_age) > FRESH:
            self.url = self.ask({})
            self.url_age = time.time()
        return self.url

    def put(self) -> None:
        """A file into an object, in parts of an upload that the driver completes; an empty one the driver writes."""
        size, length = self.wanted["size"], self.wanted["length"]
        fd = os.open(self.path(), os.O_RDONLY | os.O_NONBLOCK)
        whole, parts = hashlib.sha256(), []
        for start in range(0, size, length):
            part = hashlib.sha256()
            for data in pieces(fd, start, min(size, start + length)):
                whole.update(data)
                part.update(data)
            parts.append(part)
        if parts:
            self.undo = self.ask({"number": 0, "sha256": whole.hexdigest()})["undo"]
        pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        for each in [pool.submit(self.put_part, fd, number, part) for number, part in enumerate(parts, 1)]:
            self.tell(each.result())
        if os.fstat(fd).st_size != size:
            raise Failed(-1, CHANGED)
        self.patience = LAST
        self.finish(0, "", {"sha256": whole})
        self.over.wait()

    def put_part(self, fd: int, number: int, part: "Any") -> "Dict[str, Any]":
        start = (number - 1) * self.wanted["length"]
        end = min(self.wanted["size"], start + self.wanted["length"])
        sums: "Dict[str, Any]" = {}

        def url() -> "Dict[str, Any]":
            found = self.ask({"number": number, "sha256": part.hexdigest()})
            self.undo = found.get("undo", self.undo)
            return found

        def send(connection: "Any", count: "Callable[[int], None]") -> None:
            sums.clear()
            sums.update(digests(["sha256", "md5"]))
            for data in pieces(fd, start, end):
                for each in sums.values():
                    each.update(data)
                connection.send(data)
                count(len(data))

        def take(answer: "Any", _count: "Any") -> "Dict[str, str]":
            kept = (("etag", "ETag"), ("checksum", "x-amz-checksum-sha256"), ("sse", "x-amz-server-side-encryption"))
            return {name: answer.getheader(header) or "" for name, header in kept}

        told = self.request("PUT", url, {}, send, take)
        if sums["sha256"].digest() != part.digest():
            raise Failed(-1, CHANGED)
        return dict(told, part=number, md5=sums["md5"].hexdigest() if "md5" in sums else "")

    def request(self, method: str, url: "Callable[[], Any]", more: "Dict[str, str]", send: "Any", take: "Any") -> "Any":
        """One request with its tries: `send` writes its body; returns what `take` makes of the answer. Raises Failed, Unable."""
        for left in range(TRIES - 1, -1, -1):
            moved: "List[int]" = []

            def count(size: int, moved: "List[int]" = moved) -> None:
                moved.append(size)
                self.count(size)

            try:
                return self.exchange(method, url(), more, send, take, count)
            except Failed as problem:
                if not left or (problem.status not in (408, 429) and problem.status < 500):
                    raise
            except (OSError, http.client.HTTPException) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise Unable("it does not trust the store's certificate: %s" % plain(error)) from None
                if not left:
                    raise Failed(-1, plain(error)) from None
            self.own.kept = None
            self.count(-sum(moved))
            time.sleep(0.5 * (TRIES - left))
        raise AssertionError

    def exchange(self, method: str, url: "Dict[str, Any]", more: "Dict[str, str]", send: "Any", take: "Any", count: "Any") -> "Any":
        connection, target, proof = self.connected(url["url"])
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in dict(url["headers"], **more, **proof).items():
            connection.putheader(name, value)
        connection.endheaders()
        if send is not None:
            try:
                send(connection, count)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answer may say why
        answer = connection.getresponse()
        if answer.status >= 300:
            text = answer.read(WORDS).decode("utf-8", "replace")
            self.own.kept = None
            code, said = (re.search("<%s>([^<]*)<" % name, text) for name in ("Code", "Message"))
            raise Failed(answer.status, (said.group(1) if said else "") or answer.reason, code.group(1) if code else "")
        made = take(answer, count)
        answer.read()
        return made

    def connected(self, url: str) -> "Any":
        """This thread's connection to the server of a URL or this host's proxy for it, what a request there names, and more headers."""
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        to = urlsplit(proxy if "//" in proxy else "//" + proxy) if proxy else parts
        proof = {}
        if proxy and to.username:
            words = "%s:%s" % (unquote(to.username), unquote(to.password or ""))
            proof = {"Proxy-Authorization": "Basic " + b64encode(words.encode()).decode("ascii")}
        tunnel = bool(proxy) and parts.scheme == "https"
        if getattr(self.own, "kept", None) is None:
            if parts.scheme == "https":
                connection = self.secure(to)
                if tunnel:
                    connection.set_tunnel(parts.hostname, parts.port or 443, proof)
            else:
                connection = http.client.HTTPConnection(to.hostname or "", to.port or 80, timeout=CONNECT)
            self.connections.append(connection)
            connection.connect()
            connection.sock.settimeout(SILENT)
            self.own.kept = connection
        return self.own.kept, url if proxy and not tunnel else "%s?%s" % (parts.path, parts.query), {} if tunnel else proof

    def secure(self, to: "Any") -> "Any":
        """Trusts whom this host trusts, and whom the driver was told to trust."""
        try:
            import ssl
        except ImportError:
            raise Unable("its Python has no ssl") from None
        context = ssl.create_default_context()
        if self.wanted["ca"]:
            context.load_verify_locations(cadata=self.wanted["ca"])
        return http.client.HTTPSConnection(to.hostname, to.port or 443, timeout=CONNECT, context=context)

    def take_back(self) -> None:
        """End what is still being sent, and abort the upload that it was for."""
        if self.undo:
            for each in self.connections:
                try:
                    each.sock.shutdown(socket.SHUT_RDWR)
                except (OSError, AttributeError):
                    pass
            threading.Timer(KIND, os._exit, (1,)).start()
            self.exchange("DELETE", self.undo, {}, None, lambda _answer, _count: None, self.count)


def pieces(fd: int, start: int, end: int) -> "Iterator[bytes]":
    """The bytes of a file between two places. Raises Failed when it has become shorter."""
    while start < end:
        data = os.pread(fd, min(CHUNK, end - start), start)
        if not data:
            raise Failed(-1, CHANGED)
        yield data
        start += len(data)


if __name__ == "__main__":
    main(Web)
