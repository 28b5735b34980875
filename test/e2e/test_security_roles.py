# SPDX-License-Identifier: PostgreSQL
"""What each role may do, and that nobody's objects or words run with rights that are not theirs."""

import psycopg
import pytest
from harness import wait_until
from hostile_objects import HOSTILE
from psycopg import sql

# Every function, and the roles that may call it; "" is nobody but the owner. A new one needs a line here.
FUNCTIONS = {
    "admit": "", "change_emit": "", "grantee_in": "", "grantee_out": "", "grantee_recv": "", "grantee_send": "", "give_again": "", "let_in": "", "renew_grants": "", "need": "", "take_grant": "", "version": "writer consumer operator watcher",
    "adopt": "operator", "advance_offset": "consumer", "begin_batch": "consumer", "bytes_text": "operator watcher",
    "change_consume": "", "change_operate": "", "change_replay": "", "change_watch": "",
    "check_grant": "", "ask_relay": "", "check_replay": "", "check_target": "", "check_start": "",
    "claim": "consumer", "claim_many": "consumer", "consumer_skip": "operator", "consumer_is_new": "consumer", "consumer_offsets": "consumer", "database_slots": "operator watcher",
    "dead_letter_add": "consumer", "dead_letter_audit": "", "dead_letter_begin": "consumer", "dead_letter_blocked": "",
    "dead_letter_bytes": "", "dead_letter_check_topic": "", "dead_letter_emit": "", "dead_letter_reissued_keys": "", "dead_letter_stranded": "",
    "dead_letter_topic_keys": "", "dead_letter_check_size": "", "dead_letter_counts": "consumer", "dead_letter_discard": "operator", "dead_letter_failed": "consumer",
    "dead_letter_fingerprint": "consumer", "dead_letter_headers": "", "dead_letter_held_keys": "", "dead_letter_keys": "operator watcher",
    "dead_letter_lock": "", "dead_letter_next": "consumer", "dead_letter_note": "operator", "dead_letter_publish": "",
    "dead_letter_event": "", "dead_letter_copy_own": "", "dead_letter_unpublished": "consumer", "wire_text": "consumer",
    "consumed_headers": "consumer", "dead_letter_put_back": "consumer", "leave_partition": "consumer", "note_attempt": "consumer",
    "take_partition": "consumer", "consumer_anchors": "consumer", "keep_anchor": "consumer", "rewind_offset": "consumer",
    "move_offset": "", "judge_try": "", "others_fail": "", "others_work": "", "known_by_old_id": "",
    "dead_letter_next_run": "consumer", "dead_letter_begin_run": "consumer", "dead_letter_resolve_run": "consumer",
    "dead_letter_troubled": "consumer", "note_trouble": "consumer", "partition_trouble": "consumer", "end_trouble": "consumer",
    "dead_letter_raise_version": "", "begin_calls": "consumer", "attempt_calls": "consumer", "dead_letter_claimed": "consumer",
    "known_records": "", "blocked_records": "", "seen_and_processed": "",
    "dead_letter_blocking": "", "dead_letter_reissue": "", "dead_letter_release": "", "dead_letter_replay": "operator",
    "dead_letter_resolve": "consumer", "dead_letter_restore": "operator", "dead_letter_sweep": "",
    "dead_letter_copy_headers": "", "dead_letter_copy_id": "", "dead_letter_discard_where": "operator",
    "dead_letter_do_discard": "", "dead_letter_do_replay": "", "dead_letter_do_restore": "", "dead_letter_edit": "operator",
    "dead_letter_need_reason": "", "dead_letter_purge": "operator", "dead_letter_replay_where": "operator",
    "dead_letter_restore_where": "operator", "dead_letter_where": "", "headers_encode": "",
    "dead_letter_take": "", "dead_letter_unblock": "", "dead_letter_unlock": "", "declare_topic": "operator", "drop_replicated": "",
    "emit": "writer", "emit_bytes": "writer", "emit_json": "writer", "grant_consume": "", "grant_operate": "",
    "grant_watch": "", "revoke_watch": "",
    "grant_topic": "operator", "headers_decode": "operator", "refuse_change": "", "relay_slot": "operator watcher",
    "headers_readable": "operator", "header_value": "operator", "name_text": "operator watcher", "cut_text": "", "text_bytes": "",
    "idempotency_empty": "", "idempotency_leaf": "", "idempotency_leaves_since": "",
    "idempotency_maintain": "consumer", "idempotency_retention": "consumer",
    "replay": "operator", "replay_cancel": "operator", "replay_pause": "operator", "replay_resume": "operator",
    "outgoing_handler": "", "processed_ids": "", "required": "consumer", "restamp_restored": "", "revoke_consume": "", "revoke_operate": "",
    "revoke_topic": "operator", "role_identifier": "", "server_identity": "",
    "set_context": "consumer", "start_relay": "operator", "stop_relay": "operator", "topic_hold": "operator", "topic_hold_event": "operator",
    "topic_hold_lock": "", "topic_hold_restamp": "", "topic_release": "operator", "topics_changed": "", "topics_held": "", "trim_batch": "consumer",
}
# The same of tables, views and sequences: (role, what) that is allowed; all others are the owner's alone.
RELATIONS = {
    "audit": {("operator", "select")}, "dead_letters": {("operator", "select")}, "flow": {("operator", "select")},
    "outgoing": {("writer", "insert"), ("writer", "select")},
    **{name: {("operator", "select"), ("watcher", "select")} for name in (
        "backlog", "batches", "databases", "dead_letter_depth", "dead_letter_groups", "relay_status", "replays",
        "topic_holds",
    )},
    **{name: set() for name in (
        "audit_id_seq", "batch", "batch_0", "batch_1", "consumer_anchor", "consumer_attempt", "consumer_offset", "consumer_trouble", "dead_letter", "dead_letter_id_seq",
        "delivered_batch", "reached_batch", "event", *(f"event_{n}" for n in range(8)), "event_seq", "events", "idempotency",
        *(f"idempotency_{n}" for n in (*range(32), "timeless")),
        "installation", "replay_job", "topic", "topic_grant", "topic_hold", "topic_hold_batch", "topic_hold_copy",
        "topic_hold_id_seq", "unsent",
    )},
}
ROLES = ("writer", "consumer", "operator", "watcher", "nobody")
DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def roles(database, unique):
    """{"writer": its name, ...}, each with its grants and LOGIN."""
    names = {role: unique(f"security_{role}") for role in ROLES}
    for name in names.values():
        database.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    database.declare("granted")
    database.declare("other")
    database.execute("select outbox.grant_topic('granted', %s::regrole)", (names["writer"],))
    database.execute("select outbox.grant_consume(%s::regrole)", (names["consumer"],))
    database.execute("select outbox.grant_operate(%s::regrole)", (names["operator"],))
    database.execute("select outbox.grant_watch(%s::regrole)", (names["watcher"],))
    database.execute(sql.SQL("alter role {} set outbox.allow_dead_letter_edit = on").format(sql.Identifier(names["operator"])))
    yield names
    for name in names.values():
        database.execute(sql.SQL("drop owned by {0} cascade; drop role {0}").format(sql.Identifier(name)))


