# SPDX-License-Identifier: PostgreSQL
"""Correlation ids and traces: through the whole shop, and of outbox-payment alone."""

import contextlib
import datetime
import json
import socket
import uuid

import pytest
from harness import wait_until
from harness.payment import TOPICS
from harness.receiver import Receiver
from harness.shop import CONSUMERS, PARTS, Shop

ERROR = 2
SERVER, PRODUCER, CONSUMER = 2, 4, 5


def collect_spans(receiver):
    """The spans received: OTLP's fields, "service", and attributes as a dict."""
    found = []
    for body in receiver.bodies("/v1/traces"):
        for resource in body["resourceSpans"]:
            service = read_attributes(resource["resource"])["service.name"]
            for scope in resource["scopeSpans"]:
                found += [{**span, "service": service, "attributes": read_attributes(span)} for span in scope["spans"]]
    return found


def read_attributes(of):
    return {entry["key"]: next(iter(entry["value"].values())) for entry in of["attributes"]}


@pytest.fixture
def receiver():
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def traced_shop(session, kafka, postgres, receiver):
    """The running shop with all its consumers, on empty topics, its spans sent to the receiver."""
    names = [name for topic in (*TOPICS, "orders.flagged") for name in (topic, topic + ".DLT")]
    kafka.delete_topics(names)
    kafka.create_topics(names, 6)
    config = {"otlp_endpoint": receiver.url + "/", "log_level": "debug"}
    shop = Shop(session, postgres, kafka, prefix="trace_", config=dict.fromkeys((*PARTS, *CONSUMERS), config))
    shop.start()
    for service in [shop.add_consumer(part).start(wait=False) for part in CONSUMERS]:
        service.wait_ready(60)
    yield shop
    shop.stop()
    for name in shop.databases.values():
        postgres.drop_database(name)


def place(shop, customer="ada", sku="book", **headers):
    """One order; returns its id."""
    status, text = shop.services["order"].request(
        "POST", "/orders", {"customerId": customer, "items": [{"sku": sku, "quantity": 1}]},
        {"Idempotency-Key": str(uuid.uuid4()), **headers})
    assert status == 201, text
    return json.loads(text)["orderId"]


def value(shop, part, statement, *parameters):
    return shop.postgres.value(statement, parameters, shop.databases[part])


def spans_of(receiver, trace, count):
    def enough():
        found = [span for span in collect_spans(receiver) if span["traceId"] == trace]
        return found if len(found) >= count else None
    return wait_until(enough, 60, f"{count} spans of trace {trace}")


CREATED = ("order-service", "create orders.created", PRODUCER)
PAID = ("payment-service", "process orders.created", CONSUMER)
RESERVED = ("inventory-service", "process orders.created", CONSUMER)
SETTLED = ("order-service", "process payments.completed", CONSUMER)
FRAUD = ("fraud-service", "process orders.created", CONSUMER)
# Each span of a confirmed order, and the one that caused it.
CONFIRMED = {
    ("order-service", "POST /orders", SERVER): None,
    CREATED: ("order-service", "POST /orders", SERVER),
    **{(f"{part}-service", "process orders.created", CONSUMER): CREATED
       for part in ("payment", "inventory", "notification", "analytics", "loyalty", "fraud")},
    SETTLED: PAID,
    **{(f"{part}-service", "process inventory.reserved", CONSUMER): RESERVED for part in ("order", "warehouse")},
}
# The same of one whose payment is declined.
CANCELLED = {**CONFIRMED, **{(f"{part}-service", "process orders.cancelled", CONSUMER): SETTLED for part in (
    "payment", "inventory", "notification", "warehouse", "analytics", "loyalty")}}
# What makes the record of each topic; for the last two a declined order of 10,000 or more is needed.
MAKERS = {"orders.created": CREATED, "payments.completed": PAID, "inventory.reserved": RESERVED}
DECLINED_MAKERS = {**MAKERS, "orders.cancelled": SETTLED, "orders.flagged": FRAUD}
EMITTED = {
    "order": {"orders.created": "OrderCreated", "orders.cancelled": "OrderCancelled"},
    "payment": {"payments.completed": "PaymentCompleted"}, "inventory": {"inventory.reserved": "InventoryReserved"},
    "fraud": {"orders.flagged": "OrderFlagged"},
}
TABLES = {
    "order": "shop.orders", "payment": "shop.payment", "inventory": "shop.reservation", "notification": "notification.message",
    "warehouse": "warehouse.pick_list", "analytics": "analytics.order_fact", "loyalty": "loyalty.booking", "fraud": "fraud.seen_order",
}


def check_tree(spans, tree, root_parent):
    """Every span of the tree once, each below the one that caused it."""
    names = {span["spanId"]: (span["service"], span["name"], span["kind"]) for span in spans}
    assert sorted(names.values()) == sorted(tree), names
    for span in spans:
        parent = span.get("parentSpanId")
        expected = tree[names[span["spanId"]]]
        assert (names[parent] == expected) if expected else (parent == root_parent), (span, parent)
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert "status" not in span and "error.type" not in span["attributes"]


