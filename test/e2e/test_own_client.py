# SPDX-License-Identifier: PostgreSQL
"""Consumers written with other people's clients: those of docs/consume-with-your-own-client.md, and what SDKs read.

What the document shows is what runs here: its programs are the files of
examples/consumers (a rule of scripts/check-rules compares them), its SQL is
taken from its text.
"""

import base64
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import uuid

import psycopg
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from harness import Environment, wait_until
from harness.process import ChildProcess

ENVIRONMENT = Environment()
EXAMPLES = ENVIRONMENT.root / "examples" / "consumers"
DOCUMENT = (ENVIRONMENT.root / "docs" / "consume-with-your-own-client.md").read_text()


def shown(name):
    """The block of the document that a comment names."""
    return re.search(rf"<!-- {name} -->\n+```\w*\n(.*?)^```", DOCUMENT, re.S | re.M).group(1)


class OwnClient:
    """A consumer of the document on a topic of its own, and the database it writes."""

    def __init__(self, session, database, kafka, topic):
        self.session, self.database, self.kafka, self.topic = session, database, kafka, topic
        self.group = f"{topic}-sales"
        self.runs = 0
        self.process = None

    def prepare(self):
        """The role, the grants and the table of the document; its role is dropped by discard()."""
        self.database.cluster.psql(shown("setup"), self.database.name)

    def discard(self):
        if self.process:
            self.process.kill9()
        self.database.execute("drop owned by sales cascade")
        self.database.execute("drop role sales")

    def start(self, command, bootstrap):
        """Run the consumer; command ends before its arguments."""
        self.runs += 1
        self.process = ChildProcess(self.session, f"{self.topic}-consumer-{self.runs}")
        self.process.spawn([*command, bootstrap, self.group, self.topic, self.address(command)])

    def address(self, command):
        """The database, as the client writes it."""
        cluster, name = self.database.cluster, self.database.name
        if command[-1] == "Consume":
            return f"jdbc:postgresql://{cluster.host}:{cluster.port}/{name}?user=sales"
        return f"postgresql://sales@{cluster.host}:{cluster.port}/{name}"

    def effects(self):
        """[(order id, document)] of what the consumer has done, in no order."""
        self.process.require_running()
        return self.database.execute("select order_id, document from sale")

    def wait_for_lock(self):
        self.process.require_running()
        return self.database.value("select count(*) from pg_stat_activity where usename = 'sales' and wait_event_type = 'Lock'")

    def has_committed(self, records):
        """Are the group's offsets behind all of records?"""
        self.process.require_running()
        offsets = self.kafka.group_offsets(self.group)
        ends = {}
        for record in records:
            ends[record.partition()] = max(ends.get(record.partition(), 0), record.offset() + 1)
        return all(offsets.get((self.topic, partition), (-1,))[0] >= end for partition, end in ends.items())


def java_command(session):
    java, jars, folder = ENVIRONMENT.java(), ENVIRONMENT.jars("clients"), session.data / "java"
    run([f"{java}c", "-cp", jars, "-d", folder, EXAMPLES / "java" / "Consume.java"])
    return [java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", f"{jars}:{folder}", "Consume"]


def python_command(session):
    return [sys.executable, copy_of(session, "python/consume.py")]


def node_command(session):
    if not shutil.which("npm"):
        pytest.skip("there is no Node.js")
    folder = session.data / "node"
    shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True)
    run(["npm", "ci", "--no-audit", "--no-fund"], folder)
    return [shutil.which("node"), folder / "consume.mjs"]


def go_command(session):
    if not shutil.which("go"):
        pytest.skip("there is no Go")
    needed = re.search(r"^go ([\d.]+)", (EXAMPLES / "go" / "go.mod").read_text(), re.M).group(1)
    found = re.search(r"go([\d.]+)", run(["go", "version"])).group(1)
    if [int(n) for n in found.split(".")] < [int(n) for n in needed.split(".")]:
        pytest.skip(f"Go {found} is too old: franz-go and pgx need {needed}")
    program = session.data / "consume-go"
    run(["go", "build", "-o", program, "."], EXAMPLES / "go")
    return [program]


def run(command, folder=None):
    """Run a build tool; its output."""
    done = subprocess.run([str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "GOTOOLCHAIN": "local"})
    assert done.returncode == 0, done.stdout
    return done.stdout


def copy_of(session, example):
    """An example where the servers' user can read it."""
    return ENVIRONMENT.give(shutil.copy(EXAMPLES / example, session.data))


@pytest.fixture
def own_client(session, struck, kafka, topic_name):
    """An OwnClient on a fresh database with a relay (of the build with fault points)."""
    struck.declare(topic_name, 3)
    client = OwnClient(session, struck, kafka, topic_name)
    client.prepare()
    yield client
    client.discard()


def emit_orders(database, topic, keys):
    """An event for each key in one transaction."""
    database.execute("select outbox.emit(%s, k, 'OrderPlaced', jsonb_build_object('orderId', k)) from unnest(%s::text[]) k offset 0",
                     (topic, keys))


