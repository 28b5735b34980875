# SPDX-License-Identifier: PostgreSQL
"""outbox-consume: a consumer made of settings and one SQL function."""

import json
import subprocess
import time
import uuid

import pytest
from harness import wait_until


class Consumed:
    """A database with a schema `app` for functions, topics, and a producer; start() runs the program on them."""

    def __init__(self, broker, database, service, group, topic):
        self.broker = broker
        self.database = database
        self.make_service = service
        self.group = group
        self.topic = topic
        self.producer = broker.producer()
        broker.create_topic(topic, 3)
        database.declare(topic)
        database.execute("create schema app")
        database.execute("create table app.effect (place bigserial, key text, type text, number integer, note text)")

    def function(self, body, name="app.handle", argument="event outbox.consumed_event", returns="text"):
        self.database.execute(f"create function {name}({argument}) returns {returns} language plpgsql as"
                              f" $f$ begin {body} end $f$")

    def config(self, **config):
        return {"database": self.database.dsn(), "bootstrap_servers": self.broker.bootstrap, "topics": self.topic,
                "group_id": self.group, "function": "app.handle", "retry_backoff_ms": 100, **config}

    def start(self, **config):
        return self.make_service("outbox-consume", self.config(**config))

    def refused(self, **config):
        """Start it, wait for its end; returns (exit code, last line of its log)."""
        service = self.make_service("outbox-consume", self.config(**config), start=False)
        service.start(wait=False)
        wait_until(lambda: not service.running, 20, "the program to end")
        return service.child.process.returncode, service.log_lines()[-1]

    def produce(self, value, key="k", kind="Tested", headers=(), **options):
        """One record; value is JSON, or bytes. Returns the event id."""
        event_id = str(uuid.uuid4())
        own = [("ce_id", event_id)] + ([("ce_type", kind)] if kind else [])
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self.producer.produce(self.topic, data, key, headers=[*own, *headers], **options)
        self.producer.poll(0)
        return event_id

    def flush(self):
        assert self.producer.flush(20) == 0

    def wait_effects(self, count, timeout=30):
        self.database.wait_for("select count(*) = %s from app.effect", timeout, (count,), f"{count} effects")

    def count(self, service, result):
        name = f'outbox_consumer_records_total{{consumer="{self.group}",topic="{self.topic}",result="{result}"}}'
        return service.metrics().get(name, 0)


@pytest.fixture
def consumed(kafka, database, service, unique, topic_name):
    return Consumed(kafka, database, service, unique("consume"), topic_name)


def test_functions_refused(consumed, unique):
    """Generic consumer: what cannot be called ends the program with exit code 2 and the reason."""
    role = unique("consumer")
    consumed.database.execute(f"create role {role} login")
    consumed.database.execute(f"select outbox.grant_consume('{role}')")
    consumed.function("return 'done';")
    consumed.function("return 'done';", "app.takes_json", "event jsonb")
    consumed.function("null;", "app.returns_nothing", returns="void")
    consumed.function("return next 'a';", "app.many", returns="setof text")
    consumed.function("return 'done';", "app.\"Odd \"\"name\"\"\"", "event outbox.consumed_bytes")
    consumed.database.execute("revoke execute on function app.handle from public")
    refused = [
        ({"function": "app.absent"}, "app.absent(outbox.consumed_event) does not exist"),
        ({"function": "nowhere.handle"}, "nowhere.handle(outbox.consumed_event) does not exist"),
        ({"function": "APP.Takes_JSON"}, "app.takes_json takes (event jsonb), not (outbox.consumed_event)"),
        ({"function": "app.returns_nothing"}, "is not a function that returns one text"),
        ({"function": "app.many"}, "is not a function that returns one text"),
        ({"value_format": "bytes"}, "takes (event outbox.consumed_event), not (outbox.consumed_bytes)"),
        ({"function": 'app."Odd ""name"""'}, 'app."Odd ""name""" takes (event outbox.consumed_bytes)'),
        ({"database": consumed.database.dsn(user=role)}, f"role {role} has no USAGE on schema app"),
    ]
    for config, reason in refused:
        code, line = consumed.refused(**config)
        assert code == 2 and line["event"] == "function_refused" and reason in line["msg"], (config, line)
    consumed.database.execute(f"grant usage on schema app to {role}")
    code, line = consumed.refused(database=consumed.database.dsn(user=role))
    assert code == 2 and f"role {role} has no EXECUTE on function app.handle" in line["msg"]
    consumed.database.execute(f"drop owned by {role} cascade; drop role {role}")


