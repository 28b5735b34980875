-- outbox.trim_batch: the records of a batch before a failed one are committed without it.
\set VERBOSITY terse
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$
	SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid
$$;

-- claimed by an earlier transaction
SELECT outbox.begin_batch('trim', '{t}', '{0}', '{NULL}', '{10}', '{1}', '{9}', '{k}', ARRAY[pg_temp.id(9)], '{t}');

-- records 10 and 11 of partition 0, 5 of partition 1, 12 of partition 0; 11 fails
BEGIN;
SELECT outbox.begin_batch('trim', '{t,t}', '{0,1}', '{10,NULL}', '{13,6}', '{1,1,2,1}', '{10,11,5,12}', '{k,l,m,n}',
	ARRAY[pg_temp.id(10), pg_temp.id(11), pg_temp.id(5), pg_temp.id(12)], '{t,t,t,t}');
SAVEPOINT s;
SELECT 1 / 0;
ROLLBACK TO s;
SELECT outbox.trim_batch('trim', '{t,t}', '{0,1}', '{11,NULL}', ARRAY[pg_temp.id(11), pg_temp.id(5), pg_temp.id(12)]);
COMMIT;
SELECT topic, partition, next_offset FROM outbox.consumer_offsets('trim');
SELECT event_id FROM outbox.idempotency WHERE consumer = 'trim' ORDER BY event_id;

-- what is left is new, and goes on where the watermarks are
SELECT outbox.begin_batch('trim', '{t,t}', '{0,1}', '{11,NULL}', '{13,6}', '{1,2,1}', '{11,5,12}', '{l,m,n}',
	ARRAY[pg_temp.id(11), pg_temp.id(5), pg_temp.id(12)], '{t,t,t}');

-- nothing of another transaction is taken back
SELECT outbox.trim_batch('trim', '{t,t}', '{0,1}', '{1,NULL}', ARRAY[pg_temp.id(9), pg_temp.id(12)]);
SELECT topic, partition, next_offset FROM outbox.consumer_offsets('trim') ORDER BY partition;
SELECT count(*) FROM outbox.idempotency WHERE consumer = 'trim';
