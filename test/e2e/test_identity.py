# SPDX-License-Identifier: PostgreSQL
"""Which event a record is, CloudEvents in structured mode, and a consumer under a new name."""

import base64
import json
import uuid

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from harness import wait_until

NIL = "00000000-0000-0000-0000-000000000000"
STRUCTURED = "application/cloudevents+json; charset=UTF-8"

SCHEMA = """
create schema app;
create table app.effect (place bigserial, consumer text, key text, id uuid, type text, value text, headers jsonb,
    correlation_id text, occurred_at timestamptz);
create table app.mended ();
"""
HANDLE = """
create function app.handle_{kind}(event outbox.consumed_{kind}) returns text language plpgsql as $f$
begin
    if {key} like 'mend%' and not exists (select from app.mended) then raise exception 'not yet'; end if;
    insert into app.effect (consumer, key, id, type, value, headers, correlation_id, occurred_at)
    values ('{kind}', {key}, event.id, event.type, {value}, event.headers, event.correlation_id, event.occurred_at);
    return 'done';
end $f$
"""


class Events:
    """A database with two functions, a topic of one partition and a producer; start(kind) runs outbox-consume."""

    def __init__(self, broker, database, service, group, topic):
        self.broker, self.database, self.make_service, self.group, self.topic = broker, database, service, group, topic
        self.producer = broker.producer()
        broker.create_topic(topic, 1)
        database.declare(topic)
        database.execute(SCHEMA)
        database.execute(HANDLE.format(kind="event", key="event.key", value="event.value::text"))
        database.execute(HANDLE.format(kind="bytes", key="convert_from(event.key, 'UTF8')", value="encode(event.value, 'hex')"))

    def start(self, kind="event", **config):
        return self.make_service("outbox-consume", {
            "database": self.database.dsn(), "bootstrap_servers": self.broker.bootstrap, "topics": f"{self.topic}:Placed",
            "group_id": f"{self.group}-{kind}", "function": f"app.handle_{kind}", "retry_max": 100,
            "value_format": "json" if kind == "event" else "bytes", "retry_backoff_ms": 100, "dlt_order": "skip", **config})

    def send(self, key, headers, value=b"{}"):
        self.producer.produce(self.topic, value, key, headers=list(headers.items()))

    def envelope(self, key, headers=None, **members):
        """A structured CloudEvent; returns its bytes."""
        event = {"specversion": "1.0", "source": "/shop", "type": "Placed", **members}
        value = json.dumps({name: part for name, part in event.items() if part is not None}).encode()
        self.send(key, {"content-type": STRUCTURED, **(headers or {})}, value)
        return value

    def wait_done(self, service, kind, count):
        """count records of the topic have been dealt with, in whatever way."""
        assert self.producer.flush(30) == 0
        self.database.wait_for("select max(next_offset) >= %s from outbox.consumer_offset where consumer = %s", 60,
                               (count, f"{self.group}-{kind}"), f"{count} records dealt with")

    def effects(self, kind="event"):
        """How often each key had its effect."""
        return dict(self.database.execute("select key, count(*) from app.effect where consumer = %s group by key", (kind,)))


@pytest.fixture
def events(kafka, database, service, unique, topic_name):
    return Events(kafka, database, service, unique("identity"), topic_name)