def test_what_the_function_gets(consumed):
    """Generic consumer: every field of outbox.consumed_event, and what it emits carries the correlation id."""
    consumed.database.execute("create table app.got (event outbox.consumed_event)")
    consumed.function(f"""
        insert into app.got values (event);
        if event.value is not null then
            perform outbox.emit('{consumed.topic}', event.key, 'Answered', event.value);
        end if;
        return 'stored';""", 'app."On Event"')
    consumed.produce({"a": [1, 12345678901234567890123]}, "schlüssel", partition=1, headers=[
        ("correlationid", "corr-1"), ("ce_time", "2026-02-03T04:05:06.789+01:30"), ("twice", "first"), ("twice", "second"),
        ("bytes", b"\xff\x00"), ("zero", b"a\x00"), ("none", None)])
    consumed.flush()
    service = consumed.start(function='app."On Event"')
    consumed.database.wait_for("select count(*) = 1 from app.got")
    row = consumed.database.execute("""
        select (event).type, (event).topic, (event).partition, (event)."offset", (event).key, (event).value::text,
            (event).headers, (event).correlation_id, (event).occurred_at = '2026-02-03 02:35:06.789+00',
            (event).replay_id from app.got""")[0]
    assert row[:6] == ("Tested", consumed.topic, 1, 0, "schlüssel", '{"a": [1, 12345678901234567890123]}')
    headers = row[6]
    assert headers["twice"] == "first" and headers["bytes"] == "\\xff00" and headers["zero"] == "\\x6100"
    assert headers["none"] is None and headers["correlationid"] == "corr-1"
    assert row[7:] == ("corr-1", True, None)
    emitted = consumed.database.execute(
        "select e.type, convert_from(h.value, 'UTF8') from outbox.event e, outbox.headers_decode(e.headers) h"
        " where h.name = 'correlationid'")
    assert emitted == [("Answered", "corr-1")]
    # Without key, type, value and time stamp of its own.
    consumed.produce(None, None, None, timestamp=1700000000123)
    consumed.flush()
    consumed.database.wait_for("select count(*) = 2 from app.got")
    assert consumed.database.value(
        "select (event).key is null and (event).type is null and (event).value is null"
        " and (event).occurred_at = to_timestamp(1700000000.123) from app.got where (event).type is null")
    outcomes = [v for name, v in service.metrics().items() if 'outcome="stored"' in name]
    assert outcomes == [2]


def test_when_the_event_happened(consumed):
    """occurred_at and outbox_consumer_end_to_end_seconds are of the event, its ce_time as RFC 3339 has it; where
    that is none, as 31 February, of the record."""
    consumed.database.execute("create table app.happened (key text, at timestamptz)")
    consumed.function("insert into app.happened values (event.key, event.occurred_at); return 'noted';")
    now = time.time()
    stamp = int(1000 * (now - 300))
    times = {
        "old": time.strftime("%Y-%m-%dt%H:%M:%S.5z", time.gmtime(now - 4000)), "leap": "2016-12-31T23:59:60+00:00",
        "february": "2026-02-31T12:00:00Z", "midnight": "2026-01-31T24:00:00Z", "offset": "2026-01-31T12:00:00+24:00",
        "zero": "0000-01-01T00:00:00Z", "local": "2026-01-31T12:00:00", "blank": " 2026-01-31T12:00:00Z",
    }
    for key, text in times.items():
        consumed.produce({}, key, timestamp=stamp, headers=[("ce_time", text)])
    consumed.flush()
    service = consumed.start()
    consumed.database.wait_for("select count(*) = 8 from app.happened")
    happened = dict(consumed.database.execute("select key, extract(epoch from at)::float8 from app.happened"))
    assert happened.pop("old") == int(now - 4000) + 0.5 and happened.pop("leap") == 1483228800
    assert set(happened.values()) == {stamp / 1000} and len(happened) == 6
    metrics = wait_until(lambda: (m := service.metrics()) and any("end_to_end_seconds_count" in name and value == 8
                                                                  for name, value in m.items()) and m, 30, "the metric")
    total = sum(value for name, value in metrics.items() if "end_to_end_seconds_sum" in name)
    assert total == pytest.approx(6 * 300 + 4000 + now - 1483228800, abs=8 * (time.time() - now) + 8)


