# SPDX-License-Identifier: PostgreSQL
"""Topics that are deleted while the relay uses them, with a broker that makes none by itself."""

import time

from harness import KafkaBroker

ROUND = 15  # seconds the others may wait: a look at Kafka, a new producer, Kafka's answer


def test_deleted_topics_do_not_stop_the_others(session, own_postgres, make_database, unique):
    """Issue 4, "One topic's trouble does not stop the others": a deleted topic delays them by a round, not by the 30 s
    after which an event is given up; a declared one is made again, of another the events become dead letters."""
    kafka = KafkaBroker(session, "strict", {"auto.create.topics.enable": "false"}).start()
    try:
        cluster = own_postgres(**{"outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}",
                                  "outbox.require_declared_topics": "off"})
        database = make_database(cluster)
        database.start_relay()
        declared, fine = database.declare(unique("gone"), 1), database.declare(unique("fine"), 1)
        undeclared = kafka.create_topic(unique("undeclared"), 1)
        for topic in (declared, fine, undeclared):
            database.emit(topic, "k")
            kafka.wait_for_records(topic, 1)
        for number, topic in enumerate((declared, undeclared, declared), 2):
            kafka.delete_topic(topic)
            began = time.monotonic()
            database.emit(topic, "k", f"again{number}")
            database.emit(fine, "k")
            kafka.wait_for_records(fine, number)
            waited = time.monotonic() - began
            print(f"{topic}: {waited:.1f} s")
            assert waited < ROUND
        assert [dict(r.headers())["ce_type"] for r in kafka.wait_for_records(declared, 1)] == [b"again4"]
        letters = database.execute("select topic, event_type, state from outbox.dead_letter")
        assert letters == [(undeclared, "again3", "open")]
        kafka.create_topic(undeclared, 1)
        database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter")
        assert [dict(r.headers())["ce_type"] for r in kafka.wait_for_records(undeclared, 1)] == [b"again3"]
    finally:
        kafka.stop()
