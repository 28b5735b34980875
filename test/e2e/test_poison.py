# SPDX-License-Identifier: PostgreSQL
"""Events that Kafka refuses, under each policy."""

import pytest
from harness import OVERSIZED, limit_records, wait_until

SMALL, LARGE = "2000", "100000"

EMIT_OVERSIZED = f"select outbox.emit(%s, %s, 'Poison', {OVERSIZED})"


@pytest.fixture
def narrow(relay, kafka, topic_name):
    """A topic of one partition that takes small records only."""
    kafka.create_topic(topic_name, 1, {"max.message.bytes": SMALL})
    return relay.declare(topic_name, 1)


def emit_around(database, topic, key):
    """before, an oversized one and after, in one transaction, and one of another key."""
    with database.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, %s, 'before', '{}')", (topic, key))
        connection.execute(EMIT_OVERSIZED, (topic, key))
        connection.execute("select outbox.emit(%s, %s, 'after', '{}')", (topic, key))
        connection.execute("select outbox.emit(%s, 'other', 'other', '{}')", (topic,))
        connection.commit()


def types(kafka, topic, count):
    return [dict(record.headers())["ce_type"].decode() for record in kafka.wait_for_records(topic, count)]


def only_letter(database, state="open"):
    return database.wait_for("select id from outbox.dead_letter where state = %s", 30, (state,))


def test_hold_key_keeps_the_order_of_the_key(relay, kafka, narrow, policy):
    """hold_key: later events of the key wait, others flow, a replay keeps the order."""
    policy("hold_key")
    emit_around(relay, narrow, "k")
    assert types(kafka, narrow, 2) == ["before", "other"]
    letter = only_letter(relay)
    relay.emit(narrow, "k", "later")
    relay.emit(narrow, "free", "free")
    assert types(kafka, narrow, 3) == ["before", "other", "free"]
    relay.wait_for("select count(*) = 2 from outbox.dead_letter where state = 'held' and blocked_by = %s", 30, (letter,))
    status = relay.status()
    assert (status["dead_letters_open"], status["keys_held"], status["events_refused"]) == (1, 1, 1)
    limit_records(kafka, narrow, LARGE)
    relay.execute("select outbox.dead_letter_replay(%s, 'limit raised')", (letter,))
    assert types(kafka, narrow, 6) == ["before", "other", "free", "Poison", "after", "later"]
    relay.emit(narrow, "k", "last")
    assert types(kafka, narrow, 7)[6] == "last"
    status = relay.status()
    assert (status["dead_letters_open"], status["keys_held"]) == (0, 0)


def test_discarded_letter_frees_its_key(relay, kafka, narrow, policy):
    """hold_key: what is held goes on without a discarded letter; a second refusal holds again."""
    policy("hold_key")
    emit_around(relay, narrow, "k")
    first = only_letter(relay)
    relay.execute(EMIT_OVERSIZED, (narrow, "k"))
    relay.emit(narrow, "k", "behind")
    relay.wait_for("select count(*) = 3 from outbox.dead_letter where state = 'held'")
    relay.execute("select outbox.dead_letter_discard(%s, 'not needed')", (first,))
    assert types(kafka, narrow, 3) == ["before", "other", "after"]
    second = only_letter(relay)
    assert second != first
    assert relay.value("select count(*) from outbox.dead_letter where state = 'held'") == 1
    relay.execute("select outbox.dead_letter_discard(%s, 'not needed')", (second,))
    assert types(kafka, narrow, 4) == ["before", "other", "after", "behind"]
    assert relay.value("select count(*) from outbox.audit where action = 'dead_letter_discard'") == 2


def test_policy_dead_letter_lets_the_key_flow(relay, kafka, narrow, policy):
    """dead_letter: only the refused event stays behind; a replay sends it, alone."""
    emit_around(relay, narrow, "k")
    assert types(kafka, narrow, 3) == ["before", "after", "other"]
    letter = only_letter(relay)
    limit_records(kafka, narrow, LARGE)
    relay.execute("select outbox.dead_letter_replay(%s)", (letter,))
    assert types(kafka, narrow, 4) == ["before", "after", "other", "Poison"]
    record = kafka.wait_for_records(narrow, 4)[3]
    event = relay.value("select event_id::text from outbox.dead_letter where id = %s", (letter,))
    assert dict(record.headers())["ce_id"].decode() == event
    assert dict(record.headers())["content-type"] == b"application/json"


