# SPDX-License-Identifier: PostgreSQL
"""Events and topics that no declaration of ours would allow, but that hands and dumps can write.

They become dead letters as the policy says; what is sound goes on.
"""

import psycopg
import pytest
from harness import wait_until

HUGE = 256 * 1024 * 1024  # bytes; above what a frame holds

# One row each: key, and what is wrong with it.
FLAWED = {
    "huge": {"payload": f"convert_to(repeat('x', {HUGE}), 'UTF8')"},
    "headers": {"headers": "'\\xffffffffff'::bytea"},
    "type": {"type": "repeat('T', 70000)"},
    "content": {"content_type": "repeat('c', 70000)"},
    "topic": {"topic": "repeat('t', 65536) || %(topic)s"},
    "time": {"created_at": "'infinity'"},
}


def write_by_hand(connection, to, named, **values):
    """A row of the ring as emit() would write it, but for values: SQL of its columns."""
    row = {"txid": "pg_current_xact_id()", "seq": "nextval('outbox.event_seq')", "segment": "0",
           "id": "gen_random_uuid()", "topic": "%(topic)s", "key": "convert_to(%(key)s, 'UTF8')", "type": "'Tested'",
           "payload": "'x'::bytea", "created_at": "clock_timestamp()", **values}
    connection.execute(
        f"insert into outbox.event ({', '.join(row)}) values ({', '.join(row.values())})", {"topic": to, "key": named})


def keys(kafka, topic, count):
    return sorted(record.key().decode() for record in kafka.wait_for_records(topic, count))


def letters(database, state="open"):
    return {key: (letter, message) for key, letter, message in database.execute(
        "select convert_from(key, 'UTF8'), id, error_message from outbox.dead_letter where state = %s order by id", (state,))}


def test_events_that_cannot_be_framed(relay, kafka, topic):
    """256 MB, headers that are none, texts too long, no time: dead letters; the relay stays, others are sent."""
    pid = relay.status()["pid"]
    with relay.connect(autocommit=False) as connection:
        write_by_hand(connection, topic, "before")
        for key, values in FLAWED.items():
            write_by_hand(connection, topic, key, **values)
        write_by_hand(connection, topic, "after")
        connection.commit()
    assert keys(kafka, topic, 2) == ["after", "before"]
    relay.wait_delivered(60)
    found = letters(relay)
    assert set(found) == set(FLAWED)
    assert "larger than the relay can send" in found["huge"][1] and "no time" in found["time"][1]
    assert relay.status()["pid"] == pid
    assert relay.value("select max(length(value)) from outbox.dead_letter") == HUGE

    # While emit() cannot write the ring, dead letters wait, too; the relay says so.
    relay.execute("alter table outbox.event add constraint never check (false) not valid")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot write"):
        relay.emit(topic, "k")
    with relay.connect() as person:
        person.execute("set outbox.allow_dead_letter_edit = on")
        person.execute("select outbox.dead_letter_edit(%s, 1, 'sound', 'no headers', '{}')", (found["headers"][0],))
    relay.wait_for("""select last_error like 'dead letters are not sent again: Check constraint "never"%%' from outbox.relay_status""")
    relay.execute("alter table outbox.event drop constraint never")
    assert keys(kafka, topic, 3) == ["after", "before", "headers"]
    assert relay.status()["pid"] == pid


