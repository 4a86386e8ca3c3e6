"""What holds for every store, with the real servers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from staging.conftest import Apart, Moving
from staging.places import ODD, Place, Places, S3Place

from taskrun.staging.locations import parse
from taskrun.staging.mover import Advanced, Begun, Found

#: Above what rclone sends in parts and fetches in several streams.
LARGE_MIB = int(os.environ.get("TASKRUN_TEST_MIB", "300"))


def content(name: str) -> bytes:
    return b"" if name == "empty" else f"content of {name}\n".encode() * 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def test_odd_names_there_and_back(move: Moving, place: Place, folder: Path) -> None:
    (folder / "out").mkdir()
    for name in ODD:
        (folder / "out" / name).write_bytes(content(name))
    (folder / "out" / "deep" / "er").mkdir(parents=True)
    (folder / "out" / "deep" / "er" / "x y").write_bytes(b"below")
    there = move("out/", place.location)
    assert not there.failures
    assert place.names() == {*ODD, "deep/er/x y"}
    assert {name: place.read(name) for name in ODD} == {name: content(name) for name in ODD}
    back = move(place.location, "in/")
    assert not back.failures
    assert {name: (folder / "in" / name).read_bytes() for name in ODD} == {name: content(name) for name in ODD}
    assert (folder / "in" / "deep" / "er" / "x y").read_bytes() == b"below"
    for deliveries, ours in ((there.deliveries, "source"), (back.deliveries, "dest")):
        for delivery in deliveries:
            data = (folder / getattr(delivery, ours)).read_bytes()
            assert (delivery.size, delivery.sha256, delivery.source_sha256) == (len(data), sha256(data), sha256(data))
            assert delivery.how == "moved"
            assert delivery.verified in ("sha256", "sha1", "md5")


def test_names_that_are_no_text(move: Moving, place: Place, folder: Path) -> None:
    """There and back where names are bytes; where they are text a sentence."""
    names = ["\udcff\udcfe", "n" * 255, "\x7f", "{a,b}", "%2e%2e"]
    (folder / "src").mkdir()
    for name in names:
        (folder / "src" / name).write_text("x")
    there = move("src/", place.location)
    back = move(place.location, "back/")
    assert [failure.why for failure in back.failures] == []
    if str(place.location).startswith(("s3:", "disk:", "cloud:")):
        assert [failure.why.partition(": ")[2][-52:] for failure in there.failures] == [
            "names that are UTF-8, and this one is not: rename it"
        ]
        names = names[1:]
    else:
        assert [failure.why for failure in there.failures] == []
    assert sorted(os.listdir(folder / "back")) == sorted(names)


def test_globs_take_what_matches_and_no_more(move: Moving, place: Place, folder: Path) -> None:
    for name in ("a/1.fa", "a/2.fa", "a/.3.fa", "a/4.txt", "b/1.fa", "b/c/5.fa", ".taskrun-x-y~"):
        place.write(name, b"x")
    base = str(place.location)
    assert {delivery.dest for delivery in move(f"{base}a/*.fa", "one").deliveries} == {"one/1.fa", "one/2.fa"}
    assert {delivery.dest for delivery in move(f"{base}*/[0-1].fa", "two").deliveries} == {"two/a/1.fa", "two/b/1.fa"}
    assert {delivery.dest for delivery in move(f"{base}**/5.fa", "three").deliveries} == {"three/b/c/5.fa"}
    assert {delivery.dest for delivery in move(f"{base}a/", "four/").deliveries} == {
        f"four/{name}" for name in ("1.fa", "2.fa", ".3.fa", "4.txt")
    }
    assert move(f"{base}a/4.txt", "named").deliveries[0].dest == "named"
    assert move(f"{base}a/4.txt", "into/").deliveries[0].dest == "into/4.txt"
    assert f"{base}a is a folder: write a / at its end" in move(f"{base}a", "folder").failures[0].why
    nothing = move(f"{base}a/*.bam", "five/")
    assert (nothing.deliveries, nothing.failures) == ((), ())
    assert {one.files for one in move.of(Found)} == {0, 1, 2, 4}


def test_what_is_there_is_skipped_by_its_content(moving: object, move: Moving, place: Place, folder: Path) -> None:
    (folder / "x").write_bytes(b"one")
    dest = str(place.location)
    assert move("x", dest).deliveries[0].how == "moved"
    assert moving().__call__("x", dest).deliveries[0].how == "identical"  # type: ignore[operator]
    os.utime(folder / "x", (1, 1))
    assert move("x", dest).deliveries[0].how in ("known", "identical")
    (folder / "x").write_bytes(b"two")  # of the same size
    again = move("x", dest)
    assert again.deliveries[0].how == "moved"
    assert place.read("x") == b"two"
    assert move(f"{dest}x", "y").deliveries[0].how == "moved"
    os.utime(folder / "y", (1, 1))
    assert move(f"{dest}x", "y").deliveries[0].how in ("known", "identical")
    place.write("x", b"333")
    assert move(f"{dest}x", "y").deliveries[0].how == "moved"
    assert (folder / "y").read_bytes() == b"333"
    assert place.names() == {"x"}


def test_missing_and_unusable_fail_at_once(move: Moving, place: Place, folder: Path) -> None:
    missing = move(f"{place.location}no-such-file", "x")
    assert [(failure.cause, failure.tries) for failure in missing.failures] == [("permanent", 1)]
    assert "no such file" in missing.failures[0].why
    assert not (folder / "x").exists()


@pytest.mark.parametrize("location", ["s3://no-such-bucket/x/*", "nowhere:x/*", "cloud:no-such-bucket/x/"])
def test_a_store_that_is_not_there_is_said_at_once(move: Moving, folder: Path, location: str, buckets: object) -> None:
    (folder / "x").write_bytes(b"x")
    staged = move(location, "in/")
    if location.startswith("cloud"):  # rclone lists no files in a bucket that is not there
        assert staged.deliveries == ()
    else:
        assert [(failure.cause, failure.tries) for failure in staged.failures] == [("permanent", 1)]
    if location.startswith("s3"):
        assert "no bucket" in staged.failures[0].why
        assert "no bucket" in move("x", "s3://no-such-bucket/x").failures[0].why


def test_nothing_lands_outside_of_the_destination(move: Moving, places: Places, folder: Path) -> None:
    place = places.by_kind["s3"]
    assert isinstance(place, S3Place)
    for name in ("../../up", "/absolute", "a/../../../up"):
        place.write(name, b"evil")
        staged = move(place.location, "in/")
        assert not staged.deliveries
        assert "no place under" in staged.failures[0].why
        place.client.delete_object(Bucket=place.bucket, Key=place.prefix + name)
    assert not (folder / "in").exists()


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_no_link_leads_out_of_the_destination(move: Moving, places: Places, folder: Path, kind: str, tmp_path: Path) -> None:
    place = places.by_kind[kind]
    outside = tmp_path / "outside"
    outside.mkdir()
    place.folder.mkdir()
    (place.folder / "sub").symlink_to(outside)
    (place.folder / "file").symlink_to(outside / "target")
    (folder / "out" / "sub").mkdir(parents=True)
    (folder / "out" / "sub" / "x").write_bytes(b"x")
    (folder / "out" / "file").write_bytes(b"new")
    staged = move("out/", place.location)
    assert [failure.why.rpartition(": ")[2] for failure in staged.failures if "link" in failure.why]
    assert list(outside.iterdir()) == []
    assert (place.folder / "file").read_bytes() == b"new"
    assert not (place.folder / "file").is_symlink()


def test_a_destination_that_is_a_folder_says_so(move: Moving, folder: Path) -> None:
    (folder / "x").write_bytes(b"x")
    (folder / "ref").mkdir()
    assert "ends in /" in move("x", "ref").failures[0].why
    assert move("x", "ref/").deliveries


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_links_that_lead_in_circles_end(move: Moving, places: Places, folder: Path, kind: str) -> None:
    place = places.by_kind[kind]
    place.write("a/x", b"x")
    (place.folder / "a" / "again").symlink_to(place.folder / "a")
    (place.folder / "linked").symlink_to(place.folder / "a")
    assert {one.dest for one in move(f"{place.location}**/x", "one/").deliveries} == {"one/a/x"}
    assert {one.dest for one in move(place.location, "two/").deliveries} == {"two/a/x"}
    assert {one.dest for one in move(f"{place.location}*/x", "three/").deliveries} == {"three/a/x", "three/linked/x"}
    (place.folder / "b").mkdir()
    (folder / "b").write_bytes(b"x")
    assert "ends in /" in move("b", f"{place.location}b").failures[0].why


def test_modes_follow_a_file_where_there_are_modes(move: Moving, places: Places, folder: Path) -> None:
    (folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "data").write_bytes(b"x")
    for kind in ("local", "sftp"):
        place = places.by_kind[kind]
        assert not move("*", place.location).failures
        assert os.access(place.folder / "run.sh", os.X_OK)
        assert (place.folder / "data").stat().st_mode & 0o777 == 0o644


def test_large_files_go_in_parts_and_tell_their_progress(move: Moving, place: Place, folder: Path) -> None:
    data = os.urandom(1 << 20) * 20
    (folder / "big").write_bytes(data)
    there = move("big", place.location)
    assert there.deliveries[0].sha256 == sha256(data)
    assert place.read("big") == data
    assert sum(event.more for event in move.of(Advanced)) == len(data)
    assert [event.size for event in move.of(Begun)] == [len(data)]
    assert move(f"{place.location}big", "back").deliveries[0].sha256 == sha256(data)
    assert (folder / "back").read_bytes() == data


LARGE = """
inbox = queue.Queue()
moving = mover.Mover(stores, inbox.put, spool)
number = 0
def move(source, dest):
    global number
    number += 1
    moving.stage(Request(number, parse(source), parse(dest)))
    while not isinstance(event := inbox.get(), mover.Staged):
        pass
    assert not event.failures, event.failures
    return event.deliveries[0].sha256
