# SPDX-License-Identifier: PostgreSQL
"""Whose rights the relay has: those of the extension's owner, whatever that one or anybody else wrote for it to run.

The worker connects as the cluster's first superuser, and must never lend that to anybody.
"""

import pathlib
import re

import psycopg
import pytest
from harness import OVERSIZED, Database, limit_records, wait_until
from harness.copies import living
from psycopg import sql

EMIT_OVERSIZED = f"select outbox.emit(%s, %s, 'Poison', {OVERSIZED})"


class OwnedDatabase(Database):
    """A database whose extension belongs to an ordinary role, and in which everything is done as that role."""

    owner = None

    def dsn(self, **options):
        return super().dsn(**{"user": self.owner, **options})

    def execute(self, statement, parameters=None):
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else None

    def value(self, statement, parameters=None):
        return self.execute(statement, parameters)[0][0]


@pytest.fixture
def roles(postgres, unique):
    """roles(name, options): a new role with LOGIN; returns its name. Dropped with what it owns, after the databases."""
    made = []

    def make(stem, options=""):
        made.append(unique(stem))
        postgres.execute(sql.SQL("create role {} login " + options).format(sql.Identifier(made[-1])))
        return made[-1]
    yield make
    for name in made:
        postgres.execute(sql.SQL("drop owned by {0} cascade; drop role {0}").format(sql.Identifier(name)))


@pytest.fixture
def owned(postgres, kafka, roles, make_database, unique):
    """An OwnedDatabase: created by a superuser, handed to an ordinary role by REASSIGN OWNED; its relay started by that role."""
    admin, owner = roles("admin", "superuser"), roles("owner")
    made = make_database(postgres, extension=False)
    with made.connect(user=admin) as connection:
        connection.execute("create extension outbox")
    for statement in ("reassign owned by {admin} to {owner}", "alter database {name} owner to {owner}",
                      "grant set on parameter outbox.relay to {owner}"):
        made.execute(sql.SQL(statement).format(admin=sql.Identifier(admin), owner=sql.Identifier(owner), name=sql.Identifier(made.name)))
    database = OwnedDatabase(postgres, made.name)
    database.owner = owner
    database.start_relay()
    return database


@pytest.fixture
def narrow(owned, kafka, topic_name):
    """A topic of the owned database, of one partition, that takes small records only."""
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    return owned.declare(topic_name, 1)


def refuse_and_return(database, kafka, topic):
    """An event that Kafka refuses becomes a dead letter, and is delivered once the topic takes it; 3 records in all."""
    database.emit(topic, "k", "before")
    database.execute(EMIT_OVERSIZED, (topic, "k"))
    database.emit(topic, "k", "after")
    kafka.wait_for_records(topic, 2)
    letter = wait_until(lambda: database.execute("select id from outbox.dead_letter where state = 'open'"), 60, "the dead letter")[0][0]
    limit_records(kafka, topic, "100000")
    database.execute("select outbox.dead_letter_replay(%s, 'limit raised')", (letter,))
    kafka.wait_for_records(topic, 3)


def replay_all(database, kafka, topic, count):
    """A replay of every retained event of the topic, which brings it to count records."""
    replay = database.value("select replay_id from outbox.replay('-infinity', 'infinity', %s)", (topic,))
    kafka.wait_for_records(topic, count, timeout=60)
    wait_until(lambda: database.value("select state from outbox.replays where replay_id = %s", (replay,)) == "done", 60, "the replay's end")


def test_ordinary_owner(owned, postgres, kafka, narrow):
    """Sending, refusal, the way back, replay, adoption of restored rows and retention need no superuser."""
    refuse_and_return(owned, kafka, narrow)
    replay_all(owned, kafka, narrow, 6)  # its two events, and the copy of the refused one is no original

    owned.stop_relay()
    owned.wait_state("stopped")
    with owned.unguarded("outbox.batch_0"):
        owned.execute("update outbox.batch_0 set database = 1")
    owned.start_relay()
    owned.wait_state("hold")
    owned.execute("select outbox.adopt('skip')")
    owned.wait_state("idle")
    owned.emit(narrow, "k", "adopted")
    kafka.wait_for_records(narrow, 7)

    rotations = owned.status()["rotations"]
    postgres.configure(outbox__retention="1s", outbox__segment_size="1MB")
    postgres.reload()

    def emptied():
        owned.emit(narrow, "k")
        return owned.status()["rotations"] >= rotations + 2
    wait_until(emptied, 60, "a leaf that is emptied", interval=0.3)
    status = owned.status()
    assert status["last_error"] is None or "restored" in status["last_error"], status["last_error"]


