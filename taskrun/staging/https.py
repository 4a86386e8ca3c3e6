"""Files of web servers, to be fetched: `https://host/path`, with `sha256=` where the line says what they are.

A name is a whole path with its query; behind `#sha256=` there may be the checksum that the content must have. Proxies and certificates are
those of Python's urllib (https_proxy, no_proxy, SSL_CERT_FILE); redirects are followed to https only.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskrun.staging.locations import Pattern, Target
from taskrun.staging.store import CHUNK, Arrived, Denied, Entry, Listing, Missing, Permanent, StoreError, Transient

_SECONDS = 60.0  # without a word from the server
_SUM = "#sha256="
_DENIED = (401, 403, 407)
_MISSING = (404, 410)
_PASSING = (408, 412, 416, 425, 429)


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"the server leads on to {urllib.parse.urlsplit(newurl).scheme}://, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class HttpsStore:
    """One server, `host` or `host:port`. Nothing is written there."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._opener = urllib.request.build_opener(_OnlyHttps(), urllib.request.HTTPSHandler(context=ssl.create_default_context()))

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        del listing
        if pattern.plain is None:
            raise Permanent(f"https://{self._where}/{pattern.base}: a web server tells no list of files: name one, and quote * ? [ in it")
        entry = self.stat(pattern.plain)
        if entry is not None:
            yield entry

    def stat(self, name: str) -> Entry | None:
        try:
            with self._asked(name, "HEAD") as answer:
                return _entry(name, answer)
        except Missing:
            return None
        except Denied:  # of servers that know only GET
            with self._asked(name, "GET") as answer:
                return _entry(name, answer)

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        del entry, algorithm
        return None  # no server tells

    def promise(self, entry: Entry) -> str:
        """Return the sha256 that the task file says the content has, '' if it says none."""
        return entry.name.partition(_SUM)[2]

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and entry.certain:
            headers["If-Range"] = entry.version
        with self._asked(entry.name, "GET", headers) as answer:
            if entry.certain and _entry(entry.name, answer).version != entry.version:
                raise Transient(f"{self._place(entry.name)} changed while it was read")
            left = entry.size - offset
            if offset and answer.status != http.client.PARTIAL_CONTENT:  # it begins anew
                _skip(answer, offset)
            while data := answer.read(CHUNK):
                left -= len(data)
                yield data
            if left > 0 and entry.size >= 0:
                raise Transient(f"{self._place(entry.name)}: the connection ended {left} bytes early")

    def put(self, path: Path, target: Target, *_: Any, **__: Any) -> Arrived:
        raise Permanent(f"{self._place(target.path)}: nothing is delivered to https://; {path} stays")

    def free(self, target: Target) -> int | None:
        del target
        return None

    def close(self) -> None:
        self._opener.close()

    def _place(self, name: str) -> str:
        return f"https://{self._where}/{name.partition(_SUM)[0].partition('?')[0]}"  # a query may hold a token

    @contextlib.contextmanager
    def _asked(self, name: str, method: str, headers: dict[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request. Raises StoreError."""
        place = self._place(name)
        path = urllib.parse.quote(name.partition(_SUM)[0], safe="/?&=:;,@!$'()*+~%[]", errors="surrogateescape")
        plain = {"Accept-Encoding": "identity", "User-Agent": "taskrun", **(headers or {})}
        asked = urllib.request.Request(f"https://{self._where}/{path}", method=method, headers=plain)
        try:
            with self._opener.open(asked, timeout=_SECONDS) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            with error:
                raise _meaning(place, error.code, str(error.reason)) from error
        except urllib.error.URLError as error:
            certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
            raise (Permanent if certificate else Transient)(f"{place}: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"{place}: {str(error) or type(error).__name__}") from error


def _entry(name: str, answer: http.client.HTTPResponse) -> Entry:
    size = answer.headers.get("Content-Length", "")
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    found = int(whole) if whole.isdigit() else int(size) if size.isdigit() else -1
    tag = answer.headers.get("ETag", "")
    version = tag if tag.startswith('"') else f"~{found}-{answer.headers.get('Last-Modified', '')}"
    return Entry(name, found, version)


def _skip(answer: http.client.HTTPResponse, size: int) -> None:
    while size > 0 and (data := answer.read(min(CHUNK, size))):
        size -= len(data)


def _meaning(place: str, code: int, said: str) -> StoreError:
    if code in _MISSING:
        return Missing(f"{place}: there is no such file")
    if code in _PASSING or code >= 500:
        return Transient(f"{place}: {code} {said}")
    return (Denied if code in _DENIED else Permanent)(f"{place}: {code} {said.lower()}")