def is_allowed(connection, statement):
    """False when the server denies it; any other answer means that the right was there."""
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        connection.rollback()
        return not isinstance(error, DENIED)
    connection.rollback()
    return True


def list_functions(database):
    """(name, types of its arguments) of every function."""
    return database.execute("""
        select proname, array(select format_type(t, null) from unnest(proargtypes) t)
        from pg_proc where pronamespace = 'outbox'::regnamespace order by 1""")


def call(name, types):
    """A call with NULLs that the planner cannot fold away before the right is checked."""
    columns = ", ".join(f"null::{kind} as a{n}" for n, kind in enumerate(types)) or "1 as none"
    arguments = ", ".join(f"a.a{n}" for n in range(len(types)))
    return f"select outbox.{name}({arguments}) from (select {columns} offset 0) a"


def may_call(connection, name, types):
    """Whether a call is denied; of a function that takes what SQL cannot write, the privilege."""
    if "internal" not in types:
        return is_allowed(connection, call(name, types))
    return connection.execute("select bool_or(has_function_privilege(oid, 'execute')) from pg_proc"
                              " where pronamespace = 'outbox'::regnamespace and proname = %s", (name,)).fetchone()[0]


def test_every_role_and_every_function(database, roles):
    """Security: each role logs in and tries every function; a new one must be entered above."""
    functions = list_functions(database)
    assert {name for name, _ in functions} == set(FUNCTIONS)
    for role in ROLES:
        with database.connect(user=roles[role], autocommit=False) as connection:
            for name, types in functions:
                # A denied call names the function, or for who has no grant at all the schema.
                assert may_call(connection, name, types) == (role in FUNCTIONS[name].split()), (role, name)