def emit_with_trouble(database, points, kafka, topic):
    """Six orders and a tombstone through an aborted try and beside transactions rolled back; the committed records."""
    emit_orders(database, topic, ["order-0"])
    kafka.wait_for_records(topic, 1)
    points.arm("sender-flushed")
    emit_orders(database, topic, [f"order-{number}" for number in range(1, 6)])
    points.await_fired("sender-flushed")
    with database.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'rolled back', 'OrderPlaced', '{}')", (topic,))
        connection.rollback()
    database.emit(topic, "order-5", "OrderDeleted", None)
    records = kafka.wait_for_records(topic, 7)
    database.wait_delivered(60)
    assert len(kafka.read_all(topic, isolation="read_uncommitted")) > len(records) == 7
    return records


def abort_foreign(kafka, topic):
    """One record of somebody else's transaction, aborted: no event, whatever a reader sees of it."""
    producer = kafka.producer(transactional_id=f"{topic}-foreign")
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b'{"aborted": true}', b"aborted", headers={"ce_id": str(uuid.uuid4()), "ce_specversion": "1.0"})
    producer.flush(60)
    producer.abort_transaction(60)


CONSUMERS = [
    pytest.param(python_command, id="python"),
    pytest.param(java_command, id="java"),
    pytest.param(node_command, id="node", marks=pytest.mark.long),
    pytest.param(go_command, id="go", marks=pytest.mark.long),
]


@pytest.mark.parametrize("make_command", CONSUMERS)
def test_each_event_takes_effect_once(own_client, session, points, kafka, proxy, make_command):
    """Killed between its commit in the database and that of its offsets, a consumer has each event again, and does it once."""
    command = make_command(session)
    database, topic = own_client.database, own_client.topic
    emit_with_trouble(database, points, kafka, topic)
    abort_foreign(kafka, topic)
    commit = proxy.strike("OffsetCommit", "request", "drop", own_client.group.encode())
    with database.connect(autocommit=False) as lock:
        lock.execute("lock table sale in share mode")
        own_client.start(command, proxy.bootstrap)
        wait_until(own_client.wait_for_lock, 60, "the consumer's first effect")
    assert commit.struck.wait(60)
    assert own_client.effects()
    own_client.process.kill9()
    assert not kafka.group_offsets(own_client.group)

    emit_orders(database, topic, ["order-6", "order-7"])
    records = kafka.wait_for_records(topic, 9)
    own_client.start(command, kafka.bootstrap)
    wait_until(lambda: own_client.has_committed(records), 120, "the end of the topic")
    orders = [(f"order-{number}", {"orderId": f"order-{number}"}) for number in range(8)]
    assert sorted(own_client.effects(), key=str) == sorted([*orders, ("order-5", None)], key=str)
    assert database.value("select count(*) from outbox.idempotency where consumer = %s", (own_client.group,)) == 9


@pytest.mark.long
def test_kafkajs_reads_what_the_broker_compresses_anew(own_client, session, kafka):
    """Of what the relay sends in zstd kafkajs reads nothing, unless the topic's compression.type is gzip."""
    command, database, topic = node_command(session), own_client.database, own_client.topic
    cluster = database.cluster
    cluster.configure(**{"outbox.kafka_properties": cluster.settings["outbox.kafka_properties"] + "\ncompression.codec=zstd"})
    cluster.reload()
    emit_orders(database, topic, ["order-0"])
    kafka.wait_for_records(topic, 1)
    own_client.start(command, kafka.bootstrap)
    wait_until(lambda: not own_client.process.running, 60, "the consumer's end")
    assert own_client.process.log_contains("ZSTD compression not implemented")
    own_client.topic = kafka.create_topic(f"{topic}_gzip", 3, {"compression.type": "gzip"})
    own_client.group = f"{own_client.topic}-sales"
    database.declare(own_client.topic)
    emit_orders(database, own_client.topic, ["order-1"])
    own_client.start(command, kafka.bootstrap)
    wait_until(own_client.effects, 60, "the order")
    assert own_client.effects() == [("order-1", {"orderId": "order-1"})]


def test_what_a_consumer_gives_up(own_client, kafka):
    """The statement of the document makes a dead letter of a record with the rights of its setup, once."""
    own_client.database.declare("orders.created", 1)
    values = {"group": "sales", "id": str(uuid.uuid4()), "key": b"order-1", "type": "OrderPlaced", "value": b"no json",
              "error": "invalid input syntax for type json"}
    statement = re.sub(r":(\w+)", r"%(\1)s", re.sub(r"::", "\0", shown("dead letter"))).replace("\0", "::")
    kafka.delete_topics(["orders.created.DLT"])
    for _ in range(2):
        with own_client.database.connect(user="sales") as connection:
            connection.execute(statement, values)
    records = kafka.wait_for_records("orders.created.DLT", 1)
    own_client.database.wait_delivered(60)
    assert [(record.key(), record.value()) for record in kafka.read_all("orders.created.DLT")] == [(b"order-1", b"no json")]
    assert dict(records[0].headers())["dlt-error-message"] == values["error"].encode()


# Neighbours -----------------------------------------------------------------

KEYS = ["order-1", "", "größe", "k" * 300, None]


