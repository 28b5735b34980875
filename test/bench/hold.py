# SPDX-License-Identifier: PostgreSQL
"""hold: how fast a held topic is released, against the rate at which the relay drains as many events, and what the
other topics feel of it.

A round has three parts, each in a database of its own. The drain: the events are stored, then the relay starts; its
time is from the first batch's row to the last delivery. The release: the topic is held, the events are emitted and
left out, then topic_release(); its time is from there to the delivery of the last copy. Both topics are read back. At
last the same release once more beside a steady load on another topic: time from COMMIT to a consumer's, while the topic
is held and nothing else happens, and while it is released.
"""

import argparse
import datetime
import sys
import threading

from drain import PAYLOAD, STORE
from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from support import Steal, last_line, quartiles, run_program, say, spread

LEAST_RATIO, MOST_P99_RATIO = 0.4, 2
PARTITIONS = 6
EACH = 100  # events of one stored transaction
LATENCY_TOPIC = "bench.latency"


class Side:
    """A database with a declared topic, for one part of a round."""

    def __init__(self, bench, name):
        self.bench = bench
        self.name = name
        self.topic = f"bench.{name}"
        bench.postgres.create_database(name)
        bench.kafka.create_topic(self.topic, PARTITIONS)
        self.execute("select outbox.declare_topic(%s, %s)", (self.topic, PARTITIONS))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.execute("select outbox.stop_relay()")
        self.bench.postgres.drop_database(self.name)
        self.bench.kafka.delete_topic(self.topic)

    def execute(self, statement, parameters=None):
        return self.bench.postgres.execute(statement, parameters, self.name)

    def store(self):
        """The events, in transactions of EACH."""
        with self.bench.postgres.connect(self.name) as connection:
            connection.execute("set synchronous_commit = off")
            connection.execute(STORE.format(events=self.bench.events, each=EACH, topic=self.topic,
                                            type="OrderCreated", payload=PAYLOAD))

    def start_relay(self):
        self.execute("select outbox.start_relay()")

    def hold(self):
        """Holds the topic, emits the events, and waits until all are left out and delivered without."""
        self.start_relay()
        self.execute("select outbox.topic_hold(%s, 'bench')", (self.topic,))
        self.store()
        wait_until(lambda: self.execute(
            "select h.events = %s and s.state = 'idle' from outbox.topic_holds h, outbox.relay_slot() s"
            " where h.topic = %s", (self.bench.events, self.topic)) == [(True,)], 600, "the held events", interval=0.2)

    def state(self):
        return self.execute("select state from outbox.topic_holds where topic = %s", (self.topic,))[0][0]

    def release(self):
        """Lets the topic go; the time by the server's clock."""
        self.execute("select outbox.topic_release(%s, 'bench')", (self.topic,))
        return self.execute("select released_at from outbox.topic_holds where topic = %s", (self.topic,))[0][0]

    def delivered(self, events):
        """When the last of so many events was delivered, by the server's clock."""
        def status():
            sent, at, recoveries = self.execute("select events_sent, delivered_at, recoveries from outbox.relay_slot()")[0]
            if recoveries:
                raise RuntimeError("the relay had to recover during the round")
            return at if sent >= events else None
        return wait_until(status, 900, "the last delivery", interval=0.2)

    def verify(self):
        """All records are in the topic, each once."""
        found = run_program("record_digest", self.topic, f"bootstrap.servers={self.bench.kafka.bootstrap}")
        if int(found["records"]) != self.bench.events:
            raise RuntimeError(f"{found['records']} records arrived instead of {self.bench.events}")


class Hold:
    def __init__(self, session, options):
        self.events = options.events
        self.options = options
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g", conf={
            "log.segment.delete.delay.ms": "1000",
            "file.delete.delay.ms": "1000",
        }).start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
        }).start()
        self.kafka.create_topic(LATENCY_TOPIC, PARTITIONS)

    def drain(self, number):
        """Seconds the relay needs for events that are stored when it starts."""
        with Side(self, f"drain_{number}") as side:
            side.store()
            self.postgres.execute("checkpoint")
            side.start_relay()
            ended = side.delivered(self.events)
            begun = side.execute("select prepared_at from outbox.batch where batch_no = 1")[0][0]
            side.verify()
            return (ended - begun) / datetime.timedelta(seconds=1)

    def release(self, number):
        """Seconds from topic_release() to the last copy's delivery."""
        with Side(self, f"release_{number}") as side:
            side.hold()
            self.postgres.execute("checkpoint")
            begun = side.release()
            ended = side.delivered(self.events)
            wait_until(lambda: side.state() == "ended", 10, "the end of the hold")
            side.verify()
            return (ended - begun) / datetime.timedelta(seconds=1)

    def latency(self, side, seconds, begin=None):
        """The figures of the steady load; begin() is called when its warm-up is over."""
        timer = threading.Timer(self.options.warm_up, begin) if begin else None
        if timer:
            timer.start()
        found = run_program("latency", "outbox", self.kafka.bootstrap, LATENCY_TOPIC, self.options.rate, seconds,
                            self.options.warm_up, self.postgres.dsn(side.name))
        if timer:
            timer.join()
        return {key: float(value) for key, value in found.items()}

    def beside(self, number, release_s):
        """p99 of the other topic while the held one is left alone, and while it is released, in ms."""
        seconds = max(2, int(0.6 * release_s))
        with Side(self, f"beside_{number}") as side:
            side.execute("select outbox.declare_topic(%s, %s)", (LATENCY_TOPIC, PARTITIONS))
            side.hold()
            self.postgres.execute("checkpoint")
            alone = self.latency(side, seconds)
            during = self.latency(side, seconds, side.release)
            if side.state() == "ended":
                say(f"round {number}: the release had ended before the load did; --events is too small")
            side.delivered(self.events)
            return alone, during

    def run_round(self, number):
        steal = Steal()
        parts = (self.drain, self.release) if number % 2 == 0 else (self.release, self.drain)
        seconds = {part.__name__: part(number) for part in parts}
        alone, during = self.beside(number, seconds["release"])
        found = {
            "drain_per_s": self.events / seconds["drain"], "release_per_s": self.events / seconds["release"],
            "ratio": seconds["drain"] / seconds["release"],
            "p99_alone_ms": alone["p99_ms"], "p99_during_ms": during["p99_ms"],
            "p99_ratio": during["p99_ms"] / alone["p99_ms"],
            "p50_alone_ms": alone["p50_ms"], "p50_during_ms": during["p50_ms"],
            "steal_percent": steal.percent(),
        }
        say(f"round {number} " + " ".join(f"{key}={value:.2f}" for key, value in found.items()))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500, help="events a second of the other topic")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds of that load before it is measured")
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-hold")
    try:
        bench = Hold(session, options)
        rounds = [bench.run_round(number) for number in range(1, options.rounds + 1)]
    finally:
        session.close()
    for key in rounds[0]:
        say(f"{key:14} {spread([found[key] for found in rounds])}")
    ratio, p99_ratio = (quartiles([found[key] for found in rounds])[1] for key in ("ratio", "p99_ratio"))
    last_line("hold", ratio=ratio, p99_ratio=p99_ratio)
    sys.exit(0 if ratio >= LEAST_RATIO and p99_ratio <= MOST_P99_RATIO else 1)


if __name__ == "__main__":
    main()