def check_records(shop, order_id, correlation, spans, makers):
    """Every record carries the correlation id and, as its traceparent, the span that made it."""
    by_name = {(span["service"], span["name"], span["kind"]): span for span in spans}
    assert {topic for topic in (*TOPICS, "orders.flagged") for r in shop.kafka.read_all(topic)
            if r.key() == order_id.encode()} == set(makers)
    for topic, maker in makers.items():
        record, = (r for r in shop.kafka.read_all(topic) if r.key() == order_id.encode())
        headers = {name: data.decode() for name, data in record.headers()}
        span = by_name[maker]
        assert headers["correlationid"] == correlation
        assert headers["traceparent"] == f"00-{span['traceId']}-{span['spanId']}-01"
        for span in (s for s in spans if s["name"] == f"process {topic}"):
            attributes = span["attributes"]
            assert attributes == {
                "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": topic, "messaging.destination.partition.id": str(record.partition()),
                "messaging.consumer.group.name": attributes["messaging.consumer.group.name"],
                "messaging.message.id": headers["ce_id"], "messaging.message.conversation_id": correlation,
                "messaging.kafka.message.key": order_id, "messaging.kafka.offset": str(record.offset())}
            assert attributes["messaging.consumer.group.name"].startswith(span["service"])


def check_rows(shop, order_id, correlation, tables):
    """The order's rows in every database have the correlation id."""
    for part, table in tables.items():
        # Text of the table's name is the test's own.
        rows = wait_until(lambda p=part, t=table: shop.postgres.execute(
            f"select correlation_id from {t} where order_id = %s", (order_id,), shop.databases[p]), 30, f"the row of {table}")
        assert {row[0] for row in rows} == {correlation}, table


def check_flow(shop, order_id, correlation, makers):
    """outbox.flow of each database has what it has emitted, and nothing else."""
    for part in shop.databases:
        expected = sorted(("event", "sent", topic, order_id, kind, value(
            shop, part, "select id::text from outbox.event where topic = %s and convert_from(key, 'UTF8') = %s", topic, order_id),
            None) for topic, kind in EMITTED.get(part, {}).items() if topic in makers)
        wait_until(lambda p=part, e=expected: sorted(shop.postgres.execute(
            "select source, state, topic, key, type, event_id::text, consumer from outbox.flow where correlation_id = %s",
            (correlation,), shop.databases[p])) == e, 30, f"the flow in {part}")


def test_one_order_is_one_flow(traced_shop, receiver):
    """Row 000.10: one order: every row and record has its correlation id, spans of all services are one tree, the view lists it."""
    shop = traced_shop
    trace, caller = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    order_id = place(shop, **{"traceparent": f"00-{trace}-{caller}-01", "X-Correlation-Id": "corr-1"})
    spans = spans_of(receiver, trace, len(CONFIRMED))
    check_tree(spans, CONFIRMED, caller)
    check_records(shop, order_id, "corr-1", spans, MAKERS)
    check_rows(shop, order_id, "corr-1", TABLES)
    check_flow(shop, order_id, "corr-1", MAKERS)
    line = next(x for x in shop.services["payment"].log_lines() if x["event"] == "processed")
    assert line["trace_id"] == trace and line["correlation_id"] == "corr-1"
    # A caller without headers, or with such as are none, begins a flow and a trace; one that does not sample is followed.
    silent = uuid.uuid4().hex
    unsampled = place(shop, traceparent=f"00-{silent}-{caller}-00")
    # It is declined and flagged: every topic has a record of it.
    order_id = place(shop, "bob", "car", **{"traceparent": "no traceparent", "X-Correlation-Id": ""})
    record, = (r for r in shop.kafka.wait_for_records("orders.created", 3) if r.key() == order_id.encode())
    own = dict(record.headers())["traceparent"].decode().split("-")[1]
    spans = spans_of(receiver, own, len(CANCELLED))
    check_tree(spans, CANCELLED, None)
    check_records(shop, order_id, order_id, spans, DECLINED_MAKERS)
    check_rows(shop, order_id, order_id, {**TABLES, "fraud": "fraud.flag"})
    check_flow(shop, order_id, order_id, DECLINED_MAKERS)
    check_rows(shop, unsampled, unsampled, TABLES)
    answers = [r for r in shop.kafka.read_all("payments.completed") if r.key() == unsampled.encode()]
    assert dict(answers[0].headers())["traceparent"].decode().startswith(f"00-{silent}-")
    assert dict(answers[0].headers())["traceparent"].endswith(b"-00")
    assert not [span for span in collect_spans(receiver) if span["traceId"] == silent]


def headers_of(payment, order_id):
    """Headers of the answer to an order, as payment emitted it."""
    found = payment.database.value("select headers from outbox.events where key = %s and topic = 'payments.completed'",
                                   (order_id,)) or []
    return {header["name"]: header["value"] for header in found}


