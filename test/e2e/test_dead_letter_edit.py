# SPDX-License-Identifier: PostgreSQL
"""What a person does with a consumer's dead letter reaches that consumer alone, and once."""

import json

import psycopg
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from harness import wait_until


def read_again(payment):
    """Kafka's memory of the group goes back to the beginning."""
    zero = [TopicPartition("orders.created", n, 0) for n in range(6)]
    request = [ConsumerGroupTopicPartitions(payment.group, zero)]
    payment.broker.admin.alter_consumer_group_offsets(request)[payment.group].result(30)


def test_edited_copy_is_processed_once(payment):
    """Edit and replay as a new id with a version check: the same group processes the copy, once, and
    never the original, also when Kafka delivers that again; nothing is produced, so no other group sees anything."""
    service = payment.start()
    bad = {"orderId": "ord-1", "customerId": "ada", "currency": "EUR"}
    event = payment.produce(bad, "ord-1")
    payment.flush()
    payment.wait_dead_letters("open", 1)
    payment.order("ord-2", key="ord-1")
    payment.flush()
    payment.wait_dead_letters("held", 1)
    letter, version = payment.execute("select id, version from outbox.dead_letter where event_id = %s", (event,))[0]
    good = json.dumps({**bad, "amount": 5}).encode()
    with payment.database.connect() as person:
        person.execute("set outbox.allow_dead_letter_edit = on")
        original = person.execute("select outbox.dead_letter_edit(%s, %s, %s, 'amount added')", (letter, version, good)).fetchone()[0]
        with pytest.raises(psycopg.Error) as refused:
            person.execute("select outbox.dead_letter_edit(%s, %s, %s, 'again')", (letter, version, good))
        assert refused.value.sqlstate == "OBX02"
    payment.wait_dead_letters("resolved", 3, 60)
    # The copy came first, what was held behind it second.
    assert payment.execute("select order_id, amount from shop.payment order by completed_at") == [("ord-1", 5), ("ord-2", 1)]
    copy = payment.database.value("select event_id::text from outbox.dead_letter where id = %s", (letter,))
    assert copy != event and payment.database.value(
        "select replay_of = %s from outbox.dead_letter where id = %s", (original, letter))
    claimed = {row[0] for row in payment.execute("select event_id::text from outbox.idempotency")}
    assert copy in claimed and event not in claimed
    # Kafka delivers both records again: they are known.
    service.stop()
    read_again(payment)
    service = payment.start()
    wait_until(lambda: payment.count(service, "duplicate") == 2, 30, "two duplicates")
    assert payment.payments() == 2 and payment.dead_letters("resolved") == 3
    assert len(payment.broker.read_all("orders.created")) == 2
