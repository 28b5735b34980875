# SPDX-License-Identifier: PostgreSQL
"""drain: stored events through the relay, against a plain librdkafka program sending the same records.

The events are stored once. Each round sends them from a fresh copy of that
database (CREATE DATABASE ... TEMPLATE, with a new installation id, so that the
relay begins at the beginning), then from raw_producer's memory, or the other way
round. Both topics are read back: number and digest of the records must agree.

The relay's time is from the first batch's row (which is when its first Kafka
transaction can begin) to the last batch's delivery, by the server's clock; the
raw program's from its first begin to its last commit. What comes before (start
of the processes, fence, and the relay's look at the backlog) is shown as start_s.
"""

import argparse
import datetime

from harness import KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from support import Steal, cpu_seconds, kafka_properties, last_line, quartiles, run_program, say, spread

STORED = "drain_stored"
SOURCE = "/outbox/drain"
TYPE = "OrderCreated"
TOPICS = {"relay": "drain.relay", "raw": "drain.raw"}
PARTITIONS = 6
PAYLOAD_BYTES = 300

# SQL of event n's payload, as JSON text.
PAYLOAD = """(
	select head || left(repeat(md5(n::text) || md5((-n)::text), 4), {size} - 2 - length(head)) || '"}}'
	from (select format('{{"order_id":%%s,"customer_id":"customer-%%s","status":"created",'
		'"currency":"EUR","items":[{{"sku":"SKU-%%s","quantity":%%s,"price":"%%s.%%s"}}],"note":"',
		n, n %% 20011, n %% 997, 1 + n %% 5, n %% 211, 10 + n %% 90) as head) h)
""".format(size=PAYLOAD_BYTES).replace("%%", "%")

STORE = """
do $$
declare
	first integer := 1;
begin
	while first <= {events} loop
		perform outbox.emit_json('{topic}', 'order-' || lpad((n % 100000)::text, 7, '0'), '{type}', {payload}::json)
		from generate_series(first, least(first + {each} - 1, {events})) n;
		commit;
		first := first + {each};
	end loop;
end
$$
"""

RECORDS = """
copy (
	select id, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
		floor(extract(epoch from created_at) * 1000)::bigint,
		convert_from(key, 'UTF8'), convert_from(payload, 'UTF8')
	from outbox.event order by seq
) to stdout
"""