for name in ("small", "big"):
    print(move(name, {dest!r}), move({dest!r} + name, "back/"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
moving.close()
"""


@pytest.mark.long
@pytest.mark.timeout(180 if LARGE_MIB < 1000 else 900)  # 20 s alone; beside other tests three times that
def test_a_large_sparse_file_goes_there_and_back_in_flat_memory(apart: Apart, place: Place, folder: Path) -> None:
    """TASKRUN_TEST_MIB=5120 makes it 5 GB, which takes minutes."""
    made = {}
    for name, size in (("small", 64 << 20), ("big", LARGE_MIB << 20)):
        with (folder / name).open("wb") as file:
            for at in (0, size // 2 - 5, size - 7):
                file.seek(at)
                file.write(b"not all")
        made[name] = sha256_of(folder / name)
    done = apart(LARGE.format(dest=str(place.location)))
    assert done.returncode == 0, done.stderr
    (there, back, before), (big_there, big_back, after) = (line.split() for line in done.stdout.splitlines())
    assert {there, back} == {made["small"]}
    assert {big_there, big_back} == {made["big"]}
    assert sha256_of(folder / "back" / "big") == made["big"]
    assert int(after) < int(before) + 64, done.stdout
    for path in (folder / "back" / "big", place.folder / "big"):
        path.unlink(missing_ok=True)


def test_two_files_for_one_name_are_refused(move: Moving, folder: Path) -> None:
    from taskrun.staging.transfers import Renamed

    for name in ("x", "x.gpg"):
        (folder / name).write_bytes(b"x")
    staged = move("x*", "in/", rule=lambda name: Renamed(name.removesuffix(".gpg"), None) if name.endswith(".gpg") else None)  # type: ignore[arg-type]
    assert "would both become in/x" in staged.failures[0].why
    assert parse("in/").is_folder
