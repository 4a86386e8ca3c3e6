"""`https://` sources: fetched, verified by `sha256=`, continued after a break, refused where the content is another."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import Taskrun

DATA = os.urandom(3 << 20)
FLAGS = ("-s", "localhost:1", "-p", "run")


class Web:
    """A server of this process. `files` by path; `cut`: answers that end after so many bytes; `asked`: method, path and range."""

    def __init__(self, folder: Path) -> None:
        self.files = {"/data/x.bin": DATA}
        self.cut = 0
        self.leads_to = ""
        self.asked: list[tuple[str, str, str]] = []
        key, self.certificate = _certificate(folder)
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                web.asked.append((self.command, self.path, self.headers.get("Range", "")))
                if web.leads_to:
                    self.send_response(302)
                    self.send_header("Location", web.leads_to)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data = web.files.get(self.path.partition("?")[0])
                if data is None:
                    self.send_error(404)
                    return
                begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(data) - begin))
                self.send_header("ETag", f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if body and web.cut:
                    self.wfile.write(data[begin : begin + web.cut])
                    web.cut, self.close_connection = 0, True
                elif body:
                    self.wfile.write(data[begin:])

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.where = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "key.pem", folder / "cert.pem"


@pytest.fixture
def web(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    made = Web(tmp_path_factory.mktemp("web"))
    taskrun.env["SSL_CERT_FILE"] = str(made.certificate)
    yield made
    made.close()


def test_it_is_fetched_and_verified(taskrun: Taskrun, web: Web) -> None:
    """A query is no part of the name, and a file that is there already is not fetched again."""
    sha256 = hashlib.sha256(DATA).hexdigest()
    text = f"#TASKRUN STAGE-IN https://{web.where}/data/x.bin?token=s3cret in/ sha256={sha256.upper()}\ncat in/x.bin > /dev/null\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/x.bin").read_bytes() == DATA
    assert not [path for path in taskrun.folder.glob("run_*") if b"s3cret" in path.read_bytes()]
    fetched = [each for each in web.asked if each[0] == "GET"]
    assert len(fetched) == 1
    again = taskrun("tasks.txt", *FLAGS[:2], "-p", "again")
    assert again.code == 0, again.err
    assert [each for each in web.asked if each[0] == "GET"] == fetched


def test_another_content_is_refused(taskrun: Taskrun, web: Web) -> None:
    text = f"#TASKRUN STAGE-IN https://{web.where}/data/x.bin in/ sha256={'0' * 64}\ntouch ran\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    assert result.code == 3
    assert "not what the task file says" in result.err
    assert not (taskrun.folder / "in/x.bin").exists()
    assert not (taskrun.folder / "ran").exists()
    assert len([each for each in web.asked if each[0] == "GET"]) == 1


def test_it_goes_on_after_a_break(taskrun: Taskrun, web: Web) -> None:
    web.cut = 2 << 20
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": f"#TASKRUN STAGE-IN https://{web.where}/data/x.bin in/\ntrue\n"})
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/x.bin").read_bytes() == DATA
    assert [each[2] for each in web.asked if each[0] == "GET"] == ["", f"bytes={2 << 20}-"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("#TASKRUN STAGE-IN https://{}/none in/", "there is no such file"),
        ("#TASKRUN STAGE-IN https://{}/ in/", "tells no list"),
        ("#TASKRUN STAGE-IN https://me:secret@{}/x in/", "without a user or password"),
        ("#TASKRUN STAGE-OUT x https://{}/x", "nothing is delivered there"),
        ("#TASKRUN STAGE-IN https://{}/data/x.bin in/ sha256=12", "64 hexadecimal digits"),
        ("#TASKRUN STAGE-IN s3://bucket/x in/ sha256=" + "0" * 64, "from https:// alone"),
    ],
)
def test_what_cannot_be(taskrun: Taskrun, web: Web, line: str, said: str) -> None:
    result = taskrun("check", "tasks.txt", files={"tasks.txt": line.format(web.where) + "\ntrue\n"})
    assert result.code == 2
    assert said in result.err
    assert "secret@" not in result.err


def test_only_to_https_and_to_a_server_that_is_trusted(taskrun: Taskrun, web: Web) -> None:
    text = f"#TASKRUN STAGE-IN https://{web.where}/data/x.bin in/\ntrue\n"
    web.leads_to = "http://127.0.0.1:9/x"
    led = taskrun("tasks.txt", *FLAGS, "--transfer-tries", "1", files={"tasks.txt": text})
    assert led.code == 3
    assert "the server leads on to http://, which is not encrypted" in led.err
    web.leads_to = ""
    del taskrun.env["SSL_CERT_FILE"]
    strange = taskrun("tasks.txt", *FLAGS[:2], "-p", "strange")
    assert strange.code == 3
    assert "certificate verify failed" in strange.err
