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
from harness.shop import PARTS, Shop

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
    """The running shop with notification, on empty topics, its spans sent to the receiver."""
    names = [name for topic in TOPICS for name in (topic, topic + ".DLT")]
    kafka.delete_topics(names)
    kafka.create_topics(names, 6)
    config = {"otlp_endpoint": receiver.url + "/", "log_level": "debug"}
    shop = Shop(session, postgres, kafka, prefix="trace_", config=dict.fromkeys((*PARTS, "notification"), config))
    shop.start()
    shop.add_consumer("notification").start()
    yield shop
    shop.stop()
    for name in shop.databases.values():
        postgres.drop_database(name)


def place(shop, **headers):
    """One order; returns its id."""
    status, text = shop.services["order"].request(
        "POST", "/orders", {"customerId": "ada", "items": [{"sku": "book", "quantity": 2}]},
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


TREE = {
    ("order-service", "POST /orders", SERVER): None,
    ("order-service", "orders.created create", PRODUCER): ("order-service", "POST /orders", SERVER),
    ("payment-service", "orders.created process", CONSUMER): ("order-service", "orders.created create", PRODUCER),
    ("inventory-service", "orders.created process", CONSUMER): ("order-service", "orders.created create", PRODUCER),
    ("notification-service", "orders.created process", CONSUMER): ("order-service", "orders.created create", PRODUCER),
    ("order-service", "payments.completed process", CONSUMER): ("payment-service", "orders.created process", CONSUMER),
    ("order-service", "inventory.reserved process", CONSUMER): ("inventory-service", "orders.created process", CONSUMER),
}


def check_tree(spans, root_parent):
    """Every span once, each below the one that caused it."""
    names = {span["spanId"]: (span["service"], span["name"], span["kind"]) for span in spans}
    assert sorted(names.values()) == sorted(TREE), names
    for span in spans:
        parent = span.get("parentSpanId")
        expected = TREE[names[span["spanId"]]]
        assert (names[parent] == expected) if expected else (parent == root_parent), (span, parent)
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert "status" not in span and "error.type" not in span["attributes"]


def check_records(shop, order_id, correlation, spans):
    """Every record carries the correlation id and, as its traceparent, the span that made it."""
    by_name = {(span["service"], span["name"]): span for span in spans}
    makers = {"orders.created": ("order-service", "orders.created create"),
              "payments.completed": ("payment-service", "orders.created process"),
              "inventory.reserved": ("inventory-service", "orders.created process")}
    for topic, maker in makers.items():
        record, = (r for r in shop.kafka.read_all(topic) if r.key() == order_id.encode())
        headers = {name: data.decode() for name, data in record.headers()}
        span = by_name[maker]
        assert headers["correlationid"] == correlation
        assert headers["traceparent"] == f"00-{span['traceId']}-{span['spanId']}-01"
        for span in (s for s in spans if s["name"] == f"{topic} process"):
            attributes = span["attributes"]
            assert attributes == {
                "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": topic, "messaging.destination.partition.id": str(record.partition()),
                "messaging.consumer.group.name": attributes["messaging.consumer.group.name"],
                "messaging.message.id": headers["ce_id"], "messaging.message.conversation_id": correlation,
                "messaging.kafka.message.key": order_id, "messaging.kafka.offset": str(record.offset())}
            assert attributes["messaging.consumer.group.name"].startswith(span["service"])


def check_rows(shop, order_id, correlation):
    tables = {"order": "shop.orders", "payment": "shop.payment", "inventory": "shop.reservation",
              "notification": "notification.message"}
    for part, table in tables.items():
        # Text of the table's name is the test's own.
        wait_until(lambda p=part, t=table: value(shop, p, f"select count(*) from {t} where order_id = %s", order_id), 30,
                   f"the row of {table}")
        assert value(shop, part, f"select correlation_id from {table} where order_id = %s", order_id) == correlation, table


def check_flow(shop, order_id, correlation):
    """outbox.flow of each database has what it has emitted."""
    for part, topic in (("order", "orders.created"), ("payment", "payments.completed"), ("inventory", "inventory.reserved")):
        wait_until(lambda p=part, t=topic: shop.postgres.execute(
            "select source, state, topic, key, type, event_id::text, consumer from outbox.flow where correlation_id = %s",
            (correlation,), shop.databases[p]) == [
                ("event", "sent", t, order_id, {"orders.created": "OrderCreated", "payments.completed": "PaymentCompleted",
                                                "inventory.reserved": "InventoryReserved"}[t],
                 value(shop, p, "select id::text from outbox.event where topic = %s and convert_from(key, 'UTF8') = %s",
                       t, order_id), None)], 30, f"{topic} sent in the flow")


def test_one_order_is_one_flow(traced_shop, receiver):
    """Row 000.10: one order: every row and record has its correlation id, spans of all services are one tree, the view lists it."""
    shop = traced_shop
    trace, caller = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    order_id = place(shop, **{"traceparent": f"00-{trace}-{caller}-01", "X-Correlation-Id": "corr-1"})
    spans = spans_of(receiver, trace, len(TREE))
    check_tree(spans, caller)
    check_records(shop, order_id, "corr-1", spans)
    check_rows(shop, order_id, "corr-1")
    check_flow(shop, order_id, "corr-1")
    line = next(x for x in shop.services["payment"].log_lines() if x["event"] == "processed")
    assert line["trace_id"] == trace and line["correlation_id"] == "corr-1"
    # A caller without headers, or with such as are none, begins a flow and a trace; one that does not sample is followed.
    silent = uuid.uuid4().hex
    unsampled = place(shop, traceparent=f"00-{silent}-{caller}-00")
    order_id = place(shop, **{"traceparent": "no traceparent", "X-Correlation-Id": ""})
    record, = (r for r in shop.kafka.wait_for_records("orders.created", 3) if r.key() == order_id.encode())
    own = dict(record.headers())["traceparent"].decode().split("-")[1]
    spans = spans_of(receiver, own, len(TREE))
    check_tree(spans, None)
    check_records(shop, order_id, order_id, spans)
    check_rows(shop, unsampled, unsampled)
    answers = [r for r in shop.kafka.read_all("payments.completed") if r.key() == unsampled.encode()]
    assert dict(answers[0].headers())["traceparent"].decode().startswith(f"00-{silent}-")
    assert dict(answers[0].headers())["traceparent"].endswith(b"-00")
    assert not [span for span in collect_spans(receiver) if span["traceId"] == silent]


def headers_of(payment, order_id):
    """Headers of the answer to an order, as payment emitted it."""
    found = payment.database.value("select headers from outbox.events where key = %s", (order_id,)) or []
    return {header["name"]: header["value"] for header in found}


def test_without_endpoint_headers_pass(payment):
    """Issue 5, correlation and trace: nothing configured: traceparent and tracestate pass unchanged; a bad one harms nothing."""
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


def test_failed_tries_are_spans(payment, receiver):
    """Issue 5, correlation and trace: by OTEL_ settings; each failed try is a span with its error, below the record's; retried or not."""
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
        service = payment.start(otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", otlp_queue_spans=16)
        for n in range(600):
            payment.order(f"order-{n}")
        payment.flush()
        payment.wait_payments(600)
        wait_until(lambda: service.metrics()['outbox_spans_dropped_total{reason="queue_full"}'] >= 500, 20, "dropped spans")
        assert service.metrics()["outbox_spans_sent_total"] == 0
        assert service.stop() == 0
    times = {line["event"]: datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")) for line in service.log_lines()}
    assert (times["stopped"] - times["stopping"]).total_seconds() < 5, times
