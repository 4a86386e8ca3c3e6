"""What ENCRYPT asks for: which file is encrypted for whom, what it is called then. Pure."""

from __future__ import annotations

from typing import NamedTuple

from taskrun.errors import Refused

SUFFIX = ".gpg"
_USAGE = "ENCRYPT RECIPIENT[,RECIPIENT] [SIGN KEY], or ENCRYPT OFF"


class Wish(NamedTuple):
    """What ENCRYPT says: names of keys as a person writes them (address, fingerprint, id)."""

    recipients: tuple[str, ...]
    signer: str | None


def parse(text: str) -> Wish | None:
    """The wish that the directive's text is; None for OFF. Raises Refused: one sentence for the directive."""
    words = text.split()
    if len(words) == 1 and words[0].upper() == "OFF":
        return None
    signer = None
    if len(words) >= 2 and words[-2].upper() == "SIGN":
        signer = words[-1]
        words = words[:-2]
    elif words and words[-1].upper() == "SIGN":
        raise Refused(f"ENCRYPT: SIGN names no key; write {_USAGE}")
    names = tuple(name.strip() for name in "".join(f"{word} " for word in words).split(",") if name.strip())
    if not names:
        raise Refused(f"ENCRYPT: for whom is missing; write {_USAGE}")
    for name in (*names, *([signer] if signer else [])):
        if name.startswith("-") or " " in name:
            raise Refused(f"ENCRYPT: {name!r} cannot be a key; recipients are separated by commas: {_USAGE}")
    return Wish(tuple(dict.fromkeys(names)), signer)


def is_encrypted(name: str) -> bool:
    """Whether a file is one that is decrypted when it is staged in."""
    return name.lower().endswith(SUFFIX) and len(name.rpartition("/")[2]) > len(SUFFIX)


def encrypted_name(name: str) -> str:
    """What a file is called once it is encrypted."""
    return name + SUFFIX


def clear_name(name: str) -> str:
    """What an encrypted file is called once it is decrypted."""
    return name[: -len(SUFFIX)] if is_encrypted(name) else name
