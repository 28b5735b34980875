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
    (GOOD + "threads = many\n", 'threads: "many" is not a whole number'),
    (GOOD + "threads = 0\n", "threads: 0 is outside 1 .. 64"),
    (GOOD + "threads = 1\nthreads = 2\n", 'line 4: setting "threads" is given twice'),
    (GOOD + "threads\n", "is not of the form name = value"),
    (GOOD + "log_level = loud\n", "none of debug, info"),
    (GOOD + "gateway_url = ftp://x\n", "neither with http://"),
    (GOOD + "kafka_properties = plugin.library.paths=x.so\n", "plugin.library.paths"),
    (GOOD + "kafka_properties = session.timeout.ms=soon\n", "kafka_properties"),
    ("database = dbname=x\n", 'setting "bootstrap_servers" is missing'),
])
def test_refusals(run, text, reason):
    """A wrong setting is refused with the reason."""
    done = run(text, "--check-config")
    assert done.returncode == 2
    assert reason in done.stderr


CONSUME = GOOD + "group_id = g\nhttp_port = 8199\n"


@pytest.mark.parametrize("topics, function, reason", [
    ("", "a.b", "is not the name of a topic"),
    ("a,,b", "a.b", "is not the name of a topic"),
    ("^orders", "a.b", '"^orders" is not the name of a topic'),
    ("..", "a.b", "is not the name of a topic"),
    ("a:", "a.b", 'there is no event type after "a:"'),
    ("a, b, a", "a.b", 'topic "a" is named twice'),
    ("a:T, a", "a.b", 'topic "a" is named twice'),
    (",".join(f"t{n}" for n in range(65)), "a.b", "more than 64 entries"),
    ("a", "b", "is not of the form schema.function"),
    ("a", "a.b.c", "is not of the form schema.function"),
    ("a", "a.b()", "is not of the form schema.function"),
    ("a", "a.b; drop table x", "is not of the form schema.function"),
    ("a", 'a."b', "is not of the form schema.function"),
    ("a", 'a.""', "is not of the form schema.function"),
    ("a", f"a.{'b' * 64}", "is not of the form schema.function"),
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
    assert done.returncode == 2 and '"avro" is neither json nor bytes' in done.stderr


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
