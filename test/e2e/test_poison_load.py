# SPDX-License-Identifier: PostgreSQL
"""Refused events among busy writers of their keys, with crashes at their worst moments.

A poisonous event is one of the writers' own, too large for its topic: the checker
knows it, so its place in the order of its key is judged as well. One that was
discarded leaves the truth.
"""

import contextlib

import psycopg
from fault_rounds import Blows, Rounds, lengths
from harness import limit_records, wait_until

SEED = 97001
# Wide enough for whole requests of ordinary events, which Kafka judges as one record.
SMALL, LARGE = "100000", "1000000"

POISON = """
create or replace function checker.poison(topic text, key text) returns void
language plpgsql as $$
declare
    rank bigint;
    event uuid;
begin
    insert into checker.counter as c values (poison.topic, poison.key, 1)
        on conflict on constraint counter_pkey do update set key_seq = c.key_seq + 1
        returning c.key_seq into rank;
    event := outbox.emit(poison.topic, poison.key, 'Poison', jsonb_build_object('keySeq', rank, 'filler',
        (select string_agg(gen_random_uuid()::text, '') from generate_series(1, 6000))));
    insert into checker.truth values (event, poison.topic, poison.key, rank);
end $$;
"""

DISCARD = """
with discarded as (
    select id, event_id, outbox.dead_letter_discard(id, 'a test') from outbox.dead_letter
    where state = 'open' and event_type = 'Poison' order by id limit 1)
delete from checker.truth t using discarded d where t.id = d.event_id
"""

REPLAY = "select count(outbox.dead_letter_replay(id, 'limit raised')) from outbox.dead_letter where state = 'open'"


class Poison:
    """One round: poison some keys, let their events wait, then discard or replay; the relay is killed on the way."""

    def __init__(self, database, postgres, kafka, topic, rounds):
        self.database, self.kafka, self.topic, self.rounds = database, kafka, topic, rounds
        self.blows = Blows(database, postgres)
        self.held = 0

    def ask(self, statement):
        """The first value, or None while the server is away."""
        with contextlib.suppress(psycopg.OperationalError):
            return self.database.value(statement)

    def wait(self, statement, what):
        return wait_until(lambda: self.ask(statement), 90, what, interval=0.01)

    def add(self):
        for key in self.rounds.choose.sample(range(20), 3):
            self.database.execute("select checker.poison(%s, %s)", (self.topic, f"key-{key}"))

    def release(self, kill):
        """Replay until nothing waits; the relay dies as soon as something was emitted again."""
        before = self.ask("select count(*) from outbox.dead_letter where reissue_txid is not null") or 0
        again = f"select count(*) > {before} from outbox.dead_letter where reissue_txid is not null"
        waiting = "select count(*) = 0 from outbox.dead_letter where state in ('open', 'held', 'releasing')"
        limit_records(self.kafka, self.topic, LARGE)

        def done():
            nonlocal kill
            self.ask(REPLAY)
            if kill and self.ask(again):
                kill = False
                self.blows.kill_relay()
            return self.ask(waiting)
        wait_until(done, 120, "the end of what waits", interval=0.02)

    def round(self, number):
        limit_records(self.kafka, self.topic, SMALL)
        self.add()
        if number % 2 == 0:
            self.wait("select count(*) > 0 from outbox.dead_letter where state = 'open'", "a dead letter")
        self.blows.kill_relay()
        self.wait("select count(*) > 0 from outbox.dead_letter where state = 'open'", "a dead letter")
        self.wait("select keys_held > 0 from outbox.relay_status", "a held key")
        self.rounds.await_batches(3)
        self.held += self.ask("select count(*) from outbox.dead_letter where state = 'held'") or 0
        self.database.execute(DISCARD)
        self.release(number % 2 == 0)


@lengths(2)
def test_order_of_held_keys_survives_crashes(relay, postgres, kafka, topic_name, rounds):
    """hold_key: under load, refusals, discards and replays with kill -9 of the relay between refusal, row,
    re-send and return lose, double and reorder nothing."""
    postgres.configure(**{"outbox.dead_letter_policy": "hold_key"})
    postgres.reload()
    kafka.create_topic(topic_name, 3, {"max.message.bytes": SMALL})
    topic = relay.declare(topic_name, 3)
    with Rounds(relay, kafka, [topic], SEED, keys=20, rate=300) as running:
        relay.execute(POISON)
        poison = Poison(relay, postgres, kafka, topic, running)
        for number in range(rounds):
            poison.round(number)
        running.await_batches(1)
    report = running.check()
    report.require_ok()
    assert poison.held >= rounds
    assert running.result.reconnects >= rounds