def test_every_role_and_every_relation(database, roles):
    """Security: each role logs in and tries every table, view and sequence; payloads are read by nobody else."""
    relations = dict(database.execute("""
        select relname, relkind::text from pg_class
        where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'p', 'v', 'S', 'm', 'f')"""))
    assert set(relations) == set(RELATIONS)
    for role in ROLES:
        with database.connect(user=roles[role], autocommit=False) as connection:
            for name, kind in relations.items():
                tries = {"select": f"select from outbox.{name} limit 0"}
                if kind == "S":
                    tries["usage"] = f"select nextval('outbox.{name}')"
                if kind in "rp" or name == "outgoing":
                    tries["insert"] = f"insert into outbox.{name} default values"
                if kind in "rp":
                    tries["delete"] = f"delete from outbox.{name} where false"
                    tries["truncate"] = f"truncate outbox.{name}"
                    tries["lock"] = f"lock table outbox.{name} in access exclusive mode"
                for what, statement in tries.items():
                    assert is_allowed(connection, statement) == ((role, what) in RELATIONS[name]), (role, what, name)
                # What no statement can show: rights on single columns, on views that cannot be changed, and to hang a
                # trigger or a foreign key on a table.
                told = connection.execute("""
                    select what from unnest('{select,insert,update,delete,truncate,references,trigger}'::text[]) what
                    where has_table_privilege(%(name)s, what) or
                        (what in ('select', 'insert', 'update', 'references') and has_any_column_privilege(%(name)s, what))
                    """, {"name": f"outbox.{name}"}).fetchall() if role != "nobody" and kind != "S" else []
                assert {(role, what) for what, in told} == {found for found in RELATIONS[name] if found[0] == role}, name
            assert not is_allowed(connection, "create table outbox.mine ()"), role


def test_rights_can_be_taken_back(database, roles):
    """Security: revoke_topic, revoke_consume, revoke_watch and revoke_operate leave nothing but the use of the schema and its version."""
    database.execute("select outbox.revoke_topic('granted', %s::regrole)", (roles["writer"],))
    database.execute("select outbox.revoke_consume(%s::regrole)", (roles["consumer"],))
    database.execute("select outbox.revoke_operate(%s::regrole)", (roles["operator"],))
    database.execute("select outbox.revoke_watch(%s::regrole)", (roles["watcher"],))
    for role in ROLES:
        with database.connect(user=roles[role], autocommit=False) as connection:
            for name, types in list_functions(database):
                assert may_call(connection, name, types) == (name == "version" and role != "nobody"), (role, name)
            for name, allowed in RELATIONS.items():
                for _, what in allowed:
                    statement = f"insert into outbox.{name} default values" if what == "insert" else f"select 1 from outbox.{name}"
                    assert not is_allowed(connection, statement), (role, name)


# What a role without any right can think of, and what it sees of others' locks: bigint keys, and pairs of integers.
GUESSED_KEYS = """
    select pg_advisory_lock(key) from (
        select n from generate_series(-50, 200) n
        union select hashtextextended(prefix || n, 0) from generate_series(0, 200) n,
            unnest(array['', 'outbox.dead_letter ', 'dead_letter ', 'dead_letter', 'outbox', 'c']) prefix
        union select hashint8extended(n, 0) from generate_series(0, 200) n) guess (key)"""
