# SPDX-License-Identifier: PostgreSQL
"""A database that has lost history or is a copy: lagging standby, point-in-time recovery, clone (F15, 1.6)."""

import pytest
from harness import wait_until
from harness.copies import CopiedCluster, archive_settings, make_standby, wait_archived, wait_replayed


def emit_each(database, topic, *keys):
    """One event and one transaction for each key. Returns the ids."""
    return {database.emit(topic, key) for key in keys}


def delivered_ids(kafka, topic):
    """The event ids in the topic, each as often as it is there."""
    return [dict(record.headers())["ce_id"].decode() for record in kafka.read_all(topic)]


def wait_ids(database, kafka, topic, *expected):
    """Wait until the relay is idle and the topic holds exactly the ids of these sets, repeats counted."""
    wanted = sorted(event for ids in expected for event in ids)
    wait_until(lambda: sorted(delivered_ids(kafka, topic)) == wanted, 30, f"{len(wanted)} records in {topic}")
    database.wait_state("idle")
    assert sorted(delivered_ids(kafka, topic)) == wanted


def last_numbers(database):
    """The newest event's transaction and sequence number."""
    return database.execute("select max(txid::text::bigint), max(seq) from outbox.event")[0]


def require_hold(database, reason):
    """On hold within 5 seconds of being able to work, and for this reason."""
    database.wait_state("hold")
    status = database.status()
    assert reason in status["hold_reason"]
    assert (status["last_error_at"] - status["started_at"]).total_seconds() < 5


@pytest.mark.parametrize("decision", ["resend", pytest.param("skip", marks=pytest.mark.long)])
def test_lagging_standby_is_promoted(relay, postgres, kafka, topic, copy_cluster, decision):
    """F15: the tail the standby lacks is delivered already. Hold; 'resend' doubles what may be of it, 'skip' nothing."""
    before = emit_each(relay, topic, "a", "b", "c")
    wait_ids(relay, kafka, topic, before)
    relay.stop_relay()
    relay.wait_state("stopped")
    between = emit_each(relay, topic, "a", "b")  # the standby has these, but not the row of their batch
    standby = copy_cluster(make_standby, postgres)
    wait_replayed(postgres, standby)
    standby.stop()
    relay.start_relay()
    wait_ids(relay, kafka, topic, before, between)
    tail = emit_each(relay, topic, "a", "b", "c")
    wait_ids(relay, kafka, topic, before, between, tail)
    numbers = last_numbers(relay)

    postgres.stop("immediate")
    standby.start()
    standby.promote()
    promoted = type(relay)(standby, relay.name)
    after = emit_each(promoted, topic, "a", "b", "c")
    reissued = promoted.execute("select min(txid::text::bigint), min(seq) from outbox.event where id = any(%s::uuid[])",
                                (list(after),))[0]
    assert reissued[0] <= numbers[0] and reissued[1] <= numbers[1]
    promoted.start_relay()
    require_hold(promoted, "it has lost history")
    assert len(delivered_ids(kafka, topic)) == 8

    promoted.execute("select outbox.adopt(%s)", (decision,))
    promoted.wait_state("idle")
    again = [between, after] if decision == "resend" else []
    assert promoted.status()["possibly_doubled"] == sum(map(len, again))
    later = emit_each(promoted, topic, "a")
    wait_ids(promoted, kafka, topic, before, between, tail, *again, later)

    postgres.start()
    require_hold(relay, "another server was promoted")
    wait_ids(promoted, kafka, topic, before, between, tail, *again, later)
    assert promoted.status()["recoveries"] == 0


def recover(backup, archive, target):
    """Bring a base backup to a restore point, on a timeline of its own."""
    backup.configure(archive_mode="off", restore_command=f'cp "{archive}/%f" "%p"', recovery_target_name=target,
                     recovery_target_action="promote")
    backup.start()
    backup.wait_for("select not pg_is_in_recovery()", 60)


@pytest.mark.parametrize("target, policy", [
    ("late", "hold"),
    ("early", "resend"),
    pytest.param("early", "skip", marks=pytest.mark.long),
])
def test_point_in_time_recovery(relay, postgres, kafka, topic, copy_cluster, session, make_database, target, policy):
    """F15: recovered to before the cursor, on_divergence decides; recovered to after it, the relay goes on."""
    archive = session.environment.make_directory(session.data / f"archive-{topic}")
    postgres.configure(**archive_settings(archive), **{"outbox.on_divergence": policy})
    postgres.restart()
    unrelayed = make_database(postgres)
    backup = copy_cluster(CopiedCluster, postgres, signal="recovery")
    before = emit_each(relay, topic, "a", "b", "c")
    wait_ids(relay, kafka, topic, before)
    relay.execute("select pg_create_restore_point('early')")
    tail = emit_each(relay, topic, "a", "b", "c")
    wait_ids(relay, kafka, topic, before, tail)
    relay.execute("select pg_create_restore_point('late')")
    wait_archived(postgres)
    postgres.stop()

    recover(backup, archive, target)
    recovered = type(relay)(backup, relay.name)
    assert recovered.value("select count(*) from outbox.event") == (6 if target == "late" else 3)
    recovered.wait_state("idle")
    after = emit_each(recovered, topic, "a", "b")
    wait_ids(recovered, kafka, topic, before, tail, after)
    status = recovered.status()
    assert (status["recoveries"], status["possibly_doubled"]) == (0, 0)
    never = type(relay)(backup, unrelayed.name)
    never.start_relay()
    never.wait_state("idle")
    backup.restart()  # from now on it is this timeline's own server
    last = emit_each(recovered, topic, "a")
    wait_ids(recovered, kafka, topic, before, tail, after, last)
    decided = backup.log_contains(f"outbox.on_divergence decides: {policy}")
    assert decided == (target == "early")


@pytest.mark.parametrize("way", ["backup", pytest.param("files", marks=pytest.mark.long)])
def test_clone_beside_the_original(relay, postgres, kafka, topic, copy_cluster, way):
    """F15: a copy of the data directory holds, with events of its own too, and never fences; adopt makes it another."""
    before = emit_each(relay, topic, "a", "b")
    wait_ids(relay, kafka, topic, before)
    if way == "files":
        postgres.stop()
    clone = copy_cluster(CopiedCluster, postgres, way=way)
    if way == "files":
        postgres.start()
    original = emit_each(relay, topic, "a")
    wait_ids(relay, kafka, topic, before, original)
    producer = relay.transactional_id()
    epoch = kafka.producer_epoch(producer)
    assert epoch is not None

    clone.start()
    copy = type(relay)(clone, relay.name)
    require_hold(copy, "the data directory was copied or moved")
    own = emit_each(copy, topic, "a", "b")
    clone.restart()
    require_hold(copy, "the data directory was copied or moved")
    original |= emit_each(relay, topic, "a", "b")
    wait_ids(relay, kafka, topic, before, original)
    assert kafka.producer_epoch(producer) == epoch

    copy.execute("select outbox.adopt('skip')")
    copy.wait_state("idle")
    assert copy.transactional_id() != producer
    later = emit_each(copy, topic, "a")
    wait_ids(copy, kafka, topic, before, original, later)
    original |= emit_each(relay, topic, "a")
    wait_ids(relay, kafka, topic, before, original, later)
    assert kafka.producer_epoch(producer) == epoch
    assert (relay.status()["recoveries"], copy.status()["recoveries"]) == (0, 0)
    assert not own & set(delivered_ids(kafka, topic))
