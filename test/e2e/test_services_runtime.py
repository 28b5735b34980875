# SPDX-License-Identifier: PostgreSQL
"""The consumer runtime, shown on outbox-payment alone: records are produced by the test, no relay runs."""

import datetime
import json
import threading
import time
import uuid

import psycopg
import pytest
from confluent_kafka import Producer
from harness import KafkaBroker, wait_until

TOPICS = ("orders.created", "orders.cancelled", "payments.completed", "inventory.reserved")


@pytest.fixture(scope="module")
def broker(session):
    """A broker of this module's own: the services' topics have fixed names."""
    broker = KafkaBroker(session, "kafka-runtime")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def topics(broker):
    """The broker with the topics empty."""
    for name in broker.topics():
        broker.delete_topic(name)
    wait_until(lambda: not broker.topics(), 20, "the topics to be gone")
    for name in TOPICS:
        broker.create_topic(name, 6)
    return broker


class PaymentTest:
    """A payment database and a producer; start() runs the service on it."""

    def __init__(self, broker, database, service, group):
        self.broker = broker
        self.database = database
        self.make_service = service
        self.group = group
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
        database.cluster.psql_file(
            database.cluster.environment.root / "examples" / "shop" / "payment.sql", database.name
        )

    def start(self, wait=True, **config):
        service = self.make_service("outbox-payment", {
            "database": self.database.dsn(), "bootstrap_servers": self.broker.bootstrap,
            "group_id": self.group, **config,
        }, start=False)
        return service.start(wait=wait)

    def produce(self, value, key, topic="orders.created", event_id=None, partition=None, headers=()):
        """Sends one record; value may be bytes. Returns the event id."""
        event_id = event_id or str(uuid.uuid4())
        kind = {"orders.created": "OrderCreated", "orders.cancelled": "OrderCancelled"}[topic]
        all_headers = [("ce_id", event_id), ("ce_type", kind), ("content-type", "application/json"), *headers]
        place = {} if partition is None else {"partition": partition}
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.producer.produce(topic, data, key, headers=all_headers, **place)
        self.producer.poll(0)
        return event_id

    def order(self, order_id, amount=1, customer="ada", **options):
        body = {"orderId": order_id, "customerId": customer, "amount": amount, "currency": "EUR",
                "items": [{"sku": "pen", "quantity": 1}], "createdAt": "2026-01-01T00:00:00.000Z"}
        return self.produce(body, order_id, **options)

    def flush(self):
        assert self.producer.flush(20) == 0

    def payments(self):
        return self.database.value("select count(*) from shop.payment")

    def wait_payments(self, count, timeout=30):
        wait_until(lambda: self.payments() == count, timeout, f"{count} payments")

    def count(self, service, result, topic="orders.created"):
        name = f'outbox_consumer_records_total{{consumer="{self.group}",topic="{topic}",result="{result}"}}'
        return service.metrics().get(name, 0)


@pytest.fixture
def payment(topics, database, service, unique):
    return PaymentTest(topics, database, service, unique("payment"))


def test_group_made_later_gets_all(payment):
    """Row 002.6: a group created after 1,000 events gets all 1,000."""
    for n in range(1000):
        payment.order(f"early-{n}")
    payment.flush()
    service = payment.start()
    payment.wait_payments(1000)
    assert payment.count(service, "ok") == 1000
    assert service.stop() == 0