class Drain:
    """The stored events and a round of each side; payload is SQL of event n's, as JSON text."""

    def __init__(self, session, options, payload=PAYLOAD):
        self.options = options
        self.payload = payload
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g", conf={
            "log.segment.delete.delay.ms": "1000",
            "file.delete.delay.ms": "1000",
        }).start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": "\n".join([f"bootstrap.servers={self.kafka.bootstrap}", *options.property]),
            "outbox.source": SOURCE,
            "outbox.batch_max_events": options.transaction,
            "shared_buffers": "1GB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
            "autovacuum": "off",
        }).start()
        self.records = session.data / "records"
        self.properties = None  # of the producer, as the first relay tells them
        self.digest = None

    def store(self):
        """Store the events and write them to a file for the raw program."""
        options = self.options
        self.postgres.create_database(STORED)
        with self.postgres.connect(STORED) as connection:
            connection.execute("select outbox.declare_topic(%s, %s)", (TOPICS["relay"], PARTITIONS))
            connection.execute("set synchronous_commit = off")
            connection.execute(STORE.format(
                events=options.events, each=options.each, topic=TOPICS["relay"], type=TYPE, payload=self.payload,
            ))
            count, least, mean, most = connection.execute(
                "select count(*), min(length(payload)), avg(length(payload)), max(length(payload)) from outbox.event"
            ).fetchone()
            if count != options.events:
                raise RuntimeError(f"{count} events were stored")
            say(f"stored {count} events of {least} .. {most} bytes (mean {mean:.0f}) in transactions of {options.each}")
            with open(self.records, "wb") as out, connection.cursor().copy(RECORDS) as rows:
                for piece in rows:
                    out.write(piece)

    def new_topic(self, side):
        """An empty topic, so that the disk holds one round only."""
        name = TOPICS[side]
        if name in self.kafka.topics():
            self.kafka.delete_topic(name)
            wait_until(lambda: name not in self.kafka.topics(), 30, f"the end of topic {name}")
        self.kafka.create_topic(name, PARTITIONS)

    def verify(self, side):
        """All records are there, and the same on both sides."""
        found = run_program("record_digest", TOPICS[side], f"bootstrap.servers={self.kafka.bootstrap}")
        if int(found["records"]) != self.options.events:
            raise RuntimeError(f"{side}: {found['records']} records arrived instead of {self.options.events}")
        self.digest = self.digest or found["digest"]
        if found["digest"] != self.digest:
            raise RuntimeError(f"{side}: the records are not those of the first round")

    def run_relay(self, number):
        name = f"drain_{number}"
        self.new_topic("relay")
        self.postgres.execute(f"create database {name} template {STORED} strategy file_copy")
        self.postgres.execute("checkpoint")
        with self.postgres.connect(name) as connection:
            connection.execute("update outbox.installation set id = gen_random_uuid()")
            broker = cpu_seconds(self.kafka.pid)
            connection.execute("select outbox.start_relay()")

            def status():
                row = connection.execute(
                    "select events_sent, pid, sender_pid, delivered_at, started_at, kafka, recoveries,"
                    " (select prepared_at from outbox.batch where batch_no = 1),"
                    " (select count(*) from outbox.batch where events > 0) from outbox.relay_slot()"
                ).fetchone()
                return row if row[0] == self.options.events else None
            row = wait_until(status, 300, "the last batch", interval=0.2)
            _, relay, sender, ended, started, kafka, recoveries, begun, batches = row
            if recoveries:
                raise RuntimeError("the relay had to recover during the round")
            found = {
                "seconds": (ended - begun) / datetime.timedelta(seconds=1),
                "start_s": (begun - started) / datetime.timedelta(seconds=1),
                "batches": batches,
                "broker_cpu_s": cpu_seconds(self.kafka.pid) - broker,
                "relay_cpu_s": cpu_seconds(relay),
                "sender_cpu_s": cpu_seconds(sender),
            }
            self.properties = kafka_properties(kafka)
            connection.execute("select outbox.stop_relay()")
        self.postgres.drop_database(name)
        return found

    def run_raw(self, number):
        self.new_topic("raw")
        properties = [p for p in self.properties if not p.startswith(("transactional.id=", "bootstrap.servers="))]
        broker = cpu_seconds(self.kafka.pid)
        found = run_program(
            "raw_producer", self.records, TOPICS["raw"], self.options.transaction, SOURCE, TYPE,
            f"bootstrap.servers={self.kafka.bootstrap}", "transactional.id=bench-raw", *properties,
        )
        return {
            "seconds": float(found["seconds"]),
            "raw_cpu_s": float(found["cpu_s"]),
            "broker_cpu_s": cpu_seconds(self.kafka.pid) - broker,
        }

    def run_pair(self, number):
        """One round of each side, in turn first; {side: figures}."""
        sides = ("relay", "raw") if number % 2 == 0 else ("raw", "relay")
        found = {}
        for side in sides:
            steal = Steal()
            found[side] = getattr(self, f"run_{side}")(number)
            found[side]["steal_percent"] = steal.percent()
            self.verify(side)
            figures = " ".join(f"{key}={value:.2f}" for key, value in found[side].items())
            say(f"{'warm-up' if number == 0 else f'round {number}'} {side} "
                f"per_s={self.options.events / found[side]['seconds']:.0f} {figures}")
        return found


def report(pairs, events):
    ratios = [p["raw"]["seconds"] / p["relay"]["seconds"] for p in pairs]
    rates = {side: [events / p[side]["seconds"] for p in pairs] for side in TOPICS}
    shortest = min(p[side]["seconds"] for p in pairs for side in TOPICS)
    say(f"pairs={len(pairs)} shortest_s={shortest:.2f} (median and quartiles follow)")
    say(f"ratio of a pair      {spread(ratios, 3)}")
    for side in TOPICS:
        say(f"{side:5} records/s      {spread(rates[side], 0)}")
        for key in pairs[0][side]:
            say(f"{side:5} {key:14} {spread([p[side][key] for p in pairs])}")
    last_line("drain", digits=3, ratio=quartiles(ratios)[1], relay_per_s=quartiles(rates["relay"])[1],
              raw_per_s=quartiles(rates["raw"])[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--each", type=int, default=100, help="events of one stored transaction")
    parser.add_argument("--transaction", type=int, default=50_000, help="events of one Kafka transaction")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--property", action="append", default=[], help="a librdkafka property of both, name=value")
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-drain")
    try:
        drain = Drain(session, options)
        drain.store()
        drain.run_pair(0)
        report([drain.run_pair(number) for number in range(1, options.pairs + 1)], options.events)
    finally:
        session.close()


if __name__ == "__main__":
    main()
