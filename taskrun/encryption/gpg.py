"""GnuPG: keys tried before the first task, streams encrypted, signed, decrypted, verified. The only module that knows gnupg.

Passphrases come from gpg's agent or from a file that only its owner can read, which gpg itself opens: none is ever in this process, in an
argument list or in an environment. Trust is gpg's own: a recipient that gpg would ask about is refused.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.encryption.rules import Wish
from taskrun.errors import Refused

_FINGERPRINT = re.compile(r"(?:0x)?[0-9A-Fa-f]{40}(?:[0-9A-Fa-f]{24})?")
_TRUSTED = ("u", "f")  # ultimate, full: what gpg encrypts to without asking
_WORDS = {"r": "revoked", "e": "expired", "d": "disabled", "i": "invalid"}
_BUFFER = 1 << 18
_TRIAL = b"taskrun tries the keys before the first task"


class Key(NamedTuple):
    """One key of the keyring."""

    fingerprint: str
    name: str  # as it was asked for


class Gpg:
    """GnuPG with one keyring. `home`: its folder, None for the usual one. Usable from several threads.

    Raises Refused when gpg is not installed, or others could read the passphrase file.
    """

    def __init__(self, *, home: Path | None = None, passphrase_file: Path | None = None) -> None:
        self._home = home
        self._options: list[str] = []
        if passphrase_file is not None:
            _private(passphrase_file)
            self._options = ["--pinentry-mode", "loopback", "--passphrase-file", str(passphrase_file.absolute())]
        self._gpg()

    def public_key(self, name: str) -> Key:
        """The one key that `name` means and that can be encrypted to. Raises Refused: missing, ambiguous, expired, not trusted."""
        there = self._keys(name)
        found = [key for key in there if "E" in key["cap"]]
        if not found:
            _of_no_use(f"ENCRYPT {name}", there, "encrypt")
            raise Refused(f"ENCRYPT {name}: gpg has no such key to encrypt to; import it (gpg --import), then sign it (gpg --lsign-key)")
        fine = [key for key in found if key["trust"] in _TRUSTED]
        if not fine:
            _of_no_use(f"ENCRYPT {name}", found, "")
            raise Refused(
                f"ENCRYPT {name}: the key {found[0]['fingerprint']} is not trusted; compare its fingerprint with the owner, "
                f"then gpg --lsign-key {found[0]['fingerprint']}"
            )
        return self._only(name, fine)

    def secret_key(self, name: str) -> Key:
        """The one secret key that `name` means and that can sign. Raises Refused."""
        there = self._keys(name, secret=True)
        found = [key for key in there if "S" in key["cap"] and key["trust"] not in _WORDS]
        if not found:
            _of_no_use(f"ENCRYPT … SIGN {name}", there, "sign")
            raise Refused(f"ENCRYPT … SIGN {name}: gpg has no secret key of that name that can sign now")
        return self._only(name, found)

    def signer_key(self, name: str) -> Key:
        """The one public key that `name` means, whose signatures are to be verified. Raises Refused.

        An address is what anybody writes into a key: it names a trusted key only. A full fingerprint names one key whoever made it.
        """
        there = self._keys(name)
        found = [key for key in there if key["trust"] not in _WORDS]
        if not found:
            _of_no_use(f"ENCRYPT … SIGN {name}", there, "")
            raise Refused(f"ENCRYPT … SIGN {name}: gpg has no such key; import it with gpg --import")
        fine = found if _FINGERPRINT.fullmatch(name) else [key for key in found if key["trust"] in _TRUSTED]
        if not fine:
            raise Refused(
                f"ENCRYPT … SIGN {name}: the key {found[0]['fingerprint']} is not trusted, and anybody can make one of this name; compare "
                f"its fingerprint with the owner, then gpg --lsign-key {found[0]['fingerprint']}, or write the fingerprint after SIGN"
            )
        return self._only(name, fine)

    def encryption(self, wish: Wish) -> Encryption:
        """What a wish comes to, its keys looked up."""
        return Encryption(
            self, tuple(self.public_key(name) for name in wish.recipients), self.secret_key(wish.signer) if wish.signer else None
        )

    def decryption(self, wish: Wish | None) -> Decryption:
        """How staged-in files are decrypted; where the wish names a signer, only with its signature."""
        return Decryption(self, self.signer_key(wish.signer) if wish is not None and wish.signer else None)

    def preflight(self, wish: Wish) -> None:
        """Tries keys, trust and passphrase with a few bytes; to be called before the first task. Raises Refused."""
        made: list[bytes] = []
        encryption = self.encryption(wish)
        encryption.apply(iter([_TRIAL]), made.append)
        if any(self._keys(key.fingerprint, secret=True) for key in encryption.keys):
            back: list[bytes] = []
            Decryption(self, encryption.sign).apply(iter([b"".join(made)]), back.append)
            if b"".join(back) != _TRIAL:
                raise Refused("ENCRYPT: gpg does not give back what it has encrypted")

    def run(self, chunks: Iterator[bytes], write: Callable[[bytes], None], call: Callable[[Any, _Source], Any]) -> Any:
        """One run of gpg over a stream: what `call` returns. Raises what reading or writing has raised."""
        gpg = self._gpg()
        source = _Source(chunks)
        failed: list[BaseException] = []

        def take(data: bytes) -> bool:
            if data and not failed:
                try:
                    write(data)
                except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that can answer it
                    failed.append(error)
                    source.stop()
            return False  # kept by nobody

        gpg.on_data = take
        try:
            result = call(gpg, source)
        except Exception:
            if source.failed is None and not failed:
                raise
            result = None
        for error in (source.failed, *failed):
            if error is not None:
                raise error
        return result

    def _gpg(self) -> Any:
        import gnupg

        logging.getLogger("gnupg").setLevel(logging.CRITICAL + 1)  # what matters is in the results
        try:
            gpg = gnupg.GPG(gnupghome=None if self._home is None else str(self._home), options=list(self._options))
        except (OSError, ValueError) as error:
            raise Refused(f"ENCRYPT: gpg cannot be used: {error}; install GnuPG") from error
        gpg.encoding = "utf-8"
        gpg.buffer_size = _BUFFER
        return gpg

    def _keys(self, name: str, *, secret: bool = False) -> list[dict[str, Any]]:
        return [key for key in self._gpg().list_keys(secret, keys=[_exactly(name)]) if key["type"] in ("pub", "sec")]

    @staticmethod
    def _only(name: str, found: list[dict[str, Any]]) -> Key:
        if len(found) > 1:
            which = ", ".join(key["fingerprint"] for key in found)
            raise Refused(f"ENCRYPT {name}: several keys are meant by that: {which}; write the fingerprint")
        return Key(found[0]["fingerprint"], name)


class Encryption:
    """Encrypts for some, signed by one if asked."""

    def __init__(self, gpg: Gpg, keys: tuple[Key, ...], sign: Key | None) -> None:
        self._gpg = gpg
        self.keys = keys
        self.sign = sign

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(key.fingerprint for key in self.keys)

    @property
    def signer(self) -> str | None:
        return self.sign.fingerprint if self.sign is not None else None

    def apply(self, chunks: Iterator[bytes], write: Callable[[bytes], None]) -> None:
        """Encrypts a stream. What was written is worth nothing until this has returned. Raises Refused."""

        def call(gpg: Any, source: _Source) -> Any:
            return gpg.encrypt_file(
                source, list(self.recipients), sign=self.signer, armor=False, extra_args=["--compress-algo", "none", "--no-encrypt-to"]
            )

        result = self._gpg.run(chunks, write, call)
        if not result.ok or result.returncode != 0:
            hint = ""
            if self.sign is not None and _passphrase_missing(result):
                hint = f"; the passphrase of {self.sign.name} is missing or wrong: unlock the key in gpg's agent, or --passphrase-file FILE"
            raise Refused(f"gpg did not encrypt for {', '.join(key.name for key in self.keys)}: {_reason(result)}{hint}")


class Decryption:
    """Decrypts; with `sign` only what carries a good signature of that key."""

    def __init__(self, gpg: Gpg, sign: Key | None) -> None:
        self._gpg = gpg
        self.sign = sign

    @property
    def recipients(self) -> tuple[str, ...]:
        return ()

    @property
    def signer(self) -> str | None:
        return self.sign.fingerprint if self.sign is not None else None

    def apply(self, chunks: Iterator[bytes], write: Callable[[bytes], None]) -> None:
        """Decrypts a stream. What was written is worth nothing until this has returned: the signature comes last. Raises Refused."""
        result = self._gpg.run(chunks, write, lambda gpg, source: gpg.decrypt_file(source))
        unknown = result.problems and all(one["status"] in ("no public key", "signature error") for one in result.problems)
        # 2: also of a signature that nobody asked to verify, by a key that is not here
        if not result.ok or result.returncode != (2 if self.sign is None and unknown else 0):
            if "BEGIN_DECRYPTION" not in (result.stderr or "") and not _passphrase_missing(result):
                raise Refused("gpg did not decrypt it: it is nothing that gpg has encrypted, or only its beginning")
            hint = "; a passphrase is missing or wrong: unlock the key in gpg's agent, or --passphrase-file FILE"
            raise Refused(f"gpg did not decrypt it: {_reason(result)}{hint if _passphrase_missing(result) else ''}")
        if self.sign is not None and not (result.valid and self.sign.fingerprint in (result.fingerprint, result.pubkey_fingerprint)):
            raise Refused(f"it is not signed by {self.sign.name} ({self.sign.fingerprint}): {_signature(result)}")


class _Source:
    """What gpg reads from: the chunks, cut to the size it asks for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")
        self._stopped = False
        self.failed: BaseException | None = None

    def stop(self) -> None:
        self._stopped = True

    def read(self, size: int) -> bytes:
        if self._stopped:
            return b""
        try:
            while not self._left:
                self._left = memoryview(next(self._chunks, b""))
                if not self._left:
                    return b""
        except BaseException as error:
            self.failed = error
            raise
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data