@pytest.fixture
def varied(relay, kafka, topic):
    """Records of all forms but those that the document warns of: {id: (key, value, type, content type)}, and they are in Kafka."""
    made = {}
    for number, key in enumerate(KEYS):
        document = json.dumps({"n": number, "ü": "€"}, ensure_ascii=False)
        event = relay.value("select outbox.emit_json(%s, %s, 'Größe', %s, %s)",
                            (topic, key, document, '{"tenant": "7", "ce_region": "eu"}'))
        made[str(event)] = (key, document.encode(), "Größe", "application/json")
    made[relay.emit(topic, "order-1", "Deleted", None)] = ("order-1", None, "Deleted", None)
    for content_type, value in ((None, b"\x00\xff"), ("image/png", b"\x89PNG"), ("text/plain; charset=utf-8", "ä".encode())):
        event = relay.value("select outbox.emit_bytes(%s, 'raw', 'Raw', %s, %s)", (topic, value, content_type))
        made[str(event)] = ("raw", value, "Raw", content_type)
    kafka.wait_for_records(topic, len(made))
    return made


def test_java_sdk_reads_what_is_emitted(varied, relay, kafka, topic):
    """The CloudEvents SDK for Java reads each record, and Kafka's own clients would choose the partition the relay chose."""
    done = run([ENVIRONMENT.java(), "-cp", ENVIRONMENT.jars("clients"), ENVIRONMENT.root / "test" / "java" / "ReadCloudEvents.java",
                kafka.bootstrap, topic, str(len(varied))])
    lines = [line.split("\t") for line in done.splitlines() if line.count("\t") == 7]
    assert len(lines) == len(varied), done
    source = relay.value("select current_setting('outbox.source')") or relay.name
    for partition, chosen, event, kind, origin, time, content_type, data in lines:
        key, value, expected_kind, expected_content_type = varied[event]
        assert chosen == ("-" if key is None else partition), key
        assert (kind, content_type) == (expected_kind, str(expected_content_type).replace("None", "null"))
        assert source in origin
        assert data == ("-" if value is None else base64.b64encode(value).decode())
        created = relay.value("select created_at from outbox.event where id = %s", (event,))
        assert datetime.datetime.fromisoformat(time) == created


def test_python_sdk_reads_what_is_emitted(varied, kafka, topic):
    """The CloudEvents SDK for Python reads each record, attributes of our own included."""
    for record in kafka.read_all(topic):
        event = from_kafka_event(KafkaMessage(dict(record.headers()), record.key(), record.value()))
        key, value, kind, content_type = varied[event.get_id()]
        assert (event.get_type(), event.get_datacontenttype(), event.get_specversion()) == (kind, content_type, "1.0")
        assert event.get_extension("partitionkey") == key
        if content_type == "application/json":
            assert event.get_data() == json.loads(value)
            assert event.get_extension("region") == "eu"
        assert (event.get_data() is None) == (value is None)


def test_own_producer_chooses_the_same_partition(varied, kafka, topic):
    """A producer on librdkafka with the partitioner that the document names writes a key where the relay does."""
    chosen = {record.key(): record.partition() for record in kafka.read_all(topic) if record.key() is not None}
    found = {}
    producer = kafka.producer(partitioner="murmur2_random")
    for key in chosen:
        producer.produce(topic, b"{}", key, on_delivery=lambda error, record: found.update({record.key(): record.partition()}))
    producer.flush(60)
    assert found == chosen


def test_the_record_shown_is_one(relay, kafka, topic):
    """The document's example record has the headers of a real one, in their order, and their forms."""
    with relay.connect() as connection:
        connection.execute("set outbox.correlation_id = 'checkout-4711'")
        connection.execute("select outbox.emit(%s, 'order-1', 'OrderPlaced', '{\"orderId\": \"order-1\"}')", (topic,))
    record = kafka.wait_for_records(topic, 1)[0]
    text = shown("record")
    fields = dict(line.split(": ", 1) for line in text.splitlines() if line[:1].strip() and ": " in line)
    headers = [tuple(line.strip().split(": ", 1)) for line in text.splitlines() if line.startswith("  ")]
    form = {"ce_id": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ce_time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"}
    assert [name for name, _ in headers] == [name for name, _ in record.headers()]
    for (name, example), (_, real) in zip(headers, record.headers()):
        pattern = form.get(name)
        assert re.fullmatch(pattern, example) and re.fullmatch(pattern, real.decode()) if pattern else example, name
    assert (record.key().decode(), json.loads(record.value())) == (fields["key"], json.loads(fields["value"]))
    assert abs(int(fields["timestamp"].split()[0])) > 1_700_000_000_000 and record.timestamp()[0] == 1


def test_null_header_values_arrive_as_null(relay, kafka, topic):
    """A header without value is one in Kafka, too; the document says which readers it breaks."""
    relay.execute("select outbox.emit_bytes(%s, 'k', 'T', '', null, array[('none', null), ('empty', '')]::outbox.header[])", (topic,))
    headers = dict(kafka.wait_for_records(topic, 1)[0].headers())
    assert (headers["none"], headers["empty"]) == (None, b"")
