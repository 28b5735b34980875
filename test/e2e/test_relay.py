# SPDX-License-Identifier: PostgreSQL
"""The relay against a real broker: delivery, order, cuts, outages and its recovery."""

import os
import signal
import uuid

from harness import wait_until


def read_ids(kafka, topic, count, timeout=30.0):
    """The first count records of a topic as (key, type, value)."""
    records = kafka.wait_for_records(topic, count, timeout)
    return records


def test_event_arrives_with_its_envelope(relay, kafka, topic):
    """Row 001.1: a committed event is one record with CloudEvents headers; a rolled back one is none."""
    event_id = relay.emit(topic, "k1", "OrderCreated", '{"a": 1}', '{"shop": "x"}')
    with relay.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'k1', 'Lost', '{}')", (topic,))
        connection.rollback()
    record = kafka.wait_for_records(topic, 1)[0]
    headers = dict(record.headers())
    assert record.key() == b"k1"
    assert record.value() == b'{"a": 1}'
    assert headers["ce_id"].decode() == event_id
    assert headers["ce_type"] == b"OrderCreated"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/json"
    assert headers["ce_source"].decode() == f"/outbox/{relay.name}"
    assert headers["shop"] == b"x"
    relay.emit(topic, "k1", "Second")
    assert [dict(r.headers())["ce_type"] for r in kafka.wait_for_records(topic, 2)] == [b"OrderCreated", b"Second"]
