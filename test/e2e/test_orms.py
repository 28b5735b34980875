# SPDX-License-Identifier: PostgreSQL
"""Applications emit through outbox.outgoing with their ORM, as a role that has the topic alone (docs/applications.md)."""

import contextlib
import json
import shutil
import subprocess
import uuid

import pytest
from harness import Environment
from psycopg import sql

ORDERS = "create table orders (id bigint generated always as identity primary key, note text)"


class App:
    """An application's role in a database, with a table of its own and one topic. user, topic; dsn() and connect() are the role's."""

    def __init__(self, database, user, topic):
        self.database = database
        self.user = user
        self.topic = topic

    def connect(self, **options):
        return self.database.connect(autocommit=False, user=self.user, **options)

    def jdbc_url(self):
        cluster = self.database.cluster
        return f"jdbc:postgresql://{cluster.host}:{cluster.port}/{self.database.name}?user={self.user}"

    def events(self, prefix):
        """{key without the prefix: (id, payload as text)} of the events whose key begins so, in the order they were emitted."""
        return {key[len(prefix):]: (event, payload) for key, event, payload in self.database.execute(
            "select outbox.bytes_text(key), id, outbox.bytes_text(payload) from outbox.event"
            " where starts_with(outbox.bytes_text(key), %s) order by seq", (prefix,))}

    def ids(self, prefix):
        return {key: event for key, (event, _) in self.events(prefix).items()}

    def orders(self):
        return [note for note, in self.database.execute("select note from orders order by id")]


@pytest.fixture
def app(database, topic, unique):
    user = unique("app")
    database.execute(ORDERS)
    database.execute(sql.SQL("create role {0} login; grant all on orders to {0}").format(sql.Identifier(user)))
    database.execute("select outbox.grant_topic(%s, %s::regrole)", (topic, user))
    yield App(database, user, topic)
    database.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(user)))


@contextlib.contextmanager
def sqlalchemy_engine(app):
    import sqlalchemy
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=app.connect)
    try:
        yield engine
    finally:
        engine.dispose()


def sqlalchemy_models():
    from sqlalchemy import FetchedValue
    from sqlalchemy.dialects.postgresql import JSONB
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        note: Mapped[str]

    class Outgoing(Base):
        __tablename__ = "outgoing"
        __table_args__ = {"schema": "outbox"}
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
        topic: Mapped[str]
        key: Mapped[str | None]
        type: Mapped[str]
        payload: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))
        headers: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))

    return Order, Outgoing


def test_sqlalchemy_entities(relay, kafka, app):
    """An entity in a business row's transaction: its id is the one that is returned, and arrives; one that was set is taken;
    None is a tombstone with none_as_null; a transaction that rolls back leaves neither."""
    from sqlalchemy import select
    from sqlalchemy.orm import Session
    Order, Outgoing = sqlalchemy_models()
    given = uuid.uuid4()
    with sqlalchemy_engine(app) as engine, Session(engine, expire_on_commit=False) as session:
        made = [Outgoing(topic=app.topic, key=f"s-{n}", type="T", payload={"n": n}) for n in range(3)]
        session.add_all([Order(note="first"), *made, Outgoing(topic=app.topic, key="s-given", type="T", id=given),
                         Outgoing(topic=app.topic, key="s-none", type="T", payload=None, headers={"a": "b"})])
        session.commit()
        assert session.scalars(select(Outgoing)).all() == []
        session.merge(Outgoing(topic=app.topic, key="s-merged", type="T", id=uuid.uuid4()))
        session.commit()
        returned = {event.key: str(event.id) for event in made}
        session.add_all([Order(note="undone"), Outgoing(topic=app.topic, key="s-undone", type="T")])
        session.flush()
        session.rollback()
    events = app.events("s-")
    assert {f"s-{key}": str(event) for key, (event, _) in events.items() if key in "012"} == returned
    assert events["given"][0] == given and set(events) == {"0", "1", "2", "given", "none", "merged"}
    assert [events[key][1] for key in ("0", "none", "given")] == ['{"n": 0}', None, None]
    assert app.orders() == ["first"]
    arrived = {m.key().decode(): (dict(m.headers())["ce_id"].decode(), m.value()) for m in kafka.wait_for_records(app.topic, 6)}
    assert {key: event for key, (event, _) in arrived.items()} == {f"s-{key}": str(event) for key, (event, _) in events.items()}
    assert arrived["s-none"][1] is None