GUESSED_PAIRS = """
    select pg_advisory_lock(class, n) from generate_series(0, 20) n,
        (select oid::integer from pg_class where relnamespace = 'outbox'::regnamespace and relkind = 'r'
         union select hashtext(name) from unnest(array['outbox', 'outbox.dead_letter', 'dead_letter']) name
         union select unnest(array[0, 1, 2, 28514])) guess (class)"""
SEEN_KEYS = """
    select pg_advisory_lock((classid::bigint << 32) | objid::bigint), pg_advisory_lock(classid::bigint::bit(32)::integer,
        objid::bigint::bit(32)::integer), pg_advisory_lock(objid::bigint)
    from (select distinct classid, objid from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()) held"""


def test_no_role_stops_retries(database, roles):
    """Who has no right holds every advisory lock it can guess or see, and each letter is tried; meanwhile one
    session has a letter, until it gives it up or ends."""
    due = "select id from outbox.dead_letter_next('c')"
    with database.connect(user=roles["nobody"]) as nobody, database.connect(user=roles["consumer"]) as consumer:
        consumer.execute("""
            select outbox.dead_letter_add('c', 'granted', 0, n, 'k' || n::text::bytea, 'v', null, now(), gen_random_uuid(),
                'T', null, 'retrying', 'record', null, 'm', 0) from generate_series(1, 2) n""")
        nobody.execute(GUESSED_KEYS)
        nobody.execute(GUESSED_PAIRS)
        (one,), = consumer.execute(due)
        assert nobody.execute(SEEN_KEYS).rowcount >= 1
        with database.connect(user=roles["consumer"]) as ending, database.connect(user=roles["consumer"]) as other:
            (two,), = ending.execute(due)
            assert two != one and not other.execute(due).fetchall()
            consumer.execute("select outbox.dead_letter_put_back(%s)", (one,))
            assert other.execute(due).fetchall() == [(one,)] and not consumer.execute(due).fetchall()
            ending.close()
            assert wait_until(lambda: consumer.execute(due).fetchall(), 30, "what the ended session had") == [(two,)]


