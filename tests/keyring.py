"""Throw-away keys of gpg, made once for each process of the tests, in a home of a short name."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import need

LAB, PIPE, STRANGER, LOCKED = "lab@example.org", "pipeline@example.org", "stranger@example.org", "locked@example.org"
GONE = "gone@elsewhere.net"  # its time is over
PASSPHRASE = "correct horse"
KIND = "future-default"  # elliptic curves: five RSA keys take seconds


class Keys:
    """A GNUPGHOME with five keys: trusted ones, one that is not, one with a passphrase, one that has expired."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._gpgconf = need("gpgconf")
        self.fingerprints: dict[str, str] = {}
        for name, passphrase in ((LAB, ""), (PIPE, ""), (STRANGER, ""), (LOCKED, PASSPHRASE)):
            self.gpg(
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                passphrase,
                "--quick-gen-key",
                f"<{name}>",
                KIND,
                "default",
                "never",
            )
            listed = self.gpg("--with-colons", "--list-keys", f"<{name}>").split("\n")
            self.fingerprints[name] = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
        self.gpg(
            "--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time", "20200101T000000", "--quick-gen-key", f"<{GONE}>",
            KIND, "default", "1d",
        )  # fmt: skip
        self.gpg("--import-ownertrust", given=f"{self.fingerprints[STRANGER]}:3:\n")  # no longer ours to trust
        self.gpg("--check-trustdb")
        (home / "pass").write_text(PASSPHRASE)
        (home / "pass").chmod(0o600)

    def gpg(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            ["gpg", "--homedir", self.home, "--batch", "--no-tty", "--quiet", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end_agent(self) -> None:
        subprocess.run([self._gpgconf, "--homedir", self.home, "--kill", "all"], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def made_keys() -> Iterator[Keys]:
    need("gpg")
    home = Path(tempfile.mkdtemp(prefix="gpg", dir="/tmp"))
    home.chmod(0o700)
    keys = Keys(home)
    keys.end_agent()
    yield keys
    shutil.rmtree(home)


@pytest.fixture
def keys(made_keys: Keys) -> Iterator[Keys]:
    """The keys, and no agent that outlives the test."""
    yield made_keys
    made_keys.end_agent()
