# SPDX-License-Identifier: PostgreSQL
"""compression: the same stored events through the relay with each codec: rate, CPU, bytes in Kafka, a reader's CPU.

As in drain, each round sends the events from a fresh copy of the database into
an empty topic, once for each codec, in another order each time; the topic is
read back whole by a librdkafka program. A codec is a name of librdkafka's
compression.codec, or name:level.

The payloads are orders as shops write them (about 600 bytes: names, an address,
lines, times, a UUID), or with --payload drain those of the benchmark drain.
"""

import argparse
import resource

from drain import PAYLOAD, TOPICS, Drain
from harness import Session, exit_on_sigterm
from support import Steal, last_line, quartiles, say, spread

CODECS = ("lz4", "none", "snappy", "zstd", "gzip", "gzip:1")
FIGURES = ("per_s", "sender_cpu_s", "relay_cpu_s", "broker_cpu_s", "reader_cpu_s", "bytes_per_event")

ORDER = """(
	select format('{"orderId":"%s","customer":{"id":"customer-%s","name":"%s %s","email":"%s.%s%s@example.com"},'
		'"shippingAddress":{"street":"%s %s","city":"%s","postalCode":"%s","country":"DE"},"currency":"EUR","items":[%s],'
		'"total":%s.%s,"paymentMethod":"%s","status":"created","createdAt":"2026-%s-%sT%s:%s:%s.%sZ"}',
		md5(n::text)::uuid, n * 1009 % 200003, given, family, lower(given), lower(family), n % 97, street, 1 + n % 180, city,
		10000 + n * 31 % 89999, items, 10 + n * 17 % 400, 10 + n % 90, (array['card', 'invoice', 'paypal'])[1 + n % 3],
		lpad((1 + n % 12)::text, 2, '0'), lpad((1 + n % 28)::text, 2, '0'), lpad((n % 24)::text, 2, '0'),
		lpad((n * 7 % 60)::text, 2, '0'), lpad((n * 13 % 60)::text, 2, '0'), lpad((n * 37 % 1000)::text, 3, '0'))
	from (select
		(array['Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Greta', 'Hannah', 'Ivan', 'Jonas', 'Katrin'])[1 + n % 11] as given,
		(array['Schmidt', 'Meyer', 'Fischer', 'Weber', 'Wagner', 'Becker', 'Hoffmann', 'Koch', 'Richter', 'Klein', 'Wolf',
			'Neumann', 'Schwarz'])[1 + n % 13] as family,
		(array['Hauptstrasse', 'Schulweg', 'Gartenstrasse', 'Bahnhofstrasse', 'Lindenallee', 'Am Markt', 'Bergweg'])[1 + n % 7] as street,
		(array['Berlin', 'Hamburg', 'Leipzig', 'Bremen', 'Dresden'])[1 + n % 5] as city,
		(select string_agg(format('{"sku":"SKU-%s","title":"%s","quantity":%s,"unitPrice":%s.%s}', n * line * 17 % 4999,
			(array['Coffee beans, dark roast 1 kg', 'Travel mug 350 ml', 'Filter papers, 100 pieces', 'Hand grinder'])[1 + n * line % 4],
			1 + n * line % 3, 3 + n * line % 60, 10 + n * line % 90), ',') from generate_series(1, 1 + n % 3) line) as items) parts)
"""
PAYLOADS = {"order": ORDER, "drain": PAYLOAD}


class Compression(Drain):
    def choose(self, codec):
        """Have the next relay compress so."""
        name, _, level = codec.partition(":")
        properties = [f"bootstrap.servers={self.kafka.bootstrap}", f"compression.codec={name}"]
        if level:
            properties.append(f"compression.level={level}")
        self.postgres.configure(**{"outbox.kafka_properties": "\n".join([*properties, *self.options.property])})
        self.postgres.reload()
        return name

    def bytes_in_kafka(self):
        """Of the topic's log, as the broker keeps and sends it; not of the last round's, which may still be there to be deleted."""
        folders = (self.kafka.data / "log").glob(f"{TOPICS['relay']}-[0-9]")
        return sum(path.stat().st_size for folder in folders for path in folder.glob("*.log"))

    def run_codec(self, number, codec):
        """One round with a codec; {figure: value}."""
        name, steal = self.choose(codec), Steal()
        found = self.run_relay(number)
        if f"compression.codec={name}" not in self.properties:
            raise RuntimeError(f"the relay did not use {codec}: {self.properties}")
        found["per_s"] = self.options.events / found["seconds"]
        found["steal_percent"] = steal.percent()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.verify("relay")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found["reader_cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found["bytes_per_event"] = self.bytes_in_kafka() / self.options.events
        figures = " ".join(f"{key}={value:.2f}" for key, value in found.items())
        say(f"{'warm-up' if number == 0 else f'round {number}'} {codec} {figures}")
        return found

    def run_round(self, number):
        """Each codec once; round by round another one is the first."""
        codecs = self.options.codec
        first = number % len(codecs)
        return {codec: self.run_codec(number, codec) for codec in codecs[first:] + codecs[:first]}


def report(rounds, codecs, events):
    say(f"rounds={len(rounds)} events={events} (median and quartiles follow)")
    for codec in codecs:
        for key in FIGURES:
            say(f"{codec:8} {key:16} {spread([found[codec][key] for found in rounds])}")
        ratios = [found[codec]["per_s"] / found[codecs[0]]["per_s"] for found in rounds]
        say(f"{codec:8} {'of ' + codecs[0] + ' in its round':16} {spread(ratios, 3)}")
    last_line("compression", digits=0, **{
        f"{codec.replace(':', '')}_{key}": quartiles([found[codec][key] for found in rounds])[1]
        for codec in codecs for key in ("per_s", "bytes_per_event")})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=100, help="events of one stored transaction")
    parser.add_argument("--transaction", type=int, default=50_000, help="events of one Kafka transaction")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--codec", action="append", help=f"instead of {' '.join(CODECS)}; the first is what the others are compared with")
    parser.add_argument("--payload", choices=sorted(PAYLOADS), default="order")
    parser.add_argument("--property", action="append", default=[], help="a librdkafka property of all, name=value")
    options = parser.parse_args()
    options.codec = options.codec or list(CODECS)
    exit_on_sigterm()
    session = Session("bench-compression")
    try:
        compression = Compression(session, options, PAYLOADS[options.payload])
        compression.store()
        compression.run_round(0)
        report([compression.run_round(number) for number in range(1, options.rounds + 1)], options.codec, options.events)
    finally:
        session.close()


if __name__ == "__main__":
    main()