# Everything that a role can leave on what belongs to it; each writes down who it ran as and reaches for more.
HOSTILE = """
create schema hostile;
create table hostile.seen (what text, who name, n bigint generated always as identity, pid integer default pg_backend_pid(),
    txid xid8 default pg_current_xact_id(),
    settings text default concat_ws('; ', current_setting('search_path'), current_setting('synchronous_commit'), current_setting('lock_timeout')));
create function hostile.note(what text) returns boolean language plpgsql as $$
declare
    reach text;
begin
    insert into hostile.seen values (what, current_user);
    foreach reach in array array['alter role {owner} superuser', 'set role {admin}', 'set local role {admin}', 'reset role',
        'set session authorization {admin}', 'reset session authorization', 'create temp table reached () on commit drop',
        'declare reached cursor with hold for select hostile.note(''held'')', 'prepare reached as select 1', 'listen reached'] loop
        begin
            execute reach;
            if reach not like 'reset%' or current_user <> '{owner}' then
                insert into hostile.seen values ('reached: ' || reach, current_user);
            end if;
        exception when others then
        end;
    end loop;
    perform set_config('search_path', 'hostile, pg_catalog', false), set_config('synchronous_commit', 'off', false),
        set_config('lock_timeout', '1ms', false);
    return true;
end $$;
create function hostile.fixed(what text, value text) returns text immutable language plpgsql as
    $$ begin perform hostile.note(what); return value; end $$;
create function hostile.fire() returns trigger language plpgsql as
    $$ begin perform hostile.note(tg_name); return new; end $$;
do $do$
declare
    name text;
    body record;
begin
    -- the bodies of our own
    for body in select p.proname, pg_get_functiondef(p.oid) as text from pg_proc p join pg_language l on l.oid = p.prolang
            where p.pronamespace = 'outbox'::regnamespace and l.lanname = 'plpgsql' loop
        execute regexp_replace(body.text, E'\\nBEGIN\\n', format(E'\\nBEGIN\\nPERFORM hostile.note(%L);\\n', body.proname));
    end loop;
    foreach name in array array['batch', 'dead_letter', 'replay_job'] loop
        execute format('create trigger before_%1$s before insert or update on outbox.%1$s for each row execute function hostile.fire()', name);
        execute format('create trigger after_%1$s after insert or update on outbox.%1$s for each row execute function hostile.fire()', name);
        execute format('create constraint trigger deferred_%1$s after insert or update on outbox.%1$s deferrable initially deferred
            for each row execute function hostile.fire()', name);
        execute format('alter table outbox.%1$s add check (hostile.note(%2$L))', name, 'check_' || name);
        execute format('alter table outbox.%1$s enable row level security', name);
        execute format('alter table outbox.%1$s force row level security', name);
        execute format('create policy hostile on outbox.%1$s using (hostile.note(%2$L) and %3$L)', name, 'policy_' || name, name <> 'batch');
    end loop;
end $do$;
alter table outbox.dead_letter alter first_failed_at set default hostile.fixed('default', '2026-01-01')::timestamptz;
create index on outbox.dead_letter (hostile.fixed('index_dead_letter', topic));
create index on outbox.batch_0 (hostile.fixed('index_batch', nonce::text)) where hostile.fixed('predicate', 'x') = 'x';
create index on outbox.event_0 (hostile.fixed('index_event', topic));
create or replace function outbox.dead_letter_fingerprint(consumer text, error_class text, sqlstate text, error_message text)
    returns text immutable language plpgsql as $$ begin perform hostile.note('dead_letter_fingerprint'); return 'all alike'; end $$;
create rule hostile as on update to outbox.replay_job do also insert into hostile.seen values ('rule', current_user);
truncate hostile.seen;
"""
# What the relay has certainly run when it has sent, refused, returned and replayed.
RUN_BY_RELAY = {
    "before_batch", "after_batch", "deferred_batch", "check_batch", "index_batch", "predicate", "before_dead_letter", "after_dead_letter",
    "deferred_dead_letter", "check_dead_letter", "index_dead_letter", "default", "dead_letter_fingerprint", "dead_letter_raise_version",
    "dead_letter_reissue", "dead_letter_held_keys", "before_replay_job", "deferred_replay_job", "rule",
}


