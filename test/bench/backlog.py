# SPDX-License-Identifier: PostgreSQL
"""backlog: drain rate with few and with very many events waiting, and with a transaction that holds xmin back.

Both backlogs are stored once. A round is one drain of the large one and several
of the small one; at the end the large one is drained once beside an idle
transaction that has an xid and a snapshot. Each drain is of a fresh copy of the
database (CREATE DATABASE ... TEMPLATE, with a new installation id) into an empty
topic. Exit 1 when a ratio is below --least-ratio.

Time: from the first batch's row to the last batch's delivery, by the server's
clock. start_s is what comes before: processes, cursor, and the order of the backlog.
relay_cpu_us and sender_cpu_us are CPU time an event, start included.
Memory: the most private memory (anonymous and file pages, without shared
buffers) of relay and sender, seen five times a second.
"""

import argparse
import contextlib
import datetime
import sys

from drain import PAYLOAD_BYTES, PARTITIONS, STORE, TYPE
from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from harness.process import private_mib
from support import Steal, cpu_seconds, last_line, quartiles, say, spread

TOPIC = "bench.backlog"


class Backlog:
    def __init__(self, session, options):
        self.options = options
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g", conf={
            "log.segment.delete.delay.ms": "1000",
            "file.delete.delay.ms": "1000",
        }).start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "outbox.batch_max_events": options.transaction,
            "shared_buffers": "1GB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
            "autovacuum": "off",
        }).start()
        self.copies = 0

    def store(self, events):
        """A database with so many events waiting, to be copied."""
        name = f"stored_{events}"
        self.postgres.create_database(name)
        with self.postgres.connect(name) as connection:
            connection.execute("select outbox.declare_topic(%s, %s)", (TOPIC, PARTITIONS))
            connection.execute("set synchronous_commit = off")
            connection.execute(STORE.format(events=events, each=100, topic=TOPIC, type=TYPE, size=PAYLOAD_BYTES))
        say(f"stored {events} events of {PAYLOAD_BYTES} bytes")

    def new_topic(self):
        if TOPIC in self.kafka.topics():
            self.kafka.delete_topic(TOPIC)
            wait_until(lambda: TOPIC not in self.kafka.topics(), 60, f"the end of topic {TOPIC}")
        self.kafka.create_topic(TOPIC, PARTITIONS)

    @contextlib.contextmanager
    def held_xmin(self, name):
        """An idle transaction with an xid and a snapshot."""
        with self.postgres.connect(name, autocommit=False) as connection:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("select pg_current_xact_id()")
            yield
            connection.rollback()

    def drain(self, events, held=False):
        """One drain of a fresh copy; its figures."""
        self.copies += 1
        name = f"copy_{self.copies}"
        self.new_topic()
        self.postgres.execute(f"create database {name} template stored_{events} strategy file_copy")
        self.postgres.execute("checkpoint")
        peak = {"pid": 0.0, "sender_pid": 0.0, "total": 0.0}
        steal = Steal()
        with self.held_xmin(name) if held else contextlib.nullcontext(), self.postgres.connect(name) as connection:
            connection.execute("update outbox.installation set id = gen_random_uuid()")
            connection.execute("select outbox.start_relay()")

            def finished():
                row = connection.execute(
                    "select events_sent, pid, sender_pid, delivered_at, started_at, recoveries,"
                    " (select prepared_at from outbox.batch where batch_no = 1) from outbox.relay_slot()"
                ).fetchone()
                seen = [private_mib(pid) if pid else 0 for pid in row[1:3]]
                for kind, mib in zip(peak, [*seen, sum(seen)]):
                    peak[kind] = max(peak[kind], mib)
                return row if row[0] == events else None
            _, relay, sender, ended, started, recoveries, begun = wait_until(finished, 1200, "the last batch", interval=0.2)
            if recoveries:
                raise RuntimeError("the relay had to recover during the round")
            cpu = [cpu_seconds(pid) * 1e6 / events for pid in (relay, sender)]
            connection.execute("select outbox.stop_relay()")
        self.postgres.drop_database(name)
        seconds = (ended - begun) / datetime.timedelta(seconds=1)
        found = {
            "per_s": events / seconds,
            "start_s": (begun - started) / datetime.timedelta(seconds=1),
            "relay_cpu_us": cpu[0],
            "sender_cpu_us": cpu[1],
            "relay_mib": peak["pid"],
            "sender_mib": peak["sender_pid"],
            "total_mib": peak["total"],
            "steal_percent": steal.percent(),
        }
        say(f"{events} events{' with xmin held' if held else ''} "
            + " ".join(f"{key}={value:.1f}" for key, value in found.items()))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=5_000_000)
    parser.add_argument("--transaction", type=int, default=10_000, help="events of one Kafka transaction")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=4, help="drains of the small backlog in a round")
    parser.add_argument("--least-ratio", type=float, default=0.8, help="of a rate to the one it is compared with")
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-backlog")
    try:
        backlog = Backlog(session, options)
        backlog.store(options.small)
        backlog.store(options.large)
        backlog.drain(options.small)
        small, large = [], []
        for _ in range(options.rounds):
            large.append(backlog.drain(options.large))
            small += [backlog.drain(options.small) for _ in range(options.each)]
        held = [backlog.drain(options.large, held=True)]
        rates = [[found["per_s"] for found in kind] for kind in (small, large, held)]
        for text, values in zip((options.small, options.large, f"{options.large} with xmin held"), rates):
            say(f"{text}: records/s {spread(values, 0)}")
        say(f"relay and sender together at most {max(found['total_mib'] for found in large):.1f} MiB")
        few, many, with_held = (quartiles(values)[1] for values in rates)
        ratios = {"ratio": many / few, "held_xmin_ratio": with_held / many}
        last_line("backlog", drain_100k=few, drain_5m=many, **ratios)
        if min(ratios.values()) < options.least_ratio:
            sys.exit(1)
    finally:
        session.close()


if __name__ == "__main__":
    main()