def test_policy_stop_waits_for_the_topic(relay, kafka, narrow, policy):
    """stop: no row, nothing more is sent, last_error names the event; a wider topic ends it."""
    policy("stop")
    emit_around(relay, narrow, "k\u00e4se")
    named = wait_until(lambda: (lambda text: text if "stop" in text else None)(relay.status()["last_error"] or ""),
                       30, "the refusal in last_error")
    event = relay.value("select id::text from outbox.event where type = 'Poison'")
    assert event in named and f'topic "{narrow}", key "k\u00e4se"' in named
    relay.emit(narrow, "free", "free")
    assert relay.value("select count(*) from outbox.dead_letter") == 0
    assert kafka.read_all(narrow) == []
    limit_records(kafka, narrow, LARGE)
    assert types(kafka, narrow, 5) == ["before", "Poison", "after", "other", "free"]


def test_another_policy_ends_the_stop(relay, kafka, narrow, policy):
    """Policies: the setting is live; the stopped relay goes on at the reload, as the new policy says."""
    policy("stop")
    emit_around(relay, narrow, "k")
    wait_until(lambda: "stop" in (relay.status()["last_error"] or ""), 30, "the refusal in last_error")
    policy("hold_key")
    assert types(kafka, narrow, 2) == ["before", "other"]
    letter = only_letter(relay)
    # What is held stays in order, whatever the policy is now; the key itself is free after that.
    policy("dead_letter")
    relay.emit(narrow, "k", "later")
    relay.wait_for("select count(*) = 2 from outbox.dead_letter where state = 'held'")
    relay.execute("select outbox.dead_letter_discard(%s, 'a test')", (letter,))
    assert types(kafka, narrow, 4) == ["before", "other", "after", "later"]


def test_refused_key_may_be_long(relay, kafka, narrow, policy):
    """Design I7: a key longer than an index entry becomes a dead letter like any other."""
    policy("hold_key")
    emit = "select outbox.emit_bytes(%s, (select string_agg(sha256(n::text::bytea), '') from generate_series(1, 200) n), %s, '{}')"
    for kind in ("Poison", "behind"):
        relay.execute(emit, (narrow, kind))
    relay.wait_for("select count(*) = 1 from outbox.dead_letter where state = 'held'")
    limit_records(kafka, narrow, LARGE)
    relay.execute("select outbox.dead_letter_replay(%s)", (only_letter(relay),))
    assert types(kafka, narrow, 2) == ["Poison", "behind"]


def test_replayed_letters_precede_what_was_emitted_meanwhile(relay, kafka, narrow, policy):
    """Design I7: the order after a replay follows from the tables alone, also for a relay that starts anew."""
    policy("hold_key")
    emit_around(relay, narrow, "k")
    letter = only_letter(relay)
    assert types(kafka, narrow, 2) == ["before", "other"]
    relay.stop_relay()
    relay.wait_state("stopped")
    limit_records(kafka, narrow, LARGE)
    relay.emit(narrow, "k", "meanwhile")
    relay.execute("select outbox.dead_letter_replay(%s)", (letter,))
    relay.start_relay()
    assert types(kafka, narrow, 5) == ["before", "other", "Poison", "after", "meanwhile"]




