# SPDX-License-Identifier: PostgreSQL
"""Clusters made of another one's data: clones, standbys, recoveries to a point in time."""

import re
import shutil
import subprocess

from confluent_kafka.admin import AdminClient

from .postgres import PostgresCluster
from .wait import wait_until


class CopiedCluster(PostgresCluster):
    """A cluster that begins with another one's data; not started.

    way      "backup": pg_basebackup of the running source; "files": copied from the stopped one;
             "blocks": the same, as if the volume's blocks had been copied: its marker fits
    signal   None, "standby" or "recovery": the signal file it starts with
    variant  None, or the build variant it runs
    """

    def __init__(self, source, name, way="backup", signal=None, variant=None, **conf):
        self.source = source
        self.way = way
        settings = {k: v for k, v in source.settings.items() if k != "unix_socket_directories"}
        super().__init__(source.session, name, {**settings, **conf}, variant=variant)
        if signal:
            self.environment.give_file(self.data / f"{signal}.signal")

    def _initialize(self, options):
        if self.way == "backup":
            self.run("pg_basebackup", "-D", self.data, "-d", self.source.dsn(), "-c", "fast", "-X", "stream",
                     "--no-sync")
        else:
            shutil.copytree(self.source.data, self.data, symlinks=True, copy_function=shutil.copy2)
            for path in (self.data, *self.data.rglob("*")):
                self.environment.give(path)
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self.way == "blocks":
            fit_marker(self.data)

    def promote(self):
        """Make a standby a primary of its own; returns when it takes writes."""
        assert self.value("select pg_promote(true, 60)")

    def remove(self):
        super().remove()
        shutil.rmtree(self.data, ignore_errors=True)


def fit_marker(data):
    """Write inode and birth time of the data directory's marker into it: a copy of the volume would have kept them."""
    marker = data / "outbox.marker"
    inode, born = subprocess.run(["stat", "--printf", "%i %.9W", marker], check=True, capture_output=True,
                                 text=True).stdout.split()
    seconds, fraction = born.split(".")
    text = re.sub(r"^inode=.*$", f"inode={inode}", marker.read_text(), flags=re.M)
    born = "-1.0" if int(seconds) == 0 else f"{seconds}.{int(fraction)}"
    marker.write_text(re.sub(r"^born=.*$", f"born={born}", text, flags=re.M))


def change_directory(cluster):
    """Put the stopped cluster's files into a new directory of the same path, as if its volume were on another node."""
    old = cluster.data.with_name(cluster.data.name + ".moved")
    cluster.data.rename(old)
    cluster.environment.make_directory(cluster.data, 0o700)
    for entry in old.iterdir():
        entry.rename(cluster.data / entry.name)
    old.rmdir()


def living(kafka, transactional_id):
    """The members of the group of the living senders of the relay with that name."""
    group = transactional_id.replace("outbox-relay.", "outbox-alive.")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    return admin.describe_consumer_groups([group])[group].result(10).members


def make_standby(primary, name, **conf):
    """A standby that follows primary, started; its application_name is name."""
    follow = f"host={primary.host} port={primary.port} user=postgres application_name={name}"
    return CopiedCluster(primary, name, signal="standby", primary_conninfo=follow,
                         synchronous_standby_names=None, **conf).start()


def make_synchronous(primary, standby, timeout=60.0):
    """Have primary's commits wait for standby, which follows it, from now on."""
    primary.configure(synchronous_standby_names=f'"{standby.name}"')
    primary.reload()
    primary.wait_for("select sync_state = 'sync' and state = 'streaming' from pg_stat_replication "
                     "where application_name = %s", timeout, parameters=(standby.name,))


def wait_replayed(primary, standby, timeout=60.0):
    """Wait until standby has replayed what primary has written by now."""
    position = primary.value("select pg_current_wal_insert_lsn()::text")
    standby.wait_for("select pg_last_wal_replay_lsn() >= %s::pg_lsn", timeout, parameters=(position,))


def archive_settings(directory):
    """Settings of a server that archives its WAL below directory."""
    return {"archive_mode": "on", "archive_command": f'cp "%p" "{directory}/%f"'}


def wait_archived(cluster, timeout=60.0):
    """Close the WAL file being written and wait until it is archived."""
    name = cluster.value("select pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: cluster.value("select last_archived_wal >= %s from pg_stat_archiver", (name,)),
               timeout, f"{name} in the archive")
