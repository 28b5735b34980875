# SPDX-License-Identifier: PostgreSQL
"""The SQL functions of the shop's consumers without C, called as outbox-consume calls them."""

import json

import psycopg
import pytest
from harness import Environment
from harness.shop import CONSUMERS

EXAMPLES = Environment().root / "examples" / "shop"
# Fields that CONTRACTS.md says a consumer requires, by the topic it reads.
REQUIRED = {
    "notification": {"orders.created": ("orderId", "customerId"), "orders.cancelled": ("orderId", "customerId")},
    "warehouse": {"inventory.reserved": ("orderId", "status"), "orders.cancelled": ("orderId",)},
    "analytics": {"orders.created": ("orderId", "amount", "createdAt"), "orders.cancelled": ("orderId",)},
    "loyalty": {"orders.created": ("orderId", "customerId", "amount"), "orders.cancelled": ("orderId", "customerId")},
    "fraud": {"orders.created": ("orderId", "customerId", "amount", "createdAt")},
}
TYPES = {"orders.created": "OrderCreated", "orders.cancelled": "OrderCancelled", "inventory.reserved": "InventoryReserved"}
EVENT = {"orderId": "o-1", "customerId": "ada", "amount": 41.5, "currency": "EUR", "status": "reserved",
         "createdAt": "2026-01-31T12:00:00.000Z", "items": [{"sku": "book", "quantity": 2}, {"sku": "book", "quantity": 1}],
         "reservationId": "00000000-0000-4000-8000-000000000001"}


class Function:
    """A consumer's database; call() hands its function an event as the consumer's role."""

    def __init__(self, database, part):
        self.database = database
        self.part = part
        database.cluster.psql_file(EXAMPLES / f"{part}.sql", database.name)

    def call(self, topic, without=(), kind=None, **fields):
        value = {name: of for name, of in {**EVENT, **fields}.items() if name not in without}
        with self.database.connect(user=f"{self.part}_service") as connection:
            return connection.execute(
                f"select {self.part}.on_event(row(gen_random_uuid(), %s, %s, 0, 0, 'k', %s, '{{}}', null, now(), null)"
                "::outbox.consumed_event)", (kind, topic, json.dumps(value))).fetchone()[0]


@pytest.fixture
def function(make_database, postgres):
    return lambda part: Function(make_database(postgres), part)


@pytest.mark.parametrize("part", CONSUMERS)
def test_required_fields(function, part):
    """Consumers without C: an event without a required field, or with an empty one, can never succeed (OBX01)."""
    function = function(part)
    for topic, fields in REQUIRED[part].items():
        for field in fields:
            for value in ({"without": field}, {field: None}, {field: ""}):
                with pytest.raises(psycopg.Error, match=f'required field "{field}" is missing') as raised:
                    function.call(topic, kind=TYPES[topic], **value)
                assert raised.value.sqlstate == "OBX01"
        bare = {"without": EVENT.keys() - fields, "orderId": f"bare-{topic}"}
        if topic != "inventory.reserved":
            assert function.call(topic, kind=TYPES[topic], **bare)


@pytest.mark.parametrize("part, outcome", [
    ("notification", "cancellation"), ("warehouse", "withdrawn"), ("analytics", "cancelled"), ("loyalty", "cancelled_first")])
def test_cancellation_without_a_type(function, part, outcome):
    """Consumers without C: a record without a type is taken, and is a cancellation by its topic."""
    assert function(part).call("orders.cancelled", without=EVENT.keys() - {"orderId", "customerId"}) == outcome


def test_units_of_bad_events(function):
    """Consumers without C: items that are none fail their own event, and never what is read of all others."""
    analytics = function("analytics")
    for items in ({}, "book", [{"sku": "book", "quantity": "two"}], [{"quantity": 1}]):
        with pytest.raises(psycopg.DataError):
            analytics.call("orders.created", items=items)
    assert analytics.call("orders.created") == "ordered"
    assert analytics.call("orders.created", orderId="o-2", items=[{"sku": "pen", "quantity": 9 * 10**18}] * 2) == "ordered"
    for without in (None, []):
        assert analytics.call("orders.created", orderId="o-3", items=without) == "ordered"
    assert analytics.database.execute("select sku, units from analytics.units order by 1") == [("book", 3), ("pen", 18 * 10**18)]


def test_fraud_looks_back_thirty_days(function):
    """Consumers without C: what fraud compares an order with is bounded by time."""
    fraud = function("fraud")
    for n, day in enumerate(("2025-12-01", "2025-12-30", "2026-01-01", "2026-01-02", "2026-03-03")):
        assert fraud.call("orders.created", orderId=f"small-{n}", amount=1, createdAt=f"{day}T12:00:00Z") == "fine"
    assert fraud.call("orders.created", orderId="large", amount=11) == "fine", "two orders in thirty days"
    assert fraud.call("orders.created", orderId="small-5", amount=1, createdAt="2026-02-28T00:00:00Z") == "fine"
    assert fraud.call("orders.created", orderId="larger", amount=100, createdAt="2026-02-15T12:00:00Z") == "flagged"
    assert fraud.database.execute("select order_id, rules from fraud.flag") == [("larger", ["SUDDEN_RISE"])]
