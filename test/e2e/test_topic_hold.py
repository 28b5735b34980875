# SPDX-License-Identifier: PostgreSQL
"""A topic that is held: nothing of it is sent, the others go on, and what it left out is in the tables."""

import re

import pytest
from harness import OVERSIZED, limit_records, wait_until

HELD = "select coalesce(sum(events), 0) from outbox.topic_hold_batch"


def hold(database, topic, reason="a test holds it"):
    database.execute("select outbox.topic_hold(%s, %s)", (topic, reason))


def keys(records):
    return [record.key().decode() for record in records]


def cursor_note(database, kafka):
    """(batch number, left_out) of the newest cursor in Kafka's own log; a note is bytes to its client."""
    group = database.transactional_id().encode()
    # OffsetCommitKey: version, group, topic, partition; OffsetCommitValue: version, offset, ..., metadata
    notes = [record.value() for record in kafka.read_all("__consumer_offsets")
             if record.value() and record.key()[:2] <= b"\0\1" and group in record.key()]
    return int.from_bytes(notes[-1][2:10], "big"), int(re.search(rb"left_out=(\d+)", notes[-1]).group(1))


def emit_both(database, held, fine, count, first=1):
    """count transactions, each with an event of either topic."""
    for number in range(first, first + count):
        database.execute("select outbox.emit(%s, %s, 'T', '{}'), outbox.emit(%s, %s, 'T', '{}')",
                         (held, str(number), fine, str(number)))


def test_a_held_topic_stops_nobody(relay, kafka, unique):
    """An operator holds a topic: nothing of it is sent, every event of the others is, in order; the batch's row of
    the hold says what it left out, and the cursor counts it."""
    held, fine = relay.declare(unique("held"), 1), relay.declare(unique("fine"), 1)
    emit_both(relay, held, fine, 2)
    kafka.wait_for_records(held, 2)
    relay.wait_delivered()
    hold(relay, held)
    emit_both(relay, held, fine, 5, 3)
    assert keys(kafka.wait_for_records(fine, 7)) == [str(n) for n in range(1, 8)]
    relay.wait_delivered()
    assert keys(kafka.read_all(held)) == ["1", "2"]
    assert relay.value(HELD) == 5
    assert relay.execute("select b.batch_no, l.events from outbox.batch b join outbox.topic_hold_batch l using (batch_no) "
                         "where (b.lower::text, b.upper::text) <> (l.lower::text, l.upper::text)") == []
    last, left_out = cursor_note(relay, kafka)
    assert left_out == relay.value("select events from outbox.topic_hold_batch where batch_no = %s", (last,)) > 0
    status = relay.status()
    assert status["dead_letters_open"] == 0
    assert status["last_error"] == f'topic "{held}" is held: a test holds it' and status["recovered_at"] is None
    relay.execute("select outbox.topic_release(%s)", (held,))
    assert keys(kafka.wait_for_records(held, 7)) == [str(n) for n in range(1, 8)]
    relay.wait_for("select recovered_at is not null from outbox.relay_status")


def test_a_hold_does_not_wait_for_the_end_of_a_window(database, postgres, kafka, unique):
    """What an outage left is one window of many batches: a hold takes effect within it."""
    postgres.configure(outbox__batch_max_events="50")
    postgres.reload()
    held, fine = database.declare(unique("held"), 1), database.declare(unique("fine"), 1)
    database.execute("create procedure fill(a text, b text) language plpgsql as $$ begin for n in 1 .. 20000 loop "
                     "perform outbox.emit(a, n::text, 'T', '{}'), outbox.emit(b, n::text, 'T', '{}'); commit; "
                     "end loop; end $$")
    database.execute("call fill(%s, %s)", (held, fine))
    database.start_relay()
    database.await_batches(3)
    hold(database, held)
    database.wait_for("select exists (select from outbox.topic_hold_batch)")
    assert database.value("select sum(events) from outbox.backlog") > 0, "the window was over, nothing was tested"
    database.wait_delivered(120)
    sent, left_out = len(kafka.read_all(held)), database.value(HELD)
    assert sent and left_out and sent + left_out == 20000
    assert keys(kafka.read_all(held)) == [str(n) for n in range(1, sent + 1)]
    assert keys(kafka.read_all(fine)) == [str(n) for n in range(1, 20001)]


