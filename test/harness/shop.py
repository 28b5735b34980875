# SPDX-License-Identifier: PostgreSQL
"""The example shop: three databases with their relays, and the three services.

`python -m harness.shop up|down` keeps one running for a person to look at.
"""

import json
import shutil
import sys

from .kafka import open_kafka
from .postgres import PostgresCluster
from .service import Service
from .session import Session, exit_on_sigterm, stop_recorded

PARTS = ("order", "payment", "inventory")


class Shop:
    """Databases, relays and services on a running broker (anything with .bootstrap).

    databases  name of each part's database      services  Service of each part
    config     further settings, {part: {name: value}}
    """

    def __init__(self, session, postgres, kafka, prefix="shop_", config=None):
        self.session = session
        self.postgres = postgres
        self.kafka = kafka
        self.databases = {part: f"{prefix}{part}" for part in PARTS}
        self.config = config or {}
        self.services = {}

    def create_databases(self):
        """Make the databases from examples/shop and start their relays."""
        examples = self.session.environment.root / "examples" / "shop"
        for part, name in self.databases.items():
            self.postgres.create_database(name)
            self.postgres.psql_file(examples / f"{part}.sql", name)
            self.postgres.execute("select outbox.start_relay()", dbname=name)
        return self

    def make_services(self):
        for part in PARTS:
            config = {
                "database": self.postgres.dsn(self.databases[part], user=f"{part}_service"),
                "bootstrap_servers": self.kafka.bootstrap,
                **self.config.get(part, {}),
            }
            self.services[part] = Service(
                self.session, f"outbox-{part}", config, name=f"{self.databases[part]}-service"
            )
        return self

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
