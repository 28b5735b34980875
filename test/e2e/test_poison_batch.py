# SPDX-License-Identifier: PostgreSQL
"""Poison among good records of a full topic: what it costs the good ones, counted in calls of the handler."""

import json
import uuid

import pytest

TOPIC = "orders.created"
RECORDS, EVERY = 2000, 100

COUNTING = f"""
create sequence shop.calls;
grant usage on sequence shop.calls to payment_service;
alter function shop.charge(jsonb, text) rename to charge_well;
create function shop.charge(event jsonb, gateway text) returns text language plpgsql as $$
begin
	perform nextval('shop.calls');
	if substr(event->>'orderId', 7)::integer % {EVERY} = {EVERY // 2} then
		raise exception 'nobody can charge this order';
	end if;
	return shop.charge_well(event, gateway);
end $$;
"""


@pytest.fixture
def orders(kafka):
    """The broker with RECORDS orders in one partition of the topic."""
    kafka.delete_topics([TOPIC, "orders.cancelled"])
    kafka.create_topics([TOPIC, "orders.cancelled"], 1)
    producer = kafka.producer()
    for number in range(RECORDS):
        value = {"orderId": f"order-{number}", "customerId": "ada", "amount": 1, "currency": "EUR"}
        producer.produce(TOPIC, json.dumps(value), f"order-{number}",
                         headers=[("ce_id", str(uuid.uuid4())), ("ce_type", "OrderCreated")])
        producer.poll(0)
    assert producer.flush(60) == 0
    return kafka


def test_good_records_run_once(database, orders, service, unique):
    """Row 001.6: one poison record in 100 has few good ones run again, and loses none of them.

    A batch has 500 records. Only the first to fail runs its good records twice; in those after it the
    handler is called again for less than four of them (and four times for the poison one, as ever)."""
    database.cluster.psql_file(database.cluster.environment.root / "examples" / "shop" / "payment.sql", database.name)
    database.cluster.psql(COUNTING, database.name)
    group = unique("payment")
    service("outbox-payment", {
        "database": database.dsn(user="payment_service"), "bootstrap_servers": orders.bootstrap, "group_id": group,
        "retry_backoff_ms": 50,
    })
    poison = RECORDS // EVERY
    database.wait_for(f"select count(*) = {poison} from outbox.dead_letter where state = 'open'", 120)
    database.wait_for(f"select next_offset = {RECORDS} from outbox.consumer_offset where consumer = '{group}'"
                      f" and topic = '{TOPIC}'", 120)
    assert database.value("select count(*) from shop.payment") == RECORDS - poison
    assert database.value("select count(*) from outbox.event where topic = 'payments.completed'") == RECORDS - poison
    calls = database.value("select last_value from shop.calls")
    print(f"{calls} calls for {RECORDS} records")
    assert calls <= RECORDS + EVERY + poison * (4 + 3)
    assert database.value("select count(*) from outbox.idempotency where consumer = %s", (group,)) == RECORDS - poison
