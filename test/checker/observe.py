# SPDX-License-Identifier: PostgreSQL
"""Reading both sides: the truth table, and the topics with a read_committed consumer."""

import json
import uuid

import psycopg
from confluent_kafka import Consumer, TopicPartition
from harness.wait import WaitTimeout, wait_until

from .check import Seen, Truth, check

TYPES = ("Checked", "Geprüft", "Poison")  # of the events written with a load


def read_truth(dsn):
    """All committed events that load wrote, after any recovery. Returns a list of Truth."""
    with psycopg.connect(dsn) as connection, connection.cursor(name="truth") as cursor:
        cursor.itersize = 20000
        cursor.execute("select id::text, topic, key, key_seq from checker.truth")
        return [Truth(*row) for row in cursor]


class ForeignRecord(AssertionError):
    """A record that load cannot have written; an assertion, so that wait_until lets it through."""


def decode(topic, partition, offset, key, value, headers):
    """A record as Seen; headers are pairs. Raises ForeignRecord when load cannot have written it."""
    names = dict(headers)
    try:
        event_id = (names.get("ce_id") or names["id"]).decode()
        payload = json.loads(value)
        if "ce_type" in names and names["ce_type"].decode() not in TYPES:
            raise ValueError(f"its type is {names['ce_type']}")
        if payload.get("key") not in (None, key.decode()):
            raise ValueError(f"its key is {key}, in its payload {payload['key']}")
        return Seen(event_id, topic, key.decode(), payload["keySeq"], partition, offset)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        where = f"{topic}[{partition}]@{offset}"
        raise ForeignRecord(f"the record at {where} is not one of the load's: {error!r}") from error


def decode_record(message):
    """A consumed message as Seen. Raises ForeignRecord when load cannot have written it."""
    return decode(message.topic(), message.partition(), message.offset(), message.key(), message.value(),
                  message.headers() or [])


class TopicReader:
    """Reads topics from offset 0 on all partitions, read_committed, without joining a group."""

    def __init__(self, bootstrap, topics):
        self.topics = topics
        self.seen = []
        self.ids = set()
        self.assigned = []
        self.at_end = set()
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": f"checker-{uuid.uuid4()}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "log_level": 0,
        })

    def assign_new(self):
        """Take up partitions that have come into being."""
        known = self.consumer.list_topics(timeout=10).topics
        found = [(t, p) for t in self.topics if t in known for p in sorted(known[t].partitions)]
        if found != self.assigned:
            fresh = [TopicPartition(t, p, 0) for t, p in found if (t, p) not in self.assigned]
            self.consumer.incremental_assign(fresh)
            self.assigned = found

    def read_some(self):
        for message in self.consumer.consume(10000, 0.2):
            place = (message.topic(), message.partition())
            if message.error() is None:
                self.at_end.discard(place)
                record = decode_record(message)
                self.seen.append(record)
                self.ids.add(record.id)
            elif message.error().name() == "_PARTITION_EOF":
                self.at_end.add(place)
            elif not message.error().retriable() and message.error().fatal():
                raise RuntimeError(f"reading {place}: {message.error()}")

    def finished(self, expected):
        """True when all of expected (a set of ids) was read, and every partition to its end."""
        if not self.assigned or not self.ids >= expected:
            self.assign_new()
        self.read_some()
        return self.ids >= expected and self.at_end.issuperset(self.assigned)


def read_topics(bootstrap, topics, expected=frozenset(), timeout=60.0):
    """Read topics until all ids of expected were seen and every partition's end is reached.

    After timeout seconds without a record returns what there was, for check() to judge. Returns a list of Seen.
    """
    reader = TopicReader(bootstrap, list(topics))
    expected = frozenset(expected)
    finished = False

    def read_on():
        nonlocal finished
        before = len(reader.seen)
        finished = reader.finished(expected)
        return finished or len(reader.seen) > before
    try:
        while not finished:
            wait_until(read_on, timeout, "a further event", interval=0)
    except WaitTimeout:
        pass
    finally:
        reader.consumer.close()
    return reader.seen


def check_database(dsn, bootstrap, topics, timeout=60.0):
    """Truth of one database against its topics. Returns a Report."""
    truth = read_truth(dsn)
    return check(truth, read_topics(bootstrap, topics, {row.id for row in truth}, timeout))