def test_sqlalchemy_statements(app):
    """The table is found as it is; many rows in one statement, their ids in order; None is JSON's null without none_as_null, null() a tombstone."""
    from sqlalchemy import MetaData, Table, insert, null
    with sqlalchemy_engine(app) as engine, engine.begin() as connection:
        outgoing = Table("outgoing", MetaData(), schema="outbox", autoload_with=engine)
        assert [column.name for column in outgoing.columns] == ["topic", "key", "type", "payload", "headers", "id"]
        for key, payload in (("null", None), ("tombstone", null())):
            connection.execute(insert(outgoing).values(topic=app.topic, key=f"c-{key}", type="T", payload=payload))
        returned = connection.execute(insert(outgoing).returning(outgoing.c.id, sort_by_parameter_order=True),
                                      [{"topic": app.topic, "key": f"m-{n}", "type": "T", "payload": {"n": n}} for n in range(1000)])
        ids = {str(n): row.id for n, row in enumerate(returned)}
        returned = connection.execute(insert(outgoing).returning(outgoing.c.key, outgoing.c.id),
                                      [{"topic": app.topic, "key": f"g-{n}", "type": "T", "id": uuid.uuid4()} for n in range(1000)])
        given = {row.key.removeprefix("g-"): row.id for row in returned}
        columns = "topic, key, type"
        raw = connection.exec_driver_sql(
            f'INSERT INTO "outbox"."outgoing" ({columns}) VALUES (%s, %s, %s), (%s, %s, %s) RETURNING "id", {columns}',
            (app.topic, "r-0", "T", app.topic, "r-1", "T")).all()
    assert {key: payload for key, (_, payload) in app.events("c-").items()} == {"null": "null", "tombstone": None}
    assert app.ids("m-") == ids and app.ids("g-") == given
    assert [(topic, key, kind) for _, topic, key, kind in raw] == [(app.topic, "r-0", "T"), (app.topic, "r-1", "T")]
    assert app.ids("r-") == {key.removeprefix("r-"): event for event, _, key, _ in raw}


@pytest.fixture
def django_app(app):
    """Django, set up for one database of this process."""
    import django
    from django.conf import settings
    from django.db import connections
    cluster = app.database.cluster
    parameters = {"ENGINE": "django.db.backends.postgresql", "NAME": app.database.name, "USER": app.user, "HOST": str(cluster.host),
                  "PORT": str(cluster.port), "OPTIONS": {"options": "-c search_path=public,outbox"}}
    settings.configure(DATABASES={"default": parameters}, USE_TZ=True)
    django.setup()
    yield app
    connections.close_all()


def django_models():
    from django.db import models

    class Order(models.Model):
        id = models.BigAutoField(primary_key=True)
        note = models.TextField()

        class Meta:
            app_label, managed, db_table = "shop", False, "orders"

    class Event(models.Model):
        topic = models.TextField()
        key = models.TextField(null=True)
        type = models.TextField()
        payload = models.JSONField(null=True)
        headers = models.JSONField(null=True)

        class Meta:
            abstract = True

    class Made(Event):
        # The database's: what the expression says is never asked.
        id = models.UUIDField(primary_key=True, db_default=models.Value(None, models.UUIDField()))

        class Meta:
            app_label, managed, db_table = "shop", False, '"outbox"."outgoing"'

    class Given(Event):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)

        class Meta:
            app_label, managed, db_table = "shop", False, '"outbox"."outgoing"'

    return Order, Made, Given


