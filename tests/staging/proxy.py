"""An HTTP proxy before the S3 server that does to requests what bad days do: errors, throttling, cut connections, half answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message><RequestId>1</RequestId></Error>'


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    peer: str  # the address that asked


#: (status, code) for an error, "cut" for a connection that ends at once, "half" for half of the answer, an event that its second half
#: waits for; None to let it pass.
Trouble = Callable[[Asked], "tuple[int, str] | str | threading.Event | None"]


class Proxy:
    """`trouble` is asked for each request; `asked` are all of them. `address`: of this machine, where it listens."""

    def __init__(self, endpoint: str, address: str = "127.0.0.1") -> None:
        self._to = urlsplit(endpoint).netloc
        self.trouble: Trouble = lambda _: None
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                outer.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the names of http.server

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://{address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def burst(self, count: int, what: tuple[int, str] | str, which: Callable[[Asked], bool] = lambda _: True) -> None:
        """The next so many requests (of those) go wrong."""
        left = [count]

        def trouble(asked: Asked) -> tuple[int, str] | str | None:
            if not which(asked) or left[0] == 0:
                return None
            left[0] -= 1
            return what

        self.trouble = trouble

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.command, request.path, headers, str(request.client_address[0]))
        self.asked.append(asked)
        trouble = self.trouble(asked)
        if trouble == "cut":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(trouble, tuple):
            text = b"" if request.command == "HEAD" else _ERROR.format(trouble[1], trouble[1]).encode()
            request.send_response(trouble[0])
            request.send_header("Content-Length", str(len(text)))
            request.end_headers()
            request.wfile.write(text)
            return
        with contextlib.closing(http.client.HTTPConnection(self._to, timeout=30)) as upstream:
            upstream.request(request.command, request.path, body, dict(request.headers.items()))
            answer = upstream.getresponse()
            data = answer.read()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", length or "0")
        with contextlib.suppress(OSError):  # nobody may wait for it any more
            request.end_headers()
            request.wfile.write(data[: len(data) // 2])
            if isinstance(trouble, threading.Event):
                trouble.wait(60)
            if trouble != "half":
                request.wfile.write(data[len(data) // 2 :])
        if trouble == "half":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