def test_owners_code_is_the_owners(owned, postgres, kafka, narrow):
    """After REASSIGN OWNED functions, triggers, deferred ones too, defaults, checks, indexes and rules run as the new owner."""
    names = {"owner": owned.owner, "admin": "postgres"}
    owned.execute(HOSTILE.replace("{owner}", names["owner"]).replace("{admin}", names["admin"]))
    refuse_and_return(owned, kafka, narrow)
    replay_all(owned, kafka, narrow, 6)
    seen = set(owned.execute("select distinct what, who from hostile.seen"))
    assert {who for _, who in seen} == {owned.owner}
    assert RUN_BY_RELAY <= {what for what, _ in seen}
    # What one transaction has set does not last to the next.
    first = owned.execute("select distinct on (txid) settings from hostile.seen where pid = %s order by txid, n", (owned.status()["pid"],))
    assert len(first) > 3 and set(first) == {("pg_catalog, pg_temp; local; 0",)}
    # Called through the owner's own sessions everything is allowed that it may do there; of what the relay ran, nothing was.
    assert not [what for what, _ in seen if "role" in what and what.startswith("reached")], seen

    # What is deferred again by a trigger would run at the commit: it is an error, and nothing is sent meanwhile.
    owned.execute("""create or replace function hostile.fire() returns trigger language plpgsql as
        $$ begin if tg_name like 'before%' then set constraints all deferred; end if; perform hostile.note(tg_name); return new; end $$""")
    owned.emit(narrow, "k", "deferred")
    wait_until(lambda: "deferred trigger" in (owned.status()["last_error"] or ""), 60, "the refusal of deferred triggers")
    owned.execute("create or replace function hostile.fire() returns trigger language plpgsql as $$ begin return new; end $$;"
                  "alter table outbox.batch disable row level security")
    owned.start_relay()
    kafka.wait_for_records(narrow, 7, timeout=60)
    assert not postgres.value("select rolsuper from pg_roles where rolname = %s", (owned.owner,))


# What docs/design.md tells to say when the relay holds for its objects' owners.
HAND_OVER = re.search(r"```sql\n(DO .*?)```", (pathlib.Path(__file__).parents[2] / "docs/design.md").read_text(), re.S)[1]
GIVEN_AWAY = ("function outbox.dead_letter_fingerprint(text, text, text, text)", "table outbox.event_3", "schema outbox")


def test_foreign_objects_hold(roles, relay, kafka, topic):
    """While an object of the extension is somebody else's the relay holds and names it; adopt() is no way out of that."""
    other = roles("other")
    left = []
    for number, found in enumerate(GIVEN_AWAY):
        relay.wait_state("idle")
        relay.execute(sql.SQL("alter " + found + " owner to {}").format(sql.Identifier(other)))
        relay.emit(topic, "k")
        relay.wait_state("hold")
        left.append(not living(kafka, relay.transactional_id()))
        reason = relay.status()["hold_reason"]
        assert found.split("(")[0] in reason and f'role "{other}"' in reason and 'role "postgres"' in reason
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="do not belong"):
            relay.execute("select outbox.adopt('skip')")
        if number == 0:  # found again by the next relay, and by one that is not switched on
            relay.execute("select pg_terminate_backend(pid) from outbox.relay_slot()")
            wait_until(lambda: relay.status()["hold_reason"] == reason, 60, "the next relay")
            relay.stop_relay()
            relay.wait_state("stopped")
            assert relay.status()["last_error"] == reason
            relay.start_relay()
            relay.wait_state("hold")
        relay.execute(HAND_OVER if number == 1 else "alter " + found + " owner to postgres")
        assert len(kafka.wait_for_records(topic, number + 1, timeout=60)) == number + 1
    assert any(left)  # its sender had 200 ms to leave, each time


def test_unsent_is_counted_in_spite_of_row_security(owned, kafka, narrow):
    """DROP EXTENSION counts what goes unsent also where an ordinary owner forces row security on itself."""
    said = []
    with owned.connect(autocommit=False) as connection:
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        for table in ("batch", "dead_letter"):
            connection.execute(f"alter table outbox.{table} enable row level security; alter table outbox.{table} force row level security")
        connection.execute("select outbox.emit(%s, 'k', 'T', '{}')", (narrow,))
        connection.execute("set local outbox.drop_unsent = warn; drop extension outbox")
        connection.rollback()
    assert "extension outbox is dropped with 1 unsent events" in said or "extension outbox is dropped with 1 unsent event" in said, said