def test_letters_that_cannot_be_written_wait(relay, kafka, narrow):
    """An index or default that refuses the copy of a letter keeps it, not the relay, other letters and what is emitted."""
    for key in ("k", "other"):
        relay.execute(EMIT_OVERSIZED, (narrow, key))
    relay.wait_for("select count(*) = 2 from outbox.dead_letter where state = 'open'")
    limit_records(kafka, narrow, LARGE)
    pid = relay.status()["pid"]
    relay.execute("create unique index once on outbox.event_0 (id) where key = 'k'")
    relay.execute("alter table outbox.event add column share int; alter table outbox.event alter column share set default 1/0")
    relay.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter order by id")
    relay.wait_for("select last_error = 'dead letters are not sent again: division by zero' from outbox.relay_status")
    relay.execute("alter table outbox.event drop column share")
    relay.wait_for("""select last_error like 'dead letters are not sent again: dead letter %%: duplicate key%%"once"'
                   from outbox.relay_status""")
    assert [record.key() for record in kafka.wait_for_records(narrow, 1)] == [b"other"]
    relay.emit(narrow, "k", "live")
    assert types(kafka, narrow, 2) == ["Poison", "live"]
    relay.wait_delivered()
    assert relay.status()["recovered_at"] is None  # what was delivered since is not what the error is about
    relay.execute("drop index outbox.once")
    relay.wait_for("select recovered_at > last_error_at from outbox.relay_status", 60)
    assert types(kafka, narrow, 3) == ["Poison", "live", "Poison"]
    assert relay.status()["pid"] == pid


def test_restored_letters_go_on_where_they_were(relay, kafka, narrow, policy, postgres, make_database):
    """Dump and restore: letters and audit are in the dump; what waits can be replayed in the restored database."""
    policy("hold_key")
    emit_around(relay, narrow, "k")
    letter = only_letter(relay)
    relay.execute("select outbox.dead_letter_note(%s, 'seen')", (letter,))
    assert types(kafka, narrow, 2) == ["before", "other"]
    relay.wait_state("idle")
    relay.stop_relay()
    relay.wait_state("stopped")
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", relay.dsn()), restored.name)
    restored.start_relay()
    restored.wait_state("hold")
    restored.execute("select outbox.adopt('skip')")
    restored.wait_state("idle")
    assert restored.execute("select action, reason from outbox.audit") == [("dead_letter_note", "seen")]
    restored.emit(narrow, "k", "later")
    restored.wait_for("select count(*) = 2 from outbox.dead_letter where state = 'held'")
    limit_records(kafka, narrow, LARGE)
    restored.execute("select outbox.dead_letter_replay(%s)", (letter,))
    assert types(kafka, narrow, 5) == ["before", "other", "Poison", "after", "later"]


def backlog_is_the_truth(database):
    """Is the backlog what the tables say, which is not nothing?"""
    return database.value("""
        select s.backlog_bytes > 0 and s.backlog_bytes = (
            select sum(octet_length(key) + octet_length(payload) + coalesce(octet_length(headers), 0)) from outbox.unsent)
        from outbox.relay_status s""")


def test_backlog_knows_what_is_held(relay, kafka, narrow, policy, postgres):
    """max_backlog: events that become held letters leave the backlog, copies of letters enter it."""
    policy("hold_key")
    emit_around(relay, narrow, "k")
    letter = only_letter(relay)
    assert types(kafka, narrow, 2) == ["before", "other"]
    relay.wait_state("idle")
    relay.stop_relay()
    relay.wait_state("stopped")
    # A relay that stops at a refused event is never idle, where it would put the figure right.
    postgres.configure(**{"outbox.batch_max_events": 10})
    policy("stop")
    relay.execute("select count(outbox.emit(%s, 'k', 'T', '{}')) from generate_series(1, 20)", (narrow,))
    relay.execute(EMIT_OVERSIZED, (narrow, "p"))
    relay.start_relay()
    wait_until(lambda: "stop" in (relay.status()["last_error"] or ""), 30, "the refusal in last_error")
    assert relay.value("select count(*) from outbox.dead_letter where state = 'held'") == 21
    wait_until(lambda: backlog_is_the_truth(relay), 10, "the backlog without what is held")
    limit_records(kafka, narrow, LARGE)
    assert types(kafka, narrow, 3)[2] == "Poison"
    relay.wait_state("idle")
    relay.stop_relay()
    relay.wait_state("stopped")
    limit_records(kafka, narrow, SMALL)
    relay.execute("select outbox.dead_letter_replay(%s)", (letter,))
    relay.start_relay()
    relay.wait_for("select count(*) = 22 from outbox.dead_letter where state = 'resolved'")
    wait_until(lambda: backlog_is_the_truth(relay), 10, "the backlog with the copies")
    limit_records(kafka, narrow, LARGE)
    assert types(kafka, narrow, 25)[3:] == ["Poison", "after"] + 20 * ["T"]
