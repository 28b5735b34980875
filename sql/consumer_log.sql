-- A log that was made anew: going back, seen_to, anchors, old identities.
\set VERBOSITY terse
SELECT outbox.declare_topic('t', 3);
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$
	SELECT ('00000000-0001-7000-8000-' || lpad(n::text, 12, '0'))::uuid
$$;
-- One record of partition 0; its event id is n's.
CREATE FUNCTION pg_temp.batch(expected bigint, place bigint, n integer, key bytea DEFAULT NULL, log_no integer DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(outbox.begin_batch('log', '{t}', '{0}', ARRAY[expected], ARRAY[place + 1], '{1}', ARRAY[place],
		ARRAY[key], ARRAY[pg_temp.id(n)], '{t}', part_logs => ARRAY[log_no]), 'fenced')
$$;
CREATE FUNCTION pg_temp.add(place bigint, n integer, key bytea, state text, class text DEFAULT 'record')
RETURNS boolean LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('log', 't', 0, place, key, '\x76', NULL, NULL, pg_temp.id(n), 'Tested', NULL, state,
		class, 'P0001', 'seeded', 3600000) IS NOT NULL
$$;
CREATE VIEW pg_temp.position AS SELECT next_offset, log_no, went_back_from, old_ids_to, seen_to
	FROM outbox.consumer_offset WHERE consumer = 'log';

-- six records: 1 is retrying, 2 held behind it, 3 discarded, 4 open; 0 and 5 are processed
SELECT pg_temp.batch(NULL, 0, 100);
SELECT pg_temp.batch(1, 1, 1, '\x61'), pg_temp.add(1, 1, '\x61', 'retrying');
SELECT pg_temp.batch(2, 2, 2, '\x61'), pg_temp.add(2, 2, '\x61', 'held');
SELECT pg_temp.batch(3, 3, 3, '\x62'), pg_temp.add(3, 3, '\x62', 'open');
UPDATE outbox.dead_letter SET state = 'discarded' WHERE consumer = 'log' AND "offset" = 3;
SELECT pg_temp.batch(4, 4, 4, '\x63'), pg_temp.add(4, 4, '\x63', 'open');
-- dead letters are not claimed
DELETE FROM outbox.idempotency WHERE consumer = 'log' AND event_id <> pg_temp.id(100);
SELECT pg_temp.batch(5, 5, 105);
SELECT * FROM pg_temp.position;

-- anchors: kept by who has the log's number, of what is done
SELECT outbox.keep_anchor('log', 't', 0, 0, 2, 1000, -7);
SELECT outbox.keep_anchor('log', 't', 0, 0, 1, 1000, 1);
SELECT outbox.keep_anchor('log', 't', 0, 0, 5, -1, 8, '{1,0}');
SELECT outbox.keep_anchor('log', 't', 0, 0, 5, 1005, 9);
SELECT outbox.keep_anchor('log', 't', 0, 1, 4, 1, 1) AS other_log, outbox.keep_anchor('log', 't', 0, 0, 6, 1, 1) AS not_done,
	outbox.keep_anchor('log', 't', 1, 0, 0, 1, 1) AS no_watermark;
SELECT * FROM outbox.consumer_anchors('log', '{u,t,t}', '{0,1,0}');
SELECT * FROM outbox.consumer_anchors('other', '{t}', '{0}');

-- the log is another one from 2 on
SELECT outbox.take_partition('log', 't', 0, 'me');
SELECT outbox.note_attempt('log', 't', 0, 'me', 6, pg_temp.id(6));
SELECT "offset", crashes FROM outbox.consumer_attempt WHERE consumer = 'log';
SELECT outbox.rewind_offset('log', 't', 0, 6, 0, 7);
SELECT outbox.rewind_offset('log', 't', 0, 6, 0, -1);
SELECT outbox.rewind_offset('log', 't', 0, 5, 0, 2) IS NULL AS moved_meanwhile, outbox.rewind_offset('log', 't', 0, 6, 1, 2) IS NULL AS other_log,
	outbox.rewind_offset('log', 't', 1, 6, 0, 2) IS NULL AS no_watermark;
SELECT outbox.rewind_offset('log', 't', 0, 6, 0, 3);
SELECT * FROM pg_temp.position;
SELECT "offset" FROM outbox.consumer_anchor WHERE consumer = 'log';
-- a crash in hand was of the old log's record
SELECT "offset", crashes FROM outbox.consumer_attempt WHERE consumer = 'log';
-- who read the old log is refused, also when the watermark is where it was again
SELECT pg_temp.batch(6, 6, 6, NULL, 0), pg_temp.batch(3, 3, 3, NULL, 0);
-- back to 0: the whole prefix is read again, and known: processed, retrying, held, discarded, open, processed
SELECT outbox.rewind_offset('log', 't', 0, 3, 1, 0);
SELECT * FROM pg_temp.position;
SELECT pg_temp.batch(0, 0, 100, NULL, 2), pg_temp.batch(1, 1, 1, '\x61', 2), pg_temp.batch(2, 2, 2, '\x61', 2),
	pg_temp.batch(3, 3, 3, '\x62', 2), pg_temp.batch(4, 4, 4, '\x63', 2), pg_temp.batch(5, 5, 105, NULL, 2);
-- and in one batch
SELECT outbox.rewind_offset('log', 't', 0, 6, 2, 0);
SELECT outbox.begin_batch('log', '{t}', '{0}', '{0}', '{6}', '{1,1,1,1,1,1}', '{0,1,2,3,4,5}',
	'{NULL,a,a,b,c,NULL}', ARRAY[pg_temp.id(100), pg_temp.id(1), pg_temp.id(2), pg_temp.id(3), pg_temp.id(4), pg_temp.id(105)],
	'{t,t,t,t,t,t}', part_logs => '{3}');
-- others at those places are new; one of a key that waits is held
SELECT outbox.rewind_offset('log', 't', 0, 6, 3, 0);
SELECT pg_temp.batch(0, 0, 200, NULL, 4), pg_temp.batch(1, 1, 201, '\x61', 4), pg_temp.batch(2, 2, 202, '\x7a', 4);
SELECT * FROM pg_temp.position;
-- processed, and its key waits meanwhile: processed before, not held again
SELECT outbox.rewind_offset('log', 't', 0, 3, 4, 2);
SELECT pg_temp.batch(2, 2, 202, '\x61', 5);
-- a batch that is trimmed leaves seen_to alone
BEGIN;
SELECT pg_temp.batch(3, 3, 203, NULL, 5);
SELECT outbox.trim_batch('log', '{t}', '{0}', '{3}', ARRAY[pg_temp.id(203)]);
COMMIT;
SELECT next_offset, seen_to FROM pg_temp.position;

-- the record that ended the process is known by itself, not by its place
SELECT pg_temp.add(3, 303, '\x64', 'open', 'crash');
SELECT outbox.note_attempt('log', 't', 0, 'me', 3, pg_temp.id(303)) AS it, outbox.note_attempt('log', 't', 0, 'me', 3, pg_temp.id(304)) AS another,
	outbox.note_attempt('log', 't', 0, 'me', 1, pg_temp.id(1)) AS done;
SELECT "offset", crashes FROM outbox.consumer_attempt WHERE consumer = 'log';

-- the record read last: known where it is told, never an older one, of no other log
SELECT outbox.begin_batch('log', '{t,t}', '{1,2}', '{NULL,NULL}', '{4,7}', '{1,2}', '{3,6}', '{NULL,NULL}', ARRAY[pg_temp.id(603), pg_temp.id(606)],
	'{t,t}', part_times => '{1003,-1}', part_digests => '{-3,6}');
SELECT outbox.begin_batch('log', '{t}', '{1}', '{4}', '{3}', '{1}', '{2}', '{NULL}', ARRAY[pg_temp.id(602)], '{t}', part_times => '{1002}', part_digests => '{2}');
SELECT outbox.begin_batch('log', '{t}', '{2}', '{7}', '{9}', '{1}', '{8}', '{NULL}', ARRAY[pg_temp.id(608)], '{t}', part_times => '{1008}', part_digests => '{8}');
SELECT outbox.rewind_offset('log', 't', 2, 9, 0, 0), outbox.advance_offset('log', 't', 1, 4, 5);
SELECT partition, next_offset, last_offset, last_ms, last_digest FROM outbox.consumer_offsets('log') ORDER BY partition;
-- nor of a batch that was trimmed before it
BEGIN;
SELECT outbox.begin_batch('log', '{t}', '{1}', '{5}', '{9}', '{1,1}', '{5,8}', '{NULL,NULL}', ARRAY[pg_temp.id(615), pg_temp.id(618)],
	'{t,t}', part_times => '{1008}', part_digests => '{8}');
SELECT outbox.trim_batch('log', '{t}', '{1}', '{6}', ARRAY[pg_temp.id(618)]);
COMMIT;
SELECT next_offset, last_offset, last_ms, last_digest FROM outbox.consumer_offsets('log') WHERE partition = 1;

-- A row of an older version: what is below its watermark is known by its old identity, too.
INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset) VALUES ('old', 't', 0, 10);
SELECT next_offset, seen_to, old_ids_to, log_no FROM outbox.consumer_offsets('old');
SELECT outbox.claim('old', '00125d92-50bd-8b4c-8000-000000000003');
SELECT outbox.dead_letter_add('old', 't', 0, 4, NULL, '\x76', NULL, NULL, '00125d92-50bd-8b4c-8000-000000000004', 'Tested', NULL,
	'open', 'record', 'P0001', 'seeded', 0) IS NOT NULL AS added;
