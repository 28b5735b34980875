# SPDX-License-Identifier: PostgreSQL
import sys

import psycopg
from confluent_kafka import Consumer

bootstrap, group, topic, dsn = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "group.instance.id": f"{group}-1",  # each process its own: after a crash it reads on at once
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
})
consumer.subscribe([topic])
with psycopg.connect(dsn) as database:
    while True:
        record = consumer.poll(1)
        if record is None:
            continue
        if record.error():
            sys.exit(f"{topic}: {record.error()}")
        event_id = dict(record.headers())["ce_id"].decode()
        value = record.value()  # None: a tombstone
        document = None if value is None else value.decode()
        with database.transaction():
            claim = database.execute("SELECT outbox.claim(%s, %s::uuid)", (group, event_id))
            if claim.fetchone()[0]:
                database.execute("INSERT INTO sale (order_id, document) VALUES (%s, %s::jsonb)",
                                 (record.key().decode(), document))
        consumer.commit(record, asynchronous=False)
