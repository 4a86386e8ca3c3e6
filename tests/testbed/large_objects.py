"""Objects of any size for moto's S3: parts and objects are kept in files, and no more than a part of them is ever in memory.

moto by itself puts a multipart upload together in memory (4.7 GB for 2 GB), and reads the whole object for each range of it that is
asked for. A part of nothing but zeros takes no room at all, so that a sparse file of 5 GB costs the disk nothing.
"""

import hashlib
import os
import tempfile
import threading

from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML

CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)


class Kept:
    """Bytes in files, as moto handles bytes: they have a length and can be sliced, sent (chunk by chunk) and read like a file."""

    def __init__(self, pieces):
        """`pieces`: (file, begin, end) each; without a file they are zeros."""
        self.pieces = pieces
        self._size = sum(end - begin for _, begin, end in pieces)
        self._at = 0

    def __len__(self):
        return self._size

    def __getitem__(self, wanted):
        start, stop, _ = wanted.indices(self._size)
        found = []
        at = 0
        for file, begin, end in self.pieces:
            first, last = max(start - at, 0), min(stop - at, end - begin)
            if first < last:
                found.append((file, begin + first, begin + last))
            at += end - begin
        return Kept(found)

    def __iter__(self):
        for file, begin, end in self.pieces:
            for at in range(begin, end, CHUNK):
                length = min(CHUNK, end - at)
                yield os.pread(file.fileno(), length, at) if file is not None else _ZEROS[:length]

    def __bytes__(self):
        return b"".join(self)

    def seek(self, at):
        self._at = at

    def read(self, size):
        data = bytes(self[self._at : self._at + size])
        self._at += len(data)
        return data

    def close(self):
        self.pieces = []  # who is still sending it has pieces of his own; a file is closed with the last of them


class Heap:
    """One file that parts are appended to."""

    def __init__(self):
        self._file = None
        self._end = 0
        self._lock = threading.Lock()

    def keep(self, data):
        if all(data[at : at + CHUNK] == _ZEROS[: len(data) - at] for at in range(0, len(data), CHUNK)):
            return Kept([(None, 0, len(data))])
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile()
            begin, self._end = self._end, self._end + len(data)
        view, at = memoryview(data), begin
        while view:
            done = os.pwrite(self._file.fileno(), view, at)
            view, at = view[done:], at + done
        return Kept([(self._file, begin, begin + len(data))])


def install():
    """From now on moto keeps what is larger than CHUNK in files."""
    plain = models.FakeKey.value
    set_part = models.FakeMultipart.set_part
    lock = threading.Lock()

    def get(key):
        return key._value_buffer[:] if isinstance(key._value_buffer, Kept) else plain.fget(key)

    def put(key, value):
        if isinstance(value, bytes) and len(value) > CHUNK:
            value = Heap().keep(value)
        if isinstance(value, Kept):
            key._value_buffer = value
            key.contentsize = len(value)
        else:
            plain.fset(key, value)

    def keep_part(upload, number, value):
        with lock:
            heap = upload.__dict__.setdefault("heap", Heap())
        return set_part(upload, number, heap.keep(value) if isinstance(value, bytes) and len(value) > CHUNK else value)

    def complete(upload, body):
        """What moto's own method returns, put together from pieces."""
        parts = []
        for number, tag in body:
            part = upload.parts.get(number)
            if part is None or part.etag != f'"{tag.strip(chr(34))}"':
                raise InvalidPart
            if parts and parts[-1].contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
                raise EntityTooSmall
            parts.append(part)
        if not parts:
            raise MalformedXML
        builder = models.MultipartChecksumBuilder(
            upload.metadata.get("x-amz-checksum-algorithm"), upload.metadata.get("x-amz-checksum-type")
        )
        composite = builder.checksum_type == "COMPOSITE"  # one of the whole object nobody here asks for
        pieces = []
        tags = b""
        for part in parts:
            value = part.value
            if composite:
                builder.addPart(bytes(value))
            pieces += value.pieces if isinstance(value, Kept) else Heap().keep(value).pieces
            tags += bytes.fromhex(part.etag.strip('"'))
        return Kept(pieces), f"{hashlib.md5(tags).hexdigest()}-{len(parts)}", builder.build() if composite else None

    models.FakeKey.value = property(get, put)
    models.FakeMultipart.set_part = keep_part
    models.FakeMultipart.complete = complete
