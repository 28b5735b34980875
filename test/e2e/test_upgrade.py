# SPDX-License-Identifier: PostgreSQL
"""pg_upgrade under a relay: another system identifier and timeline, the same history.

Prove F16 of the fault matrix for pg_upgrade, 15 to 15. With
OUTBOX_UPGRADE_BINDIR the new cluster is made with the programs of that directory (make check-matrix).
"""

import os
import pathlib
import subprocess

import pytest
from harness import Database, wait_until
from steady_writer import SteadyWriter


def restart_on_a_later_timeline(cluster):
    """Have the cluster go through a promotion, so that pg_upgrade sets its timeline back."""
    cluster.stop()
    signal_file = cluster.data / "standby.signal"
    signal_file.touch()
    cluster.environment.give(signal_file)
    cluster.start()
    cluster.execute("select pg_promote()")
    cluster.wait_for("select not pg_is_in_recovery()")


@pytest.fixture
def make_old(own_postgres):
    """make_old(): the cluster to upgrade; with checksums, which initdb makes by default from 18 on."""
    return lambda: own_postgres(name="old", initdb_options=["--data-checksums"])


@pytest.fixture
def make_new(own_postgres, monkeypatch):
    """make_new(old): an empty, stopped cluster of the version to upgrade to."""
    def make(old):
        if "OUTBOX_UPGRADE_BINDIR" in os.environ:
            monkeypatch.setattr(old.environment, "bindir", pathlib.Path(os.environ["OUTBOX_UPGRADE_BINDIR"]))
        return own_postgres(name="new", start=False, initdb_options=["--data-checksums"])
    return make


def upgrade(old, new, *options):
    """Run pg_upgrade from one stopped cluster to the other, with the new one's programs."""
    folder = old.environment.make_directory(old.session.data / f"{new.name}-upgrade")
    done = subprocess.run(
        [str(new.bindir / "pg_upgrade"), "-U", "postgres", "-b", str(old.bindir), "-B", str(new.bindir),
         "-d", str(old.data), "-D", str(new.data), "-p", str(old.port), "-P", str(new.port),
         "-s", str(new.socket_directory), *options],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        **old.environment.popen_identity(),
    )
    assert done.returncode == 0, done.stdout


def insert_as_replica(database, topic):
    """What outbox.outgoing is survives pg_upgrade: a replica's INSERT is stored, and its id returned, of a role with the right alone."""
    with database.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set role upgrade_writer")
        returned = connection.execute("insert into outbox.outgoing (topic, key, type) values (%s, 'replica', 'Kept') returning id",
                                      (f"{topic}.outgoing",)).fetchall()
        connection.execute("reset role")
        assert connection.execute("select id from outbox.event where type = 'Kept'").fetchall() == returned


def server_identity(cluster, name):
    return cluster.execute("select timeline, system_id from outbox.server_identity()", dbname=name)[0]


# What a publication of every table needs.
IDENTITIES = """select c.relname, c.relreplident::text, exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
    from pg_class c where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p') order by 1"""


@pytest.mark.parametrize("mode", [["--link"], pytest.param([], marks=pytest.mark.long)], ids=["link", "copy"])
def test_pg_upgrade(make_old, make_new, make_database, kafka, topic_name, mode):
    """Every disaster: pg_upgrade in link and copy mode: no relay runs meanwhile, then it goes on by itself; 0 lost, 0 doubled."""
    old = make_old()
    database = make_database(old)
    database.declare(topic_name)
    database.declare(f"{topic_name}.outgoing")
    database.execute("create role upgrade_writer")
    database.execute("select outbox.grant_topic(%s, 'upgrade_writer')", (f"{topic_name}.outgoing",))
    database.start_relay()
    restart_on_a_later_timeline(old)
    writer = SteadyWriter(database, topic_name)
    with writer:
        writer.await_batches(2)
        kafka.pause()
        writer.await_commits(20)
        writer.stop()
    waiting = database.value("select sum(events) from outbox.backlog")
    assert waiting > 0
    timeline, system_id = server_identity(old, database.name)
    assert timeline > 1
    identities = database.execute(IDENTITIES)
    old.stop()
    kafka.resume()

    new = make_new(old)
    upgrade(old, new, *mode)
    logs = [path.read_text(errors="replace") for path in new.data.rglob("pg_upgrade_*.log")]
    assert not any("outbox-sender" in text or "outbox relay" in text for text in logs)

    new.start()
    moved = Database(new, database.name)
    moved.wait_state("idle", 60)
    insert_as_replica(moved, topic_name)
    assert moved.execute(IDENTITIES) == identities and ("idempotency_0", "f", True) in identities
    writer.database = moved
    wait_until(lambda: moved.value("select coalesce(sum(events), 0) from outbox.backlog") == 0, 60, "the backlog")
    now = server_identity(new, moved.name)
    assert now[0] == 1 and now[1] != system_id
    with SteadyWriter(moved, topic_name, seed=2) as second:
        second.await_batches(2)
        second.check(kafka)
    assert moved.status()["possibly_doubled"] == 0 and moved.status()["last_error"] is None


@pytest.mark.long
def test_superseded_original_holds(make_old, make_new, make_database, kafka, topic_name):
    """Clones and pg_upgrade: the old cluster of an upgrade in copy mode, started again by mistake, holds and disturbs nothing."""
    old = make_old()
    database = make_database(old)
    database.declare(topic_name)
    database.start_relay()
    database.emit(topic_name, "k", "Before")
    kafka.wait_for_records(topic_name, 1)
    database.wait_state("idle")
    old.stop()
    new = make_new(old)
    upgrade(old, new)
    new.start()
    moved = Database(new, database.name)
    moved.emit(topic_name, "k", "After")
    kafka.wait_for_records(topic_name, 2)

    old.start()
    database.emit(topic_name, "k", "Astray")
    database.wait_state("hold", 60)
    moved.emit(topic_name, "k", "Last")
    records = sorted(kafka.wait_for_records(topic_name, 3), key=lambda record: record.offset())
    assert [dict(record.headers())["ce_type"] for record in records] == [b"Before", b"After", b"Last"]