# A valid call of each function that runs with its owner's rights, by the role that may call it.
DEFINER_CALLS = {
    "advance_offset": "outbox.advance_offset('c', 'granted', 7, 1, 5)",
    "begin_batch": "outbox.begin_batch('c', '{granted}', '{1}', '{null}', '{1}', '{1}', '{0}', '{k}', "
                   "'{00000000-0000-7000-8000-000000000009}', '{true}')",
    "claim": "outbox.claim('c', '00000000-0000-7000-8000-000000000001')",
    "claim_many": "outbox.claim_many('c', '{00000000-0000-7000-8000-000000000002}')",
    "consumer_anchors": "outbox.consumer_anchors('c', '{granted}', '{7}')",
    "consumer_is_new": "outbox.consumer_is_new('c', '{granted}')",
    "consumer_offsets": "outbox.consumer_offsets('c')",
    "consumer_skip": "outbox.consumer_skip('c', 'granted', 7, 5, '00000000-0000-7000-8000-000000000005', 'why')",
    "dead_letter_add": "outbox.dead_letter_add('c', 'granted', 0, 1, 'k', 'v', null, null, "
                       "'00000000-0000-7000-8000-000000000003', 'T', null, 'open', 'record', null, 'm', 0)",
    "dead_letter_begin": "outbox.dead_letter_begin(1, 1)",
    "dead_letter_counts": "outbox.dead_letter_counts('c')",
    "dead_letter_discard": "outbox.dead_letter_discard(2, 'why')",
    "dead_letter_discard_where": "outbox.dead_letter_discard_where('consumer', 'c', 'granted', null, 'T', 'k2', '-infinity', 'infinity', 'open', 'why')",
    "dead_letter_edit": "outbox.dead_letter_edit(2, 1, 'v', 'why', array[('a', 'b')]::outbox.header[])",
    "dead_letter_failed": "outbox.dead_letter_failed(1, 1, false, 3, 10, 'record', null, 'm')",
    "dead_letter_keys": "outbox.dead_letter_keys(true, 10)",
    "dead_letter_next": "outbox.dead_letter_next('c')",
    "dead_letter_note": "outbox.dead_letter_note(2, 'why')",
    "dead_letter_put_back": "outbox.dead_letter_put_back(1)",
    "dead_letter_purge": "outbox.dead_letter_purge('infinity', 10)",
    "dead_letter_replay_where": "outbox.dead_letter_replay_where('consumer', 'c', 'granted', null, 'T', 'k2', '-infinity', 'infinity', 'open', 'why')",
    "dead_letter_restore_where": "outbox.dead_letter_restore_where('consumer', 'c', 'granted', null, 'T', 'k3', '-infinity', 'infinity', 'why')",
    "dead_letter_replay": "outbox.dead_letter_replay(2, 'why')",
    "dead_letter_unpublished": "outbox.dead_letter_unpublished(1)",
    "dead_letter_resolve": "outbox.dead_letter_resolve(1)",
    "dead_letter_restore": "outbox.dead_letter_restore(3, 'why')",
    "declare_topic": "outbox.declare_topic('granted', 60)",
    "grant_topic": "outbox.grant_topic('granted', 'pg_monitor'::pg_catalog.regrole)",
    "keep_anchor": "outbox.keep_anchor('c', 'granted', 7, 0, 0, 5, 5, '{4}')",
    "leave_partition": "outbox.leave_partition('c', 'granted', 7, 'me', true)",
    "note_attempt": "outbox.note_attempt('c', 'granted', 7, 'me', 5, '00000000-0000-7000-8000-000000000005')",
    "take_partition": "outbox.take_partition('c', 'granted', 7, 'me')",
    "attempt_calls": "outbox.attempt_calls('c', 'granted', 7)",
    "begin_calls": "outbox.begin_calls('c', 'me', '{granted}', '{7}', '{1}', '{1}', '{k}', '{00000000-0000-7000-8000-000000000009}',"
        " '{00000000-0000-7000-8000-000000000009}', true, '{00000000-0000-7000-8000-000000000008}', '{1}', '{2}')",
    "dead_letter_claimed": "outbox.dead_letter_claimed(1, '00000000-0000-7000-8000-000000000009')",
    "note_trouble": "outbox.note_trouble('c', 'granted', 7, 5, '00000000-0000-7000-8000-000000000005', 0, 0, null, 'why', false, true, 0)",
    "partition_trouble": "outbox.partition_trouble('c', 'granted', 7)",
    "end_trouble": "outbox.end_trouble('c', 'granted', 7, 5)",
    "dead_letter_next_run": "outbox.dead_letter_next_run('c', null, 2)",
    "dead_letter_begin_run": "outbox.dead_letter_begin_run('{1}', 1, '{null}')",
    "dead_letter_resolve_run": "outbox.dead_letter_resolve_run('{1}')",
    "dead_letter_troubled": "outbox.dead_letter_troubled(1, null, 'why', false, 0)",
    "idempotency_maintain": "outbox.idempotency_maintain(10)",
    "replay": "outbox.replay('-infinity', 'infinity', 'granted', 'T', 'k', null, 'c', true, 10, false, 'why')",
    "replay_cancel": "outbox.replay_cancel('00000000-0000-7000-8000-0000000000bb', 'why')",
    "replay_pause": "outbox.replay_pause('00000000-0000-7000-8000-0000000000bb', 'why')",
    "replay_resume": "outbox.replay_resume('00000000-0000-7000-8000-0000000000cc', 'why')",
    "rewind_offset": "outbox.rewind_offset('c', 'granted', 8, 9, 0, 5)",
    "revoke_topic": "outbox.revoke_topic('granted', 'pg_monitor'::pg_catalog.regrole)",
    "start_relay": "outbox.start_relay()",
    "stop_relay": "outbox.stop_relay()",
    "topic_hold": "outbox.topic_hold('granted', 'why')",
    "topic_hold_event": "(select count(*) from outbox.topic_hold_event('granted', '00000000-0000-7000-8000-000000000005', '3', 0))",
    "topic_release": "outbox.topic_release('granted.DLT')",
    "trim_batch": "outbox.trim_batch('c', '{granted}', '{1}', '{null}', '{00000000-0000-7000-8000-000000000009}')",
}
INVOKER_CALLS = {
    "emit": "outbox.emit('granted', 'k', 'T', '{}', '{}')",
    "emit_json": "outbox.emit_json('granted', 'k', 'T', '{}')",
    "emit_bytes": "outbox.emit_bytes('granted', 'k', 'T', 'v', null, array[('a', 'b')]::outbox.header[])",
    "relay_status": "(select state from outbox.relay_status)",
    "backlog": "(select count(*) from outbox.backlog)",
}
# Dead letters 1 to 3: to be tried again, to be decided, discarded. A running and a paused replay.
SOME_WORK = """
select outbox.dead_letter_add('c', 'granted', 0, n, 'k' || n::text::bytea, 'v', null, now(), gen_random_uuid(), 'T', null,
    case n when 1 then 'retrying' else 'open' end, 'record', null, 'm', 0) from generate_series(1, 3) n;
select outbox.dead_letter_discard(3, 'why');
select outbox.advance_offset('c', 'granted', 7, null, 1);
select outbox.emit('granted', 'k', 'T', '{}');
select outbox.replay('-infinity', 'infinity');
update outbox.replay_job set id = '00000000-0000-7000-8000-0000000000bb';
select outbox.replay('-infinity', 'infinity');
update outbox.replay_job set id = '00000000-0000-7000-8000-0000000000cc' where id <> '00000000-0000-7000-8000-0000000000bb';
select outbox.replay_pause('00000000-0000-7000-8000-0000000000cc', 'why');
select outbox.topic_hold('granted.DLT', 'why');
"""


