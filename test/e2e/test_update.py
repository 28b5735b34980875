# SPDX-License-Identifier: PostgreSQL
"""From a version to the next one: files, objects, rights, programs. The next one is that of test/next."""

import os
import pathlib
import shutil
import subprocess

import pytest
from harness import Database, wait_until
from harness.objects import differences, objects_of
from steady_writer import SteadyWriter

NEXT = "1.99"
ROLES = ("writer", "consumer", "watcher", "operator")


class Installation:
    """A private PostgreSQL with the tree's version, whose files become those of the next one by install()."""

    def __init__(self, session):
        environment = session.environment
        self.folder = session.data / "updated-installation"
        shutil.copytree(environment.pg_prefix, self.folder, symlinks=True, copy_function=os.link)
        self.bindir = self.folder / environment.bindir.relative_to(environment.pg_prefix)
        self.next = environment.variant("next")
        self.version = subprocess.check_output([self.bindir / "outbox-topics", "--version"], text=True).split()[1]

    def install(self):
        """Put the next version's library, sender and scripts in the place of the old ones, as make install does."""
        for what, names in (("--pkglibdir", "outbox*"), ("--sharedir", "extension/outbox*")):
            new, old = (pathlib.Path(subprocess.check_output([bindir / "pg_config", what], text=True).strip())
                        for bindir in (self.next, self.bindir))
            assert old.is_relative_to(self.folder)
            for path in new.glob(names):
                (old / path.relative_to(new)).unlink(missing_ok=True)
                shutil.copy(path, old / path.relative_to(new))

    def cluster(self, own_postgres):
        cluster = own_postgres(start=False)
        cluster.bindir = self.bindir
        return cluster


@pytest.fixture
def installation(session):
    made = Installation(session)
    yield made
    shutil.rmtree(made.folder)


def grant_all(database, names):
    """Every grant, and rights that no grant gives."""
    database.declare("granted")
    database.execute(f"select outbox.grant_topic('granted', '{names['writer']}')")
    database.execute(f"select outbox.grant_consume('{names['consumer']}')")
    database.execute(f"select outbox.grant_watch('{names['watcher']}')")
    database.execute(f"select outbox.grant_operate('{names['operator']}')")
    database.execute(f"grant select on outbox.events to {names['watcher']}")


def make_roles(cluster, unique):
    """{"writer": its name, ...}; another one gets whatever is made by default."""
    names = {role: unique(f"update_{role}") for role in (*ROLES, "favoured")}
    for name in names.values():
        cluster.execute(f"create role {name} login")
    return names


def install_favouring(database, name):
    """CREATE EXTENSION where a role gets rights on whatever is made."""
    for kind in ("tables", "sequences", "functions", "types"):
        database.execute(f"alter default privileges grant all on {kind} to {name}")
    database.execute("create extension outbox")


def structure(database):
    """The objects of the extension, without where its sequences are."""
    found = objects_of(database.cluster, database.name)
    return {name: entry for name, entry in found.items() if not name.startswith("SEQUENCE SET")}


def test_update_under_a_relay(installation, own_postgres, make_database, kafka, topic_name, unique):
    """Update: the objects change while the relay runs and events wait; it waits for the restart, and sends all of them
    once. Objects and rights, those of roles with grants included, are then those of a fresh installation with the same grants."""
    cluster = installation.cluster(own_postgres).start()
    names = make_roles(cluster, unique)
    relay = make_database(cluster)
    relay.execute("drop extension outbox")
    install_favouring(relay, names["favoured"])
    relay.declare(topic_name)
    grant_all(relay, names)
    relay.start_relay()
    with SteadyWriter(relay, topic_name) as writer:
        writer.await_batches(2)
        kafka.pause()
        writer.await_commits(20)
        installation.install()
        assert relay.status()["pid"]
        relay.execute("alter extension outbox update")
        wait_until(lambda: relay.status()["pid"] is None and relay.status()["last_error"], 30, "the relay's end")
        assert relay.status()["last_error"] == (
            f"the extension's objects are of version {NEXT}, its library is of version {installation.version}")
        writer.await_commits(20)
        waiting = relay.value("select sum(events) from outbox.backlog")
        cluster.restart()
        kafka.resume()
        writer.await_batches(2)
        writer.check(kafka)
    assert waiting > 0 and relay.value("select outbox.version()") == NEXT

    fresh = Database(cluster, unique("fresh"))
    cluster.create_database(fresh.name, extension=False)
    install_favouring(fresh, names["favoured"])
    grant_all(fresh, names)
    relay.execute("drop schema checker cascade")
    lines = differences(structure(relay), structure(fresh))
    assert not lines, "\n".join(lines)
    for name, may in names.items():
        allowed = relay.value("select has_function_privilege(%s, 'outbox.topic_note(text)', 'execute')", (may,))
        assert allowed == (name in ("watcher", "operator")), name


