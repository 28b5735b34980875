# SPDX-License-Identifier: PostgreSQL
"""memory: private memory of relay and sender while many events pass, and its slope.

A tenth of the events waits when the relay starts, so that it and the sender take
what their largest batches need; the rest follows at a steady rate, in transactions
of 100, for the slope needs time: one MiB an hour is little. Private memory is
anonymous and file pages, without shared buffers, of both together: the most, and
the slope of a straight line through the second half of the samples. Exit 1 when
one of them is beyond its limit.
"""

import argparse
import statistics
import sys
import threading
import time

from drain import PAYLOAD_BYTES, PARTITIONS, STORE, TYPE
from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from harness.process import private_mib
from support import last_line, say

DATABASE = "memory"
TOPIC = "bench.memory"


def store(postgres, events):
    with postgres.connect(DATABASE) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(STORE.format(events=events, each=100, topic=TOPIC, type=TYPE, size=PAYLOAD_BYTES))


def store_steadily(postgres, events, rate):
    """Ten pieces a second; late ones follow without a pause."""
    piece = rate // 10
    began = time.monotonic()
    pause = threading.Event()
    for number in range(events // piece):
        pause.wait(max(0, began + number / 10 - time.monotonic()))
        store(postgres, piece)
    if events % piece:
        store(postgres, events % piece)


def slope_per_hour(samples):
    """MiB an hour, from (seconds, MiB)."""
    half = samples[len(samples) // 2:]
    return statistics.linear_regression([at for at, _ in half], [mib for _, mib in half]).slope * 3600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rate", type=int, default=5_000, help="events a second, after the first tenth")
    parser.add_argument("--total-limit", type=float, default=160, help="MiB, below it")
    parser.add_argument("--slope-limit", type=float, default=1, help="MiB an hour, below it")
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-memory")
    try:
        kafka = KafkaBroker(session, fast_start=False, heap="1g", conf={
            "log.retention.ms": "60000",
            "log.segment.bytes": str(256 << 20),
            "log.retention.check.interval.ms": "10000",
        }).start()
        postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}",
            "outbox.retention": "60s",
            "outbox.segment_size": "512MB",
            "max_wal_size": "8GB",
        }).start()
        postgres.create_database(DATABASE)
        postgres.execute("select outbox.declare_topic(%s, %s)", (TOPIC, PARTITIONS), DATABASE)
        store(postgres, options.events // 10)
        postgres.execute("select outbox.start_relay()", dbname=DATABASE)
        rest = options.events - options.events // 10
        writer = threading.Thread(target=store_steadily, args=(postgres, rest, options.rate), daemon=True)
        writer.start()
        samples = []
        began = time.monotonic()

        def delivered():
            sent, *pids = postgres.execute("select events_sent, pid, sender_pid from outbox.relay_slot()", dbname=DATABASE)[0]
            if all(pids):
                parts = [private_mib(pid) for pid in pids]
                samples.append((time.monotonic() - began, sum(parts)))
                if len(samples) % 60 == 1:
                    say(f"{samples[-1][0]:5.0f} s: {sent} sent, relay {parts[0]:.1f} MiB, sender {parts[1]:.1f} MiB")
            return sent >= options.events
        wait_until(delivered, 120 + options.events / 2000 + rest / options.rate, "the last event", interval=1)
        writer.join()
        say(f"{options.events} events in {time.monotonic() - began:.0f} s, {len(samples)} samples")
        total, slope = max(mib for _, mib in samples), slope_per_hour(samples)
        last_line("memory", total_mib=total, slope_mib_h=slope)
        if total >= options.total_limit or slope >= options.slope_limit:
            sys.exit(1)
    finally:
        session.close()


if __name__ == "__main__":
    main()
