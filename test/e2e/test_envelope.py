# SPDX-License-Identifier: PostgreSQL
"""What is emitted arrives on Kafka equal, whichever client and way was used."""

import base64
import json
import subprocess

from harness import Environment
from psycopg.types.json import Jsonb

DOCUMENTS = [
    r'{"path": "C:\\new\\table\\u0041", "quote": "\"", "slash": "a\/b"}',
    r'{"text": "line 1\nline 2\r\n\ttab\b\f"}',
    r'{"escaped": "\u00e9\u20ac", "pair": "\ud83d\ude00", "control": "\u0001"}',
    '{"é": "ünï €😀", "raw": "日本", "nested": {"ключ": ["ß"]}}',
    '{\n\t"pretty" : [1,  2,\n\t\t3]\n}',
    '{"number": 1.10, "big": 12345678901234567890.123, "exp": 1e3, "none": null, "yes": true}',
    r'"\\\\"',
]

INSERT = "insert into outbox.outgoing (topic, key, type, payload) values (%s, %s, 'Tested', {})"

# way -> (statement, does the payload stay verbatim)
PSYCOPG_WAYS = {
    "untyped": (INSERT.format("%s"), False),
    "text": (INSERT.format("%s::text::jsonb"), False),
    "jsonb": (INSERT.format("%s::jsonb"), False),
    "emit": ("select outbox.emit(%s, %s, 'Tested', %s)", False),
    "verbatim": ("select outbox.emit_json(%s, %s, 'Tested', %s)", True),
}
JDBC_WAYS = {"text": False, "untyped": False, "jsonb": False, "emit": False, "verbatim": True}


def emit_by_psycopg(database, topic):
    """Emit every document in every way; returns how many events that made."""
    with database.connect() as connection:
        for number, document in enumerate(DOCUMENTS):
            for way, (statement, _) in PSYCOPG_WAYS.items():
                connection.execute(statement, (topic, f"psycopg-{way}-{number}", document))
            connection.execute(INSERT.format("%s"), (topic, f"psycopg-object-{number}", Jsonb(json.loads(document))))
    return len(DOCUMENTS) * (len(PSYCOPG_WAYS) + 1)


def emit_by_jdbc(database, topic):
    environment = Environment()
    lines = "\n".join(base64.b64encode(d.encode()).decode() for d in DOCUMENTS)
    cluster = database.cluster
    url = f"jdbc:postgresql://{cluster.host}:{cluster.port}/{database.name}?user=postgres"
    done = subprocess.run(
        [environment.java(), "-cp", environment.jars("clients"),
         str(environment.root / "test" / "java" / "JdbcEmit.java"), url, topic],
        input=lines, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, done.stdout
    return len(DOCUMENTS) * len(JDBC_WAYS)


def check_values(database, records):
    """Each value is the document verbatim, or what PostgreSQL itself prints for it as jsonb."""
    printed = [database.value("select %s::jsonb::text", (d,)).encode() for d in DOCUMENTS]
    for key, value in records.items():
        client, way, number = key.split("-")
        number = int(number)
        assert json.loads(value, parse_int=float) == json.loads(DOCUMENTS[number], parse_int=float), key
        if way == "object":
            continue  # the client printed numbers its own way
        assert value == (DOCUMENTS[number].encode() if way == "verbatim" else printed[number]), key


def test_json_arrives_equal_by_every_client(relay, kafka, topic):
    """Row 001.1: JSON with backslash, newline, \\u escape and non-ASCII, as text and as jsonb, by psycopg and
    by JDBC, through outbox.outgoing and emit, arrives equal."""
    expected = emit_by_psycopg(relay, topic) + emit_by_jdbc(relay, topic)
    messages = kafka.wait_for_records(topic, expected)
    records = {m.key().decode(): m.value() for m in messages}
    assert len(messages) == expected
    assert len(records) == expected
    assert {dict(m.headers())["content-type"] for m in messages} == {b"application/json"}
    check_values(relay, records)


def test_bytes_arrive_identical(relay, kafka, topic):
    """Row 001.1: key 0xFF00, every byte in the payload, and a header value 0x00FF twice arrive as they were."""
    payload = bytes(range(256)) * 5
    headers = [("n", b"\x00\xff"), ("é", b""), ("n", b"\x00\xff"), ("none", None)]
    relay.execute(
        "select outbox.emit_bytes(%s, %s, 'Tested', %s, 'application/x',"
        " array[(%s, %s), (%s, %s), (%s, %s), (%s, %s)]::outbox.header[])",
        (topic, b"\xff\x00", payload, *[part for header in headers for part in header]),
    )
    message = kafka.wait_for_records(topic, 1)[0]
    assert message.key() == b"\xff\x00"
    assert message.value() == payload
    assert [h for h in message.headers() if h[0] in ("n", "é", "none")] == headers
    assert dict(message.headers())["content-type"] == b"application/x"


def test_tombstone_has_no_value(relay, kafka, topic):
    """Row 002.2: a NULL payload is a record without a value, its key kept; a NULL key is a record without one."""
    relay.execute("select outbox.emit(%s, 'k', 'Deleted', NULL), outbox.emit(%s, NULL, 'Keyless', '1')", (topic, topic))
    found = {(m.key(), m.value()) for m in kafka.wait_for_records(topic, 2)}
    assert found == {(b"k", None), (None, b"1")}