def test_from_every_version(installation, own_postgres, unique):
    """Update: from each version whose script is in the tree the objects become, to the word, those of a fresh installation."""
    installation.install()
    cluster = installation.cluster(own_postgres).start()
    fresh = Database(cluster, cluster.create_database(unique("fresh")))
    versions = [row[0] for row in cluster.execute(
        "select version from pg_available_extension_versions where name = 'outbox' and version <> %s", (NEXT,))]
    assert installation.version in versions
    for version in versions:
        old = Database(cluster, cluster.create_database(unique("old"), extension=False))
        old.execute(f"create extension outbox version '{version}'")
        old.execute("alter extension outbox update")
        lines = differences(structure(old), structure(fresh))
        assert not lines, "\n".join([version, *lines])


def test_a_dump_keeps_rights_of_an_update(installation, own_postgres, make_database, unique):
    """Update: what a role's grant brings since the update comes back from a dump, as everything else it brings."""
    cluster = installation.cluster(own_postgres).start()
    names = make_roles(cluster, unique)
    database = make_database(cluster)
    grant_all(database, names)
    installation.install()
    cluster.restart()
    database.execute("alter extension outbox update")
    dump = cluster.run("pg_dump", "-d", database.dsn())
    restored = Database(cluster, unique("restored"))
    cluster.create_database(restored.name, extension=False)
    cluster.psql(dump, restored.name)
    for name in (database, restored):
        assert name.value("select has_function_privilege(%s, 'outbox.topic_note(text)', 'execute')", (names["watcher"],))


@pytest.fixture
def app(installation, own_postgres, make_database, kafka, topic_name, unique):
    """A database with a function for outbox-consume and a record in Kafka, and the settings of a consumer."""
    database = make_database(installation.cluster(own_postgres).start())
    kafka.create_topic(topic_name, 1)
    database.execute("create table public.effect (key text)")
    database.execute("create function public.handle(event outbox.consumed_event) returns text language plpgsql as"
                     " $f$ begin insert into public.effect values (event.key); return 'done'; end $f$")
    producer = kafka.producer()
    producer.produce(topic_name, b"{}", "k", headers=[("ce_id", "1b4e28ba-2fa1-4d2e-883f-0016d3cca427"), ("ce_type", "T")])
    assert producer.flush(20) == 0
    config = {"database": database.dsn(), "bootstrap_servers": kafka.bootstrap, "topics": topic_name, "group_id": unique("update"),
              "function": "public.handle"}
    return database, config


def refused(service, program, config):
    """Start it and wait for its end; returns (exit code, what its log says last)."""
    started = service(program, config, name=f"refused-{config['group_id']}", start=False)
    started.start(wait=False)
    wait_until(lambda: not started.running, 30, "the program to end")
    return started.child.process.returncode, started.log_lines()[-1]["msg"]


def test_old_program_on_new_objects(app, installation, service):
    """Version skew: a consumer of the old version goes on with objects of a later one; those of another major version
    end it with exit code 2 and what it needs."""
    database, config = app
    installation.install()
    database.cluster.restart()
    database.execute("alter extension outbox update")
    running = service("outbox-consume", config)
    database.wait_for("select count(*) = 1 from public.effect")
    running.stop()
    database.execute("update pg_extension set extversion = '2.0' where extname = 'outbox'")
    code, said = refused(service, "outbox-consume", config)
    assert code == 2 and "are of version 2.0, and this program needs 1.0 or a later 1" in said


def test_new_program_on_old_objects(app, installation, service, session, consume_next_program):
    """Version skew: a program that needs later objects ends with exit code 2 and what it needs, --check-config=online too."""
    database, config = app
    told = f"are of version {installation.version}, and this program needs {NEXT} or a later 1"
    code, said = refused(service, consume_next_program, config)
    assert code == 2 and told in said
    done = subprocess.run([consume_next_program, "--config", service(consume_next_program, config, name="checked", start=False).config_path,
                           "--check-config=online"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 2 and told in done.stdout
