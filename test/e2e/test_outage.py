# SPDX-License-Identifier: PostgreSQL
"""The broker absent, stopped, killed, frozen: emit goes on, the relay says why, everything arrives afterwards, once."""

import datetime
import time

import pytest
from checker import Load, check_database
from fault_rounds import Blows, Rounds
from harness import wait_until

SEED = 70001

# Of the relay's clock: the test's own may be late on a busy machine.
SOON = datetime.timedelta(seconds=10)


def await_error(database, since, timeout=60.0):
    """Wait until the relay tells an error newer than since (of clock_timestamp()), within ten seconds; returns its text.

    Meanwhile events are written: each transaction must be done within a second."""
    written = 0
    with database.connect() as connection:
        def told():
            nonlocal written
            began = time.monotonic()
            connection.execute("select checker.step(topic, 'outage', 10) from checker.counter limit 1")
            if time.monotonic() - began > 1:
                raise AssertionError("an event took more than a second to write")
            written += 1
            status = database.status()
            return status["last_error_at"] and status["last_error_at"] > since and status["last_error"]
        text = wait_until(told, timeout, "last_error to say that the broker is away", interval=0.1)
    assert written > 5
    assert database.status()["last_error_at"] - since < SOON
    return text


def test_broker_is_absent_at_start(database, kafka, topic):
    """A relay started without a broker says why in last_error and delivers everything when there is one."""
    kafka.stop()
    began = database.value("select clock_timestamp()")
    Load(database.dsn(), (topic,)).prepare()
    database.execute("select checker.step(%s, 'outage', 10)", (topic,))
    database.start_relay()
    await_error(database, began)
    # On a busy machine the first one may be that nobody has answered yet.
    wait_until(lambda: all(part in database.status()["last_error"] for part in (str(kafka.port), "refused")), 60, "why")
    kafka.start()
    report = check_database(database.dsn(), kafka.bootstrap, [topic], 90).require_ok()
    assert report.committed > 5
    database.wait_state("idle")


@pytest.mark.parametrize("way, message_timeout", [
    ("kill9", 4000),
    ("pause", None),
    pytest.param("kill9", None, marks=pytest.mark.long),
    pytest.param("pause", 4000, marks=pytest.mark.long),
    pytest.param("stop", None, marks=pytest.mark.long),
])
def test_broker_goes_away(database, postgres, kafka, topic, way, message_timeout):
    """A broker stopped, killed or frozen for more than 10 s under load is told of within 10 s."""
    relay = database
    if message_timeout:
        properties = postgres.settings["outbox.kafka_properties"]
        postgres.configure(outbox__kafka_properties=f"{properties}\nmessage.timeout.ms={message_timeout}")
        postgres.reload()
    relay.start_relay()
    with Rounds(relay, kafka, [topic], SEED, rate=200) as running:
        running.await_batches(10)
        began, since = time.monotonic(), relay.value("select clock_timestamp()")
        getattr(kafka, way)()
        text = await_error(relay, since, 90)
        print(f"{way}: told after {time.monotonic() - began:.1f} s: {text}")
        if way == "pause":
            wait_until(lambda: time.monotonic() - began > 11, 12, "eleven seconds of a frozen broker")
            kafka.resume()
        else:
            kafka.start()
        running.await_batches(5, 90)
    running.check().require_ok()
    assert running.result.reconnects == 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_broker_is_killed_again_and_again(relay, postgres, kafka, topic):
    """Kill -9 of the broker at random moments of a transaction, every other time of the sender as well."""
    blows = Blows(relay, postgres)

    def kill(number):
        kafka.kill9()
        if number % 2:
            blows.kill_sender()
        kafka.start()

    with Rounds(relay, kafka, [topic], SEED + 1) as running:
        running.strike(6, kill)
    running.check().require_ok()
    assert relay.status()["hold_reason"] is None
