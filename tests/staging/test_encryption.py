"""Encryption with the real gpg, throw-away keys in a home of a short name, through the mover as a run uses it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from keyring import GONE, LAB, LOCKED, PIPE, STRANGER, Keys
from staging.conftest import Moving
from staging.places import Place, Places

from taskrun.encryption import rules
from taskrun.encryption.gpg import Gpg
from taskrun.encryption.rules import Wish
from taskrun.errors import Refused
from taskrun.staging.locations import parse
from taskrun.staging.transfers import Renamed, Rule


@pytest.fixture
def gpg(keys: Keys) -> Gpg:
    return Gpg(home=keys.home)


def encrypting(gpg: Gpg, wish: Wish) -> Rule:
    change = gpg.encryption(wish)
    return lambda name: Renamed(rules.encrypted_name(name), change)


def decrypting(gpg: Gpg, wish: Wish | None = None) -> Rule:
    change = gpg.decryption(wish)
    return lambda name: Renamed(rules.clear_name(name), change) if rules.is_encrypted(name) else None


def test_signed_there_and_verified_back(move: Moving, place: Place, folder: Path, gpg: Gpg, keys: Keys) -> None:
    wish = Wish((LAB, PIPE), PIPE)
    gpg.preflight(wish)
    data = os.urandom(3 << 20)
    (folder / "out").mkdir()
    (folder / "out" / "a b.vcf").write_bytes(data)
    (folder / "out" / "empty.vcf").write_bytes(b"")
    there = move("out/*", place.location, rule=encrypting(gpg, wish))
    assert not there.failures
    assert place.names() == {"a b.vcf.gpg", "empty.vcf.gpg"}
    assert data[:64] not in place.read("a b.vcf.gpg")
    both = (keys.fingerprints[LAB], keys.fingerprints[PIPE])
    assert {(one.recipients, one.signer) for one in there.deliveries} == {(both, keys.fingerprints[PIPE])}
    sealed = place.read("a b.vcf.gpg")
    again = move("out/*", place.location, rule=encrypting(gpg, wish))
    assert [one.how for one in again.deliveries] == ["known", "known"]
    assert place.read("a b.vcf.gpg") == sealed
    back = move(f"{place.location}*", "in/", rule=decrypting(gpg, wish))
    assert not back.failures
    assert {path.name for path in (folder / "in").iterdir()} == {"a b.vcf", "empty.vcf"}
    assert (folder / "in" / "a b.vcf").read_bytes() == data
    assert [one.how for one in move(f"{place.location}*", "in/", rule=decrypting(gpg, wish)).deliveries] == ["known", "known"]


def test_what_is_decrypted_is_for_its_owner_alone(move: Moving, places: Places, folder: Path, gpg: Gpg) -> None:
    """Here and on hosts; what leaves encrypted is as readable as any other file."""
    (folder / "x").write_bytes(b"secret")
    for kind in ("local", "sftp"):
        place = places.by_kind[kind]
        assert not move("x", f"{place.location}sealed/", rule=encrypting(gpg, Wish((LAB,), None))).failures
        assert not move(f"{place.location}sealed/x.gpg", f"{place.location}clear/", rule=decrypting(gpg)).failures
        assert (place.folder / "sealed" / "x.gpg").stat().st_mode & 0o777 == 0o644
        assert place.read("clear/x") == b"secret"
        assert (place.folder / "clear" / "x").stat().st_mode & 0o777 == 0o600


def test_only_the_right_signature_opens_a_file(move: Moving, folder: Path, gpg: Gpg) -> None:
    (folder / "x").write_bytes(b"data")
    for name, wish in (("pipe", Wish((LAB,), PIPE)), ("lab", Wish((LAB,), LAB)), ("none", Wish((LAB,), None))):
        assert move("x", f"sent/{name}/x.gpg", rule=encrypting(gpg, wish)).deliveries[0].dest == f"sent/{name}/x.gpg"
    asked = decrypting(gpg, Wish((LAB,), PIPE))
    assert not move("sent/pipe/x.gpg", "in/pipe", rule=asked).failures
    for name in ("lab", "none"):
        failure = move(f"sent/{name}/x.gpg", f"in/{name}", rule=asked).failures[0]
        assert (failure.cause, failure.tries) == ("permanent", 1)
        assert f"not signed by {PIPE}" in failure.why
        assert not (folder / "in" / name).exists()
        assert not move(f"sent/{name}/x.gpg", f"in/{name}", rule=decrypting(gpg)).failures


def test_what_is_damaged_never_appears(move: Moving, folder: Path, gpg: Gpg) -> None:
    (folder / "x").write_bytes(os.urandom(1 << 20))
    move("x", "x.gpg", rule=encrypting(gpg, Wish((LAB,), PIPE)))
    good = (folder / "x.gpg").read_bytes()
    for number, bad in enumerate((good[: len(good) // 2], good[:-1], good[:5000] + b"#" + good[5001:], b"", b"no gpg at all")):
        (folder / f"bad{number}.gpg").write_bytes(bad)
        failure = move(f"bad{number}.gpg", "in/", rule=decrypting(gpg)).failures[0]
        assert failure.cause == "permanent"
        assert number < 3 or "nothing that gpg has encrypted" in failure.why
    assert list((folder / "in").iterdir()) == []


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(("nobody@example.org",), None), "no such key"),
        (Wish(("ab@example.org",), None), "no such key"),  # a part of lab@example.org, which is somebody else
        (Wish((STRANGER,), None), "not trusted"),
        (Wish((LAB,), "nobody@example.org"), "no secret key"),
        (Wish(("example.org",), None), "several keys"),
        (Wish((GONE,), None), "is expired"),
        (Wish((LAB,), GONE), "is expired"),
    ],
)
def test_keys_are_refused_before_anything_runs(gpg: Gpg, wish: Wish, said: str) -> None:
    with pytest.raises(Refused, match=said):
        gpg.preflight(wish)


def test_the_passphrase_comes_from_a_private_file(keys: Keys, move: Moving, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = keys.home / "pass"
    gpg = Gpg(home=keys.home, passphrase_file=file)
    gpg.preflight(Wish((LOCKED,), LOCKED))
    (folder / "x").write_bytes(b"data")
    assert not move("x", "x.gpg", rule=encrypting(gpg, Wish((LOCKED,), LOCKED))).failures
    keys.end_agent()  # it has seen it
    wrong = keys.home / "wrong"
    wrong.write_text("battery staple")
    wrong.chmod(0o600)
    with pytest.raises(Refused, match=r"did not encrypt.* passphrase of .* or --passphrase-file"):
        Gpg(home=keys.home, passphrase_file=wrong).preflight(Wish((LAB,), LOCKED))
    file.chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        Gpg(home=keys.home, passphrase_file=file)
    file.chmod(0o600)


def test_a_failed_encryption_ships_nothing(move: Moving, place: Place, folder: Path, gpg: Gpg, keys: Keys) -> None:
    rule = encrypting(gpg, Wish((LAB,), PIPE))
    (folder / "x").write_bytes(b"data" * 1000)
    (keys.home / "private-keys-v1.d").rename(keys.home / "away")
    try:
        keys.end_agent()
        failure = move("x", place.location, rule=rule).failures[0]
        assert (failure.cause, failure.tries) == ("permanent", 1)
        assert "did not encrypt" in failure.why
    finally:
        (keys.home / "away").rename(keys.home / "private-keys-v1.d")
    assert place.names() == set()


def test_a_gpg_that_is_killed_is_begun_again(move: Moving, folder: Path, gpg: Gpg, keys: Keys, tmp_path: Path, monkeypatch: Any) -> None:
    """It was called a mistake in taskrun, and never tried again."""
    rule = encrypting(gpg, Wish((LAB,), PIPE))
    program = tmp_path / "bin/gpg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncase \"$*\" in *--encrypt*) [ -e {tmp_path}/once ] || {{ : > {tmp_path}/once; kill -9 $$; }};; esac\n"
                       f'exec {shutil.which("gpg")} "$@"\n')  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (folder / "x").write_bytes(os.urandom(1 << 22))
    end = move("x", "sent/", rule=rule)
    assert (end.failures, end.deliveries[0].tries) == ((), 2)


def test_no_gpg_is_said(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="gpg"):
        Gpg(home=keys.home)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("a@b", Wish(("a@b",), None)),
        ("a@b,c@d SIGN e@f", Wish(("a@b", "c@d"), "e@f")),
        (" a@b , c@d  sign 0xABCD ", Wish(("a@b", "c@d"), "0xABCD")),
        ("OFF", None),
        ("a,a", Wish(("a",), None)),
    ],
)
def test_the_directive_is_read(text: str, wish: Wish | None) -> None:
    assert rules.parse(text) == wish


@pytest.mark.parametrize("text", ["", "SIGN", "a@b SIGN", "a@b c@d", "--armor", ",", "SIGN key"])
def test_a_wrong_directive_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        rules.parse(text)


def test_names(gpg: Any) -> None:
    assert rules.clear_name("a/b.fa.gpg") == "a/b.fa"
    assert rules.clear_name("a/b.GPG") == "a/b"
    assert not rules.is_encrypted("a/.gpg")
    assert parse("x.gpg").pattern.plain == "x.gpg"
