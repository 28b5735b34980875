# SPDX-License-Identifier: PostgreSQL
"""Kills, restarts and fences under load: nothing lost, doubled, invented or out of order.

A topic is a log, so what a read_committed reader could see at any time during
the faults is what the checker reads from offset 0 afterwards; the truth is
what the tables hold after recovery (half of the writers commit asynchronously).
"""

import signal

from fault_rounds import Blows, Rounds, lengths
from harness import wait_until
from unit.wire_client import Event, Sender, open_pairs

SEED = 90001


@lengths(20)
def test_sender_is_killed(relay, postgres, kafka, topic, rounds):
    """Row 000.9: kill -9 of the sender under load; the relay and the server go on."""
    blows = Blows(relay, postgres)
    before = blows.process("pid")
    with Rounds(relay, kafka, [topic], SEED) as running:
        running.strike(rounds, blows.kill_sender)
    running.check().require_ok()
    status = relay.status()
    assert status["pid"] == before and status["recoveries"] >= rounds
    assert running.result.reconnects == 0


@lengths(20)
def test_relay_is_killed(relay, postgres, kafka, topic, rounds):
    """Row 000.9: kill -9 of the relay under load, which makes the postmaster restart the server."""
    with Rounds(relay, kafka, [topic], SEED + 1) as running:
        running.strike(rounds, Blows(relay, postgres).kill_relay)
    running.check().require_ok()
    assert running.result.reconnects >= rounds


@lengths(20)
def test_server_is_killed(relay, postgres, kafka, topic, rounds):
    """Row 000.9: kill -9 of the whole server under load, or of its postmaster alone."""
    with Rounds(relay, kafka, [topic], SEED + 2) as running:
        running.strike(rounds, Blows(relay, postgres).kill_server)
    running.check().require_ok()
    assert running.result.reconnects >= rounds


@lengths(1, 5)
def test_server_restarts_and_workers_are_terminated(relay, postgres, kafka, topic, rounds):
    """F4: restarts fast, immediate and smart, pg_terminate_backend of relay and launcher, a SIGHUP storm, under load."""
    blows = Blows(relay, postgres)
    ways = [
        blows.restart_fast,
        lambda _: blows.terminate("outbox relay"),
        blows.restart_immediately,
        lambda _: blows.terminate("outbox launcher"),
        blows.restart_smartly,
        blows.storm_with_reloads,
    ]
    with Rounds(relay, kafka, [topic], SEED + 3) as running:
        running.strike(len(ways) * rounds, lambda number: ways[number % len(ways)](number))
    running.check().require_ok()


def test_sender_crashes(relay, postgres, kafka, topic):
    """SIGSEGV of the sender does not restart the server."""
    relay.emit(topic, "k", "Before")
    kafka.wait_for_records(topic, 1)
    blows = Blows(relay, postgres)
    blows.process("sender_pid")
    since = postgres.log_size()
    children = {relay.status()["pid"], *postgres.processes("checkpointer"), *postgres.processes("outbox launcher")}
    assert len(children) == 3
    system = postgres.value("select pg_postmaster_start_time()")
    with relay.connect() as connection:
        blows.kill("sender_pid", signal.SIGSEGV)
        relay.emit(topic, "k", "After")
        records = kafka.wait_for_records(topic, 2)
        assert connection.execute("select 1").fetchone() == (1,)
    assert [dict(r.headers())["ce_type"] for r in records] == [b"Before", b"After"]
    assert children <= set(postgres.processes("postgres: "))
    assert postgres.value("select pg_postmaster_start_time()") == system
    assert not postgres.log_contains("crash", since) and not postgres.log_contains("recovery mode", since)


def test_configuration_is_shown(relay, kafka, topic):
    """Row 000.9: the producer's configuration appears in outbox.relay_status."""
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 1)
    shown = dict(part.split("=", 1) for part in relay.status()["kafka"].split("; ") if "=" in part)
    assert shown["acks"] in ("-1", "all")
    assert shown["enable.idempotence"] == "true"
    assert shown["max.in.flight.requests.per.connection"] == "5"
    assert shown["transactional.id"] == relay.transactional_id()


def open_rival(relay, kafka, program):
    """A second sender for the same installation, as a relay that was believed dead would have."""
    installation = relay.value("select id from outbox.installation")
    rival = Sender(program)
    pairs = [(key, "outbox.cursor" if key == "relay.cursor_topic" else value)
             for key, value in open_pairs(kafka.bootstrap, installation)]
    assert rival.open(pairs).kind == "OPENED"
    return rival


@lengths(2, 10)
def test_two_relays(relay, postgres, kafka, topic, session, rounds):
    """Row 000.9: of two relays the old one is fenced: nothing of it is committed, the other goes on unharmed."""
    program = session.environment.pkglibdir / "outbox-sender"
    with Rounds(relay, kafka, [topic], SEED + 4) as running:
        for _ in range(rounds):
            running.await_batches(3)
            since = relay.status()["recoveries"]
            with open_rival(relay, kafka, str(program)) as rival:
                assert rival.fence().kind == "CURSOR"
                wait_until(lambda: relay.status()["recoveries"] > since, 60, "the relay to be fenced")
                assert "fenced" in relay.status()["last_error"]
                running.await_batches(3)
                answer = rival.batch(1, [Event(topic, b"{}", b"rival")])
                assert (answer.kind, answer.error_class) == ("FAILED", "fenced")
    running.check().require_ok()


@lengths(4)
def test_at_least_once(database, postgres, kafka, unique, rounds):
    """Both delivery modes: at_least_once loses nothing and keeps the order; doubles only around faults."""
    postgres.configure(outbox__delivery="at_least_once")
    postgres.reload()
    database.start_relay()
    topics = [database.declare(unique(stem)) for stem in ("before", "during", "after")]
    blows = Blows(database, postgres)
    ways = [blows.kill_sender, blows.kill_relay]
    reports = []
    for number, topic in enumerate(topics):
        with Rounds(database, kafka, [topic], SEED + 5 + number) as running:
            if number == 1:
                running.strike(rounds, lambda n: ways[n % 2](n))
            else:
                running.await_batches(20)
        reports.append(running.check())
    assert database.status()["delivery"] == "at_least_once"
    before, during, after = reports
    before.require_ok()
    after.require_ok()
    during.doubled.clear()
    during.require_ok()
