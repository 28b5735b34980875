# SPDX-License-Identifier: PostgreSQL
"""latency: commit to consumer at a steady rate, both delivery modes, against bare librdkafka.

Four ways in turn, several rounds; the consumer (read_committed, in the C program
that makes the events) is the same for all:

	alo_bare   produce to consume, idempotent producer
	alo        COMMIT of emit() to consume, outbox.delivery = at_least_once
	eo_bare    handed to a thread that puts what has come into one Kafka transaction
	           with an offset, to consume
	eo         COMMIT of emit() to consume, outbox.delivery = exactly_once

The bare programs use the librdkafka properties the relay says it uses.
"""

import argparse

from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from support import Steal, cpu_seconds, kafka_properties, last_line, quartiles, run_program, say, spread

DATABASE = "latency"
TOPIC = "bench.latency"
PARTITIONS = 6
MODES = {"alo": "at_least_once", "eo": "exactly_once"}
FIGURES = ("steal_percent", "p50_ms", "p90_ms", "p99_ms", "max_ms", "late")


class Latency:
    def __init__(self, session, options):
        self.options = options
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g").start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "shared_buffers": "1GB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
        }).start()
        self.postgres.create_database(DATABASE)
        self.kafka.create_topic(TOPIC, PARTITIONS)
        self.execute("select outbox.declare_topic(%s, %s)", (TOPIC, PARTITIONS))
        self.execute("select outbox.start_relay()")
        self.wait_slot("state = 'idle' and kafka <> ''", "the relay's connection")

    def execute(self, statement, parameters=None):
        return self.postgres.execute(statement, parameters, DATABASE)

    def wait_slot(self, condition, what):
        self.postgres.wait_for(f"select {condition} from outbox.relay_slot()", 60, DATABASE, what=what)

    def run_program(self, way, *arguments):
        options = self.options
        return run_program("latency", way, self.kafka.bootstrap, TOPIC, options.rate, options.seconds,
                           options.warm_up, *arguments)

    def run_bare(self, mode):
        status = self.execute("select kafka from outbox.relay_slot()")[0][0]
        properties = [p for p in kafka_properties(status) if not p.startswith(("transactional.id=", "bootstrap.servers="))]
        properties.append(f"bootstrap.servers={self.kafka.bootstrap}")
        # Nobody flushes here, so the client's own fastest setting: no linger.
        properties.append("linger.ms=0")
        if mode == "alo":
            return self.run_program("produce", *properties)
        return self.run_program("transaction", "transactional.id=bench-latency", *properties)

    def run_outbox(self, mode):
        self.postgres.configure(outbox__delivery=MODES[mode])
        self.postgres.reload()
        self.wait_slot(f"state = 'idle' and delivery = '{MODES[mode]}'", f"delivery {MODES[mode]}")
        before = self.execute("select events_sent, batches_sent, recoveries, pid, sender_pid from outbox.relay_slot()")[0]
        cpu = [cpu_seconds(pid) for pid in before[3:]]
        found = self.run_program("outbox", self.postgres.dsn(DATABASE))

        def sent():
            row = self.execute("select events_sent, batches_sent, recoveries, pid, sender_pid from outbox.relay_slot()")[0]
            return row if row[0] - before[0] >= self.total() else None
        after = wait_until(sent, 30, "the last event to count as sent")
        found["batches"] = after[1] - before[1]
        found["recoveries"] = after[2] - before[2]
        for name, pid, used in zip(("relay_cpu_s", "sender_cpu_s"), after[3:], cpu):
            found[name] = cpu_seconds(pid) - used
        return found

    def total(self):
        return self.options.rate * (self.options.seconds + self.options.warm_up)

    def run_round(self, number):
        found = {}
        for mode in MODES:
            for name, run in ((f"{mode}_bare", self.run_bare), (mode, self.run_outbox)):
                steal = Steal()
                found[name] = run(mode)
                found[name]["steal_percent"] = round(steal.percent(), 1)
                say(f"round {number} {name:8} " + " ".join(f"{k}={v}" for k, v in found[name].items()))
        return {name: {k: float(v) for k, v in figures.items()} for name, figures in found.items()}


def report(rounds):
    def of(name, figure):
        return [r[name][figure] for r in rounds]

    def ratios(mode, figure):
        return [a / b for a, b in zip(of(mode, figure), of(f"{mode}_bare", figure))]

    say(f"rounds={len(rounds)} (median and quartiles over the rounds)")
    for name in rounds[0]:
        for figure in FIGURES:
            say(f"{name:8} {figure:7} {spread(of(name, figure), 3)}")
    for mode in MODES:
        for figure in ("p50_ms", "p99_ms"):
            say(f"{mode:8} {figure[:3]} ratio {spread(ratios(mode, figure))}")
    middle = {name: {f: quartiles(of(name, f))[1] for f in FIGURES} for name in rounds[0]}
    last_line(
        "latency",
        alo_p50_ratio=quartiles(ratios("alo", "p50_ms"))[1], alo_p99_ms=middle["alo"]["p99_ms"],
        eo_p50_ms=middle["eo"]["p50_ms"], eo_p99_ms=middle["eo"]["p99_ms"],
        eo_p50_ratio=quartiles(ratios("eo", "p50_ms"))[1], eo_p99_ratio=quartiles(ratios("eo", "p99_ms"))[1],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--seconds", type=int, default=15, help="of each way in a round")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds before them")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-latency")
    try:
        latency = Latency(session, options)
        report([latency.run_round(number) for number in range(1, options.rounds + 1)])
    finally:
        session.close()


if __name__ == "__main__":
    main()