def test_no_json(consumed):
    """Decode errors are dead letters at once, and the partition goes on; the bytes variant takes any value."""
    consumed.function("insert into app.effect (key) values (event.key); return 'done';")
    consumed.function("insert into app.effect (note) values (encode(event.key, 'hex') || ':' || encode(event.value, 'hex'));"
                      " return 'done';", "app.handle_bytes", "event outbox.consumed_bytes")
    bad = [(b"\x00\x00\x00\x00\x01avro", b"a"), (b"{", b"b"), (b"", b"c"), (b"{}", b"\xff"), (b'"\\u0000"', b"d")]
    for value, key in bad:
        consumed.produce(value, key, partition=0)
    consumed.produce(["an array is JSON"], "good", partition=0)
    consumed.flush()
    service = consumed.start()
    consumed.wait_effects(1)
    letters = consumed.database.execute(
        "select value, key, attempts, state, error_message from outbox.dead_letter order by \"offset\"")
    assert [(value, key, 1, "open") for value, key in bad] == [row[:4] for row in letters]
    assert "not JSON" in letters[0][4] and "not UTF-8" in letters[3][4]
    assert consumed.count(service, "dead_lettered") == 5 and consumed.count(service, "retried") == 0
    assert service.stop() == 0
    consumed.start(function="app.handle_bytes", value_format="bytes", group_id=f"{consumed.group}-bytes")
    consumed.wait_effects(7)
    notes = {row[0] for row in consumed.database.execute("select note from app.effect where note is not null")}
    assert {f"{key.hex()}:{value.hex()}" for value, key in bad} < notes


def test_failures(consumed):
    """Generic consumer: the function's errors are retried, then dead letters; OBX01 is one at once."""
    consumed.function("""
        insert into app.effect (key) values (event.key);
        if event.key = 'never' then raise exception using errcode = 'OBX01', message = 'no such customer'; end if;
        if event.key = 'bad' then raise exception 'seeded'; end if;
        return 'done';""")
    for key in ("never", "bad", "good"):
        consumed.produce({}, key, partition=0)
    consumed.flush()
    consumed.start()
    consumed.database.wait_for("select count(*) = 2 from outbox.dead_letter where state = 'open'")
    letters = consumed.database.execute("select convert_from(key, 'UTF8'), attempts, sqlstate from outbox.dead_letter order by 1")
    assert letters == [("bad", 4, "P0001"), ("never", 1, "OBX01")]
    # What a failed try wrote is rolled back.
    assert consumed.database.execute("select key from app.effect") == [("good",)]


def test_event_types(consumed):
    """Row 000.12: of three event types on one topic two are handled, in order of each key; the third is counted."""
    consumed.function("insert into app.effect (key, type, number) values"
                      " (event.key, event.type, (event.value->>'n')::integer); return 'done';")
    keys = [f"k{n}" for n in range(10)]
    kinds = ("Opened", "Audited", "Closed")
    for number in range(60):
        for key in keys:
            consumed.produce({"n": number}, key, kinds[number % 3])
    consumed.flush()
    service = consumed.start(topics=f"{consumed.topic}:Opened, {consumed.topic}:Closed")
    consumed.wait_effects(400)
    wait_until(lambda: consumed.count(service, "ignored") == 200, 20, "200 ignored events")
    assert consumed.count(service, "ok") == 400
    rows = consumed.database.execute("select key, type, number from app.effect order by place")
    for key in keys:
        assert [(kind, n) for of, kind, n in rows if of == key] == [
            (kinds[n % 3], n) for n in range(60) if n % 3 != 1]


