# SPDX-License-Identifier: PostgreSQL
"""Orders in a topic as the relay sends them, for the benchmarks of outbox-payment."""

import json
import random
import uuid

from support import uuid_v7

TOPIC = "orders.created"
PARTITIONS = 6


def fill_topic(kafka, count, customers, more=lambda number: {}):
    """Make the topic with count orders order-0, order-1, ...; more(number) gives further fields of one."""
    kafka.create_topic(TOPIC, PARTITIONS)
    producer = kafka.producer(linger_ms=20)
    choose = random.Random(1)
    for number in range(count):
        order = {**_order(number, choose, customers), **more(number)}
        producer.produce(TOPIC, key=f"order-{number}", value=json.dumps(order, separators=(",", ":")), headers=_headers())
        while len(producer) > 50000:
            producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError("Kafka did not take all orders")


def _order(number, choose, customers):
    """OrderCreated of examples/shop/CONTRACTS.md, about 250 bytes as JSON."""
    items = [{"sku": f"SKU-{choose.randrange(1000)}", "quantity": choose.randrange(1, 6)} for _ in range(3)]
    return {
        "orderId": f"order-{number}", "customerId": f"customer-{choose.randrange(customers) + 1}",
        "amount": choose.randrange(100, 20000) / 100, "currency": "EUR", "items": items,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }


def _headers():
    return [
        ("ce_specversion", "1.0"), ("ce_id", uuid_v7()), ("ce_source", "/outbox/shop_order"), ("ce_type", "OrderCreated"),
        ("ce_time", "2026-01-01T00:00:00.000000Z"), ("content-type", "application/json"),
        ("correlationid", str(uuid.uuid4())), ("traceparent", f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"),
    ]


def records_counted(service):
    """Records of the topic a service is done with, whatever became of them."""
    return sum(value for series, value in service.metrics().items() if series.startswith("outbox_consumer_records_total"))