def test_a_restart_goes_on_with_a_hold(relay, postgres, kafka, unique):
    """The relay finds its holds in the tables, also the one that began while it was away."""
    held, late, fine = (relay.declare(unique(name), 1) for name in ("held", "late", "fine"))
    hold(relay, held)
    emit_both(relay, held, fine, 1)
    kafka.wait_for_records(fine, 1)
    postgres.kill9()
    postgres.start()
    hold(relay, late)
    emit_both(relay, held, fine, 2, 2)
    emit_both(relay, late, fine, 2, 4)
    assert keys(kafka.wait_for_records(fine, 5)) == ["1", "2", "3", "4", "5"]
    relay.wait_delivered()
    assert kafka.read_all(held) == kafka.read_all(late) == []
    assert relay.execute("select topic, sum(events) from outbox.topic_hold h join outbox.topic_hold_batch b "
                         "on b.hold = h.id group by 1 order by min(h.id)") == [(held, 3), (late, 2)]


def test_held_events_have_no_dead_letters(relay, kafka, unique, policy):
    """hold_key: an event of a held topic waits with its topic, not behind a dead letter of its key."""
    policy("hold_key")
    held = relay.declare(kafka.create_topic(unique("held"), 1, {"cleanup.policy": "compact"}), 1)
    fine = relay.declare(unique("fine"), 1)
    relay.execute("select outbox.emit(%s, 'k', 'T', '{}')", (held,))
    kafka.wait_for_records(held, 1)
    hold(relay, held)
    emit_both(relay, held, fine, 1)
    relay.execute("select outbox.emit(%s, null, 'T', '{}')", (held,))
    relay.wait_delivered()
    assert relay.value(HELD) == 2 and relay.value("select count(*) from outbox.dead_letter") == 0


def test_copies_wait_behind_dead_letters(relay, kafka, unique, policy):
    """hold_key: a key with a dead letter from before its topic was held goes on only behind it, the others at once."""
    policy("hold_key")
    held = relay.declare(kafka.create_topic(unique("held"), 1, {"max.message.bytes": "2000"}), 1)
    relay.execute(f"select outbox.emit(%s, 'k', 'large', {OVERSIZED})", (held,))
    letter = relay.wait_for("select id from outbox.dead_letter where state = 'open'")
    hold(relay, held)
    relay.execute("select outbox.emit(%s, 'k', 'waits', '{}'), outbox.emit(%s, 'free', 'free', '{}')", (held, held))
    relay.wait_delivered()
    assert relay.value(HELD) == 2 and relay.value("select count(*) from outbox.dead_letter") == 1
    relay.execute("select outbox.topic_release(%s)", (held,))
    assert keys(kafka.wait_for_records(held, 1)) == ["free"]
    relay.wait_for("select count(*) = 1 from outbox.dead_letter where state = 'held' and blocked_by = %s", 30, (letter,))
    relay.wait_for("select state = 'ended' from outbox.topic_holds")
    limit_records(kafka, held, 100000)
    relay.execute("select outbox.dead_letter_replay(%s)", (letter,))
    types = [dict(record.headers())["ce_type"].decode() for record in kafka.wait_for_records(held, 3)]
    assert types == ["free", "large", "waits"]


