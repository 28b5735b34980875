# SPDX-License-Identifier: PostgreSQL
"""Answers to requests of a Kafka transaction that carry an error, as a broker would write them.

The forms are those of the versions that librdkafka 2.0.2 speaks, and of Produce those of the tests' own client; another
version is a ValueError.
"""

import struct

# Error codes by Kafka's names.
ERRORS = {
    "NOT_LEADER_OR_FOLLOWER": 6,
    "REQUEST_TIMED_OUT": 7,
    "COORDINATOR_LOAD_IN_PROGRESS": 14,
    "COORDINATOR_NOT_AVAILABLE": 15,
    "NOT_COORDINATOR": 16,
    "NOT_ENOUGH_REPLICAS": 19,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": 20,
    "OUT_OF_ORDER_SEQUENCE_NUMBER": 45,
    "INVALID_PRODUCER_EPOCH": 47,
    "INVALID_TXN_STATE": 48,
    "INVALID_PRODUCER_ID_MAPPING": 49,
    "CONCURRENT_TRANSACTIONS": 51,
    "KAFKA_STORAGE_ERROR": 56,
    "UNKNOWN_PRODUCER_ID": 59,
    "UNSTABLE_OFFSET_COMMIT": 88,
    "PRODUCER_FENCED": 90,
    "TRANSACTION_ABORTABLE": 120,
}


class _Reader:
    """Reads a request's fields one after another; flexible versions write lengths as varints and tags after each part."""

    def __init__(self, frame):
        self.frame = frame
        self.at = 0
        self.flexible = False

    def take(self, form):
        values = struct.unpack_from(">" + form, self.frame, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def size(self, form):
        """Length of a string or array; -1 stands for null."""
        return self.varint() - 1 if self.flexible else self.take(form)

    def string(self):
        size = self.size("h")
        self.at += max(size, 0)
        return self.frame[self.at - max(size, 0):self.at]

    def blob(self):
        self.at += max(self.size("i"), 0)

    def tags(self):
        if self.flexible:
            for _ in range(self.varint()):
                self.varint()
                self.at += self.varint()

    def array(self, read):
        return [read() for _ in range(max(self.size("i"), 0))]

    def topics(self, read_partition):
        """[(name, [partition number])]"""
        def read_topic():
            found = self.string(), self.array(read_partition)
            self.tags()
            return found
        return self.array(read_topic)


def _varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _topics(topics, flexible, partition):
    """topics with each partition in the form that partition(number) gives."""
    def size(form, count):
        return _varint(count + 1) if flexible else struct.pack(">" + form, count)
    tags = b"\0" if flexible else b""
    return size("i", len(topics)) + b"".join(
        size("h", len(name)) + name + size("i", len(numbers)) + b"".join(partition(n) + tags for n in numbers) + tags
        for name, numbers in topics)


def _produce(reader, version, error):
    reader.string()
    reader.take("hi")

    def partition():
        number = reader.take("i")
        reader.blob()
        reader.tags()
        return number
    extra = struct.pack(">q", -1) * (1 + (version >= 2) + (version >= 5))
    if version >= 8:  # no errors of single records, no message
        extra += b"\1\0" if reader.flexible else struct.pack(">ih", 0, -1)
    topics = _topics(reader.topics(partition), reader.flexible, lambda n: struct.pack(">ih", n, error) + extra)
    return topics + struct.pack(">i", 0) + (b"\0" if reader.flexible else b"")


def _offset_fetch(reader, version, error):
    reader.string()

    def topic():
        found = reader.string(), reader.array(lambda: reader.take("i"))
        reader.tags()
        return found
    nothing = struct.pack(">qi", -1, -1) + b"\0"  # offset, leader epoch, null metadata
    topics = _topics(reader.array(topic), True, lambda n: struct.pack(">i", n) + nothing + struct.pack(">h", error))
    return struct.pack(">i", 0) + topics + struct.pack(">h", 0) + b"\0"


def _init_producer_id(reader, version, error):
    return struct.pack(">ihqh", 0, error, -1, -1) + b"\0"


def _add_partitions(reader, version, error):
    reader.string()
    reader.take("qh")
    topics = reader.topics(lambda: reader.take("i"))
    return struct.pack(">i", 0) + _topics(topics, False, lambda n: struct.pack(">ih", n, error))


def _one_error(reader, version, error):
    return struct.pack(">ih", 0, error)


def _txn_offset_commit(reader, version, error):
    reader.string()
    reader.string()
    reader.take("qhi")
    reader.string()
    reader.string()

    def partition():
        number = reader.take("i")
        reader.take("qi")
        reader.string()
        reader.tags()
        return number
    topics = _topics(reader.topics(partition), True, lambda n: struct.pack(">ih", n, error))
    return struct.pack(">i", 0) + topics + b"\0"


# API: (how its body is made, versions that are flexible, others)
_FORMS = {
    0: (_produce, (9, 10, 11, 12), (3, 4, 5, 6, 7, 8)),
    9: (_offset_fetch, (6, 7), ()),
    22: (_init_producer_id, (2, 3, 4), ()),
    24: (_add_partitions, (), (0, 1, 2)),
    25: (_one_error, (), (0, 1, 2)),
    26: (_one_error, (), (0, 1, 2)),
    28: (_txn_offset_commit, (3,), ()),
}


def refuse(request, error):
    """The answer, a whole frame, that gives every part of the request, a whole frame, this error code."""
    reader = _Reader(request)
    reader.take("i")
    api, version, correlation = reader.take("h"), reader.take("h"), reader.take("i")
    make, flexible, others = _FORMS[api]
    if version not in flexible + others:
        raise ValueError(f"API {api} version {version}")
    reader.string()  # the client's name is never compact
    reader.flexible = version in flexible
    reader.tags()
    body = struct.pack(">i", correlation) + (b"\0" if reader.flexible else b"") + make(reader, version, error)
    return struct.pack(">i", len(body)) + body
