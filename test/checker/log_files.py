# SPDX-License-Identifier: PostgreSQL
"""What lies in a partition's files on the broker's disk, also those of a topic that was deleted.

Kafka renames the directories of a deleted topic (`-delete` at the end) and takes nothing more into them; it
removes them after log.segment.delete.delay.ms. So what a deletion destroyed can be read after it, to the last record.
"""

import ctypes
import re
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

# Base offset, length, leader epoch, magic, crc, attributes, last delta, two time stamps, producer id, epoch,
# sequence, count.
_BATCH = struct.Struct(">qiibIhiqqqhii")
_AFTER_LENGTH = 12  # the bytes that length does not count
_CONTROL, _TRANSACTIONAL = 0x20, 0x10
_LZ4F_VERSION = 100

COMMITTED, ABORTED, PENDING = "committed", "aborted", "pending"


class Producer(NamedTuple):
    """Who sent a record. A producer that starts anew with the same transactional.id has a higher epoch."""

    id: int
    epoch: int


@dataclass
class Stored:
    """A record and its fate: COMMITTED (also one of no transaction), ABORTED, or PENDING: no marker follows it."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: list
    producer: Producer
    fate: str


class LogDirectory(NamedTuple):
    """One of the broker's directories: a partition of the topic with that id."""

    path: object
    topic: str
    partition: int
    topic_id: str
    deleted: bool


def list_directories(root, topic):
    """The partitions of all topics called so that are below the broker's log.dirs, deleted ones too."""
    pattern = re.compile(re.escape(topic) + r"-(\d+)(\.[0-9a-f]+-delete)?")
    found = []
    for path in root.iterdir():
        match = pattern.fullmatch(path.name)
        try:
            about = (path / "partition.metadata").read_text() if match else ""
        except FileNotFoundError:
            continue  # being made, renamed or removed at this moment
        if match and (named := re.search(r"topic_id: (\S+)", about)):
            found.append(LogDirectory(path, topic, int(match[1]), named[1], bool(match[2])))
    return found


def read_partition(directory, partition):
    """All records of the partition whose files are in the directory, by offset. Returns a list of Stored."""
    records, undecided = [], {}  # producer id: records of its transaction without a marker
    for path in sorted(directory.glob("*.log")):
        for header, body in _batches(path.read_bytes()):
            producer = Producer(header[9], header[10])
            if header[5] & _CONTROL:
                fate = COMMITTED if _marker_type(body) == 1 else ABORTED
                for record in undecided.pop(producer.id, ()):
                    record.fate = fate
                continue
            found = list(_records(header, body, partition, producer))
            records += found
            if header[5] & _TRANSACTIONAL:
                undecided.setdefault(producer.id, []).extend(found)
            else:
                for record in found:
                    record.fate = COMMITTED
    return records


def _batches(data):
    """(header, uncompressed records) of each batch; what the broker has not written to its end is none."""
    at = 0
    while at + _BATCH.size <= len(data):
        header = _BATCH.unpack_from(data, at)
        end = at + _AFTER_LENGTH + header[1]
        if end > len(data):
            return
        if header[3] != 2:
            raise ValueError(f"record batches of magic {header[3]} are not read")
        yield header, _uncompressed(data[at + _BATCH.size:end], header[5] & 7)
        at = end


def _records(header, body, partition, producer):
    at = 0
    for _ in range(header[12]):
        length, at = _varint(body, at)
        end = at + length
        _, after = _varint(body, at + 1)  # time stamp, after the attributes
        delta, after = _varint(body, after)
        key, after = _sized(body, after)
        value, after = _sized(body, after)
        count, after = _varint(body, after)
        headers = []
        for _ in range(count):
            name, after = _sized(body, after)
            content, after = _sized(body, after)
            headers.append((name.decode(), content))
        yield Stored(partition, header[0] + delta, key, value, headers, producer, PENDING)
        at = end


def _marker_type(body):
    """0 abort, 1 commit."""
    _, at = _varint(body, 0)
    _, at = _varint(body, at + 1)
    _, at = _varint(body, at)
    key, _ = _sized(body, at)
    return struct.unpack(">hh", key)[1]


def _varint(data, at):
    """A zigzag varint and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _sized(data, at):
    """Bytes behind their length, or None; and where they end."""
    length, at = _varint(data, at)
    return (None, at) if length < 0 else (data[at:at + length], at + length)


def _uncompressed(data, codec):
    if codec == 0:
        return data
    if codec == 1:
        return zlib.decompress(data, wbits=31)
    if codec == 3:
        return _lz4(data)
    raise ValueError(f"compression codec {codec} is not read")


def _lz4(data):
    """The content of an LZ4 frame, by the library librdkafka itself needs."""
    library = ctypes.CDLL("liblz4.so.1")
    library.LZ4F_decompress.restype = ctypes.c_size_t
    library.LZ4F_isError.argtypes = [ctypes.c_size_t]
    context = ctypes.c_void_p()
    if library.LZ4F_isError(library.LZ4F_createDecompressionContext(ctypes.byref(context), _LZ4F_VERSION)):
        raise MemoryError("LZ4")
    room = ctypes.create_string_buffer(1 << 18)
    content, at, left = [], 0, 1
    try:
        while left and at < len(data):
            written, read = ctypes.c_size_t(len(room)), ctypes.c_size_t(len(data) - at)
            left = library.LZ4F_decompress(context, room, ctypes.byref(written), data[at:], ctypes.byref(read), None)
            if library.LZ4F_isError(left):
                raise ValueError("not an LZ4 frame")
            content.append(room.raw[:written.value])
            at += read.value
    finally:
        library.LZ4F_freeDecompressionContext(context)
    return b"".join(content)
