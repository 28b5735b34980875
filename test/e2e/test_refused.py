# SPDX-License-Identifier: PostgreSQL
"""Refused events of a batch are told together, and one among many is found by halving."""

import pytest
from harness import OVERSIZED, limit_records

# SQL of a payload of 5,000 bytes that compresses to nearly nothing.
REPEATED = "to_jsonb(repeat('x', 5000))"


def emit_many(database, topic, count, payload="'{}'", key="'k' || n"):
    """count events in one transaction."""
    database.execute(
        f"select outbox.emit(%s, {key}, 'Many', {payload}) from generate_series(1, {count}) n offset {count}", (topic,))


def open_letters(database, topic):
    return database.value("select count(*) from outbox.dead_letter where state = 'open' and topic = %s", (topic,))


def test_what_a_topic_does_not_take_is_told_in_one_round(relay, kafka, unique):
    """NULL keys for a topic that Kafka compacts, and records above its limit: all of a batch in one round."""
    compact, narrow, other = unique("compact"), unique("narrow"), unique("other")
    kafka.create_topic(compact, 3, {"cleanup.policy": "compact"})
    kafka.create_topic(narrow, 3, {"max.message.bytes": "2000"})
    for name in (compact, narrow, other):
        relay.declare(name, 3)
    relay.emit(other, "k", "opens the sender")
    kafka.wait_for_records(other, 1)
    with relay.connect(autocommit=False) as connection:
        for name, key, payload in ((compact, "null", "'{}'"), (narrow, "'k' || n %% 7", OVERSIZED), (compact, "'k'", "'{}'"),
                                   (other, "'k' || n", "'{}'"), (narrow, "'w' || n", "'{}'")):
            connection.execute(f"select outbox.emit(%s, {key}, 'T', {payload}) from generate_series(1, 200) n offset 200", (name,))
        connection.commit()
    kafka.wait_for_records(other, 201)
    kafka.wait_for_records(compact, 200)
    kafka.wait_for_records(narrow, 200)
    assert (open_letters(relay, compact), open_letters(relay, narrow), open_letters(relay, other)) == (200, 200, 0)
    messages = [m for (m,) in relay.execute("select distinct error_message from outbox.dead_letter order by 1")]
    assert len(messages) == 2 and f'cleanup.policy of topic "{compact}" has compact' in messages[0]
    assert f'max.message.bytes of topic "{narrow}" is 2000' in messages[1]
    status = relay.status()
    assert (status["events_refused"], status["recoveries"]) == (400, 0)
    assert status["refusal_rounds"] <= 3  # both in one, unless a topic is opened in the round


def test_refusals_of_many_topics_are_told_in_one_round(relay, kafka, unique):
    """Each topic that refuses adds no round of its own: what they do not take is known before it is sent."""
    names = [unique(f"compact{number}") for number in range(12)]
    kafka.create_topics(names, 1, {"cleanup.policy": "compact"})
    for name in names:
        relay.declare(name, 1)
    with relay.connect(autocommit=False) as connection:
        for name in names:
            connection.execute("select outbox.emit(%s, null, 'T', '{}'), outbox.emit(%s, 'k', 'T', '{}')", (name, name))
        connection.commit()
    for name in names:
        assert [record.key() for record in kafka.wait_for_records(name, 1)] == [b"k"]
    assert [open_letters(relay, name) for name in names] == [1] * len(names)
    assert relay.status()["refusal_rounds"] == 1


def test_changed_limits_count_at_once(relay, kafka, topic_name):
    """A limit that was raised before the event refuses nothing, one that was lowered is found, and the sender stays."""
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "100000"})
    relay.declare(topic_name, 1)
    relay.execute(f"select outbox.emit(%s, 'k', 'T', {OVERSIZED})", (topic_name,))
    kafka.wait_for_records(topic_name, 1)
    sender = relay.status()["sender_pid"]
    for size, taken in ((2000, False), (100000, True), (3000, False), (50000, True)):
        before, letters = len(kafka.read_all(topic_name)), open_letters(relay, topic_name)
        limit_records(kafka, topic_name, size)
        emit_many(relay, topic_name, 20, OVERSIZED)
        relay.wait_delivered(60)
        assert len(kafka.read_all(topic_name)) - before == (20 if taken else 0), size
        assert open_letters(relay, topic_name) - letters == (0 if taken else 20), size
    assert relay.status()["sender_pid"] == sender


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_compressed_records_count_compressed(relay, postgres, kafka, topic_name, codec):
    """What Kafka takes because it is compressed is sent, however large it is before; what is not is told in one round."""
    if codec:
        properties = f"{postgres.settings['outbox.kafka_properties']}\ncompression.codec={codec}"
        postgres.configure(**{"outbox.kafka_properties": properties})
        postgres.reload()
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    relay.declare(topic_name, 1)
    emit_many(relay, topic_name, 10, REPEATED)
    relay.emit(topic_name, "small", "T")
    kafka.wait_for_records(topic_name, 11 if codec else 1)
    assert open_letters(relay, topic_name) == (0 if codec else 10)
    assert f"compression.codec={codec or 'none'};" in relay.value("select kafka from outbox.relay_slot()")
    if not codec:
        assert relay.status()["refusal_rounds"] == 1


def test_requests_keep_to_the_limit_of_a_topic(relay, kafka, topic_name):
    """Records that fit alone are no dead letters where together they do not, and cost few rounds, once."""
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    relay.declare(topic_name, 1)
    for count in (500, 1000):
        emit_many(relay, topic_name, 500, "to_jsonb(md5(n::text) || md5(n::text || 'x'))")
        kafka.wait_for_records(topic_name, count)
    assert relay.value("select count(*) from outbox.dead_letter") == 0
    assert relay.status()["refusal_rounds"] <= 3


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_more_keys_than_are_kept_hold_their_topic(relay, kafka, topic_name, unique, policy):
    """Past 100,000 held keys of a topic its other keys are held, too; others go on, and a person can undo all of it."""
    policy("hold_key")
    other = relay.declare(unique("other"))
    with relay.connect() as connection:
        connection.execute("alter table outbox.topic drop constraint topic_partitions_in_range")
        connection.execute("insert into outbox.topic (name, partitions) values (%s, 0)", (topic_name,))
    emit_many(relay, topic_name, 110_000, key="'k' || n")
    relay.wait_delivered(300)
    relay.emit(other, "k", "passes")
    kafka.wait_for_records(other, 1)
    letters = open_letters(relay, topic_name)
    assert 100_000 < letters <= 110_000
    emit_many(relay, topic_name, 1000, key="'new' || n %% 10", payload="to_jsonb(n)")
    relay.wait_delivered(60)
    assert open_letters(relay, topic_name) == letters
    assert relay.value("select count(*) from outbox.dead_letter where state = 'held' and convert_from(key, 'UTF8') like 'new%%'") == 1000
    assert f'all events of topic "{topic_name}"' in relay.status()["last_error"]

    relay.execute("update outbox.topic set partitions = 3 where name = %s", (topic_name,))
    relay.execute("select count(*) from outbox.dead_letter_replay_where(topic => %s, reason => 'mended', at_most => 15000)",
                  (topic_name,))
    relay.wait_for("select not exists (select from outbox.dead_letter where state in ('held', 'releasing'))", 600)
    relay.wait_delivered(300)
    records = kafka.wait_for_records(topic_name, 16_000, 120)
    for number in range(10):
        key = f"new{number}".encode()
        values = [int(record.value()) for record in records if record.key() == key]
        assert len(values) == 100 and values == sorted(values), key
