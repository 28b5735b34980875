# SPDX-License-Identifier: PostgreSQL
"""Settings of the services: one file and the environment, refused with a reason, exit code 2."""

import subprocess

import pytest
from harness import Environment
from harness.shop import CONSUMERS, PARTS

GOOD = "bootstrap_servers = localhost:9092\ndatabase = dbname=x\n"


@pytest.fixture
def run(tmp_path):
    """run(text, *arguments, program, **environment): the finished program, given text as its file."""
    bindir = Environment().bindir

    def run(text, *arguments, program="outbox-payment", **environment):
        path = tmp_path / "service.conf"
        path.write_text(text)
        return subprocess.run([bindir / program, "--config", path, *arguments], env=environment,
                              capture_output=True, text=True, timeout=20)
    return run


@pytest.mark.parametrize("part", (*PARTS, *CONSUMERS))
def test_samples(run, part):
    """The sample files of examples/shop are valid."""
    text = (Environment().root / "examples" / "shop" / f"{part}.conf").read_text()
    done = run(text, "--check-config", program=f"outbox-{part}" if part in PARTS else "outbox-consume")
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout


@pytest.mark.parametrize("text, reason", [
    (GOOD + "bootstrap = x\n", 'line 3: unknown setting "bootstrap"'),
    (GOOD + "threads = many\n", "line 3: threads: not a whole number"),
    (GOOD + "threads = 0\n", "threads: 0 is outside 1 .. 64"),
    (GOOD + "threads = 1\nthreads = 2\n", 'line 4: setting "threads" is given twice'),
    (GOOD + "threads\n", "line 3 is not of the form name = value"),
    (GOOD + "log_level = loud\n", "none of debug, info"),
    (GOOD + "gateway_url = ftp://x\n", "neither with http://"),
    (GOOD + "kafka_properties = plugin.library.paths=x.so\n", "plugin.library.paths"),
    (GOOD + "kafka_properties = session.timeout.ms=soon\n", "kafka_properties"),
    ("database = dbname=x\n", 'setting "bootstrap_servers" is missing'),
    ("bootstrap_servers =\ndatabase = dbname=x\n", "line 1: bootstrap_servers: is empty"),
    ("bootstrap_servers = a;b\ndatabase = dbname=x\n", "line 1: bootstrap_servers: is not of the form"),
    ("bootstrap_servers = a\ndatabase = dbname=x prot=5432\n", 'line 2: database: has an option that libpq does not know: is "port" meant?'),
    ("bootstrap_servers = a\ndatabase = dbname=x password=hidden tail\n", "line 2: database: is not of the form option=value"),
    (GOOD + "http_address = localhost\n", "line 3: http_address: no IPv4 address"),
    (GOOD + "health_address = 127.0.0.1\n", "line 3: health_address: neither an address with a port"),
    (GOOD + "http_port = 8181\nhealth_address = 127.0.0.1:8181\n", "line 4: health_address: http_address and http_port are the same"),
    (GOOD + "http_hosts = shop.example:80\n", "http_hosts: an item is neither a name without a port nor *"),
    (GOOD + "http_connections_per_address = -1\n", "line 3: http_connections_per_address"),
    (GOOD + "group_id = crm # main\n", 'line 3: group_id: has " #" in it'),
    (GOOD + "group_id = 'crm'\n", "line 3: group_id: has quotes around it"),
    (GOOD + "retry_backoff_ms = 20\nretry_backoff_max_ms = 10\n", "line 3: retry_backoff_ms: 20 is more than retry_backoff_max_ms"),
    (GOOD + "kafka_properties = auto.offset.reset=latest\n", "line 3: kafka_properties: Kafka property \"auto.offset.reset\" is set by outbox itself"),
    (GOOD + "kafka_properties =\n  client.id=a\n\n  ssl.ca.location=/hidden\n", 'line 6: kafka_properties: Kafka property "ssl.ca.location" names a file that is not there'),
    (GOOD + "kafka_properties = sasl.password=front;hidden=tail\n  hidden=tail\n", "line 4: kafka_properties: has no name of a Kafka property"),
    (GOOD + "kafka_properties = session.timeout.ms=5000;linger.ms=hidden\n", "has another one behind"),
])
def test_refusals(run, text, reason):
    """A wrong setting is refused with the reason."""
    done = run(text, "--check-config")
    assert done.returncode == 2
    assert reason in done.stderr
    assert "hidden" not in done.stderr + done.stdout
    assert run(text).returncode == 2  # it does not start either


