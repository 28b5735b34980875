# SPDX-License-Identifier: PostgreSQL
"""Settings of the services: one file and the environment, refused with a reason, exit code 2."""

import subprocess

import pytest
from harness import Environment

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


@pytest.mark.parametrize("program", ("outbox-payment", "outbox-inventory", "outbox-order"))
def test_samples(run, program):
    """The sample files of examples/shop are valid."""
    text = (Environment().root / "examples" / "shop" / f"{program.removeprefix('outbox-')}.conf").read_text()
    done = run(text, "--check-config", program=program)
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
