# SPDX-License-Identifier: PostgreSQL
"""TLS, SASL and access control of a real broker: what works, what is refused, what is said, what heals."""

import os
import pathlib
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka
import psycopg
import pytest
from harness import OVERSIZED, PostgresCluster, wait_until
from harness.secure_kafka import Authority, SecureBroker
from hostile_objects import HOSTILE
from psycopg import sql
from unit.wire_client import Sender, open_pairs

SECRET = "never-shown"
ALL = ("read", "write", "create", "describe")
# What each user may do; "relay" has all that docs/settings.md asks for.
RIGHTS = {
    "relay": [("topic", "*", ALL), ("group", "*", ["read"]), ("transactional_id", "*", ["write", "describe"])],
    "stranger": [],
    "untransactional": [("topic", "*", ALL), ("group", "*", ["read"])],
    "uncreating": [("topic", "*", ["read", "write", "describe"]), ("group", "*", ["read"]),
                   ("transactional_id", "*", ["write", "describe"])],
    "unreading": [("topic", "*", ["write", "create", "describe"]), ("group", "*", ["read"]),
                  ("transactional_id", "*", ["write", "describe"])],
    "unwriting": [("topic", "outbox.cursor", ALL), ("topic", "*", ["describe"]), ("group", "*", ["read"]),
                  ("transactional_id", "*", ["write", "describe"])],
    "unseeing": [("topic", "*", ALL), ("transactional_id", "*", ["write", "describe"])],
    "unspared": [("topic", "*", ALL), ("group", "*", ["read"]), ("transactional_id", "outbox-relay.unspared", ["write", "describe"])],
    "limited": [("topic", "outbox.cursor", ALL), ("topic", "allowed", ALL), ("group", "*", ["read"])],
}


@pytest.fixture(scope="module")
def broker(session):
    broker = SecureBroker(session, {user: f"{SECRET}-{user}" for user in RIGHTS}).start()
    for user, rights in RIGHTS.items():
        for kind, name, operations in rights:
            broker.allow(user, kind, name, *operations)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def folder(session):
    return session.environment.make_directory(session.data / "kafka-properties", 0o700)


@pytest.fixture(scope="module")
def authority_file(session, broker, folder):
    return session.environment.write_private(folder / "authority.pem", broker.authority.certificate)


@pytest.fixture(scope="module")
def cluster(session, folder):
    conf = {"outbox.kafka_properties_file": folder / "kafka.properties", "log_min_messages": "debug2"}
    (folder / "kafka.properties").touch(0o600)
    session.environment.give(folder / "kafka.properties")
    cluster = PostgresCluster(session, "secure", conf).start()
    yield cluster
    cluster.remove()


def sasl(broker, authority_file, user="relay", password=None, listener="SASL", **more):
    """librdkafka properties of a user, as a dict; more: name_with_underscores=value."""
    return {
        "bootstrap.servers": broker.addresses[listener],
        "security.protocol": "sasl_ssl",
        "ssl.ca.location": str(authority_file),
        "sasl.mechanisms": "PLAIN",
        "sasl.username": user,
        "sasl.password": password or broker.users[user],
        **{name.replace("_", "."): str(value) for name, value in more.items()},
    }


def use(session, cluster, folder, properties):
    """Put them into the cluster's file and have it read again."""
    session.environment.write_private(folder / "kafka.properties", "".join(f"{k}={v}\n" for k, v in properties.items()))
    cluster.reload()


def last_error(database, text, timeout=40):
    """Wait until relay_status.last_error contains text; returns it."""
    return wait_until(lambda: (e := database.status()["last_error"]) and text in e and e, timeout, f"{text} in last_error")


def keys(records):
    return sorted(record.key().decode() for record in records)