@pytest.mark.long
def test_letter_that_cannot_be_framed_returns(relay, kafka, topic):
    """Sent again as it is, it is refused again; edited it must be small enough, and then goes out."""
    with relay.connect() as connection:
        write_by_hand(connection, topic, "huge", **FLAWED["huge"])
    pid = relay.status()["pid"]
    relay.wait_for("select count(*) from outbox.dead_letter where state = 'open'", 120)
    relay.execute("select outbox.dead_letter_replay(id, 'once more') from outbox.dead_letter")
    relay.wait_for("select count(*) = 2 from outbox.dead_letter", 120)
    relay.wait_delivered(60)
    with relay.connect() as person:
        person.execute("set outbox.allow_dead_letter_edit = on")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="event is too large"):
            person.execute("select outbox.dead_letter_edit(id, 1, value, 'cut') from outbox.dead_letter where state = 'open'")
        person.execute("select outbox.dead_letter_edit(id, 1, 'small', 'cut') from outbox.dead_letter where state = 'open'")
    assert [record.value() for record in kafka.wait_for_records(topic, 1)] == [b"small"]
    assert relay.status()["pid"] == pid


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_cannot_be_framed_holds_its_key(relay, kafka, topic, policy, postgres, delivery):
    """Policy hold_key: what follows in the key of a flawed event waits, as behind any refused one."""
    postgres.configure(**{"outbox.delivery": delivery})
    policy("hold_key")
    with relay.connect(autocommit=False) as connection:
        write_by_hand(connection, topic, "k", type="'first'")
        write_by_hand(connection, topic, "k", created_at="'-infinity'")
        write_by_hand(connection, topic, "k", type="'last'")
        write_by_hand(connection, topic, "other")
        connection.commit()
    kafka.wait_for_records(topic, 2)
    relay.wait_for("select count(*) = 1 from outbox.dead_letter where state = 'held'", 60)
    with relay.connect() as person:
        person.execute("select outbox.dead_letter_discard(id, 'no time') from outbox.dead_letter where state = 'open'")
    def types():
        """Of the key, in Kafka's order; at_least_once may have sent one twice."""
        found = [dict(record.headers())["ce_type"] for record in kafka.read_all(topic) if record.key() == b"k"]
        return list(dict.fromkeys(found))
    wait_until(lambda: len(types()) == 2, 60, "what was held")
    assert types() == [b"first", b"last"]


# What a row of outbox.topic may hold when its checks are not there, and what Kafka itself refuses: column, value.
WRONG = {
    "policy": ("cleanup_policy", "x" * 100),
    "unknown": ("cleanup_policy", "forget"),
    "none": ("partitions", 0),
    "many": ("partitions", 1000000),
    "replicas": ("replication_factor", -3),
    "retention": ("retention_ms", -7),
    "brokers": ("replication_factor", 30),  # a legal value, but there is one broker
}


def test_wrong_topic_rows(relay, kafka, topic, unique):
    """Events of a topic whose row is wrong are refused, last_error names it, all other topics go on."""
    names = {kind: unique(kind) for kind in WRONG}
    alike = {f"{topic}.alike", f"{topic}_alike"}  # Kafka has no two such topics
    with relay.connect(autocommit=False) as connection:
        for (constraint,) in connection.execute(
                "select conname from pg_constraint where conrelid = 'outbox.topic'::regclass and contype = 'c'").fetchall():
            connection.execute(f"alter table outbox.topic drop constraint {constraint}")
        declared = [*names.values(), *alike]
        for name in [*declared, "", "a b", "n" * 300]:
            connection.execute("insert into outbox.topic (name, partitions) values (%s, 1)", (name,))
        for kind, (column, value) in WRONG.items():
            connection.execute(f"update outbox.topic set {column} = %s where name = %s", (value, names[kind]))
        for name in [*declared, topic]:
            connection.execute("select outbox.emit(%s, 'k', 'Tested', '{}')", (name,))
        connection.commit()
    kafka.wait_for_records(topic, 1)
    relay.wait_delivered(120)
    refused = dict(relay.execute("select topic, error_message from outbox.dead_letter where state = 'open'"))
    assert set(names.values()) == set(refused) - alike and len(set(refused) & alike) == 1
    assert all(f'"{name}"' in message for name, message in refused.items()), refused
    told = relay.status()
    assert any(f'"{name}"' in told["last_error"] for name in refused), told
    # What was delivered since ends the refusals, and not that rows are wrong.
    assert "in outbox.topic is wrong" in told["last_error"] and told["recovered_at"] is None, told

    # Mended, it is sent; the sender that has seen all this is the same.
    sender = relay.status()["sender_pid"]
    relay.execute("update outbox.topic set cleanup_policy = null where name = %s", (names["policy"],))
    relay.execute("select outbox.dead_letter_replay(id, 'mended') from outbox.dead_letter where topic = %s", (names["policy"],))
    kafka.wait_for_records(names["policy"], 1, timeout=60)
    assert relay.status()["sender_pid"] == sender
    assert relay.status()["recovered_at"] is None
    relay.execute("delete from outbox.topic where name <> all(%s)", ([topic, names["policy"]],))
    relay.wait_for("select recovered_at > last_error_at from outbox.relay_status", 60)
