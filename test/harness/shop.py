# SPDX-License-Identifier: PostgreSQL
"""The example shop: three databases with their relays, the three services, and consumers without C.

`python -m harness.shop up|down` keeps one running for a person to look at.
"""

import json
import shutil
import sys

from .environment import free_port
from .kafka import open_kafka
from .postgres import PostgresCluster
from .service import Service
from .session import Session, exit_on_sigterm, stop_recorded

PARTS = ("order", "payment", "inventory")
CONSUMERS = ("notification", "warehouse", "analytics", "loyalty", "fraud")


class Shop:
    """Databases, relays and services on a running broker (anything with .bootstrap).

    databases  name of each part's database      services  Service of each part
    config     further settings, {part: {name: value}}
    """

    def __init__(self, session, postgres, kafka, prefix="shop_", config=None):
        self.session = session
        self.examples = session.environment.root / "examples" / "shop"
        self.postgres = postgres
        self.kafka = kafka
        self.prefix = prefix
        self.databases = {part: f"{prefix}{part}" for part in PARTS}
        self.config = config or {}
        self.services = {}

    def create_databases(self):
        """Make the databases from examples/shop and start their relays."""
        for part in self.databases:
            self._create_database(part)
        return self

    def _create_database(self, part):
        name = self.postgres.create_database(self.databases[part])
        self.postgres.psql_file(self.examples / f"{part}.sql", name)
        self.postgres.execute("select outbox.start_relay()", dbname=name)

    def make_services(self):
        for part in PARTS:
            self._make_service(part, f"outbox-{part}")
        return self

    def _make_service(self, part, program, **config):
        config = {
            **config,
            "database": self.postgres.dsn(self.databases[part], user=f"{part}_service"),
            "bootstrap_servers": self.kafka.bootstrap,
            **self.config.get(part, {}),
        }
        self.services[part] = Service(self.session, program, config, name=f"{self.databases[part]}-service")
        return self.services[part]

    def add_consumer(self, part):
        """One of CONSUMERS: its database and relay, and outbox-consume, not started, as its .conf says."""
        self.databases[part] = f"{self.prefix}{part}"
        self._create_database(part)
        lines = (self.examples / f"{part}.conf").read_text().splitlines()
        config = dict(line.split(" = ", 1) for line in lines if not line.startswith("#"))
        return self._make_service(part, "outbox-consume", **{**config, "http_port": free_port()})

    def start(self):
        """Everything, until every service says it is ready."""
        self.create_databases().make_services()
        for service in self.services.values():
            service.start(wait=False)
        for service in self.services.values():
            service.wait_ready()
        return self

    def stop(self):
        for service in self.services.values():
            service.stop()


def start_system(session):
    """PostgreSQL, Kafka (or the one KAFKA_BOOTSTRAP names) and the shop, all running. Returns the Shop."""
    kafka = open_kafka(session)
    conf = {"outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}"}
    postgres = PostgresCluster(session, conf=conf).start()
    return Shop(session, postgres, kafka).start()


def describe(shop):
    """Where to look, as text."""
    lines = [f"  psql '{shop.postgres.dsn(name)}'   # {part}" for part, name in shop.databases.items()]
    lines += [f"  {service.url}   # outbox-{part}: /livez /readyz /metrics" for part, service in shop.services.items()]
    lines += [f"  {shop.kafka.bootstrap}   # Kafka", f"  {shop.session.logs}   # logs"]
    return "\n".join(lines)


def up():
    session = Session("up", lasting=True)
    notes = session.directory / "notes.json"
    if notes.exists():
        print("outbox: it runs already; make down stops it")
        print(json.loads(notes.read_text())["text"])
        return 0
    try:
        text = describe(start_system(session))
    except BaseException:
        session.close(keep_data=True)
        raise
    notes.write_text(json.dumps({"text": text}))
    print("outbox: the system is up; make down stops it")
    print(text)
    return 0


def down():
    session = Session("up", lasting=True)
    stop_recorded(session.records)
    shutil.rmtree(session.directory)
    print("outbox: the system is down")
    return 0


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit({"up": up, "down": down}[sys.argv[1]]())
