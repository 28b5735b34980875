-- Declared topics.
\set VERBOSITY default
SELECT outbox.declare_topic('topics.a');
SELECT outbox.declare_topic('topics.b', 3, 1, 3600000, 'compact,delete');
SELECT name, partitions, replication_factor, retention_ms, cleanup_policy, declared_by = session_user AS by_me
FROM outbox.topic WHERE name LIKE 'topics.%' ORDER BY name;

-- the same again, more partitions, fewer, other values
SELECT outbox.declare_topic('topics.b', 3, 1, 3600000, 'compact,delete');
SELECT outbox.declare_topic('topics.b', 12, 1, 3600000, 'compact,delete');
SELECT outbox.declare_topic('topics.b', 11, 1, 3600000, 'compact,delete');
SELECT outbox.declare_topic('topics.b', 12, 1, 3600001, 'compact,delete');
SELECT outbox.declare_topic('topics.b', 12);
SELECT name, partitions, retention_ms FROM outbox.topic WHERE name LIKE 'topics.%' ORDER BY name;

-- values out of range
SELECT outbox.declare_topic(NULL);
SELECT outbox.declare_topic('topics.c', NULL);
SELECT outbox.declare_topic('topics.c', 0);
SELECT outbox.declare_topic('topics.c', 10001);
SELECT outbox.declare_topic('topics.c', 1, 0);
SELECT outbox.declare_topic('topics.c', 1, 40000);
SELECT outbox.declare_topic('topics.c', 1, 1, -2);
SELECT outbox.declare_topic('topics.c', 1, 1, -1, 'forget');
SELECT outbox.declare_topic('topics c');
SELECT outbox.declare_topic('__topics');
SELECT outbox.declare_topic('outbox.cursor');
SELECT outbox.declare_topic(repeat('t', 246));
SELECT outbox.declare_topic(repeat('t', 241) || '.DLT');
SELECT outbox.declare_topic(repeat('t', 245));

-- A change of the tables reaches every session's copy, direct DML included.
SELECT outbox.emit('topics.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
\c
SELECT outbox.emit('topics.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
DELETE FROM outbox.topic WHERE name = 'topics.a';
SELECT outbox.emit('topics.a', 'k', 'T', '{}');
INSERT INTO outbox.topic (name, partitions) VALUES ('topics.a', 1);
SELECT outbox.emit('topics.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
SET session_replication_role = replica;
DELETE FROM outbox.topic WHERE name = 'topics.a';
RESET session_replication_role;
SELECT outbox.emit('topics.a', 'k', 'T', '{}');
