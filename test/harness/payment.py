# SPDX-License-Identifier: PostgreSQL
"""outbox-payment alone, on records the test produces: for tests of the consumer runtime."""

import datetime
import json
import uuid

from .wait import wait_until

TOPICS = ("orders.created", "orders.cancelled", "payments.completed", "inventory.reserved")

# The group forgets a killed member sooner.
SHORT_SESSION = "session.timeout.ms=3000\nheartbeat.interval.ms=500"


class PaymentTest:
    """A payment database and a producer; start() runs the service on it."""

    def __init__(self, broker, database, service, group):
        self.broker = broker
        self.database = database
        self.make_service = service
        self.group = group
        self.producer = broker.producer()
        database.cluster.psql_file(
            database.cluster.environment.root / "examples" / "shop" / "payment.sql", database.name
        )

    def start(self, wait=True, env=None, **config):
        service = self.make_service("outbox-payment", {
            "database": self.database.dsn(user="payment_service"), "bootstrap_servers": self.broker.bootstrap,
            "group_id": self.group, **config,
        }, env=env, start=False)
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

    def order(self, order_id, amount=1, customer="ada", key=None, **options):
        body = {"orderId": order_id, "customerId": customer, "amount": amount, "currency": "EUR",
                "items": [{"sku": "pen", "quantity": 1}], "createdAt": "2026-01-01T00:00:00.000Z"}
        return self.produce(body, key or order_id, **options)

    def cancel(self, order_id):
        return self.produce({"orderId": order_id, "reason": "PAYMENT_DECLINED"}, order_id, topic="orders.cancelled")

    def execute(self, statement, parameters=None):
        return self.database.execute(statement, parameters)

    def status(self, order_id):
        return self.database.value("select status from shop.payment where order_id = %s", (order_id,))

    def wait_status(self, order_id, status, timeout=30):
        wait_until(lambda: self.status(order_id) == status, timeout, f"{order_id} to be {status}")

    def fail_orders(self, prefix, code="P0001"):
        """Have shop.charge raise for orders with the prefix, saying so first."""
        self.execute("alter function shop.charge(jsonb, text) rename to charge_well")
        self.execute(f"""create function shop.charge(event jsonb, gateway text) returns text language plpgsql as $$
            begin
                if event->>'orderId' like '{prefix}%' then
                    raise notice 'attempt %', event->>'orderId';
                    raise exception using errcode = '{code}', message = 'seeded failure';
                end if;
                return shop.charge_well(event, gateway);
            end $$""")

    def heal_orders(self):
        self.execute("drop function shop.charge(jsonb, text)")
        self.execute("alter function shop.charge_well(jsonb, text) rename to charge")

    def attempts(self, service, order_id):
        """Times (s) of the attempts at an order, as the service's log has them."""
        lines = [line for line in service.log_lines() if line.get("msg") == f"attempt {order_id}"]
        return [datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).timestamp() for line in lines]

    def dead_letters(self, state):
        return self.database.value("select count(*) from outbox.dead_letter where consumer = %s and state = %s",
                                   (self.group, state))

    def wait_dead_letters(self, state, count, timeout=30):
        wait_until(lambda: self.dead_letters(state) == count, timeout, f"{count} dead letters in state {state}")

    def flush(self):
        assert self.producer.flush(20) == 0

    def payments(self):
        return self.database.value("select count(*) from shop.payment")

    def wait_payments(self, count, timeout=30):
        wait_until(lambda: self.payments() == count, timeout, f"{count} payments")

    def count(self, service, result, topic="orders.created"):
        name = f'outbox_consumer_records_total{{consumer="{self.group}",topic="{topic}",result="{result}"}}'
        return service.metrics().get(name, 0)


def same_key_partition(payment, key):
    """The partition records of a key go to."""
    done = []
    payment.producer.produce("inventory.reserved", b"{}", key, on_delivery=lambda _, m: done.append(m.partition()))
    payment.flush()
    return done[0]
