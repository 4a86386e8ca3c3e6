"""What can be known wrong of STAGE and ENCRYPT lines before anything runs: locations, programs, variables, keys, trust, passphrases."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from taskrun.driver.places import Places, new_places
from taskrun.driver.staging import NAMES
from taskrun.encryption.gpg import Gpg
from taskrun.encryption.rules import Wish
from taskrun.errors import Refused
from taskrun.language.diagnostics import Diagnostic, in_order
from taskrun.language.items import Encrypt, Stage
from taskrun.language.source import Scan
from taskrun.model import Encryption, Staging
from taskrun.planning.expand import Expander

_DEST = "DEST of STAGE-IN is a folder or file of the working directory, or another path: data is staged in for tasks to read"
_SOURCE = "STAGE-OUT takes files of the working directory, or of another path: tasks write there"
_KNOWN = frozenset(f"{prefix}_{name}" for name in NAMES for prefix in ("TASKRUN", "DISBATCH")) | {"TASKRUN_FILE"}
_secret = re.compile(rb"(://[^/@:\s]*:)([^/@\s]*)@").sub
_variable = re.compile(r"\$(?:\{(\w+)\}|(\w+))").finditer


def inspect(scan: Scan, rclone_config: str = "", passphrase_file: str = "", *, dry: bool = False) -> Scan:
    """A scanned task file with what is wrong with its data. gpg is asked to encrypt a few bytes, unless it is `dry`."""
    if not scan.stages:
        return scan
    places = new_places(Path.cwd(), "check", 1, rclone_config, lambda _: None)
    gpg = functools.cache(lambda: Gpg(passphrase_file=Path(passphrase_file) if passphrase_file else None))
    problems: list[Diagnostic] = []
    expander = Expander()
    used: dict[Encrypt, set[str]] = {}  # which way files go under it
    ruling: Encrypt | None = None
    for item in scan.stages:
        found = [each for each in expander.expand(item) if isinstance(each, Staging)]
        if isinstance(item, Encrypt):
            ruling = item if item.recipients else None
            used.setdefault(item, set())
        elif item.source:
            problems += _wrong_ends(item, (found or expander.staging)[-1], places, dry)
            if ruling is not None:
                used[ruling].add(item.way)
    places.stores.close()
    for encrypt, ways in used.items() if not dry else ():
        problems += _wrong_keys(encrypt, ways, gpg)
    diagnostics = in_order(scan.diagnostics, problems)
    return scan._replace(diagnostics=diagnostics, errors=scan.errors + len(problems))


def preflight(staging: Staging, places: Places, gpg: Callable[[], Gpg]) -> None:
    """The same for one line of a stream. Raises Refused."""
    for text, problem in _ends(staging, places):
        raise Refused(f"line {staging.line}: {text}: {problem}")
    if staging.encryption is not None:
        try:
            _try(staging.encryption, {staging.way}, gpg)
        except Refused as error:
            raise Refused(f"line {staging.line}: {error}") from None


def _try(encryption: Encryption, ways: set[str], gpg: Callable[[], Gpg]) -> None:
    """What only comes in is not signed here: its signer's public key is enough."""
    if ways != {"in"}:
        gpg().preflight(Wish(encryption.recipients, encryption.sign or None))
    elif encryption.sign:
        gpg().signer_key(encryption.sign)


def _ends(staging: Staging, places: Places, dry: bool = False) -> Iterator[tuple[str, str]]:
    """(source or dest as it is in the staging, what is wrong with it)."""
    for text, own in ((staging.source, staging.way == "out"), (staging.dest, staging.way == "in")):
        try:
            if staging.scope == "TASK":
                unknown = next((name for name in _variables(text) if name not in _KNOWN), None)
                if unknown is not None:
                    known = ", ".join(sorted(name for name in _KNOWN if name.startswith("TASKRUN")))
                    raise Refused(f"{unknown} is not known before a task has a slot; known are {known}")
            place = places.of(text)
            if own and place.kind != "local":
                raise Refused(_SOURCE if staging.way == "out" else _DEST)
            if place.kind == "https" and staging.way == "out":
                raise Refused("https:// is for STAGE-IN: nothing is delivered there")
            if "$" not in place.where and not dry:
                places.stores.of(place)
        except Refused as error:
            yield text, str(error)


def _variables(text: str) -> Iterator[str]:
    return (name for found in _variable(text) if (name := found[1] or found[2]).startswith(("TASKRUN_", "DISBATCH_")))


def _wrong_ends(item: Stage, staging: Staging, places: Places, dry: bool) -> Iterator[Diagnostic]:
    source = item.text.find(item.source, item.text.upper().find(b"STAGE-") + len("STAGE-IN"))
    for text, problem in _ends(staging, places, dry):
        column, word = source, item.source
        if text == staging.dest and text != staging.source:
            column, word = item.text.find(item.dest, source + len(item.source)), item.dest
        message, _, hint = problem.partition("; ")
        yield Diagnostic.at("error", item.line, column + 1, len(word), message, hint or None, _secret(_starred, item.text))


def _starred(found: re.Match[bytes]) -> bytes:
    return found[1] + b"*" * len(found[2]) + b"@"


def _wrong_keys(item: Encrypt, ways: set[str], gpg: Callable[[], Gpg]) -> Iterator[Diagnostic]:
    if not item.recipients:
        return
    try:
        _try(Encryption(item.recipients, item.sign), ways, gpg)
    except Refused as error:
        message, _, hint = str(error).partition("; ")
        names = [item.sign] if item.sign and "SIGN" in message else [name for name in item.recipients if name in message]
        word = os.fsencode((names or item.recipients)[0])
        start = item.text.upper().find(b"ENCRYPT") + len("ENCRYPT")
        column = item.text.rfind(word) if names and names[0] == item.sign and "SIGN" in message else item.text.find(word, start)
        yield Diagnostic.at("error", item.line, max(column, 0) + 1, len(word), message, hint or None, item.text)
