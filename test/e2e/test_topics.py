# SPDX-License-Identifier: PostgreSQL
"""outbox-topics against one broker: creates what a profile declares, shows and mends drift, takes nothing away."""

import subprocess

import pytest
from harness import Environment, run_topics

PROFILES = Environment().root / "examples" / "profiles"
DAY = 24 * 3600 * 1000

COARSE = {
    "orders.events": (32, 7), "payments.events": (16, 30), "inventory.events": (16, 7), "fulfillment.events": (16, 7),
    "notifications.commands": (8, 3), "inventory.commands": (16, 7), "payments.commands": (16, 7),
}


@pytest.fixture
def topics(kafka, tmp_path):
    """topics(command, text, *options): outbox-topics with text as its profile."""
    def run(command, text, *options):
        path = tmp_path / "profile.conf"
        path.write_text(text)
        return run_topics(kafka, command, path, *options)
    return run


@pytest.fixture
def coarse(kafka):
    """The topics of the profile coarse do not exist, before and after."""
    names = [*COARSE, *(f"{name}.DLT" for name in COARSE)]
    kafka.delete_topics(names)
    yield
    kafka.delete_topics(names)


def test_coarse_profile(kafka, coarse):
    """Row 004.2: plan announces the topics, apply creates them, describe equals; the second apply has nothing to do."""
    path = PROFILES / "coarse.conf"
    planned = run_topics(kafka, "plan", path, "--cap-replication")
    assert planned.returncode == 3, planned.stderr
    assert "+ orders.events: partitions=32 replication=1 retention.ms=604800000" in planned.stdout
    assert "warning: orders.events: replication 1 instead of 3" in planned.stderr
    assert not set(COARSE) & set(kafka.topics())

    applied = run_topics(kafka, "apply", path, "--cap-replication")
    assert applied.returncode == 0, applied.stderr
    for name, (partitions, days) in COARSE.items():
        found, letters = kafka.describe_topic(name), kafka.describe_topic(f"{name}.DLT")
        assert (found["partitions"], int(found["config"]["retention.ms"])) == (partitions, days * DAY), name
        assert letters["partitions"] == partitions, name
        assert int(letters["config"]["retention.ms"]) > days * DAY, name

    again = run_topics(kafka, "apply", path, "--cap-replication")
    assert (again.returncode, again.stdout) == (0, "no difference: 14 topics\n")


def test_too_few_brokers(kafka, coarse):
    """Topic profiles: replication 3 on one broker is refused as a whole, unless capping is asked for."""
    refused = run_topics(kafka, "apply", PROFILES / "coarse.conf")
    assert refused.returncode == 2
    assert 'topic "orders.events" wants replication 3, and the cluster has 1 brokers' in refused.stderr
    assert not set(COARSE) & set(kafka.topics())


def test_drift(kafka, topics, topic_name):
    """Row 002.1, drift: a changed setting is shown and mended; what the profile does not declare stays as it is."""
    profile = f"[{topic_name}]\npartitions = 2\nreplication = 1\nretention.ms = 7d\ncleanup.policy = compact\n"
    kafka.create_topic(topic_name, 2, {"retention.ms": "5000", "segment.bytes": "7000000", "cleanup.policy": "compact,delete"})
    shown = topics("plan", profile)
    assert shown.returncode == 3
    assert shown.stdout.splitlines() == [
        f"~ {topic_name}: retention.ms 5000 -> 604800000", f"~ {topic_name}: cleanup.policy compact,delete -> compact",
    ]
    assert kafka.describe_topic(topic_name)["config"]["retention.ms"] == "5000"

    assert topics("apply", profile).returncode == 0
    config = kafka.describe_topic(topic_name)["config"]
    assert (config["retention.ms"], config["cleanup.policy"]) == (str(7 * DAY), "compact")
    assert config["segment.bytes"] == "7000000"
    assert topics("plan", profile).returncode == 0