def test_without_endpoint_headers_pass(payment):
    """Correlation and trace: nothing configured: traceparent and tracestate pass unchanged; a bad one harms nothing."""
    parent = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
    service = payment.start(retry_max=0)
    payment.order("traced", headers=[("traceparent", parent), ("tracestate", "a=1,b=2"), ("correlationid", "c-1")])
    payment.order("plain")
    payment.order("bad", headers=[("traceparent", b"00-\xff"), ("tracestate", "x" * 600), ("correlationid", "c" * 300)])
    payment.flush()
    payment.wait_payments(3)
    assert headers_of(payment, "traced") == {"traceparent": parent, "tracestate": "a=1,b=2", "correlationid": "c-1"}
    assert headers_of(payment, "plain") == {}
    assert headers_of(payment, "bad") == {"correlationid": "c" * 256}
    assert not [series for series in service.metrics() if series.startswith("outbox_spans")]


def test_later_records_carry_their_own_flow(payment):
    """Row 000.10: what a retried record, one released after it and one replayed emit has each one's own correlation id and trace."""
    own = {order: {"traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01", "tracestate": f"of={order}",
                   "correlationid": f"c-{order}"} for order in ("slow-1", "next-1", "dead-1")}
    payment.fail_orders("slow")
    payment.start(retry_max=3, retry_backoff_ms=1500)
    payment.order("slow-1", key="k", headers=list(own["slow-1"].items()))
    payment.flush()
    payment.wait_dead_letters("retrying", 1)
    for order in ("next-1", "next-2"):
        payment.order(order, key="k", headers=list(own.get(order, {}).items()))
    payment.flush()
    payment.wait_dead_letters("held", 2)
    payment.heal_orders()
    payment.wait_dead_letters("resolved", 3)
    payment.fail_orders("dead", "OBX01")
    payment.order("dead-1", headers=list(own["dead-1"].items()))
    payment.flush()
    payment.wait_dead_letters("open", 1)
    payment.heal_orders()
    payment.execute("select outbox.dead_letter_replay(id, 'mended') from outbox.dead_letter where state = 'open'")
    payment.wait_dead_letters("resolved", 4)
    assert {order: headers_of(payment, order) for order in own} == own
    assert headers_of(payment, "next-2") == {}


def test_failed_tries_are_spans(payment, receiver):
    """Correlation and trace: by OTEL_ settings; each failed try is a span with its error, below the record's; retried or not."""
    trace, parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    payment.fail_orders("bad")
    service = payment.start(retry_max=2, retry_backoff_ms=100, env={
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "billing"})
    event_id = payment.order("bad-1", headers=[("traceparent", f"00-{trace}-{parent}-01")])
    payment.flush()
    spans = spans_of(receiver, trace, 3)
    assert len(spans) == 3
    for span in spans:
        assert (span["service"], span["parentSpanId"], span["kind"]) == ("billing", parent, CONSUMER)
        assert span["status"] == {"code": ERROR, "message": "seeded failure"}
        assert span["attributes"]["error.type"] == "P0001" and span["attributes"]["messaging.message.id"] == event_id
    assert len({span["spanId"] for span in spans}) == 3
    payment.wait_dead_letters("open", 1)
    assert payment.database.value("select bool_and(correlation_id is null) and count(*) = 2 from outbox.flow"
                                  " where event_id = %s or topic = 'orders.created.DLT'", (event_id,))
    # What is not answered 200 but 503 is sent again.
    receiver.status["/v1/traces"] = 503
    payment.order("good-1", headers=[("traceparent", f"00-{trace}-{parent}-01")])
    payment.flush()
    seen = len(receiver.attempts)
    wait_until(lambda: len(receiver.attempts) > seen, 30, "a refused attempt")
    del receiver.status["/v1/traces"]
    last = spans_of(receiver, trace, 4)[-1]
    assert "status" not in last and service.metrics()['outbox_spans_dropped_total{reason="queue_full"}'] == 0
    assert headers_of(payment, "good-1")["traceparent"] == f"00-{trace}-{last['spanId']}-01"


@pytest.mark.parametrize("answers", ("never", "absent"))
def test_receiver_slows_nobody(payment, answers):
    """Row 000.10: while the receiver does not answer all effects are done, spans are dropped and counted, the end is not delayed."""
    with contextlib.closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        if answers == "never":
            silent.listen(16)
        port = silent.getsockname()[1]
        service = payment.start(otlp_endpoint=f"http://user:t0ken@127.0.0.1:{port}", otlp_queue_spans=16)
        for n in range(600):
            payment.order(f"order-{n}")
        payment.flush()
        payment.wait_payments(600)
        wait_until(lambda: service.metrics()['outbox_spans_dropped_total{reason="queue_full"}'] >= 500, 20, "dropped spans")
        assert service.metrics()["outbox_spans_sent_total"] == 0
        assert service.stop() == 0
    times = {line["event"]: datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")) for line in service.log_lines()}
    assert (times["stopped"] - times["stopping"]).total_seconds() < 5, times
    [line] = [line for line in service.log_lines() if line["event"] == "spans_not_sent"]
    assert line["msg"].startswith(f"http://127.0.0.1:{port}: ") and "t0ken" not in service.child.log()
