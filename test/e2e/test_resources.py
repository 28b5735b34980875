# SPDX-License-Identifier: PostgreSQL
"""The machine's limits: full disks, transactions of a million events, vacuum during an outage.

Prove F9 and F11 of the fault matrix. The sender's end by the kernel's OOM killer is a kill -9, as in
test_faults.py::test_sender_is_killed; the relay's is test_faults.py::test_relay_is_killed.
"""

import os
import random
import shutil
import subprocess

import psycopg
import pytest
from harness import wait_until
from harness.process import private_mib
from steady_writer import SteadyWriter

SEED = 91001


class SmallDisk:
    """A file system of its own for one directory below a stopped cluster's data."""

    def __init__(self, cluster, directory):
        self.path = cluster.session.data / f"{cluster.name}-{directory}"
        inside = cluster.data / directory
        cluster.environment.make_directory(self.path)
        self._mount("-t", "tmpfs", "-o", "mode=0700", "outbox-test", self.path)
        cluster.environment.give(self.path)
        shutil.copytree(inside, self.path, dirs_exist_ok=True)
        for folder, _, files in os.walk(self.path):
            for name in (folder, *(os.path.join(folder, file) for file in files)):
                cluster.environment.give(name)
        shutil.rmtree(inside)
        inside.symlink_to(self.path)

    @staticmethod
    def _mount(*arguments):
        done = subprocess.run(["mount", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            pytest.skip(f"a file system of its own needs the right to mount one: {done.stdout}")

    def leave(self, mib):
        """Change the size so that this much is free."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._mount("-o", f"remount,size={used + (mib << 20)}", self.path)

    def remove(self):
        subprocess.run(["umount", str(self.path)], check=True)


@pytest.fixture
def on_small_disk(own_postgres):
    """start(directory): a started cluster with that directory on a SmallDisk, and the disk."""
    made = []

    def start(directory):
        cluster = own_postgres(start=False, max_wal_size="8GB", min_wal_size="32MB", checkpoint_timeout="1h")
        disk = SmallDisk(cluster, directory)
        made.append((cluster, disk))
        return cluster.start(), disk
    yield start
    for cluster, disk in made:
        cluster.stop("immediate")
        disk.remove()


def fill(database):
    """Write rows until the server refuses or is gone."""
    with database.connect() as connection:
        for _ in range(1000):
            connection.execute("insert into public.filler select repeat(md5(n::text), 3200) from generate_series(1, 10) n")


def emit_until_refused(database, topic, accepted):
    """Emit large events until one is refused for want of space; appends the ids of the others to accepted."""
    payload = f'"{random.Random(SEED).randbytes(50_000).hex()}"'
    with pytest.raises(psycopg.errors.DiskFull):
        for _ in range(1000):
            accepted.append(database.emit(topic, "k", payload=payload))


def await_repair(database):
    """Wait until the server takes orders again, and free the space; starts it when it gave up.

    It may answer once more before it ends: the process that panics is not the postmaster."""
    def repaired():
        if not database.cluster.running:
            database.cluster.start(wait=False)
        database.execute("truncate public.filler")
        database.execute("checkpoint")
        return True
    wait_until(repaired, 120, "the server after the full disk")


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
@pytest.mark.parametrize("rounds", [1, 20])
@pytest.mark.parametrize("directory", ["pg_wal", "base"])
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_full_disk(on_small_disk, make_database, kafka, unique, directory, rounds):
    """F9: writers get an error or lose the server; with room again the relay goes on by itself, nothing lost or doubled."""
    cluster, disk = on_small_disk(directory)
    relay = make_database(cluster)
    topic, large = relay.declare(unique("small")), relay.declare(unique("large"), 1)
    relay.execute("create table public.filler (content text)")
    relay.execute("alter table public.filler alter content set storage external")
    relay.start_relay()
    accepted = []
    with SteadyWriter(relay, topic, seed=SEED) as writer:
        for _ in range(rounds):
            writer.await_batches(2)
            since = cluster.log_size()
            disk.leave(20)
            with pytest.raises(psycopg.OperationalError) as error:
                fill(relay)
            if directory == "base":
                assert isinstance(error.value, psycopg.errors.DiskFull)
                emit_until_refused(relay, large, accepted)
            else:
                wait_until(lambda: cluster.log_contains("PANIC", since), 30, "the server's panic")
            assert cluster.log_contains("No space left on device", since)
            disk.leave(512)
            await_repair(relay)
        writer.await_batches(2)
        writer.check(kafka)
    records = sorted(kafka.wait_for_records(large, len(accepted)), key=lambda record: record.offset())
    assert [dict(record.headers())["ce_id"].decode() for record in records] == accepted


@pytest.mark.long
@pytest.mark.parametrize("events", [300_000, 1_000_000])
def test_large_transaction(relay, kafka, topic, events):
    """F11, memory: one transaction of so many events arrives once, relay and sender stay below 160 MiB together."""
    relay.wait_state("idle")
    with relay.connect() as connection:
        connection.execute("select count(outbox.emit(%s, n::text, 'T', '{\"some\": \"payload of an event\"}'))"
                           " from generate_series(1, %s) n", (topic, events))
    seen = []

    def finished():
        sent, *pids = relay.execute("select events_sent, pid, sender_pid from outbox.relay_slot()")[0]
        seen.append([private_mib(pid) if pid else 0 for pid in pids])
        return sent >= events
    wait_until(finished, 300, "the transaction to be sent", interval=0.1)
    relay_mib, sender_mib = map(max, zip(*seen))
    print(f"{events} events: relay {relay_mib:.0f} MiB, sender {sender_mib:.0f} MiB")
    assert relay_mib > 1 and sender_mib > 1
    assert max(map(sum, seen)) < 160
    keys = [int(record.key()) for record in kafka.wait_for_records(topic, events, 120)]
    assert sorted(keys) == list(range(1, events + 1))


def test_outage_holds_no_vacuum_back(relay, kafka, topic):
    """F11: while Kafka is away and events wait, neither relay nor sender keeps a snapshot: dead rows can be removed."""
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 1)
    relay.execute("create extension pgstattuple")
    kafka.pause()
    for _ in range(3):
        relay.execute("select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(1, 1000) n", (topic,))
    relay.wait_state("sending")
    relay.execute("create table public.stock as select n from generate_series(1, 1000) n")
    relay.execute("delete from public.stock")
    mark = relay.value("select pg_current_xact_id()::xid")

    def old_snapshots():
        return relay.execute(
            "select pid, backend_type, backend_xmin, backend_xid from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and (age(backend_xmin) > age(%(mark)s::xid) or age(backend_xid) > age(%(mark)s::xid))",
            {"mark": mark})

    def dead_rows():
        relay.execute("vacuum public.stock")
        return relay.value("select dead_tuple_count from pgstattuple('public.stock')")
    wait_until(lambda: old_snapshots() == [] and dead_rows() == 0, 10, "a horizon that moves on")
    assert relay.status()["backlog_bytes"] > 0
    kafka.resume()
    assert len(kafka.wait_for_records(topic, 3001)) == 3001
