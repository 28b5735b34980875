# SPDX-License-Identifier: PostgreSQL
"""What the sender says stands in the server's log, as the server's own lines do."""

import csv
import json
import os
import re
import signal

import pytest
from harness import wait_until

KILLED = "child process was terminated by signal 9: Killed"


@pytest.fixture
def structured(own_postgres, make_database, kafka, topic_name):
    """A relay that has sent an event, of a server that logs lines, CSV and JSON at once."""
    database = make_database(own_postgres(logging_collector="on", log_destination="stderr,csvlog,jsonlog"))
    database.start_relay()
    database.declare(topic_name)
    database.emit(topic_name, "k", "First")
    kafka.wait_for_records(topic_name, 1)
    return database


def log_files(cluster, suffix):
    return [path.read_text() for path in sorted((cluster.data / "log").glob(f"*.{suffix}"))]


def csv_entries(cluster):
    """(process id, backend type, severity, message) of the CSV log."""
    for text in log_files(cluster, "csv"):
        whole = text[:text.rfind("\n") + 1]
        for row in csv.reader(whole.splitlines(keepends=True)):
            yield int(row[3]), row[23], row[11], row[13]


def json_entries(cluster):
    """The same of the JSON log."""
    for text in log_files(cluster, "json"):
        for line in text[:text.rfind("\n") + 1].splitlines():
            entry = json.loads(line)
            yield entry["pid"], entry["backend_type"], entry["error_severity"], entry["message"]


def test_lines_are_in_every_log(structured, topic_name):
    """In CSV and JSON they are entries of the relay at level LOG that name the sender; no line of the text log stands
    there without the server's prefix."""
    cluster, status = structured.cluster, structured.status()
    entry = (status["pid"], "outbox relay", "LOG", f'outbox-sender {status["sender_pid"]}: created topic "{topic_name}"')
    wait_until(lambda: entry in csv_entries(cluster), 30, "the entry of the CSV log")
    wait_until(lambda: entry in json_entries(cluster), 30, "the entry of the JSON log")
    text = "".join(log_files(cluster, "log"))
    assert entry[3] in text
    raw = [line for line in text.splitlines() if not re.match(r"\t|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC \[\d+\] ", line)]
    assert raw == []


def test_end_is_told(relay, postgres, kafka, topic):
    """A sender that ends by itself leaves a line with how, and so does last_error; one that was told to end none."""
    relay.emit(topic, "k", "Before")
    kafka.wait_for_records(topic, 1)
    sender = relay.status()["sender_pid"]
    since = postgres.log_size()
    os.kill(sender, signal.SIGKILL)
    relay.emit(topic, "k", "After")
    kafka.wait_for_records(topic, 2)
    assert postgres.log_contains(f"outbox-sender {sender}: {KILLED}", since)
    assert relay.status()["last_error"] == f"the sender has ended: {KILLED}"
    since, second = postgres.log_size(), relay.status()["sender_pid"]
    relay.execute("select outbox.stop_relay()")
    wait_until(lambda: relay.status()["pid"] is None, 30, "the relay's end")
    assert not postgres.log_contains(f"outbox-sender {second}: child process", since)
