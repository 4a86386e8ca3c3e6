"""The places that stores keep files in, seen without the code under test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskrun.staging.locations import Location

#: Names that are harmless only where nothing looks at them twice.
ODD = (
    "two words.txt", " lead and trail ", "-rf", "--help", "ünïcødé 漢字", "new\nline", "tab\there", "quote'\"`$(id)", "back\\slash",
    "a:b", "#hash", "star*?[x]", "per%20cent", "semi;colon&", "~home", "␊ picture", "empty",
)  # fmt: skip


class Place:
    """A folder of this machine that some store serves."""

    def __init__(self, location: Location, folder: Path) -> None:
        self.location = location
        self.folder = folder

    def __str__(self) -> str:
        return str(self.location)

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def names(self) -> set[str]:
        """All files, hidden ones and unfinished ones too."""
        found = set()
        for base, _, files in os.walk(self.folder):
            found.update(str((Path(base) / file).relative_to(self.folder)) for file in files)
        return found

    def forbid(self) -> None:
        """Nobody may write there, were it not that root may."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o500)


class S3Place(Place):
    """A prefix of a bucket."""

    def __init__(self, location: Location, client: Any, bucket: str, prefix: str) -> None:
        super().__init__(location, Path("/nowhere"))
        self.client = client
        self.bucket = bucket
        self.prefix = prefix

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)

    def read(self, name: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()
        return data

    def names(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return {found["Key"].removeprefix(self.prefix) for page in pages for found in page.get("Contents", ())}


@dataclass
class Places:
    by_kind: dict[str, Place]