def test_records_are_deleted_only_when_asked(kafka, topics, topic_name):
    """Topic profiles: a shorter retention and another clean-up are told and done with --allow-shrink only."""
    def profile(retention, cleanup):
        return f"[{topic_name}]\npartitions = 2\nreplication = 1\nretention.ms = {retention}\ncleanup.policy = {cleanup}\n"

    assert topics("apply", profile("30d", "compact")).returncode == 0
    kept = topics("apply", profile("7d", "delete"))
    assert kept.returncode == 3
    assert kept.stdout.splitlines() == [
        f"! {topic_name}: retention.ms {30 * DAY}, wanted {7 * DAY}: records would be deleted, so only with --allow-shrink",
        f"! {topic_name}: cleanup.policy compact, wanted delete: records would be deleted, so only with --allow-shrink"]
    config = kafka.describe_topic(topic_name)["config"]
    assert (config["retention.ms"], config["cleanup.policy"]) == (str(30 * DAY), "compact")

    shrunk = topics("apply", profile("7d", "delete"), "--allow-shrink")
    assert shrunk.returncode == 0, shrunk.stderr
    assert f"~ {topic_name}: retention.ms {30 * DAY} -> {7 * DAY} (warning: records are deleted)" in shrunk.stdout
    config = kafka.describe_topic(topic_name)["config"]
    assert (config["retention.ms"], config["cleanup.policy"]) == (str(7 * DAY), "delete")


def test_partitions_grow_only_when_asked(kafka, topics, topic_name):
    """Topic profiles: partitions are added with --allow-partitions only, and never taken away."""
    def profile(partitions):
        return f"partitions = {partitions}\nreplication = 1\n[{topic_name}]\ndlt = yes\n"

    assert topics("apply", profile(2)).returncode == 0
    kept = topics("apply", profile(3))
    assert kept.returncode == 3
    assert f"! {topic_name}: partitions 2, wanted 3" in kept.stdout
    assert kafka.describe_topic(topic_name)["partitions"] == 2

    grown = topics("apply", profile(3), "--allow-partitions")
    assert grown.returncode == 0, grown.stderr
    assert f"~ {topic_name}: partitions 2 -> 3 (warning: keys move" in grown.stdout
    for name in (topic_name, f"{topic_name}.DLT"):
        assert kafka.describe_topic(name)["partitions"] == 3

    fewer = topics("apply", profile(1), "--allow-partitions")
    assert fewer.returncode == 3
    assert f"! {topic_name}: partitions 3, wanted 1: partitions cannot be taken away" in fewer.stdout
    assert kafka.describe_topic(topic_name)["partitions"] == 3


def test_refused_profile_changes_nothing(kafka, topics, topic_name):
    """Topic profiles: a mistake in the last line keeps the first topic from being created."""
    refused = topics("apply", f"partitions = 1\nreplication = 1\n[{topic_name}]\n[{topic_name}.x]\nretention = 7d\n")
    assert refused.returncode == 2
    assert 'line 5: unknown key "retention"' in refused.stderr
    assert topic_name not in kafka.topics()


def test_kafka_refuses(kafka, topics, topic_name):
    """Topic profiles: what Kafka refuses is told with its topic, exit code 1; the others are created."""
    # Kafka refuses names that differ by . and _ only.
    kafka.create_topic(f"{topic_name}.x", 1)
    refused = topics("apply", f"partitions = 1\nreplication = 1\n[{topic_name}]\n[{topic_name}_x]\n")
    assert refused.returncode == 1
    assert f'creating topic "{topic_name}_x"' in refused.stderr
    assert kafka.describe_topic(topic_name)["partitions"] == 1


def test_arguments(kafka, tmp_path):
    """Topic profiles: wrong arguments are refused, an unreachable Kafka is told, with codes of their own."""
    program = Environment().bindir / "outbox-topics"

    def run(*arguments):
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    good = ["--profile", PROFILES / "fine.conf", "--bootstrap-servers", kafka.bootstrap]
    assert run("drop", *good).returncode == 2
    assert run("plan", "--profile", PROFILES / "fine.conf").returncode == 2
    assert run("plan", *good, "--delete").returncode == 2
    properties = tmp_path / "kafka.properties"
    properties.write_text("plugin.library.paths=x.so\n")
    refused = run("plan", *good, "--kafka-properties", properties)
    assert refused.returncode == 2 and "plugin.library.paths" in refused.stderr
    properties.write_text("session.timeout.ms=6000\nsecurity.protocol=ssl\n")
    useless = run("plan", *good, "--kafka-properties", properties)
    assert useless.returncode == 2 and '"session.timeout.ms" is of no use on this side' in useless.stderr
    properties.write_text("security.protocol=sasl_ssl\nsasl.mechanisms=PLAIN\nsasl.username=u\nsasl.password=a;hidden=tail\nhidden=tail\n")
    refused = run("plan", *good, "--kafka-properties", properties)
    assert refused.returncode == 2 and "line 5 has no name" in refused.stderr and "hidden" not in refused.stderr
    properties.write_text("security.protocol=ssl\n")
    assert run("check", *good, "--kafka-properties", properties).returncode == 0
    away = run("plan", *good, "--kafka-properties", properties)
    assert away.returncode == 1 and "listing topics" in away.stderr, away.stderr
