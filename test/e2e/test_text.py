# SPDX-License-Identifier: PostgreSQL
"""Text at the services' borders: any language, bytes that are no text, databases of other encodings and settings."""

import json
import uuid

import pytest
from harness import wait_until
from test_consume import Consumed


@pytest.fixture
def consumed(kafka, database, service, unique, topic_name):
    return Consumed(kafka, database, service, unique("text"), topic_name)


def logged(service):
    """The log, of which every line is JSON in UTF-8, by event."""
    lines = [json.loads(line.decode()) for line in service.child.log_path.read_bytes().splitlines()]
    return {event: [line for line in lines if line["event"] == event] for event in {line["event"] for line in lines}}


def header(name, value):
    """In Kafka's encoding; shorter than 64 bytes."""
    return bytes([2 * len(name)]) + name + (b"\x01" if value is None else bytes([2 * len(value)]) + value)


def letters(consumed):
    """State, class, SQLSTATE, tries, type, correlation id and value of the dead letters, in their order."""
    return consumed.database.execute("select state, error_class, sqlstate, attempts, event_type, correlation_id, value"
                                     " from outbox.dead_letter order by id")


def test_any_language(consumed):
    """A type that is no ASCII is matched, a correlation id goes on whole, and so does the outcome."""
    consumed.function(f"""
        insert into app.effect (key, type, note) values (event.key, event.type, event.correlation_id);
        perform outbox.emit('{consumed.topic}', event.key, 'Geprüft', '{{}}');
        return repeat('ä', 40);""")
    for kind, flow in (("Größe", "bestellung-ä"), ("Größe".encode("latin-1"), "x"), ("Grösse", "y"), ("Größe", "日" * 200),
                       ("Größe", "bestellung-ä".encode("latin-1")), ("Größe", "a\nb")):
        consumed.produce({}, kind=kind, headers=[("correlationid", flow), ("tracestate", b"\xe4"), ("traceparent", "\x00")])
    consumed.flush()
    service = consumed.start(topics=f"{consumed.topic}:Größe")
    consumed.wait_effects(4)
    flows = ["bestellung-ä", "日" * 85, "bestellung-%E4", "a%0Ab"]
    assert consumed.database.execute("select type, note from app.effect order by place") == [("Größe", flow) for flow in flows]
    assert consumed.database.execute(
        "select e.type, convert_from(h.value, 'UTF8') from outbox.event e, outbox.headers_decode(e.headers) h"
        " where h.name = 'correlationid' order by e.seq") == [("Geprüft", flow) for flow in flows]
    wait_until(lambda: consumed.count(service, "ignored") == 2, 30, "two events of other types")
    assert any('outcome="' + "ä" * 31 + '"' in series for series in service.metrics())
    assert not letters(consumed)


