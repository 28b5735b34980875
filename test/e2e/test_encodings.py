# SPDX-License-Identifier: PostgreSQL
"""Databases that are not in UTF-8, against a real broker: Kafka gets UTF-8, whatever the database holds."""

import urllib.parse

WORD = "größe-ä"


def test_latin1_arrives_in_utf8(postgres, make_database, kafka, unique):
    """Each part of a record of a LATIN1 database is UTF-8, in a replay the same; people see Latin-1."""
    database = make_database(postgres, f"{unique('test')} größe", encoding="LATIN1")
    topic = database.declare(unique("latin"), 1)
    database.start_relay()
    with database.connect() as connection:
        assert connection.info.parameter_status("server_encoding") == "LATIN1"
        connection.execute(f"set outbox.correlation_id = '{WORD}'")
        connection.execute("select outbox.emit(%s, %s, %s, jsonb_build_object(%s::text, %s::text), jsonb_build_object(%s::text, %s::text))",
                           (topic, *[WORD] * 6))
        connection.execute("select outbox.emit_bytes(%s, null, %s, null, %s)", (topic, WORD, f"text/{WORD}"))
    database.wait_delivered(60)
    replayed = database.value("select events from outbox.replay('-infinity', 'infinity')")
    first, second, *copies = kafka.wait_for_records(topic, 2 + replayed)
    assert replayed == len(copies) == 2
    for record in (first, copies[0]):
        headers = [(name, value.decode()) for name, value in record.headers()]
        assert record.key().decode() == WORD
        assert record.value().decode() == f'{{"{WORD}": "{WORD}"}}'
        assert ("ce_type", WORD) in headers and ("correlationid", WORD) in headers and (WORD, WORD) in headers
        assert ("ce_source", "/outbox/" + urllib.parse.quote(database.name)) in headers
    for record in (second, copies[1]):
        headers = {name: value.decode() for name, value in record.headers()}
        assert (headers["ce_type"], headers["content-type"]) == (WORD, f"text/{WORD}")
    flow = "select state, key, type from outbox.flow where correlation_id = %s and key is not null"
    assert database.execute(flow, (WORD,)) == [("sent", WORD, WORD)] * 2
    assert postgres.value("select count(*) from outbox.databases where database = %s", (database.name,), make_database(postgres).name) == 1


def test_text_that_is_none_is_a_dead_letter(postgres, make_database, kafka, unique):
    """A row written by hand, whose type cannot become UTF-8, stops nothing else; its letter is shown."""
    database = make_database(postgres, encoding="SQL_ASCII")
    topic = database.declare(unique("ascii"), 1)
    with database.connect() as connection:
        connection.execute("insert into outbox.event (txid, seq, segment, id, topic, type, created_at) values"
                           " (pg_current_xact_id(), nextval('outbox.event_seq'), 0, gen_random_uuid(), %s,"
                           " convert_from('\\xe4', 'SQL_ASCII'), now())", (topic,))
        connection.execute("select outbox.emit(%s, convert_from('\\xc3a4', 'SQL_ASCII'), 'Next', '{}')", (topic,))
    database.start_relay()
    record = kafka.wait_for_records(topic, 1)[0]
    assert (record.key(), dict(record.headers())["ce_type"]) == ("ä".encode(), b"Next")
    database.wait_for("select count(*) = 1 and bool_and(state = 'open' and error_message ~ 'cannot become UTF-8') from outbox.dead_letters", 60)