CREATE FUNCTION pg_temp.old_batch(expected bigint, place bigint, n integer, old_id uuid, log integer DEFAULT 0) RETURNS text LANGUAGE sql AS $$
	SELECT outbox.begin_batch('old', '{t}', '{0}', ARRAY[expected], ARRAY[expected + 1], '{1}', ARRAY[place], '{NULL}',
		ARRAY[pg_temp.id(n)], '{t}', part_logs => ARRAY[log], old_ids => ARRAY[old_id])
$$;
SELECT pg_temp.old_batch(10, 3, 403, '00125d92-50bd-8b4c-8000-000000000003') AS processed,
	pg_temp.old_batch(11, 4, 404, '00125d92-50bd-8b4c-8000-000000000004') AS letter,
	pg_temp.old_batch(12, 5, 405, '00125d92-50bd-8b4c-8000-000000000005') AS neither;
-- not above: there the new identity alone counts
SELECT outbox.claim('old', '00125d92-50bd-8b4c-8000-00000000000a');
SELECT pg_temp.old_batch(13, 10, 410, '00125d92-50bd-8b4c-8000-00000000000a');
SELECT next_offset, old_ids_to FROM outbox.consumer_offset WHERE consumer = 'old';
-- nor in another log: its places say nothing
SELECT outbox.rewind_offset('old', 't', 0, 14, 0, 4);
SELECT old_ids_to FROM outbox.consumer_offset WHERE consumer = 'old';
SELECT pg_temp.old_batch(4, 3, 503, '00125d92-50bd-8b4c-8000-000000000003', 1) AS prefix,
	pg_temp.old_batch(5, 4, 504, '00125d92-50bd-8b4c-8000-000000000004', 1) AS other_log;

