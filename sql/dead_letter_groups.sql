-- Dead letters of one kind: fingerprints, groups, actions by filter.
\set SHOW_CONTEXT never

-- one kind, whatever record it was
SELECT count(DISTINCT outbox.dead_letter_fingerprint('groups', 'record', '23505', message)) AS kinds
FROM (VALUES ('order ord-9f3: amount -12.50 at 2026-01-01 10:20:30 exceeds "limit a"'),
	('order ord-1: amount 3 at 2026-01-02 11:21:31.5 exceeds "limit b"')) m (message);
SELECT count(DISTINCT outbox.dead_letter_fingerprint('groups', 'record', '23505', message)) AS kinds
FROM (VALUES ('no order 0199f0aa-bbcc-7ddd-8eee-ffffffffffff, hash deadbeefcafe, can''t be ''x y'' (order_id)=(a, b)'),
	('no order abcdefab-abcd-abcd-abcd-abcdefabcdef, hash 0xdeadbeef, can''t be ''z'' (order_id)=(c)')) m (message);
-- another kind: message, consumer, class, code
SELECT count(DISTINCT outbox.dead_letter_fingerprint(consumer, class, code, message)) AS kinds
FROM (VALUES ('groups', 'record', '23505', 'order 1 is paid'), ('groups', 'record', '23505', 'order 1 is unpaid'),
	('other', 'record', '23505', 'order 1 is paid'), (NULL, 'record', '23505', 'order 1 is paid'),
	('groups', 'decode', '23505', 'order 1 is paid'), ('groups', 'record', NULL, 'order 1 is paid')) m (consumer, class, code, message);
-- the same on every server
SELECT outbox.dead_letter_fingerprint('groups', 'record', '23505', 'order 7 is paid');