def test_database_without_the_character(kafka, postgres, make_database, service, unique, topic_name):
    """A LATIN1 database takes what it has characters for; another record is a letter of class decode at
    once, whole and published; one whose tracing headers alone are such loses nothing. The partition goes on."""
    consumed = Consumed(kafka, make_database(postgres, encoding="LATIN1"), service, unique("text"), topic_name)
    consumed.database.declare(f"{topic_name}.DLT")
    consumed.database.execute("create table app.seen (key text, flow text, headers jsonb)")
    consumed.function("""
        insert into app.effect (key, type, note) values (event.key, event.type, event.value->>'name');
        insert into app.seen values (event.key, current_setting('outbox.correlation_id'), event.headers);
        return 'done';""")
    for key, name, kind, headers in (
            ("first", "Müller", "Größe", [("correlationid", "bestellung-ä")]),
            ("value", "日本", "Tested", [("correlationid", "日")]),
            ("escape", "escaped", "Tested", []),
            ("schlüssel-日", "key", "Tested", []),
            ("type", "type", "型", []),
            ("header", "Jürgen", "Tested", [("correlationid", "日" * 200), ("baggage", "k=日"), ("umlaut", "ü"), ("名", "1")]),
            ("last", "Ende", "Tested", [])):
        value = json.dumps({"name": name}, ensure_ascii=False).replace("escaped", "\\u65e5").encode()
        consumed.produce(value, key, kind, headers, partition=0)
    consumed.flush()
    service = consumed.start(retry_max=100)
    consumed.wait_effects(3, 60)
    assert consumed.database.execute("select key, type, note from app.effect order by place") == [
        ("first", "Größe", "Müller"), ("header", "Tested", "Jürgen"), ("last", "Tested", "Ende")]
    seen = {key: (flow, json.loads(headers)) for key, flow, headers in consumed.database.execute(
        "select key, flow, headers::text from app.seen")}
    assert seen["first"][0] == "bestellung-ä" and seen["header"][0] == "%E6%97%A5" * 28
    assert seen["header"][1]["umlaut"] == "ü" and seen["header"][1]["baggage"] != "k=?"
    rows = letters(consumed)
    assert [row[:4] for row in rows] == [("open", "decode", "22P05", 1)] * 4
    assert [row[4:6] for row in rows] == [
        ("Tested", "%E6%97%A5"), ("Tested", None), ("Tested", None), ("%E5%9E%8B", None)]
    assert rows[0][6] == '{"name": "日本"}'.encode()
    events = consumed.database.execute("select key, type, payload, headers from outbox.event order by seq")
    assert [row[0].decode() for row in events] == ["value", "escape", "schlüssel-日", "type"]
    assert events[0][2] == rows[0][6] and header(b"dlt-original-correlationid", "日".encode()) in events[0][3]
    assert events[3][1] == "%E5%9E%8B" and header(b"dlt-original-ce_type", "型".encode()) in events[3][3]
    log = logged(service)
    assert len(log["dead_letter"]) == 4 and "dead_letter_unpublished" not in log


def test_database_without_conversion(kafka, postgres, make_database, service, unique, topic_name):
    """SQL_ASCII keeps UTF-8 as it comes; an escape that it cannot read is the record's fault alone."""
    consumed = Consumed(kafka, make_database(postgres, encoding="SQL_ASCII"), service, unique("text"), topic_name)
    consumed.function("""
        insert into app.effect (key, type, note) values (event.key, event.type, event.correlation_id);
        return 'done';""")
    for key, value in (("schlüssel", '{"a": "日"}'), ("escape", '{"a": "\\u65e5"}'), ("last", "{}")):
        consumed.produce(value.encode(), key, "Größe", [("correlationid", "日")], partition=0)
    consumed.flush()
    consumed.start(retry_max=100)
    consumed.wait_effects(2, 60)
    read = "select convert_to(key || '/' || type || '/' || note, 'SQL_ASCII') from app.effect order by place"
    assert [row[0].decode() for row in consumed.database.execute(read)] == ["schlüssel/Größe/日", "last/Größe/日"]
    assert consumed.database.value("select count(*) = 1 from outbox.dead_letter where key = 'escape' and state = 'open'"
                                   " and error_class = 'decode' and attempts = 1")


@pytest.mark.parametrize("encoding, known, unknown", (
    ("LATIN1", "äß", "€日"), ("WIN1252", "ä€", "日"), ("EUC_JP", "日本", "€"), ("SQL_ASCII", "ä日", "")))
def test_text_of_a_record(postgres, make_database, encoding, known, unknown):
    """What a database has characters for is text, the rest is percent-encoded in ids and hex in headers."""
    database = make_database(postgres, encoding=encoding)
    given = ("a" + known + "x" + unknown).encode()
    escaped = "a" + known + "x" + "".join(f"%{byte:02X}" for byte in unknown.encode())
    text, headers = database.execute(
        "select outbox.wire_text(%s, 256)::bytea, convert_to(outbox.consumed_headers(%s)::text, %s)",
        (given, b"\x04" + header(b"k", known.encode()) + header(b"u", ("u" + unknown).encode()),
         "UTF8" if encoding != "SQL_ASCII" else encoding))[0]
    assert text.decode({"EUC_JP": "euc_jp", "WIN1252": "cp1252", "LATIN1": "latin-1"}.get(encoding, "utf-8")) == escaped
    shown = json.loads(headers.decode())
    assert shown["k"] == known and (shown["u"] == "u") == (unknown == "")


