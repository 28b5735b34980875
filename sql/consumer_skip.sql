-- outbox.consumer_skip: a record that a consumer is stuck at is stepped over by hand.
\set SHOW_CONTEXT never
SELECT outbox.declare_topic('skip.t', 3);
CREATE FUNCTION pg_temp.batch(expected bigint, place bigint, consumer text DEFAULT 'skips') RETURNS text LANGUAGE sql AS $$
	SELECT outbox.begin_batch(consumer, '{skip.t}', '{0}', ARRAY[expected], ARRAY[place + 1], '{1}', ARRAY[place],
		'{k}', ARRAY[('00000000-0001-4000-8000-' || lpad(place::text, 12, '0'))::uuid], '{t}')
$$;
-- nobody has come there; the name is wrong
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 0, '00000000-0001-4000-8000-000000000000', 'its table is gone');
SELECT outbox.take_partition('skips', 'skip.t', 0, 'me');
SELECT outbox.consumer_skip('skip', 'skip.t', 0, 0, '00000000-0001-4000-8000-000000000000', 'its table is gone');
SELECT outbox.consumer_skip('skips', 'skip.t', 1, 0, '00000000-0001-4000-8000-000000000000', 'its table is gone');
-- the first record of a partition, which has no watermark yet
BEGIN;
SELECT pg_temp.batch(NULL, 0);
ROLLBACK;
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 0, '00000000-0001-4000-8000-000000000000', '  ');
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 0, '00000000-0001-4000-8000-000000000000', 'its table is gone');
SELECT pg_temp.batch(NULL, 0);
-- a later one; only that one, and only for this consumer
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 1, '00000000-0001-4000-8000-000000000001', 'its table is gone');
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 1, '00000000-0001-4000-8000-000000000001', 'once more');
SELECT pg_temp.batch(1, 1), pg_temp.batch(2, 2), pg_temp.batch(NULL, 1, 'skips.not');
-- a copy of it for re-processing is claimed by the exclusive or of event and replay
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 3, '00000000-0001-4000-8000-000000000001', 'its table is gone', 'f0000000-0000-4000-9abc-00000000000f');
SELECT outbox.begin_batch('skips', '{skip.t}', '{0}', '{3}', '{5}', '{1,1}', '{3,4}', '{k,k}',
	'{00000000-0001-4000-8000-000000000001,00000000-0001-4000-8000-000000000001}', '{t,t}',
	'{f0000000-0001-0000-1abc-00000000000e,f0000000-0001-0000-1abc-00000000000f}');
-- what is done is done
SELECT outbox.consumer_skip('skips', 'skip.t', 0, 2, '00000000-0001-4000-8000-000000000002', 'its table is gone');
SELECT action, object, reason, detail FROM outbox.audit WHERE detail->>'consumer' = 'skips' ORDER BY id;
DELETE FROM outbox.consumer_offset WHERE consumer LIKE 'skips%';
DELETE FROM outbox.consumer_attempt WHERE consumer LIKE 'skips%';
DELETE FROM outbox.idempotency WHERE consumer LIKE 'skips%';
