# SPDX-License-Identifier: PostgreSQL
"""The largest event that emit() takes, through Kafka's and the relay's defaults."""

import psycopg
import pytest

EMIT = "select outbox.emit_bytes(%s, %s, %s, %s, %s)"
LONGEST = 255  # bytes of type and of content type


def incompressible(size):
    with open("/dev/urandom", "rb") as source:
        return source.read(size)


def test_largest_event_arrives(relay, kafka, topic_name, postgres):
    """Row 000.9: an incompressible event of exactly outbox.max_event_bytes, with the longest envelope, arrives."""
    topic = relay.declare(topic_name, 1)
    postgres.configure(**{"outbox.source": "urn:" + "s" * 508})
    postgres.reload()
    limit = relay.value("select setting::int from pg_settings where name = 'outbox.max_event_bytes'")
    key, kind = b"k" * 100, "t" * LONGEST
    content = "c" * LONGEST
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        relay.execute(EMIT, (topic, key, kind, incompressible(limit - len(key) + 1), content))
    payload = incompressible(limit - len(key))
    with relay.connect(autocommit=False) as connection:
        for value in (b"before", payload, b"after"):
            connection.execute(EMIT, (topic, key, kind, value, content))
        connection.commit()
    records = kafka.wait_for_records(topic, 3)
    assert [record.value() for record in records] == [b"before", payload, b"after"]
    assert len(dict(records[1].headers())["ce_source"]) == 512
    assert relay.value("select count(*) from outbox.dead_letter") == 0