def test_any_id(events):
    """ce_id and id of any form name the event: produced twice it runs once, also where it became a dead letter between;
    of two sources it is two events; the nil UUID names none (eShopOnContainers#508, sdk-go#1113, NServiceBus#2521)."""
    event_id = str(uuid.uuid4())
    once = {
        "text": {"ce_id": "order-17-placed", "ce_source": "/shop"},
        "other source": {"ce_id": "order-17-placed", "ce_source": "/crm"},
        "no source": {"ce_id": "order-17-placed"},
        "ulid": {"ce_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "ce_source": "/shop"},
        "bytes": {"ce_id": b"\xff\x00\x01", "ce_source": "/shop"},
        "long": {"ce_id": "x" * 100_000, "ce_source": "/shop"},
        "id": {"id": "17"},
        "mended": {"ce_id": "order-18-placed", "ce_source": "/shop"},
    }
    for key, headers in {**once, **once}.items():
        events.send(key, {"ce_type": "Placed", **headers})
    for spelling in (event_id, event_id.upper(), f"urn:uuid:{event_id}", f"{{{event_id}}}"):
        events.send("uuid", {"ce_type": "Placed", "ce_id": spelling})
    for key, name in (("nil", NIL), ("empty", "")):
        for _ in range(2):
            events.send(key, {"ce_type": "Placed", "ce_id": name})
    service = events.start()
    count = len(once) + 8
    events.wait_done(service, "event", count)
    for key, headers in once.items():
        events.send(key, {"ce_type": "Placed", **headers})
    events.wait_done(service, "event", count + len(once))
    events.database.execute("insert into app.mended default values")
    expected = {**dict.fromkeys(once, 1), "uuid": 1, "nil": 2, "empty": 2}
    wait_until(lambda: events.effects() == expected, 30, "the effects")
    events.send("mended", {"ce_type": "Placed", **once["mended"]})
    events.send("last", {"ce_type": "Placed", "ce_id": "last"})
    wait_until(lambda: events.effects().get("last") == 1, 30, "what came last")
    assert events.effects() == {**expected, "last": 1}
    assert events.database.value("select id::text from app.effect where key = 'uuid'") == event_id
    assert service.stop() == 0


def send_structured(events):
    """Structured events that can be read, two of them also in binary mode; returns how many records."""
    data = {"n": 12345678901234567890, "text": "größer \" } ]"}
    own = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tenant": "7"}
    events.envelope("json", own, id="17", data=data, time="2026-02-03T04:05:06Z", correlationid="c-17", partitionkey="p")
    events.envelope("json", {"Content-Type": STRUCTURED, "content-type": None}, id="17", data=data)
    events.send("json", {"ce_id": "17", "ce_source": "/shop", "ce_type": "Placed"}, b"{}")
    events.envelope("other type", id="18", type="Audited", data=data)
    events.envelope("base64", id="19", data_base64=base64.b64encode(b'{"a": 1}').decode(), datacontenttype="application/json")
    events.envelope("nothing", id="20")
    events.envelope("mend", id="21", data=1)
    return 7


def refused_values(events):
    """What cannot be read, by key: bytes and reason."""
    refused = {
        "batch": ("application/cloudevents-batch+json", b"[]", "a batch of CloudEvents is not read"),
        "avro": ("application/cloudevents+avro", b"\x00\x01", "not application/cloudevents+avro"),
        "no json": (STRUCTURED, b'{"specversion": "1.0"', "not JSON"),
        "no id": (STRUCTURED, b'{"specversion":"1.0","source":"/s","type":"Placed","data":{}}', '"id" is missing'),
        "base64": (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"/s","type":"Placed","data_base64":"?"}', "no base64"),
    }
    for key, (content_type, value, _) in refused.items():
        events.send(key, {"content-type": content_type, "own": "kept"}, value)
    return refused


def test_structured_mode(events):
    """sdk-java#401: data is the value, attributes are as in binary mode, which names the same event; what is tried again
    from outbox.dead_letter is read the same way; what cannot be read is a letter of class decode, byte for byte."""
    count = send_structured(events)
    refused = refused_values(events)
    services = {kind: events.start(kind) for kind in ("event", "bytes")}
    expected = {"json": 1, "base64": 1, "nothing": 1}
    for kind, service in services.items():
        events.wait_done(service, kind, count + len(refused))
        assert events.effects(kind) == expected
    row = events.database.execute("""
        select type, value, headers, correlation_id, occurred_at = '2026-02-03 04:05:06+00' from app.effect
        where consumer = 'event' and key = 'json'""")[0]
    assert row[0] == "Placed" and '"n": 12345678901234567890' in row[1] and 'größer' in row[1] and row[3:] == ("c-17", True)
    assert {name: row[2].get(name) for name in ("ce_id", "ce_source", "content-type", "tenant", "ce_partitionkey", "ce_data")} == {
        "ce_id": "17", "ce_source": "/shop", "content-type": "application/json", "tenant": "7", "ce_partitionkey": "p",
        "ce_data": None}
    assert events.database.execute("select key, value from app.effect where consumer = 'bytes' and key <> 'json'"
                                   " order by key") == [("base64", b'{"a": 1}'.hex()), ("nothing", None)]
    letters = events.database.execute("""
        select convert_from(key, 'UTF8'), value, error_class, state, attempts, error_message,
            (select convert_from(h.value, 'UTF8') from outbox.headers_decode(headers) h where h.name = 'content-type')
        from outbox.dead_letter where consumer = %s and state = 'open'""", (f"{events.group}-event",))
    assert {row[0] for row in letters} == set(refused)
    for key, value, kind, state, attempts, message, content_type in letters:
        assert (content_type, value, kind, state, attempts) == (*refused[key][:2], "decode", "open", 1)
        assert refused[key][2] in message
    waiting = events.database.execute("select distinct convert_from(value, 'UTF8')::jsonb->>'id', event_type"
                                      " from outbox.dead_letter where state = 'retrying'")
    assert waiting == [("21", "Placed")], "the envelope is kept"
    events.database.execute("insert into app.mended default values")
    for kind in services:
        wait_until(lambda: events.effects(kind) == {**expected, "mend": 1}, 30, "the retry")
    ids = events.database.execute("select count(*), count(distinct id) from app.effect where key = 'mend'")
    assert ids == [(2, 1)], "the same event for both consumers"
    events.envelope("last", id="22", data={})
    for kind, service in services.items():
        wait_until(lambda: events.effects(kind).get("last") == 1, 60, "the last event before the restart")
        assert service.stop() == 0
    again = events.start()
    events.envelope("later", id="23")
    wait_until(lambda: events.effects().get("later") == 1, 60, "the event after the restart")
    name = f'outbox_consumer_records_total{{consumer="{events.group}-event",topic="{events.topic}",result="duplicate"}}'
    assert again.metrics().get(name, 0) == 0, "the log is known by the records as they came, nothing is read again"
    assert not [line for line in again.log_lines() if line["level"] == "warning"]


def test_structured_mode_in_c(payment):
    """A handler in C gets the data of a structured event, its type decides, and it runs once."""
    body = {"orderId": "o-1", "customerId": "ada", "amount": 5, "currency": "EUR",
            "items": [{"sku": "pen", "quantity": 1}], "createdAt": "2026-01-01T00:00:00.000Z"}
    envelope = {"specversion": "1.0", "id": "order-1", "source": "/orders", "type": "OrderCreated", "data": body}
    for kind in ("OrderCreated", "OrderAudited", "OrderCreated"):
        value = json.dumps({**envelope, "type": kind}).encode()
        payment.producer.produce("orders.created", value, "o-1", headers=[("content-type", STRUCTURED)], partition=0)
    assert payment.producer.flush(30) == 0
    service = payment.start()
    name = 'outbox_consumer_records_total{{consumer="{}",topic="orders.created",result="{}"}}'
    wait_until(lambda: service.metrics().get(name.format(payment.group, "duplicate")) == 1, 30, "the duplicate")
    counts = {result: service.metrics().get(name.format(payment.group, result), 0) for result in
              ("ok", "ignored", "duplicate", "dead_lettered", "retried")}
    assert counts == {"ok": 1, "ignored": 1, "duplicate": 1, "dead_lettered": 0, "retried": 0}
    assert payment.execute("select count(*) from shop.payment where order_id = 'o-1'") == [(1,)]


def test_renamed_group(events):
    """A consumer that is new to topics others of the database have read says so before it reads, naming them; the
    old name, and one that has begun, say nothing. With the old one's offsets set for it first it processes nothing again."""
    def warnings(service):
        return [(line["level"], line["msg"]) for line in service.log_lines() if line["event"] == "consumer_is_new"]
    events.send("a", {"ce_type": "Placed", "ce_id": "a"})
    for _ in range(2):
        service = events.start()
        events.wait_done(service, "event", 1)
        assert service.stop() == 0 and warnings(service) == []
    for found in (1, 0):
        renamed = events.start(group_id=f"{events.group}-renamed", threads=3)
        wait_until(lambda: events.effects() == {"a": 2}, 30, "what was processed to be processed again")
        assert renamed.stop() == 0
        assert len(warnings(renamed)) == found
        for level, message in warnings(renamed):
            assert level == "warning" and f"consumer {events.group}-renamed has no watermark for topic {events.topic}" in message
            assert f"other consumers have: {events.group}-event (moved last at 20" in message
    moved = f"{events.group}-moved"
    request = ConsumerGroupTopicPartitions(moved, [TopicPartition(events.topic, 0, 1)])
    events.broker.admin.alter_consumer_group_offsets([request])[moved].result(30)
    service = events.start(group_id=moved)
    events.send("b", {"ce_type": "Placed", "ce_id": "b"})
    wait_until(lambda: events.effects() == {"a": 2, "b": 1}, 60, "what is new alone")
    assert len(warnings(service)) == 1