def test_watchers_see_their_own_database(roles, relay, make_database, postgres, kafka, topic_name):
    """What a relay said, keys and all, is shown in its own database, elsewhere to pg_read_all_stats alone."""
    postgres.configure(outbox__dead_letter_policy="stop")
    postgres.reload()
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    relay.declare(topic_name, 1)
    relay.execute(EMIT_OVERSIZED, (topic_name, "secret-key"))
    wait_until(lambda: "secret-key" in (relay.status()["last_error"] or ""), 60, "an error with a key")
    watcher, monitor = roles("watcher"), roles("monitor")
    postgres.execute(sql.SQL("grant pg_monitor to {}").format(sql.Identifier(monitor)))
    other = make_database(postgres)
    for place in (relay, other):
        for role in (watcher, monitor):
            place.execute("select outbox.grant_watch(%s::regrole)", (role,))
    query = "select last_error, last_error_at, state from outbox.databases where database = %s"

    def shown(place, user):
        with place.connect(user=user) as connection:
            return connection.execute(query, (relay.name,)).fetchone()
    assert "secret-key" in shown(relay, watcher)[0]
    # The relay tries again and again, so what is read one after the other may differ.
    wait_until(lambda: shown(other, watcher) == ("<insufficient privilege>", *shown(relay, watcher)[1:]), 30, "all but the text")
    wait_until(lambda: shown(other, monitor) == shown(relay, watcher), 30, "all of it")
    relay.make_hold()
    hold = "select hold_reason from outbox.databases where database = %s"
    with other.connect(user=watcher) as connection:
        assert connection.execute(hold, (relay.name,)).fetchone() == ("<insufficient privilege>",)


def test_grants_in_a_dump(roles, database, postgres, make_database, unique):
    """A dump gives topics to the same names; a renamed role keeps its right, a missing one is named, a dropped one has no heir."""
    stays, renamed, missing = roles("stays"), roles("renamed"), unique("missing")
    dropped, later = unique("dropped"), unique("later")
    postgres.execute(sql.SQL("create role {}; create role {}").format(sql.Identifier(missing), sql.Identifier(dropped)))
    database.declare("dumped")
    for role in (missing, dropped, stays, renamed):
        database.execute("select outbox.grant_topic('dumped', %s::regrole)", (role,))
    number = postgres.value("select oid from pg_roles where rolname = %s", (dropped,))
    database.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(dropped)))
    # Another role of that number, as it would be on another server.
    postgres.execute("insert into pg_authid (oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,"
                     " rolbypassrls, rolconnlimit) values (%s, %s, false, true, false, false, true, false, false, -1)", (number, later))
    new_name = unique("new_name")
    postgres.execute(sql.SQL("alter role {} rename to {}").format(sql.Identifier(renamed), sql.Identifier(new_name)))
    archive = postgres.data / unique("grants.dump")
    try:
        assert not postgres.run("pg_dump", "-Fc", "-d", database.dsn(), "-f", archive)  # nothing to complain of
        database.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(missing)))
        restored = make_database(postgres, extension=False)
        told = postgres.run("pg_restore", "-d", restored.dsn(), archive, check=False)
        assert f'role "{missing}" does not exist' in told
        assert postgres.log_contains(f'role "{missing}" does not exist: its right to emit is left out')
        assert sorted(restored.execute("select topic, grantee::text from outbox.topic_grant")) == sorted(
            [("dumped", stays), ("dumped", new_name)])
        for user in (stays, new_name):
            with restored.connect(user=user) as connection:
                assert connection.execute("select outbox.emit('dumped', 'k', 'T', '{}')").fetchone()
                assert connection.execute("insert into outbox.outgoing (topic, type) values ('dumped', 'T') returning id").fetchone()
        postgres.execute(sql.SQL("create role {} login").format(sql.Identifier(missing)))
        for user in (missing, later):
            restored.execute("select outbox.grant_consume(%s::regrole)", (user,))
            restored.execute(sql.SQL("grant execute on function outbox.emit to {}").format(sql.Identifier(user)))
            with restored.connect(user=user) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match='topic "dumped"'):
                connection.execute("select outbox.emit('dumped', 'k', 'T', '{}')")
        for user in (missing, later):
            restored.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(user)))
    finally:
        archive.unlink(missing_ok=True)
        postgres.execute(sql.SQL("alter role {} rename to {}").format(sql.Identifier(new_name), sql.Identifier(renamed)))
