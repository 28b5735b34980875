# SPDX-License-Identifier: PostgreSQL
"""refused: how long refused events of one topic delay an event of another one that is emitted right after them.

A round emits EVENTS events without a key to a topic that Kafka compacts, all in one transaction, and then one event to
another topic; it ends when that one is delivered. The same with events that Kafka takes is shown beside it.
"""

import argparse
import sys
import time

from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm
from support import Steal, last_line, quartiles, say, spread

MOST_S = 2.0
REFUSED, TAKEN, OTHER = "bench.compact", "bench.plain", "bench.other"
EMIT = "select outbox.emit(%s, null, 'Bench', '{\"order\": 4711, \"text\": \"some words of an event\"}') from generate_series(1, %s) n offset %s"


class Refused:
    def __init__(self, session):
        self.kafka = KafkaBroker(session, fast_start=False).start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "shared_buffers": "512MB", "max_wal_size": "8GB",
        }).start()
        self.kafka.create_topic(REFUSED, 6, {"cleanup.policy": "compact"})
        self.postgres.create_database("refused")
        for topic in (REFUSED, TAKEN, OTHER):
            self.postgres.execute("select outbox.declare_topic(%s, 6)", (topic,), "refused")
        self.postgres.execute("select outbox.start_relay()", None, "refused")
        self.others = 0

    def delay(self, topic, events):
        """Seconds from the commit of the other topic's event until a reader has it."""
        with self.postgres.connect("refused") as connection:
            connection.execute(EMIT, (topic, events, events))
            began = time.monotonic()
            connection.execute("select outbox.emit(%s, 'k', 'Other', '{}')", (OTHER,))
        self.others += 1
        self.kafka.wait_for_records(OTHER, self.others, timeout=120)
        return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-refused")
    try:
        bench, steal = Refused(session), Steal()
        bench.delay(TAKEN, 1000)
        found = {REFUSED: [], TAKEN: []}
        for _ in range(options.rounds):
            for topic, seconds in found.items():
                seconds.append(bench.delay(topic, options.events))
        for topic, seconds in found.items():
            say(f"{topic}: {spread(seconds)} (median and quartiles)")
        letters, rounds = bench.postgres.execute(
            "select (select count(*) from outbox.dead_letter), refusal_rounds from outbox.relay_status", None, "refused")[0]
        say(f"letters={letters} rounds={rounds} steal_percent={steal.percent():.1f}")
        if letters != options.events * options.rounds:
            raise RuntimeError(f"{letters} dead letters")
        median = quartiles(found[REFUSED])[1]
        last_line("refused", refused_s=median, taken_s=quartiles(found[TAKEN])[1])
    finally:
        session.close()
    sys.exit(0 if median <= MOST_S else 1)


if __name__ == "__main__":
    main()