def test_each_refusal_names_its_cause(session, broker, folder, authority_file):
    """Security: wrong CA, expired certificate, another host's, wrong password, each missing ACL, named."""
    other = session.environment.write_private(folder / "other.pem", Authority("other").certificate)
    program = str(session.environment.pkglibdir / "outbox-sender")
    cases = {
        "other authority": ({"ssl_ca_location": other}, "config", "unable to get local issuer certificate"),
        "expired": ({"listener": "EXPIRED"}, "config", "certificate has expired"),
        "another host's": ({"listener": "ELSEWHERE"}, "config", "IP address mismatch"),
        "wrong password": ({"password": f"{SECRET}-wrong"}, "auth", "Invalid username or password"),
        "no rights": ({"user": "stranger"}, "auth", 'Group authorization failed (group "outbox-relay.'),
        "no transactional id": ({"user": "untransactional"}, "auth",
                                'Transactional Id authorization failed. (transactional.id "outbox-relay.'),
        "no create": ({"user": "uncreating"}, "auth", "could not be created: Authorization failed"),
        "no read of the cursor": ({"user": "unreading"}, "auth", "Topic authorization failed"),
    }

    def refused(name):
        options, wanted_class, wanted_text = cases[name]
        properties = sasl(broker, authority_file, **options)
        place = name.replace(" ", "-").replace("'", "")
        pairs = open_pairs(properties.pop("bootstrap.servers"), place, extra=properties.items())
        with open(folder / f"{place}.log", "w") as log, Sender(program, log) as sender:
            assert sender.open(pairs).kind == "OPENED"
            answer = sender.look()
            if answer.kind == "CURSOR":
                answer = sender.fence()
            if answer.kind == "CURSOR":
                answer = sender.batch(1, [])
        assert answer.kind == "FAILED", (name, answer)
        assert (answer.error_class, wanted_text in answer.text) == (wanted_class, True), (name, answer)
        assert SECRET not in answer.text and SECRET not in (folder / f"{place}.log").read_text()

    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(refused, cases))


def test_without_a_right_to_the_spare_id_the_first_is_used(session, broker, folder, authority_file):
    """Security: who may not use the spare transactional id sends with the first, as if there were no other."""
    properties = sasl(broker, authority_file, user="unspared")
    pairs = open_pairs(properties.pop("bootstrap.servers"), "unspared", extra=properties.items())
    with Sender(str(session.environment.pkglibdir / "outbox-sender")) as sender:
        assert sender.open(pairs).kind == "OPENED"
        assert sender.look().kind == "CURSOR"
        fenced = sender.fence()
        assert (fenced.kind, fenced.spare, fenced.passed_over) == ("CURSOR", False, False), fenced
        assert sender.batch(1, []).kind == "COMMITTED"


def test_tls_and_password_work_and_no_secret_is_shown(session, broker, cluster, folder, authority_file, make_database, unique):
    """Security: TLS and SASL to a broker with ACLs; secrets in no view, log, process or pg_settings."""
    use(session, cluster, folder, sasl(broker, authority_file, debug="all"))
    database, topic = make_database(cluster), unique("secret")
    database.declare(topic)
    database.start_relay()
    for number in range(5):
        database.emit(topic, f"k{number}")
    assert keys(broker.wait_for_records(topic, 5)) == [f"k{number}" for number in range(5)]

    status = database.status()
    assert "sasl.username=relay" in status["kafka"] and SECRET not in str(status)
    proc = pathlib.Path("/proc", str(status["sender_pid"]))
    assert SECRET.encode() not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    assert SECRET not in command_lines(cluster)
    # The log has librdkafka's own debugging in it, and not the password.
    assert cluster.log_contains("SASL") and not cluster.log_contains(SECRET)
    for view in ("pg_settings", "pg_file_settings", "pg_stat_activity", "pg_db_role_setting"):
        assert SECRET not in str(database.execute(f"select * from {view}")), view

    database.execute("drop role if exists ordinary")
    database.execute("create role ordinary login")
    with database.connect(user="ordinary") as connection:
        assert "outbox.kafka" not in str(connection.execute("select * from pg_settings").fetchall())
        for setting in ("outbox.kafka_properties", "outbox.kafka_properties_file"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"show {setting}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select pg_read_file(%s)", (str(folder / "kafka.properties"),))
    database.execute("drop role ordinary")


def command_lines(cluster):
    pids = cluster.processes("")
    return b"".join(pathlib.Path("/proc", str(pid), "cmdline").read_bytes() for pid in pids if
                    pathlib.Path("/proc", str(pid)).exists()).decode()


def test_wrong_password_is_retried_slowly_and_heals(session, broker, cluster, folder, authority_file, make_database, unique):
    """Security: a clear last_error and retry, no hot loop; a reload with the right one loses nothing."""
    use(session, cluster, folder, sasl(broker, authority_file, password=f"{SECRET}-wrong"))
    database, topic = make_database(cluster), unique("wrong")
    database.declare(topic)
    database.start_relay()
    for number in range(20):
        database.emit(topic, f"k{number:02}")
    assert SECRET not in last_error(database, "Invalid username or password")
    tries = wait_until(lambda: (n := database.status()["recoveries"]) >= 3 and n, 60, "three tries")
    # 100, 200, 400 ms and so on, at most 30 s: so many tries take that long, at the least.
    began, later = database.execute("select started_at, last_error_at from outbox.relay_status")[0]
    assert (later - began).total_seconds() > 0.1 * (2 ** (tries - 1) - 1)
    use(session, cluster, folder, sasl(broker, authority_file))
    assert keys(broker.wait_for_records(topic, 20)) == [f"k{number:02}" for number in range(20)]
    wait_until(lambda: database.status()["state"] == "idle", 30, "an idle relay")
    assert len(broker.read_all(topic)) == 20