def test_two_topics_and_database_away(consumed, kafka, unique):
    """Generic consumer: several topics; started while its database is away it waits, and loses nothing."""
    other = unique("other")
    kafka.create_topic(other, 3)
    consumed.function("insert into app.effect (key, note) values (event.key, event.topic); return 'done';")
    consumed.produce({}, "one")
    consumed.producer.produce(other, b"{}", "two")
    consumed.flush()
    consumed.database.cluster.execute(f"alter database {consumed.database.name} allow_connections false")
    service = consumed.make_service("outbox-consume", consumed.config(topics=f"{consumed.topic},{other}"), start=False)
    service.start(wait=False)
    wait_until(lambda: any(line["event"] == "function_not_checked" for line in service.log_lines()), 20, "a warning")
    wait_until(lambda: service.request("GET", "/livez")[0] == 200, 20, "the service to live")
    consumed.database.cluster.execute(f"alter database {consumed.database.name} allow_connections true")
    consumed.wait_effects(2, 60)
    assert set(consumed.database.execute("select key, note from app.effect")) == {
        ("one", consumed.topic), ("two", other)}


def test_rolling_upgrade(consumed):
    """Row 002.10: under load the old version reads events with added fields and the new one events without; no dead letter."""
    for version, channel in (("v1", "'unknown to v1'"), ("v2", "coalesce(event.value->>'channel', 'default')")):
        consumed.function(f"""
            if event.value->>'n' is null then
                raise exception using errcode = 'OBX01', message = 'required field "n" is missing';
            end if;
            insert into app.effect (key, type, number, note)
            values (event.key, '{version}', (event.value->>'n')::integer, {channel}); return 'done';""", f"app.{version}")
    instances = [consumed.start(function="app.v1") for _ in range(2)]
    produced = 0

    def load_until(condition, what, added):
        """Produce events, with the fields of v2 or without, until the condition holds."""
        nonlocal produced
        more = {"channel": "shop", "gift": {"wrapped": True}} if added else {}

        def step():
            nonlocal produced
            for _ in range(20):
                consumed.produce({"n": produced, **more}, f"k{produced % 50}")
                produced += 1
            consumed.flush()
            return condition()
        wait_until(step, 60, what)

    def seen(version, note):
        return consumed.database.value("select count(*) > 20 from app.effect where type = %s and note = %s", (version, note))
    load_until(lambda: seen("v1", "unknown to v1"), "the old version at work", False)
    assert instances[0].stop() == 0
    instances[0].config["function"] = "app.v2"
    instances[0].write_config()
    instances[0].start(wait=False)
    load_until(lambda: seen("v2", "default"), "the new version to read old events", False)
    old = consumed.database.value("select max(number) from app.effect")
    load_until(lambda: seen("v2", "shop") and consumed.database.value(
        "select count(*) > 20 from app.effect where type = 'v1' and number > %s", (old + 20,)),
        "both versions to read new events", True)
    assert instances[1].stop() == 0
    instances[1].config["function"] = "app.v2"
    instances[1].write_config()
    instances[1].start(wait=False)
    load_until(lambda: instances[1].request("GET", "/readyz")[0] == 200, "the upgrade to end", True)
    print(f"{produced} events")
    consumed.wait_effects(produced, 60)
    assert consumed.database.value("select count(distinct number) from app.effect") == produced
    assert consumed.database.value("select count(*) from outbox.dead_letter") == 0


def test_help(session):
    """outbox-consume --help names its own settings and those of the runtime."""
    done = subprocess.run([session.environment.bindir / "outbox-consume", "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    for name in ("topics", "function", "value_format", "group_id", "retry_max"):
        assert f"\n  {name} " in done.stdout, name
