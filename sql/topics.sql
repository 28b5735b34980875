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

-- what becomes of a topic without a leader may change, and NULL leaves it
SELECT outbox.declare_topic('topics.d', on_unavailable => 'wait');
SELECT outbox.declare_topic('topics.d');
SELECT name, on_unavailable FROM outbox.topic WHERE name IN ('topics.a', 'topics.d') ORDER BY name;
SELECT outbox.declare_topic('topics.d', 7, on_unavailable => 'hold');
SELECT partitions, on_unavailable FROM outbox.topic WHERE name = 'topics.d';
SELECT outbox.declare_topic('topics.d', 7, on_unavailable => 'drop');
DELETE FROM outbox.topic WHERE name = 'topics.d';

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

-- Rows changed by hand are held to what declare_topic() allows.
\set VERBOSITY terse
INSERT INTO outbox.topic (name, partitions) VALUES ('topics.hand', 1);
UPDATE outbox.topic SET cleanup_policy = repeat('x', 100) WHERE name = 'topics.hand';
UPDATE outbox.topic SET cleanup_policy = 'delete,forget' WHERE name = 'topics.hand';
UPDATE outbox.topic SET cleanup_policy = '' WHERE name = 'topics.hand';
UPDATE outbox.topic SET partitions = 0 WHERE name = 'topics.hand';
UPDATE outbox.topic SET on_unavailable = 'drop' WHERE name = 'topics.hand';
UPDATE outbox.topic SET partitions = 10001 WHERE name = 'topics.hand';
UPDATE outbox.topic SET replication_factor = 0 WHERE name = 'topics.hand';
UPDATE outbox.topic SET replication_factor = -1 WHERE name = 'topics.hand';
UPDATE outbox.topic SET retention_ms = -2 WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = 'topics hand' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = E'topics.hand\n' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = 'größe' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = '' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = '..' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = '__hand' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = 'outbox.cursor' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = repeat('t', 246) WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = repeat('t', 246) || '.DLT' WHERE name = 'topics.hand';
UPDATE outbox.topic SET name = repeat('t', 244) || '.DLT', partitions = 10000, replication_factor = 32767, retention_ms = 0,
	cleanup_policy = 'compact,delete' WHERE name = 'topics.hand';
UPDATE outbox.topic SET retention_ms = -1, cleanup_policy = 'compact', replication_factor = NULL WHERE name = repeat('t', 244) || '.DLT';
DELETE FROM outbox.topic WHERE name = repeat('t', 244) || '.DLT' RETURNING partitions, replication_factor, retention_ms, cleanup_policy;

-- Two topics that Kafka would take for one are refused, also where one is the other's dead-letter topic.
\set VERBOSITY default
SELECT outbox.declare_topic('topics.alike.x');
SELECT outbox.declare_topic('topics_alike.x');
SELECT outbox.declare_topic('topics.alike_x');
SELECT outbox.declare_topic('topics.alike.x_DLT');
SELECT outbox.declare_topic('outbox_cursor');
\set VERBOSITY terse
SELECT outbox.declare_topic('topics.alike.x.DLT');
SELECT outbox.declare_topic('topics_alike.x.DLT');
SELECT outbox.declare_topic('topics_only_DLT');
SELECT outbox.declare_topic('topics.only');
SELECT outbox.declare_topic('topics-alike.x');
SELECT outbox.declare_topic('topics.alike.x');
UPDATE outbox.topic SET name = 'outbox_cursor' WHERE name = 'topics.alike.x';
-- one that is not declared, when emit() takes such
SET outbox.require_declared_topics = off;
SELECT outbox.emit('topics_alike_x', 'k', 'T', '{}');
SELECT outbox.emit('topics.alike_x.DLT', 'k', 'T', '{}');
SELECT outbox.emit('topics.alike.x.DLT', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit('topics.alike.y', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET outbox.require_declared_topics;

-- max_message_bytes: a value like the others
SELECT outbox.declare_topic('topics.small', max_message_bytes => 1023);
SELECT outbox.declare_topic('topics.small', max_message_bytes => 2000);
SELECT outbox.declare_topic('topics.small', max_message_bytes => 2000);
SELECT outbox.declare_topic('topics.small', max_message_bytes => 2001);
UPDATE outbox.topic SET max_message_bytes = 0 WHERE name = 'topics.small';
SELECT name, max_message_bytes FROM outbox.topic WHERE name LIKE 'topics.small';