def test_bad_certificates_are_retried_and_heal(session, broker, cluster, folder, authority_file, make_database, unique):
    """Security: one relay meets a wrong CA, then an expired certificate: each is named in last_error and tried
    again; a reload with the right ones delivers everything."""
    other = session.environment.write_private(folder / "wrong.pem", Authority("wrong").certificate)
    bad = [({"ssl_ca_location": other}, "unable to get local issuer certificate"),
           ({"listener": "EXPIRED"}, "certificate has expired")]
    use(session, cluster, folder, sasl(broker, authority_file, **bad[0][0]))
    database, topic = make_database(cluster), unique("certificate")
    database.declare(topic)
    database.start_relay()
    database.emit(topic, "first")
    pid = wait_until(lambda: database.status()["pid"], 30, "the relay")
    for options, cause in bad:
        use(session, cluster, folder, sasl(broker, authority_file, **options))
        last_error(database, cause)
        tries = database.status()["recoveries"]
        wait_until(lambda: database.status()["recoveries"] >= tries + 2, 60, "two tries more")
        last_error(database, cause)
    database.emit(topic, "last")
    use(session, cluster, folder, sasl(broker, authority_file))
    assert keys(broker.wait_for_records(topic, 2)) == ["first", "last"]
    wait_until(lambda: database.status()["state"] == "idle", 30, "an idle relay")
    assert database.status()["pid"] == pid and len(broker.read_all(topic)) == 2


def types(records):
    return [dict(record.headers())["ce_type"].decode() for record in records]


@pytest.mark.parametrize("policy", ["hold_key", "hold_topic", "stop"])
def test_a_forbidden_topic_waits(session, broker, cluster, folder, authority_file, make_database, unique, policy):
    """Poison, authorization refused: the key waits, or the topic, or all do, until the grant; then in order."""
    cluster.configure(outbox__dead_letter_policy=policy)
    use(session, cluster, folder, sasl(broker, authority_file, user="unwriting"))
    try:
        database, denied, fine = make_database(cluster), unique("forbidden"), unique("fine")
        for topic in (denied, fine):
            broker.create_topic(topic, 1)
            database.declare(topic, 1)
        broker.allow("unwriting", "topic", fine, "write")
        database.start_relay()
        database.emit(fine, "k")
        broker.wait_for_records(fine, 1)
        for number in range(2):
            database.emit(denied, "k", f"T{number}")
        database.emit(fine, "k")
        if policy == "hold_key":
            broker.wait_for_records(fine, 2)
            database.wait_for("select array_agg(state order by id) = '{open,held}' from outbox.dead_letter")
            assert "Topic authorization failed" in database.value("select error_message from outbox.dead_letter where state = 'open'")
        elif policy == "hold_topic":
            broker.wait_for_records(fine, 2)
            database.wait_for("select cause = 'refused' and state = 'held' and events = 2 from outbox.topic_holds")
            assert "Topic authorization failed" in database.value("select reason from outbox.topic_holds")
        else:
            assert "Topic authorization failed" in last_error(database, "outbox.dead_letter_policy is stop")
            assert len(broker.read_all(fine)) == 1 and not database.value("select count(*) from outbox.dead_letter")
        broker.allow("unwriting", "topic", denied, "write")
        if policy == "hold_topic":
            database.execute("select outbox.topic_release(%s)", (denied,))
        database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
        assert types(broker.wait_for_records(denied, 2)) == ["T0", "T1"]
        assert len(broker.wait_for_records(fine, 2)) == 2
    finally:
        cluster.configure(outbox__dead_letter_policy="dead_letter")
        cluster.reload()


