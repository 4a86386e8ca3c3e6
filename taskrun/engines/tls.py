"""TLS between a run and who attaches to it: a certificate made for this one run, known by its fingerprint. Nobody else is trusted.

The sockets never block: bytes go through memory, and one thread serves many connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import ssl
from pathlib import Path
from typing import NamedTuple

from taskrun.errors import Refused
from taskrun.sizes import size_text

READ_MOST = 1 << 18  # bytes taken from a socket at a time
MEMORY = 64 << 20  # bytes of address space for making a certificate, several times over
LINGER = 1.0  # seconds for the last words of a connection


class Broken(Exception):
    """The connection is of no use any more; its text says why. `abrupt`: not ended by the other process but by something on the way."""

    def __init__(self, why: str, *, abrupt: bool = False) -> None:
        super().__init__(why)
        self.abrupt = abrupt


class Identity(NamedTuple):
    """What a run shows to who connects."""

    context: ssl.SSLContext
    fingerprint: str  # SHA-256 of the certificate, hex


def make_identity() -> Identity:
    """A new key and its own certificate. They are never on a disk. Raises OSError, Refused."""
    _look_for_memory()
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "taskrun")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _load(context, pem)
    return Identity(context, certificate.fingerprint(hashes.SHA256()).hex())


def _look_for_memory() -> None:
    """The library that makes certificates ends the whole process where it gets no memory. Raises Refused."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if limit != resource.RLIM_INFINITY and limit - used < MEMORY:
        raise Refused(f"less than {size_text(MEMORY)} are left of `ulimit -v`: raise it, or do without (--use-address off)")


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL reads a key from a file only: from one that is in memory, without a name."""
    fd = os.memfd_create("taskrun", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def pinning_context() -> ssl.SSLContext:
    """For who connects: any certificate is taken, and then compared with the fingerprint that is known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecureStream:
    """One end of a connection."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.sock = sock
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._sealed, server_side=server_side)
        self._out = bytearray()
        self.established = False
        self.closed = False

    @property
    def backlog(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._out) + self._sealed.pending

    @property
    def fingerprint(self) -> str:
        """Of the other side's certificate, once the connection is established."""
        return hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest()

    def begin(self) -> None:
        """For the side that speaks first. Raises Broken."""
        self._shake()
        self.flush()

    def read(self) -> bytes | None:
        """What has come, b'' if that is nothing yet, None when the other side has ended it. Raises Broken."""
        try:
            raw = self.sock.recv(READ_MOST)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Broken(f"the connection broke ({error.strerror})", abrupt=True) from None
        if raw:
            self._in.write(raw)
        else:
            self._in.write_eof()
        if not self.established and not self._shake() and not raw:
            raise Broken("it ended before it was established")
        data = self._open()
        with contextlib.suppress(Broken):  # what has come is of use where nothing can be sent any more; the end is seen by the next read
            self.flush()
        return data or (b"" if raw else None)

    def _shake(self) -> bool:
        """Whether the connection is established now. Raises Broken."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLEOFError:
            raise Broken("it ended before it was established") from None
        except ssl.SSLError as error:
            self.flush()
            raise Broken(f"no TLS as agreed ({error.reason or 'closed'})") from None
        self.established = True
        return True

    def _open(self) -> bytes:
        """What can be read by now, nothing before it is established. Raises Broken."""
        data = bytearray()
        try:
            while self.established and (chunk := self._tls.read(READ_MOST)):
                data += chunk
        except (ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass  # the end is seen at the socket
        except ssl.SSLError as error:
            raise Broken(f"no TLS as agreed ({error.reason or 'garbage'})") from None
        return bytes(data)

    def write(self, data: bytes) -> None:
        """Queue it and send what the socket takes now. Raises Broken."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise Broken(f"no TLS any more ({error.reason or 'closed'})") from None
        self.flush()

    def flush(self) -> None:
        self._out += self._sealed.read()
        try:
            while self._out:
                del self._out[: self.sock.send(self._out[: 1 << 17])]
        except BlockingIOError:
            pass
        except OSError as error:
            self._out.clear()
            raise Broken(f"the connection broke ({error.strerror})", abrupt=True) from None

    def close(self) -> None:
        """Send what is queued if that can be done soon, and end it."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError, ssl.SSLError, Broken):
            if self.established:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
            self._out += self._sealed.read()
            self.sock.settimeout(LINGER)
            self.sock.sendall(self._out)
        self.sock.close()