def test_hostile_objects_on_the_search_path(database, roles):
    """Security: functions, operators, tables and types of the caller's own never run as the owner."""
    definers = {name for name, in database.execute(
        "select proname from pg_proc where pronamespace = 'outbox'::regnamespace and prosecdef")}
    assert definers == set(DEFINER_CALLS)
    database.execute(sql.SQL("grant create on database {} to public").format(sql.Identifier(database.name)))
    database.execute(SOME_WORK)
    calls = {**DEFINER_CALLS, **INVOKER_CALLS}
    for role in ("writer", "consumer", "operator"):
        with database.connect(user=roles[role], autocommit=False) as connection:
            connection.execute(HOSTILE.format(f"hostile_{role}"))
            connection.commit()
            for path in (f"hostile_{role}, pg_catalog, pg_temp", f"pg_catalog, hostile_{role}", "pg_temp, pg_catalog"):
                connection.execute(f"set search_path = {path}")
                connection.commit()
                for name, text in calls.items():
                    if FUNCTIONS.get(name, "operator") == role:
                        # A failure of any kind is a finding; "hostile code ran as" says whose rights it had.
                        connection.execute(f"select {text}")
                        connection.rollback()


EVIL = (
    "'; drop schema outbox cascade; --", '"; drop table outbox.event; --', "%s%n%1$s%I", "\\'; select 1; --", "$$; drop schema outbox; $$",
    "x" * 100_000, "\u202e\U0001f4a5", "a\nb\r\tc", "*", "**", "a.*", "", ".", "..", "outbox.cursor",
    "__consumer_offsets", "-", "0", "pg_catalog.now()",
)
# What a wrong word may be answered with: the codes of docs/errors.md, PostgreSQL's own for a value that does not
# parse, and what a dead letter that is not there is told with. No syntax error (42601), nothing internal (XX000).
CLEAN = {
    "22004", "22023", "42939", "42602", "42704", "42501", "54000", "55000", "22P02", "22007", "22003", "P0002", "22P05",
    "23502", "23514", "22001", "40001", "22021", "OBX01", "OBX02",
}