def test_no_right_to_see_who_is_alive(session, broker, cluster, folder, authority_file, make_database, unique):
    """Without the right to the group of the living the relay goes on as ever, and says so once."""
    use(session, cluster, folder, sasl(broker, authority_file, user="unseeing"))
    database, topic = make_database(cluster), unique("unseen")
    broker.allow("unseeing", "group", database.transactional_id(), "read")
    database.declare(topic)
    since = cluster.log_size()
    database.start_relay()
    database.emit(topic, "one")
    assert keys(broker.wait_for_records(topic, 1)) == ["one"]
    sender = database.status()["sender_pid"]
    os.kill(sender, signal.SIGKILL)
    database.wait_for("select sender_pid <> %s and state = 'idle' from outbox.relay_status", 30, (sender,))
    database.emit(topic, "two")
    assert keys(broker.wait_for_records(topic, 2)) == ["one", "two"]
    log = cluster.child.log_path.read_bytes()[since:].decode()
    assert log.count("a copy of this server that sends at the same time would not be seen") == 1
    assert "outbox-alive." in log


def test_no_right_to_read_what_a_topic_takes(session, broker, cluster, folder, authority_file, make_database, unique):
    """Without the right to DescribeConfigs what a topic does not take is found by trying, and said to be; with
    it, in one round."""
    use(session, cluster, folder, sasl(broker, authority_file))
    database, topic, other = make_database(cluster), unique("unread"), unique("other")
    broker.create_topic(topic, 1, {"max.message.bytes": "2000", "cleanup.policy": "compact"})
    for name in (topic, other):
        database.declare(name, 1)
    since = cluster.log_size()
    database.start_relay()

    def emit(wave):
        """Small events, and two in their midst that are refused; in order around them."""
        with database.connect(autocommit=False) as connection:
            connection.execute("select outbox.emit(%s, 'k', 'Small', to_jsonb(n)) from generate_series(1, 20) n", (topic,))
            connection.execute(f"select outbox.emit(%s, 'large', 'T', {OVERSIZED}), outbox.emit(%s, null, 'T', '{{}}')", (topic, topic))
            connection.execute("select outbox.emit(%s, 'k', 'Small', to_jsonb(n)) from generate_series(21, 40) n", (topic,))
            connection.execute("select outbox.emit(%s, 'o', 'T', '{}')", (other,))
            connection.commit()
        records = broker.wait_for_records(topic, 40 * wave, 60)
        assert [int(record.value()) for record in records] == [*range(1, 41)] * wave
        assert len(broker.wait_for_records(other, wave)) == wave
        return [m for (m,) in database.execute("select error_message from outbox.dead_letter where state = 'open' order by id")]

    found = emit(1)
    rounds = database.status()["refusal_rounds"]
    assert len(found) == 2 and not any("cleanup.policy" in m or "max.message.bytes" in m for m in found)
    assert 2 <= rounds <= 14  # two of 42 records, each found by halving
    log = cluster.child.log_path.read_bytes()[since:].decode()
    assert log.count(f'the settings of topic "{topic}" may not be read') == 1

    broker.allow("relay", "topic", topic, "describe_configs")
    os.kill(database.status()["sender_pid"], signal.SIGKILL)  # a new one asks at once, this one after five minutes
    assert [m for m in emit(2) if "cleanup.policy" in m or "max.message.bytes" in m] != [] and len(emit(3)) == 6
    assert database.status()["refusal_rounds"] - rounds <= 3


def test_a_grant_heals_what_was_forbidden(session, broker, cluster, folder, authority_file, make_database, unique):
    """Security: a missing right on the transactional id, then on one topic: the others go on."""
    use(session, cluster, folder, sasl(broker, authority_file, user="limited"))
    database = make_database(cluster)
    denied, absent = unique("denied"), unique("absent")
    broker.create_topic(denied, 1)
    broker.allow("limited", "topic", denied, "describe")
    for topic in ("allowed", denied, absent):
        database.declare(topic)
    database.start_relay()
    database.emit("allowed", "first")
    last_error(database, "Transactional Id authorization failed")
    broker.allow("limited", "transactional_id", "*", "write", "describe")
    assert keys(broker.wait_for_records("allowed", 1, timeout=90)) == ["first"]

    with database.connect(autocommit=False) as connection:
        for topic in ("allowed", denied, "allowed", absent):
            connection.execute("select outbox.emit(%s, 'same', 'T', '{}')", (topic,))
        connection.commit()
    database.emit("allowed", "last")
    assert keys(broker.wait_for_records("allowed", 4)) == ["first", "last", "same", "same"]
    letters = dict(database.execute("select topic, error_message from outbox.dead_letter where origin = 'relay'"))
    assert "Topic authorization failed" in letters[denied]
    assert "could not be created: Authorization failed" in letters[absent]

    broker.allow("limited", "topic", denied, *ALL)
    broker.allow("limited", "topic", absent, *ALL)
    for topic in (denied, absent):
        database.emit(topic, "granted")
        assert keys(broker.wait_for_records(topic, 1)) == ["granted"]
    assert len(broker.read_all("allowed")) == 4