def test_letter_of_bytes(consumed, relay):
    """What is no text in a record is on <topic>.DLT as it was, byte for byte; what cannot go there is counted,
    and the log does not say otherwise."""
    dlt = consumed.database.declare(f"{consumed.topic}.DLT", 1)
    relay.execute("create schema dlt")
    relay.execute("create table dlt.got (event outbox.consumed_bytes)")
    consumed.function("return 'never';")
    consumed.function("insert into dlt.got values (event); return 'got';", "dlt.handle", "event outbox.consumed_bytes")
    own = b"\x06" + header(b"\xff\xfe", b"\x00\xe4") + header(b"", b"x") + header("ä".encode(), None)
    relay.execute("select outbox.dead_letter_event(%s, %s, 'Tested', %s, %s, null, null)",
                  (consumed.topic, b"\xff\x01", b"\xfe{", own))
    service = consumed.start()
    wait_until(lambda: len(letters(consumed)) == 1, 60, "the dead letter")
    assert letters(consumed)[0][:4] == ("open", "decode", None, 1)
    relay.wait_delivered(60)
    consumed.start(group_id=f"{consumed.group}-dlt", topics=dlt, function="dlt.handle", value_format="bytes")
    relay.wait_for("select count(*) = 1 from dlt.got", 60)
    key, value, headers = relay.execute("select (event).key, (event).value, (event).headers from dlt.got")[0]
    assert (key, value) == (b"\xff\x01", b"\xfe{")
    assert headers["\\xfffe"] == "\\x00e4" and headers[""] == "x" and headers["ä"] is None
    assert relay.value("select headers like %s from outbox.dead_letter", (b"%" + own[1:] + b"%",))
    # The next one does not fit into what the topic of the letters is declared with.
    relay.execute("update outbox.topic set max_message_bytes = 2000 where name = %s", (dlt,))
    consumed.produce(b"\xfe" * 2000, headers=[("correlationid", b"\xe4")])
    consumed.flush()
    series = f'outbox_dead_letters_unpublished{{consumer="{consumed.group}",topic="{consumed.topic}"}}'
    wait_until(lambda: service.metrics().get(series) == 1, 60, "the metric of letters that are not published")
    log = logged(service)
    assert "Publishing to" in log["dead_letter"][0]["msg"] and len(log["dead_letter"]) == 1
    told, = log["dead_letter_unpublished"]
    assert told["msg"].startswith(f"Not published to {dlt}: event is too large") and told["correlation_id"] == "%E4"


# What a role or a database may be given with ALTER ... SET, and nothing the runtime does may depend on.
SETTINGS = {
    "array_nulls": "off", "bytea_output": "escape", "client_encoding": "LATIN1", "client_min_messages": "error",
    "datestyle": "German", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
    "exit_on_error": "on", "extra_float_digits": "-15", "idle_session_timeout": "'300ms'", "intervalstyle": "iso_8601",
    "lock_timeout": "1", "row_security": "off", "search_path": "app", "statement_timeout": "250",
    "timezone": "'Pacific/Apia'", "transform_null_equals": "on",
}


