# SPDX-License-Identifier: PostgreSQL
"""The switch stays on while the extension is dropped and made again: what runs and what the views say."""

import psycopg
import pytest
from harness import wait_until


def wait_reason(database, state, reason):
    """Wait for a state with a reason; returns the status."""
    def found():
        status = database.status()
        return status if status["state"] == state and reason in (status["hold_reason"] or "") else None
    return wait_until(found, 60, f"{state}: {reason}")


def test_drop_and_create(relay, kafka, topic, postgres):
    """DROP and CREATE EXTENSION: the relay waits for start_relay() and says so, without a word of the extension before."""
    relay.emit(topic, "old")
    kafka.wait_for_records(topic, 1)
    relay.make_hold()
    assert relay.status()["last_error"]
    relay.execute("drop extension outbox")
    relay.execute("create extension outbox")
    status = wait_reason(relay, "starting", "call outbox.start_relay()")
    assert status["pid"] and status["last_error"] is None and status["events_sent"] == 0
    assert relay.value("select wanted from outbox.databases where database = current_database()")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        relay.execute("select outbox.adopt('resend')")
    relay.declare(topic)
    relay.emit(topic, "new")
    assert relay.status()["hold_reason"]
    relay.start_relay()
    relay.wait_delivered()
    assert relay.status()["hold_reason"] is None
    assert sorted(record.key() for record in kafka.wait_for_records(topic, 2)) == [b"new", b"old"]

    with relay.connect() as connection:
        connection.execute("set outbox.drop_unsent = refuse")  # all is delivered
        connection.execute("drop extension outbox")
    wait_until(lambda: not postgres.processes(f"outbox relay of database {relay.name}"), 30, "the relay's end")


@pytest.mark.parametrize("together", [False, pytest.param(True, marks=pytest.mark.long)])
def test_restored_into_itself(relay, kafka, topic, postgres, together):
    """pg_dump --clean | psql into itself, the relay running and every table published: it holds as restored; adopt('resend')
    ends that, repeats the dump's last batch and what came after it, and nothing is lost.  Rows restored since the hold count."""
    postgres.configure(outbox__on_divergence="resend")  # not before a person knows that all is restored
    postgres.reload()
    relay.execute("create publication everything for all tables")
    for number in range(3):
        relay.emit(topic, f"sent {number}")
        relay.wait_delivered()
    relay.stop_relay()
    relay.wait_state("stopped")
    relay.emit(topic, "unsent")
    dump = postgres.run("pg_dump", "--clean", "--if-exists", "-d", relay.dsn())
    relay.start_relay()
    relay.wait_delivered()
    postgres.psql(dump, relay.name, *(("-1",) if together else ()))
    wait_reason(relay, "hold", "restored from a dump")
    relay.execute("""insert into outbox.batch select 4, leaf, gen_random_uuid(), lower, upper, lower_txid, lower_seq, upper_txid,
        upper_seq, events, digest, txid, timeline, system_id, database, prepared_at from outbox.batch where batch_no = 3""")
    relay.emit(topic, "meanwhile")
    relay.execute("select outbox.adopt('resend')")
    relay.wait_delivered()
    relay.emit(topic, "after")
    relay.wait_delivered()
    keys = sorted(record.key() for record in kafka.read_all(topic))
    assert keys == [b"after", b"meanwhile", b"sent 0", b"sent 1", b"sent 2", b"sent 2", b"unsent", b"unsent"]
    assert relay.status()["possibly_doubled"] >= 2