def newer_client(session, folder):
    """Programs of the private installation, with a sender that uses the librdkafka of the Python package."""
    environment = session.environment
    copy = session.data / "newer-client"
    shutil.copytree(environment.pg_prefix, copy, symlinks=True, copy_function=os.link)
    libraries = environment.make_directory(session.data / "newer-library")
    found = next(pathlib.Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*.so*"))
    (libraries / "librdkafka.so.1").symlink_to(found)
    sender = environment.pkglibdir / "outbox-sender"
    wrapper = copy / sender.relative_to(environment.pg_prefix)
    wrapper.unlink()
    wrapper.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {sender}\n")
    wrapper.chmod(0o755)
    return copy / environment.bindir.relative_to(environment.pg_prefix)


@pytest.mark.long
def test_scram(session, broker, folder, authority_file, make_database, unique):
    """Security: SCRAM-SHA-512. Kafka 4 takes it from librdkafka 2.6.1 on: an older one says so."""
    broker.add_user("relay", f"{SECRET}-scram")
    properties = sasl(broker, authority_file, password=f"{SECRET}-scram", sasl_mechanisms="SCRAM-SHA-512")
    text = "".join(f"{k}={v}\n" for k, v in properties.items())
    path = session.environment.write_private(folder / "scram.properties", text)
    cluster = PostgresCluster(session, "scram", {"outbox.kafka_properties_file": path}).start()
    try:
        database, topic = make_database(cluster), unique("scram")
        database.declare(topic)
        database.start_relay()
        database.emit(topic, "k")
        version = wait_until(lambda: database.status()["kafka"], 30, "the sender").split()[1]
        if tuple(int(part) for part in version.rstrip(";").split(".")[:3]) < (2, 6, 1):
            last_error(database, "Kafka 4 takes SCRAM from librdkafka 2.6.1 on")
            cluster.stop()
            cluster.bindir = newer_client(session, folder)
            cluster.start()
        assert keys(broker.wait_for_records(topic, 1)) == ["k"]
        assert not cluster.log_contains(SECRET)
    finally:
        cluster.remove()


def test_settings_of_the_database_do_not_reach_the_relay(session, broker, cluster, folder, authority_file, make_database, unique):
    """Security: what a database's owner may set for it, hostile operators and functions first on its
    search_path among it, neither runs with the relay's rights nor stops it; it also writes a dead letter."""
    use(session, cluster, folder, sasl(broker, authority_file, user="uncreating"))
    database, topic = make_database(cluster), unique("settings")
    for name in ("outbox.cursor", topic):
        if broker.describe_topic(name) is None:
            broker.create_topic(name, 1)
    absent = unique("absent")
    database.execute(HOSTILE.format("hostile_database"))
    settings = {
        "default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "statement_timeout": "1",
        "lock_timeout": "1", "idle_in_transaction_session_timeout": "1", "datestyle": "SQL, DMY", "bytea_output": "escape",
        "intervalstyle": "sql_standard", "standard_conforming_strings": "off", "transform_null_equals": "on",
        "array_nulls": "off", "enable_indexscan": "off", "row_security": "on", "timezone": "Pacific/Apia",
        "synchronous_commit": "off", "quote_all_identifiers": "on", "client_min_messages": "debug5",
    }
    with database.connect() as connection:
        this = sql.Identifier(database.name)
        connection.execute(sql.SQL("alter database {} set search_path = hostile_database, pg_catalog, pg_temp").format(this))
        for setting, value in settings.items():
            connection.execute(sql.SQL("alter database {} set {} = {}").format(this, sql.Identifier(setting), value))
    own = ("-c search_path=pg_catalog -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 "
           "-c default_transaction_isolation=read\\ committed -c client_min_messages=warning")
    with database.connect(options=own) as connection:
        for name in (topic, absent):
            connection.execute("select outbox.declare_topic(%s, 1)", (name,))
        connection.execute("select outbox.start_relay()")
        for name in (topic, absent, topic):
            connection.execute("select outbox.emit(%s, 'k', 'T', '{}')", (name,))
        assert keys(broker.wait_for_records(topic, 2)) == ["k", "k"]
        letters = connection.execute("select topic, error_message from outbox.dead_letter").fetchall()
        assert [name for name, _ in letters] == [absent] and "could not be created" in letters[0][1]
    assert not cluster.log_contains("hostile code ran as")
