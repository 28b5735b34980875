# SPDX-License-Identifier: PostgreSQL
"""Issue 11, K7: copies of a server: whose the cursor is, the marker, and who is alive."""

import shutil
import time

import pytest
from harness import Database, wait_until
from harness.copies import CopiedCluster


def keys(kafka, topic):
    return sorted(record.key().decode() for record in kafka.read_all(topic))


def send(database, kafka, topic, *names):
    for name in names:
        database.emit(topic, name)

    database.wait_delivered()


def test_restart_times(relay, postgres, kafka, topic):
    t = time.monotonic()
    send(relay, kafka, topic, "a")
    print("first", time.monotonic() - t)
    for mode in ("fast", "immediate", "kill"):
        if mode == "kill":
            postgres.kill9()
            postgres.start()
        else:
            postgres.restart(mode)
        t = time.monotonic()
        send(relay, kafka, topic, mode)
        print(mode, time.monotonic() - t)
    t = time.monotonic()
    send(relay, kafka, topic, "again")
    print("again", time.monotonic() - t)
    assert 0