def test_settings_change_nothing(consumed):
    """Settings of the role, the environment and the connection string; a handler that sets the encoding."""
    name = consumed.database.name
    consumed.function("""
        insert into app.effect (key, type, note) values (event.key, event.type, event.value->>'name');
        if event.value->>'name' = 'bad' then raise exception 'schlecht: ä'; end if;
        if event.value->>'name' = 'Müller 1' then perform set_config('client_encoding', 'LATIN1', false); end if;
        perform pg_sleep(0.3);
        return 'größe';""")
    version = consumed.database.value("select current_setting('server_version_num')::integer")
    settings = {**SETTINGS, **({"standard_conforming_strings": "off"} if version < 190000 else {}),
                **({"transaction_timeout": "250"} if version >= 170000 else {})}
    for setting, value in settings.items():
        consumed.database.execute(f"alter database {name} set {setting} = {value}")
    service = consumed.make_service(
        "outbox-consume", consumed.config(database=consumed.database.dsn(client_encoding="LATIN1"), retry_max=1),
        env={"PGCLIENTENCODING": "LATIN1", "PGOPTIONS": "-c client_encoding=LATIN1"})
    for n in range(3):
        consumed.produce({"name": f"Müller {n}"}, None, "Größe", partition=0)
        consumed.produce({"name": "bad"}, f"k{n}", partition=0)
        consumed.flush()
        wait_until(lambda n=n: consumed.count(service, "ok") == n + 1, 60, "the record")
    with consumed.database.connect(options="-c client_encoding=UTF8 -c bytea_output=hex -c statement_timeout=0") as person:
        wait_until(lambda: person.execute("select count(*) = 3 from outbox.dead_letter where state = 'open'").fetchone()[0],
                   60, "dead letters")
        assert person.execute("select key, type, note from app.effect order by place").fetchall() == [
            (None, "Größe", f"Müller {n}") for n in range(3)]
        assert person.execute("select distinct error_message, attempts from outbox.dead_letter").fetchall() == [
            ("schlecht: ä", 2)]
    assert any('outcome="größe"' in series for series in service.metrics())
    assert "waiting" not in logged(service)


@pytest.mark.parametrize("encoding", ("UTF8", "LATIN1"))
def test_tracing_costs_no_order(kafka, postgres, make_database, service, unique, encoding):
    """Whatever stands in X-Correlation-Id or traceparent, the order is placed, and the id is told."""
    database = make_database(postgres, encoding=encoding)
    postgres.psql_file(postgres.environment.root / "examples" / "shop" / "order.sql", database.name)
    order = service("outbox-order", {"database": database.dsn(user="order_service"), "bootstrap_servers": kafka.bootstrap,
                                     "group_id": unique("order")}, start=False)
    order.start(wait=False)
    wait_until(lambda: order.child.require_running() and answers(order), 30, "the program to listen")
    trace = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-"
    cases = [("bestellung-ä".encode(), "bestellung-ä"), ("bestellung-ä".encode("latin-1"), "bestellung-%E4"), (b"a\tb", "a%09b"),
             (b"x" * 300, "x" * 256), ("xä".encode() * 100, "xä" * 85 + "x"),
             ("日".encode(), "日" if encoding == "UTF8" else "%E6%97%A5")]
    for sent, expected in cases:
        headers = {"Idempotency-Key": str(uuid.uuid4()), "X-Correlation-Id": sent.decode("latin-1"), "traceparent": trace + "ä"}
        status, text = order.request("POST", "/orders", {"customerId": "ada", "items": [{"sku": "book", "quantity": 1}]}, headers)
        assert status == 201, (sent, text)
        shown = json.loads(order.request("GET", "/orders/" + json.loads(text)["orderId"])[1])
        assert shown["correlationId"] == expected
        flow = database.value("select h.value from outbox.event e, outbox.headers_decode(e.headers) h"
                              " where h.name = 'correlationid' order by e.seq desc limit 1")
        assert flow.decode() == expected
    # What is no tracing header is told as text, also where that is cut.
    status, text = order.request("POST", "/orders", {"customerId": "ada", "items": [{"sku": "日" * 2000, "quantity": 1}]},
                                 {"Idempotency-Key": "k"})
    assert status == 400 and json.loads(text)["error"].startswith("the order was refused: ")
    assert logged(order)


def answers(service):
    try:
        return service.request("GET", "/livez")[0] == 200
    except OSError:
        return False