def _of_no_use(what: str, keys: list[dict[str, Any]], needed: str) -> None:
    """Raises Refused when there are such keys and none can be used: what gpg knows of them. `needed`: what they are to do."""
    for key in keys:
        if key["trust"] in _WORDS:
            state = _WORDS[key["trust"]]
            raise Refused(f"{what}: the key {key['fingerprint']} is {state}; import a newer one (gpg --import), or name another")
    if keys and needed:
        raise Refused(f"{what}: the key {keys[0]['fingerprint']} cannot {needed} now; name another")


def _exactly(name: str) -> str:
    """For gpg an address is part of a name; for us it is the whole address."""
    return f"<{name}>" if "@" in name and "<" not in name else name


def _private(path: Path) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise Refused(f"--passphrase-file {path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (os.getuid(), 0):
        raise Refused(f"--passphrase-file {path}: others could read it; chmod 600 {path}")


def _reason(result: Any) -> str:
    """gpg's own last words, without its status lines."""
    said = [line.removeprefix("gpg: ").strip() for line in (result.stderr or "").split("\n") if line and not line.startswith("[GNUPG:]")]
    return (said[-1] if said else result.status or "it does not say why")[:300]


def _passphrase_missing(result: Any) -> bool:
    """The agent could ask nobody (no terminal, no pinentry), nobody answered, or what was given opens no key."""
    return any(said in (result.stderr or "") for said in ("ioctl for device", "inentry", "passphrase", "Operation cancelled", "Timeout"))


def _signature(result: Any) -> str:
    if result.fingerprint:
        return f"the signature is of {result.fingerprint}{', and ' + result.status if 'signature' in (result.status or '') else ''}"
    return result.status if "signature" in (result.status or "") else "there is no signature"