def test_django(django_app):
    """Save and bulk_create with the database's id or one of the model, beside a business row; None is a tombstone, Value(None) JSON's null;
    inspectdb finds the table."""
    import io

    from django.core.management import call_command
    from django.db import models, transaction
    app = django_app
    Order, Made, Given = django_models()
    with transaction.atomic():
        Order.objects.create(note="first")
        made = [Made(topic=app.topic, key=f"d-{n}", type="T", payload={"n": n}) for n in range(3)]
        for event in made:
            event.save()
        Made.objects.bulk_create(Made(topic=app.topic, key=f"b-{n}", type="T") for n in range(50))
        given = [Given(topic=app.topic, key=f"g-{n}", type="T", payload=None, headers={"a": "b"}) for n in range(50)]
        given[0].save()
        Given.objects.bulk_create(given[1:])
        Made.objects.create(topic=app.topic, key="n-null", type="T", payload=models.Value(None, models.JSONField()))
    with pytest.raises(RuntimeError), transaction.atomic():
        Made.objects.create(topic=app.topic, key="d-undone", type="T")
        raise RuntimeError("undone")
    assert app.ids("d-") == {str(n): event.id for n, event in enumerate(made)}
    assert app.ids("g-") == {str(n): event.id for n, event in enumerate(given)}
    assert len(set(app.ids("b-").values())) == 50
    assert app.events("d-")["2"][1] == '{"n": 2}' and app.events("g-")["7"][1] is None and app.events("n-")["null"][1] == "null"
    assert app.orders() == ["first"] and Order.objects.count() == 1 and Made.objects.count() == 0
    described = io.StringIO()
    call_command("inspectdb", "outgoing", stdout=described)
    assert "id = models.UUIDField(" in described.getvalue() and "payload = models.JSONField(" in described.getvalue()


def test_hibernate_and_jdbc(app):
    """Entities with an id of the database, of Hibernate and of the application, merged ones, a batch, JDBC's generated keys in each form,
    all beside a business row; JSON null and tombstone."""
    environment = Environment()
    done = subprocess.run(
        [environment.java(), "-cp", environment.jars("clients"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.util.logging.config.file=/dev/null",
         str(environment.root / "test" / "java" / "OrmEmit.java"), app.jdbc_url(), app.topic],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    returned = json.loads(done.stdout)
    assert {key: str(event) for key, event in app.ids("j-").items()} == returned
    payloads = {key: payload for key, (_, payload) in app.events("j-").items()}
    assert payloads["generated"] == '{"n": 1}' and payloads["tombstone"] is None and payloads["null"] == "null"
    assert {key.split("-")[0] for key in returned} == {"generated", "own", "assigned", "merged", "batch", "tombstone", "null", "all", "named",
                                                       "direct", "keys", "given", "several"}
    assert app.orders() == ["first"]


@pytest.mark.long
def test_typeorm(app, session):
    """Save and insert, one and many, with the database's id or one's own, beside a business row; null is a tombstone."""
    if not shutil.which("npm"):
        pytest.skip("there is no Node.js")
    folder = session.data / "typeorm"
    shutil.copytree(Environment().root / "test" / "node", folder, dirs_exist_ok=True)
    cluster = app.database.cluster
    where = json.dumps({"host": str(cluster.host), "port": cluster.port, "database": app.database.name, "username": app.user})
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["node", "typeorm_emit.mjs", where, app.topic]):
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told == {"found": 0, "ids": {key: str(event) for key, event in app.ids("n-").items()}}
    payloads = {key: payload for key, (_, payload) in app.events("n-").items()}
    assert [payloads[key] for key in ("saved", "tombstone", "null")] == ['{"n": 1}', None, "null"] and len(payloads) == 104
    assert app.orders() == ["first"]