def test_words_are_never_run(database, roles):
    """Security: every text of every function takes quotes, semicolons, %, wildcards and long text as what they are."""
    database.execute(SOME_WORK)
    before = database.execute("select oid, relname, relfilenode from pg_class where relnamespace = 'outbox'::regnamespace order by 1")
    wrong = []
    for role in ("writer", "consumer", "operator"):
        with database.connect(user=roles[role], autocommit=False) as connection:
            for name, types in list_functions(database):
                texts = [n for n, kind in enumerate(types) if kind in ("text", "json", "jsonb", "bytea", "text[]", "regrole")]
                if FUNCTIONS[name] != role:
                    continue
                for place in texts:
                    for word in EVIL:
                        values = [sample(kind) for kind in types]
                        values[place] = [word] if types[place] == "text[]" else word.encode() if types[place] == "bytea" else word
                        marks = ", ".join(f"%s::{kind}" for kind in types)
                        try:
                            connection.execute(f"select outbox.{name}({marks})", values)
                        except psycopg.Error as error:
                            if error.sqlstate not in CLEAN:
                                wrong.append((name, place, word[:40], error.sqlstate, str(error)[:100]))
                        connection.rollback()
    assert not wrong
    assert database.execute("select oid, relname, relfilenode from pg_class where relnamespace = 'outbox'::regnamespace order by 1") == before


def sample(kind):
    """A value of a type that a function may be given."""
    return {
        "text": "granted", "text[]": ["granted"], "bytea": b"\x00", "json": "{}", "jsonb": "{}", "uuid": "00000000-0000-7000-8000-0000000000aa",
        "uuid[]": ["00000000-0000-7000-8000-0000000000aa"], "integer": 1, "bigint": 1, "integer[]": [1], "bigint[]": [1], "boolean": True,
        "boolean[]": [True], "bytea[]": [b"k"], "timestamp with time zone": "2026-01-01", "regrole": "pg_monitor", "smallint": 1,
    }.get(kind)


def test_names_that_would_be_code(database, roles, make_database):
    """Security: roles and databases whose names are SQL are quoted wherever a statement is built of them."""
    for name in ('evil"; drop table outbox.event; --', "evil'; select 1; --", "evil %I %s $$", "Evil Role"):
        quoted = sql.Identifier(name)
        database.execute(sql.SQL("create role {} login").format(quoted))
        try:
            for function in ("grant_topic('granted', {0})", "grant_consume({0})", "grant_operate({0})", "grant_watch({0})", "revoke_watch({0})",
                             "revoke_topic('granted', {0})", "revoke_consume({0})", "revoke_operate({0})"):
                database.execute(sql.SQL("select outbox." + function).format(
                    sql.SQL("(select oid::regrole from pg_roles where rolname = {})").format(sql.Literal(name))))
            with database.connect(user=name, autocommit=False) as connection:
                with pytest.raises(DENIED) as denied:
                    connection.execute("select outbox.emit('granted', 'k', 'T', '{}')")
            assert "emit" in str(denied.value)
        finally:
            database.execute(sql.SQL("drop owned by {0}; drop role {0}").format(quoted))
    evil = make_database(database.cluster, name='evil"; drop table x; --\'% $$')
    evil.start_relay()
    assert evil.value("select database from outbox.relay_status") == evil.name
    evil.stop_relay()
    for statement in ("select outbox.grant_topic('granted', 'public')", "select outbox.grant_consume('-'::regrole)",
                      "select outbox.grant_operate('4000000000'::regrole)"):
        with pytest.raises(psycopg.errors.UndefinedObject):
            database.execute(statement)
    # The grant of a role that was dropped can be taken back.
    database.execute("create role dropped; select outbox.grant_topic('granted', 'dropped')")
    number = database.value("select grantee::oid::text from outbox.topic_grant where grantee = 'dropped'::regrole")
    database.execute("drop owned by dropped; drop role dropped")
    database.execute("select outbox.revoke_topic('granted', %s::regrole)", (number,))
    assert not database.value("select count(*) from outbox.topic_grant where grantee::oid::text = %s", (number,))
    # NULL grants nothing, to nobody, and says so.
    for call_of in ("grant_operate(null)", "grant_consume(null)", "grant_watch(null)", "grant_topic('granted', null)"):
        with pytest.raises(psycopg.errors.NullValueNotAllowed):
            database.execute(f"select outbox.{call_of}")


@pytest.mark.long
def test_hex_of_very_long_bytes(database):
    """Security: half a gigabyte of bytes that are no text is an error, not a write past the buffer."""
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        database.value("select length(outbox.bytes_text(convert_to(repeat('x', 600000000), 'UTF8') || '\\x00'))")
    assert database.value("select outbox.bytes_text('\\x00ff')") == "\\x00ff"