def test_what_a_hold_left_out_is_history(relay, kafka, unique):
    """A recovery that loses what a hold left out of the last batch is lost history, as one that loses dead letters;
    adopt('resend') sends the batch again, and the hold holds the same events anew."""
    held, fine = relay.declare(unique("held"), 1), relay.declare(unique("fine"), 1)
    hold(relay, held)
    emit_both(relay, held, fine, 3)
    relay.wait_delivered()
    assert relay.value(HELD) == 3
    relay.stop_relay()
    relay.wait_state("stopped")
    last = relay.value("select max(batch_no) from outbox.batch")
    relay.execute("delete from outbox.topic_hold_batch where batch_no = %s", (last,))
    relay.start_relay()
    relay.wait_state("hold")
    assert "dead letters and held events" in relay.status()["hold_reason"]
    relay.execute("select outbox.adopt('resend')")
    wait_until(lambda: relay.value("select max(batch_no) from outbox.batch") > last + 1, 60, "the batch to come again")
    relay.wait_delivered()
    assert kafka.read_all(held) == []
    assert relay.value(HELD) == 3
    assert sorted(set(keys(kafka.read_all(fine)))) == ["1", "2", "3"]
    assert relay.execute("select state, cause from outbox.topic_hold") == [("held", "operator")]


@pytest.mark.parametrize(("decision", "left_out"), [("resend", 3), ("skip", 2)])
def test_adopt_keeps_holds(relay, kafka, unique, decision, left_out):
    """Batches that come again after adopt('resend') hold their events once; what earlier ones left out stays, and so
    does all that the tables know of after adopt('skip')."""
    held, fine = relay.declare(unique("held"), 1), relay.declare(unique("fine"), 1)
    hold(relay, held)
    for number in (1, 2, 3):
        emit_both(relay, held, fine, 1, number)
        relay.wait_delivered()
    relay.stop_relay()
    relay.wait_state("stopped")
    with relay.unguarded("outbox.batch"):  # as after a failover to a standby that lagged
        relay.execute("delete from outbox.batch where batch_no = (select max(batch_no) from outbox.batch)")
        relay.execute("delete from outbox.topic_hold_batch where batch_no > (select max(batch_no) from outbox.batch)")
    relay.start_relay()
    relay.wait_state("hold")
    relay.execute("select outbox.adopt(%s)", (decision,))
    relay.wait_state("idle")
    relay.wait_delivered()
    assert kafka.read_all(held) == []
    assert relay.value(HELD) == left_out


@pytest.mark.parametrize("decision", ["resend", "skip"])
def test_a_restored_database_goes_on_with_a_hold(relay, postgres, kafka, make_database, unique, decision):
    """A dump carries the holds: what waits is there after adopt(), which gives it transaction ids of this server, in
    its order; what the release had sent before is not sent again."""
    held, fine = relay.declare(unique("held"), 1), relay.declare(unique("fine"), 1)
    relay.execute("insert into outbox.topic_hold (topic, cause, reason, state, ended_txid) "
                  "values ('earlier', 'operator', 'r', 'ended', pg_current_xact_id())")
    hold(relay, held)
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 150) n", (held,))
    relay.wait_delivered()
    relay.execute("update outbox.topic_hold set cause = 'refused' where state = 'held'")  # its first 100 copies are a probe
    with relay.connect(autocommit=False) as person:
        # the end of the hold needs this row; the copies before it do not
        person.execute("select from outbox.topic where name = %s for no key update", (held,))
        relay.execute("update outbox.topic_hold set state = 'releasing', released_at = now() where state = 'held'")
        kafka.wait_for_records(held, 100)
        emit_both(relay, fine, fine, 1)
        relay.wait_for("select coalesce(sum(events), 0) = 0 from outbox.backlog")
        relay.stop_relay()
        relay.wait_state("stopped")
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", relay.dsn()), restored.name)
    restored.start_relay()
    restored.wait_state("hold")
    restored.execute("select outbox.adopt(%s)", (decision,))
    restored.wait_for("select state = 'ended' and copied = 50 from outbox.topic_holds where topic = %s", 30, (held,))
    # a transaction of this server that gets the same number is none that ended a hold
    assert restored.value("select ended_txid from outbox.topic_hold where topic = 'earlier'") is None
    restored.wait_delivered()
    assert keys(kafka.read_all(held)) == [str(n) for n in range(1, 151)]
