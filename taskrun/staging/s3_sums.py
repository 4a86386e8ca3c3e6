"""What S3 says of content: checksums of objects and parts, and ETags as far as they mean something. Pure, but for a file that is read."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from typing import Any


def digest_of(found: dict[str, Any], algorithm: str) -> str | None:
    """A checksum of the whole object, from what HEAD says of it."""
    if algorithm == "sha256":
        given = found.get("Metadata", {}).get("sha256", "")
        if re.fullmatch("[0-9a-f]{64}", given):
            return str(given)
        whole = found.get("ChecksumSHA256", "")
        return base64.b64decode(whole).hex() if whole and "-" not in whole and found.get("ChecksumType") == "FULL_OBJECT" else None
    tag = md5s(found)
    return tag if algorithm == "md5" and tag and "-" not in tag else None


def md5s(found: dict[str, Any]) -> str:
    """The ETag if it is made of md5s: of the object, or with a dash and their number of its parts; '' where it means nothing to us."""
    plain = found.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in found
    tag = str(found["ETag"].strip('"'))
    return tag if plain and re.fullmatch("[0-9a-f]{32}(-[0-9]+)?", tag) else ""


def sha256_base64(data: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")


def verified_by(answer: dict[str, Any], sha256: str, md5: Callable[[], str]) -> str:
    """Return by what an answer proves that this has arrived, '' if something else has.

    Its sha256 (in base64), of older servers the md5 that the ETag is (hex, '' if nobody knows it), or where it says neither the size.
    """
    if "ChecksumSHA256" in answer:
        return "sha256" if answer["ChecksumSHA256"] == sha256 else ""
    tag = answer.get("ETag", "").strip('"')
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256"
    if not plain or not re.fullmatch("[0-9a-f]{32}", tag) or not (made := md5()):
        return "size"
    return "md5" if tag == made else ""


def as_part(answer: dict[str, Any]) -> dict[str, Any]:
    """What completes an upload, of an answer about one part."""
    return {key: answer[key] for key in ("ETag", "ChecksumSHA256") if key in answer}


def fits(fd: int, size: int, length: int, part: dict[str, Any]) -> bool:
    """Whether a part that is there is what the file has in its place. `length`: of a part of it."""
    offset = (part["PartNumber"] - 1) * length
    if offset >= size or part["Size"] != min(length, size - offset):
        return False
    data = os.pread(fd, length, offset)
    if "ChecksumSHA256" in part:
        return bool(part["ChecksumSHA256"] == sha256_base64(data))
    return bool(part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())
