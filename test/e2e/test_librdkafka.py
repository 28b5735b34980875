# SPDX-License-Identifier: PostgreSQL
"""Consumers on later versions of librdkafka than the one they are built with: the programs look at it at run time."""

import pathlib
import shutil

import confluent_kafka
import pytest
from harness import wait_until

# What a client logs that has given a request up, and with it its connection.
GIVEN_UP = ("REQTMOUT", "FAIL", "kafka_error", "_TIMED_OUT")


def find_library(session, version):
    """The file of that version; the newest is that of the tests' own Python package."""
    if version == "newest":
        return next((pathlib.Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*"))
    return session.environment.cache / f"librdkafka-{version}" / "librdkafka.so.1"


@pytest.fixture(params=["2.8.0", "newest"])
def library(session, request):
    """A folder, for LD_LIBRARY_PATH."""
    folder = session.environment.make_directory(session.data / f"librdkafka-{request.param}")
    shutil.copy(find_library(session, request.param), folder / "librdkafka.so.1")
    return folder


@pytest.fixture
def group(library, kafka, database, service, unique, topic_name):
    """start(): one more instance of a consumer of three partitions; emit(): a record for each, and its effect."""
    class Group:
        started = []

        def start(self):
            self.started.append(service("outbox-consume", config, env={"LD_LIBRARY_PATH": str(library)}))
            return self.started[-1]

        def emit(self):
            before = database.value("select count(*) from public.effect")
            for partition in range(3):
                producer.produce(topic_name, b"{}", "k", partition=partition, headers=[("ce_id", f"{before}-{partition}"), ("ce_type", "T")])
            assert producer.flush(20) == 0
            database.wait_for("select count(*) = %s from public.effect", 30, (before + 3,))

    producer = kafka.producer()
    kafka.create_topic(topic_name, 3)
    database.execute("create table public.effect (key text)")
    database.execute("create function public.handle(event outbox.consumed_event) returns text language plpgsql as"
                     " $f$ begin insert into public.effect values (event.key); return 'done'; end $f$")
    config = {"database": database.dsn(), "bootstrap_servers": kafka.bootstrap, "topics": topic_name, "group_id": unique("library"),
              "function": "public.handle"}
    return Group()


def test_consumers_keep_their_connections(group, library):
    """A consumer at the end of its partitions takes and gives some, and its client gives no request up."""
    first = group.start()
    assert f"{library}/librdkafka.so.1" in pathlib.Path(f"/proc/{first.pid}/maps").read_text()
    group.emit()
    second = group.start()
    group.emit()
    second.stop()
    wait_until(lambda: len([line for line in first.log_lines() if line["event"] == "partitions_assigned"]) >= 2, 60,
               "the partitions to come back")
    group.emit()
    given_up = [line for started in group.started for line in started.log_lines() if any(word in str(line) for word in GIVEN_UP)]
    assert given_up == []