def test_whole_values(run):
    """A byte order mark, CRLF and no last line's end are taken; a value is all that stands behind its first "="."""
    text = ("\ufeff" + GOOD + "kafka_properties = security.protocol=sasl_plaintext\n\tsasl.mechanisms=PLAIN\n  # a comment\n"
            "  sasl.username=$ConnectionString\n  sasl.password=Endpoint=sb://x/;SharedAccessKeyName=y;SharedAccessKey=z=")
    for form in (text, text.replace("\n", "\r\n")):
        done = run(form, "--check-config")
        assert done.returncode == 0, done.stderr
    assert run(GOOD, "--check-config", OUTBOX_KAFKA_PROPERTIES="client.id=a\nfetch.min.bytes=2").returncode == 0
    bad = run(GOOD, "--check-config", OTEL_EXPORTER_OTLP_ENDPOINT="hidden:4317")
    assert bad.returncode == 2 and "OTEL_EXPORTER_OTLP_ENDPOINT" in bad.stderr and "hidden" not in bad.stderr


def test_online(run, kafka, database, topic):
    """--check-config=online tells what does not answer (1) from what is wrong (2), and starts nothing."""
    def ask(**change):
        settings = {"bootstrap_servers": kafka.bootstrap, "database": database.dsn(), "group_id": "online", "http_port": "8199",
                    "topics": topic, "function": "app.take", **change}
        done = run("".join(f"{name} = {value}\n" for name, value in settings.items()), "--check-config=online",
                   program="outbox-consume")
        return done.returncode, done.stderr + done.stdout
    assert ask(database="host=127.0.0.1 port=1 dbname=x password=hidden")[0] == 1
    code, text = ask()
    assert code == 2 and "app.take" in text
    database.execute("""create schema app; create function app.take(event outbox.consumed_event) returns text language sql
        as $$ select 'taken' $$""")
    kafka.create_topic(topic, 1)
    code, text = ask()
    assert code == 0 and "database and Kafka answer" in text
    code, text = ask(topics="no-such-topic")
    assert code == 1 and "Kafka has no topic no-such-topic" in text
    code, text = ask(bootstrap_servers="127.0.0.1:1")
    assert code == 1 and "Kafka:" in text
    database.execute("create role online_nobody login")
    try:
        code, text = ask(database=database.dsn(user="online_nobody"))
        assert code == 2 and "outbox.grant_consume" in text
    finally:
        database.execute("drop role online_nobody")
    assert ask(database=database.dsn(user="online_nobody"))[0] == 2


CONSUME = GOOD + "group_id = g\nhttp_port = 8199\n"


@pytest.mark.parametrize("topics, function, reason", [
    ("", "a.b", "topics: is empty"),
    ("a,,b", "a.b", "is not the name of a topic"),
    ("^orders", "a.b", "entry 1 is not the name of a topic"),
    ("..", "a.b", "is not the name of a topic"),
    ("a:", "a.b", "entry 1 has no event type after"),
    ("a, b, a", "a.b", "entry 3 names a topic twice"),
    ("a:T, a", "a.b", "entry 2 names a topic twice"),
    (",".join(f"t{n}" for n in range(65)), "a.b", "more than 64 entries"),
    ("a", "b", "not of the form schema.function"),
    ("a", "a.b.c", "not of the form schema.function"),
    ("a", "a.b()", "not of the form schema.function"),
    ("a", "a.b; drop table x", "not of the form schema.function"),
    ("a", 'a."b', "not of the form schema.function"),
    ("a", 'a.""', "not of the form schema.function"),
    ("a", f"a.{'b' * 64}", "not of the form schema.function"),
])
def test_consume_refusals(run, topics, function, reason):
    """Topics and functions that are none are refused with the reason before anything starts."""
    done = run(CONSUME + f"topics = {topics}\nfunction = {function}\n", "--check-config", program="outbox-consume")
    assert done.returncode == 2
    assert reason in done.stderr


def test_consume_names(run):
    """Any name SQL takes is taken, and one topic may be named for several event types."""
    text = CONSUME + 'topics = a:T, a:U , b-c.d_e\nfunction = Größe."odd ""name"" (x); --"\n'
    done = run(text, "--check-config", program="outbox-consume")
    assert done.returncode == 0, done.stderr
    done = run(CONSUME + "topics = a\nfunction = a.b\nvalue_format = avro\n", "--check-config", program="outbox-consume")
    assert done.returncode == 2 and "neither json nor bytes" in done.stderr


def test_environment(run):
    """The environment wins over the file, and unknown names in it are refused as well."""
    assert run(GOOD + "threads = 2\n", "--check-config", OUTBOX_THREADS="3").returncode == 0
    bad = run(GOOD, "--check-config", OUTBOX_THREADS="65")
    assert bad.returncode == 2 and "OUTBOX_THREADS" in bad.stderr
    bad = run(GOOD, "--check-config", OUTBOX_TREADS="3")
    assert bad.returncode == 2 and "OUTBOX_TREADS" in bad.stderr


def test_help(run):
    """--help names every setting with its default."""
    done = run(GOOD, "--help")
    assert done.returncode == 0
    for name in ("bootstrap_servers", "database", "retry_max", "gateway_url", "kafka_properties"):
        assert name in done.stdout
    assert 'default "payment-service"' in done.stdout