-- An older binary goes on beside this version: what it processes is known by its old identity, wherever it is.
SELECT outbox.advance_offset('mixed', 't', 0, NULL, 3), outbox.begin_batch('mixed', '{t}', '{1}', '{NULL}', '{1}', '{1}', '{0}', '{NULL}',
	ARRAY[pg_temp.id(700)], '{t}', part_logs => '{0}');
SELECT outbox.begin_batch('mixed', '{t}', '{0}', '{3}', '{5}', '{1,1}', '{3,4}', '{NULL,NULL}',
	ARRAY['00125d92-50bd-8b4c-8000-000000000003', '01935d92-50bd-7b4c-8000-000000000004']::uuid[], '{t,t}');
SELECT partition, next_offset, old_ids_to FROM outbox.consumer_offset WHERE consumer = 'mixed' ORDER BY partition;
SELECT outbox.begin_batch('mixed', '{t}', '{0}', '{5}', '{6}', '{1,1,1}', '{3,4,5}', '{NULL,NULL,NULL}',
	ARRAY[pg_temp.id(703), pg_temp.id(704), pg_temp.id(705)], '{t,t,t}', part_logs => '{0}',
	old_ids => '{00125d92-50bd-8b4c-8000-000000000003,01935d92-50bd-7b4c-8000-000000000004,00125d92-50bd-8b4c-8000-000000000005}');
SELECT partition, next_offset, old_ids_to FROM outbox.consumer_offset WHERE consumer = 'mixed' ORDER BY partition;

-- rights
CREATE ROLE regress_outbox_log;
SELECT outbox.grant_consume('regress_outbox_log');
SET ROLE regress_outbox_log;
SELECT outbox.keep_anchor('log', 't', 0, 5, 2, 1, 1);
SELECT count(*) FROM outbox.consumer_anchors('log', '{t}', '{0}');
SELECT outbox.rewind_offset('log', 't', 0, 3, 5, 3);
SELECT * FROM outbox.consumer_anchor;
SELECT outbox.move_offset('log', 't', 0, 3, 4, NULL, NULL, NULL, false, NULL);
SELECT outbox.known_by_old_id('log', '{t}', '{0}', '{1}', '{1}', '{0}', '{NULL}');
RESET ROLE;
SELECT outbox.revoke_consume('regress_outbox_log');
SET ROLE regress_outbox_log;
SELECT outbox.rewind_offset('log', 't', 0, 3, 6, 3);
RESET ROLE;
DROP OWNED BY regress_outbox_log;
DROP ROLE regress_outbox_log;
