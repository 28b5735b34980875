# SPDX-License-Identifier: PostgreSQL
"""The file of Kafka properties: what it must be, and what a reload of a bad one does. No broker is needed."""

import os
import pwd

import psycopg
import pytest
from harness import wait_until

GOOD = "bootstrap.servers=127.0.0.1:1\nsasl.password=never-shown\n"


@pytest.fixture
def folder(session, unique):
    """A directory of the server's user."""
    return session.environment.make_directory(session.data / unique("properties"))


def write(session, path, text=GOOD, mode=0o600):
    return session.environment.write_private(path, text, mode)


def make_fifo(session, path):
    os.mkfifo(path, 0o600)
    session.environment.give(path)


def link_to_open_file(session, path):
    path.symlink_to(write(session, path.with_suffix(".target"), mode=0o644))


def give_to_another(session, path):
    write(session, path)
    entry = pwd.getpwnam("daemon")
    os.chown(path, entry.pw_uid, -1)
    os.chmod(path, 0o644)


def write_as_root(session, path):
    path.write_text(GOOD)
    path.chmod(0o644)


BAD_FILES = [
    ("missing", lambda session, path: None, "could not read file"),
    ("readable by all", lambda session, path: write(session, path, mode=0o604), "can be read or written by others"),
    ("writable by the group", lambda session, path: write(session, path, mode=0o620), "can be read or written by others"),
    ("directory", lambda session, path: path.mkdir(mode=0o700) or session.environment.give(path), "not a regular file"),
    ("fifo", make_fifo, "not a regular file"),
    ("link to a file others can read", link_to_open_file, "can be read or written by others"),
    ("zero byte", lambda session, path: write(session, path, b"client.id=a\0b\n"), "zero byte"),
    ("large", lambda session, path: write(session, path, "#" * 70000), "larger than"),
    ("a tail in a line of its own", lambda session, path: write(session, path, "sasl.password=front\nnever-shown=tail"),
     "line 2 has no name"),
    ("old form", lambda session, path: write(session, path, "client.id=never-shown;linger.ms=5"), "another one behind"),
    ("no UTF-8", lambda session, path: write(session, path, b"client.id=never-shown\xff\n"), "is not UTF-8"),
    ("key cut off", lambda session, path: write(session, path, "ssl.key.pem=-----BEGIN PRIVATE KEY-----\nnever-shown\n"),
     "without its line -----END"),
    ("loads a library", lambda session, path: write(session, path, "plugin.library.paths=never-shown.so"),
     "plugin.library.paths"),
    ("runs a command", lambda session, path: write(session, path, "sasl.kerberos.kinit.cmd=never-shown"),
     "sasl.kerberos.kinit.cmd"),
    ("fetches a URL", lambda session, path: write(session, path, "sasl.oauthbearer.token.endpoint.url=never-shown"),
     "sasl.oauthbearer.token.endpoint.url"),
    ("is the relay's own", lambda session, path: write(session, path, "transactional.id=never-shown"),
     "transactional.id"),
]
if os.geteuid() == 0:
    BAD_FILES += [
        ("another user's", give_to_another, "must belong to"),
        ("root's, readable by all", write_as_root, "can be read or written by others"),
    ]


def use_file(postgres, path):
    """Have the server name this file, and wait until it has heard of it."""
    postgres.configure(**{"outbox.kafka_properties_file": path})
    postgres.reload()
    postgres.wait_for("select current_setting('outbox.kafka_properties_file') = %s", parameters=(str(path),))


def test_bad_files_are_refused(session, postgres, database, folder):
    """Security: librdkafka properties by allow-list, also in the file; its owner, mode and kind."""
    for name, make, why in BAD_FILES:
        path = folder / name.replace(" ", "-")
        make(session, path)
        use_file(postgres, path)
        with database.connect(options="-c statement_timeout=20s") as connection:
            with pytest.raises(psycopg.Error) as refused:
                connection.execute("select outbox.start_relay()")
        told = f"{refused.value.diag.message_primary}: {refused.value.diag.message_detail}"
        assert why in told, name
        assert str(path) in told and "never-shown" not in str(refused.value), name


def test_a_good_file_and_a_link_to_it(session, postgres, database, folder):
    """Security: a link is followed (as secrets are mounted), its target is what counts."""
    link = folder / "link"
    link.symlink_to(write(session, folder / "kafka.properties"))
    use_file(postgres, link)
    database.start_relay()
    wait_until(lambda: "127.0.0.1:1" in (database.status()["kafka"] or ""), 30, "the sender's settings")


def test_a_reload_of_a_bad_file_changes_nothing(session, postgres, database, folder):
    """Security and Lifecycle: the relay keeps its settings and its sender, says why, and heals by a reload."""
    path = write(session, folder / "kafka.properties")
    use_file(postgres, path)
    database.start_relay()
    before = wait_until(lambda: (s := database.status())["kafka"] and s, 30, "the sender")

    write(session, path, "ssl.engine.location=never-shown\n")
    postgres.reload()
    told = wait_until(lambda: (e := database.status()["last_error"]) and "ssl.engine.location" in e and e, 30, "the error")
    assert str(path) in told and "never-shown" not in told
    after = database.status()
    assert (after["pid"], after["sender_pid"], after["kafka"]) == (before["pid"], before["sender_pid"], before["kafka"])
    assert after["recovered_at"] is None
    assert not postgres.log_contains("never-shown")

    write(session, path, "client.id=healed\n" + GOOD)
    postgres.reload()
    wait_until(lambda: "client.id=healed" in (database.status()["kafka"] or ""), 30, "the new settings")
    healed = database.status()
    if "ssl.engine.location" in healed["last_error"]:  # else the broker's being away is told by now
        assert healed["recovered_at"] > after["last_error_at"]
    assert database.status()["pid"] == before["pid"]


def test_a_start_without_a_usable_file_waits_for_one(session, postgres, database, folder):
    """Security: the relay says why it cannot begin, backs off, and begins when the file is there."""
    path = write(session, folder / "kafka.properties")
    use_file(postgres, path)
    database.start_relay()
    wait_until(lambda: database.status()["kafka"], 30, "the sender")
    path.chmod(0o644)
    postgres.restart()
    wait_until(lambda: "can be read or written by others" in (database.status()["last_error"] or ""), 30, "the error")
    database.wait_state("backoff")
    pid = database.status()["pid"]
    path.chmod(0o600)
    postgres.reload()
    wait_until(lambda: "127.0.0.1:1" in (database.status()["kafka"] or ""), 30, "the sender's settings")
    assert database.status()["pid"] == pid