-- groups, depth
SELECT outbox.declare_topic('groups.a');
CREATE FUNCTION pg_temp.add(number bigint, topic text, key text, state text, message text) RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('groups', topic, 0, number, key::bytea, 'v', NULL, now(),
		('00000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, 'Tested', NULL, state, 'record', 'P0001', message, 3600000) $$;
SELECT pg_temp.add(1, 'groups.a', 'k1', 'open', 'order 1 is unknown'), pg_temp.add(2, 'groups.a', 'k2', 'open', 'order 2 is unknown'),
	pg_temp.add(3, 'groups.a', 'k3', 'retrying', 'order 3 is unknown'), pg_temp.add(4, 'groups.a', 'k3', 'held', 'behind'),
	pg_temp.add(5, 'groups.b', 'k4', 'open', 'no stock') \g /dev/null
INSERT INTO outbox.dead_letter (origin, topic, key, event_id, event_type, error_class, error_message, state)
VALUES ('relay', 'groups.a', 'k1', '00000000-0000-7000-8000-000000000006', 'Tested', 'refused', 'too large: 2000000 bytes', 'open');
CREATE TEMP VIEW letters AS
	SELECT d."offset" AS number, d.origin, d.state, d.version, d.reason FROM outbox.dead_letter d WHERE d.topic LIKE 'groups.%' ORDER BY d.id;
SELECT origin, consumer, topic, error_class, sqlstate, error_message, open, retrying, held, releasing,
	first_failed_at <= last_failed_at AND oldest_age > '0' AS timed, fingerprint = outbox.dead_letter_fingerprint(consumer, error_class, sqlstate, error_message) AS its
FROM outbox.dead_letter_groups WHERE topic LIKE 'groups.%' ORDER BY topic, origin, error_message;
SELECT origin, consumer, topic, state, number, oldest_seconds BETWEEN 0 AND 60 AS timed
FROM outbox.dead_letter_depth WHERE topic LIKE 'groups.%' ORDER BY 1, 2, 3, 4;

-- what would be, and nothing happens
SELECT operation IS NULL AS dry, event_id, was FROM outbox.dead_letter_replay_where(consumer => 'groups', dry_run => true);
SELECT count(*) FROM outbox.dead_letter_replay_where(consumer => 'groups', dry_run => NULL);
SELECT count(*) FROM outbox.dead_letter_discard_where(consumer => 'groups', reason => 'none', dry_run => true);
-- each filter
SELECT event_id FROM outbox.dead_letter_replay_where(origin => 'relay', topic => 'groups.a', dry_run => true);
SELECT event_id FROM outbox.dead_letter_replay_where(consumer => 'groups', topic => 'groups.b', dry_run => true);
SELECT event_id FROM outbox.dead_letter_replay_where(consumer => 'groups', key => 'k2', dry_run => true);
SELECT event_id FROM outbox.dead_letter_replay_where(consumer => 'groups', event_type => 'Other', dry_run => true);
SELECT event_id FROM outbox.dead_letter_replay_where(consumer => 'groups', state => 'retrying', dry_run => true);
SELECT event_id FROM outbox.dead_letter_replay_where(fingerprint => outbox.dead_letter_fingerprint('groups', 'record', 'P0001', 'no stock'), dry_run => true);
SELECT count(*) FROM outbox.dead_letter_replay_where(consumer => 'groups', failed_from => now() + '1 min', dry_run => true);
SELECT count(*) FROM outbox.dead_letter_replay_where(consumer => 'groups', failed_to => now() - interval '1 min', dry_run => true);
SELECT count(*) FROM outbox.dead_letter_replay_where(consumer => 'groups', failed_from => now() - interval '10 min', failed_to => now(), dry_run => true);
SELECT * FROM letters;
-- errors
SELECT outbox.dead_letter_replay_where(consumer => 'groups', state => 'resolved');
SELECT outbox.dead_letter_replay_where(consumer => 'groups', state => 'held');
SELECT outbox.dead_letter_replay_where(consumer => 'groups', at_most => 0);
SELECT outbox.dead_letter_restore_where(consumer => 'groups', at_most => NULL);
SELECT outbox.dead_letter_discard_where(consumer => 'groups', reason => ' ');
SELECT count(*) FROM outbox.audit WHERE detail ->> 'consumer' = 'groups';

-- the oldest first, in parts; a letter that has failed since is not taken
SELECT event_id, was FROM outbox.dead_letter_replay_where(consumer => 'groups', reason => 'mended', at_most => 2);
UPDATE outbox.dead_letter SET last_failed_at = clock_timestamp() + interval '1 min' WHERE topic = 'groups.b';
SELECT event_id, was FROM outbox.dead_letter_replay_where(consumer => 'groups');
UPDATE outbox.dead_letter SET last_failed_at = now() WHERE topic = 'groups.b';
-- by kind, also one that waits for its next try; what is held behind it goes on
SELECT event_id, was FROM outbox.dead_letter_discard_where(
	fingerprint => outbox.dead_letter_fingerprint('groups', 'record', 'P0001', 'order 9 is unknown'), key => 'k3', state => NULL, reason => 'hopeless');
SELECT * FROM letters;
SELECT event_id, was FROM outbox.dead_letter_restore_where(consumer => 'groups', reason => 'by mistake');
SELECT * FROM letters;
-- Row 002.8: the depth falls
SELECT consumer, topic, state, number FROM outbox.dead_letter_depth WHERE topic LIKE 'groups.%' ORDER BY 1, 2, 3;
-- each is noted, with the operation it was part of
SELECT action, reason, detail ->> 'event_id' AS event, dense_rank() OVER (ORDER BY at_operation) AS operation
FROM (SELECT *, min(id) OVER (PARTITION BY detail ->> 'operation') AS at_operation FROM outbox.audit WHERE detail ->> 'consumer' = 'groups') a ORDER BY id;

-- a letter and what is held behind it in one discard, also in parts: none is let go meanwhile
SELECT pg_temp.add(10, 'groups.c', 'k1', 'open', 'broken'), pg_temp.add(11, 'groups.c', 'k1', 'held', 'behind'),
	pg_temp.add(12, 'groups.c', 'k1', 'held', 'behind') \g /dev/null
SELECT event_id, was FROM outbox.dead_letter_discard_where(topic => 'groups.c', state => NULL, reason => 'mended by hand', dry_run => true);
SELECT event_id, was FROM outbox.dead_letter_discard_where(topic => 'groups.c', state => NULL, reason => 'mended by hand', at_most => 1);
SELECT event_id, was FROM outbox.dead_letter_discard_where(topic => 'groups.c', state => NULL, reason => 'mended by hand');
SELECT number, state FROM letters WHERE number > 9;

DELETE FROM outbox.dead_letter WHERE topic LIKE 'groups.%';
