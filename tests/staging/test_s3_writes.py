"""Writes to S3 that depend on what was seen in their place, few requests, large objects in ranges."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cloud import Cloud
from staging.conftest import Moving, Places

from taskrun.staging.locations import Target
from taskrun.staging.s3 import S3Store
from taskrun.staging.store import Raced


def put(store: S3Store, path: Path, name: str, over: object) -> object:
    return store.put(path, Target("", name), hashlib.sha256(path.read_bytes()).hexdigest(), lambda _: None, over=over)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, 100])
def test_an_object_that_somebody_else_has_written_is_not_replaced(places: Places, buckets: Cloud, tmp_path: Path, size: int) -> None:
    """In one request, and in parts."""
    store, path = S3Store("one", part=5 << 20), tmp_path / "x"
    if size > 10:
        size = 6 << 20
    path.write_bytes(os.urandom(size))
    seen = store.stat("x")
    assert seen is None
    s3 = buckets.client()
    s3.put_object(Bucket="one", Key="x", Body=b"theirs")
    with pytest.raises(Raced):
        put(store, path, "x", "nothing")
    assert s3.get_object(Bucket="one", Key="x")["Body"].read() == b"theirs"
    seen = store.stat("x")
    assert seen is not None
    put(store, path, "x", seen)
    assert s3.get_object(Bucket="one", Key="x")["Body"].read() == path.read_bytes()
    store.close()


def test_small_files_take_one_request(places: Places, buckets: Cloud, moving: Callable[..., Moving], folder: Path) -> None:
    """But for the first ones, one of which is written twice to see whether the server refuses that."""
    for number in range(20):
        (folder / f"{number:02d}").write_text(f"{number}")
    asked: list[str] = []
    move = moving(transfers=1)
    client = move.mover._stores.s3.get()
    client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.method))
    assert not move("./", "s3://one/out/").failures
    assert asked.count("PUT") == 21
    assert asked.count("HEAD") <= 4  # two objects, and whether their bucket is there
    asked.clear()
    assert not move("s3://one/out/", "in/").failures
    assert asked.count("GET") == 21  # one is the list
    assert asked.count("HEAD") == 0


def test_what_is_there_is_seen_although_nobody_looked(places: Places, buckets: Cloud, moving: Callable[..., Moving], folder: Path) -> None:
    s3 = buckets.client()
    s3.put_object(Bucket="one", Key="out/05", Body=b"theirs")
    for number in range(10):
        (folder / f"{number:02d}").write_text(f"{number}")
    end = moving(transfers=1)("./", "s3://one/out/")
    assert {each.dest for each in end.deliveries if each.replaced} == {"s3://one/out/05"}
    kept = moving(transfers=1, replace=False)
    s3.put_object(Bucket="one", Key="new/05", Body=b"theirs")
    end = kept("./", "s3://one/new/")
    assert [each.dest for each in end.failures] == ["s3://one/new/05"]
    assert s3.get_object(Bucket="one", Key="new/05")["Body"].read() == b"theirs"


def test_a_large_object_in_ranges(places: Places, buckets: Cloud, moving: Callable[..., Moving], folder: Path) -> None:
    data = os.urandom(25 << 20)
    buckets.client().put_object(Bucket="one", Key="large", Body=data)
    asked: list[str] = []
    move = moving()
    move.mover._stores.s3.get().meta.events.register("before-send.s3", lambda request, **_: asked.append(str(request.headers.get("Range"))))
    (delivery,) = move("s3://one/large", "in/").deliveries
    assert (folder / "in/large").read_bytes() == data
    assert delivery.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(each.startswith(("b'bytes=", "bytes=")) for each in asked) == 4
