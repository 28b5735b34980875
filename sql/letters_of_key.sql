-- The letters of a key are found in the index of keys that has them in their order, whatever the statistics say.
CREATE FUNCTION pg_temp.index_reads() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'outbox.dead_letter'::regclass
$$;
CREATE FUNCTION pg_temp.count_reads(query text, OUT few boolean, OUT result text) LANGUAGE plpgsql AS $$
DECLARE
	before numeric := pg_temp.index_reads();
BEGIN
	EXECUTE query INTO result;
	few := pg_temp.index_reads() - before < 30;
	IF NOT few THEN
		RAISE WARNING '% index entries read', pg_temp.index_reads() - before;
	END IF;
END $$;
CREATE FUNCTION pg_temp.topic() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'of_key.' || repeat('long', 40) $$;
CREATE FUNCTION pg_temp.write(from_id bigint, to_id bigint, topic text, state text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO outbox.dead_letter (id, origin, consumer, topic, partition, "offset", key, event_id, error_class, error_message,
		attempts, next_attempt_at, state)
	OVERRIDING SYSTEM VALUE
	SELECT n, 'consumer', 'of_key', topic, 0, n + 5000, 'k', ('00000000-0000-7000-8000-' || lpad((n + 5000)::text, 12, '0'))::uuid,
		'record', 'seeded', 0, CASE state WHEN 'retrying' THEN now() END, state
	FROM generate_series(from_id, to_id) n
$$;
-- what a run of letters does, and one more that is held
CREATE VIEW pg_temp.run AS
	SELECT c.* FROM (VALUES
		(1, $$SELECT string_agg("offset"::text, ' ' ORDER BY id) FROM outbox.dead_letter_next_run('of_key', NULL, 4)$$),
		(2, $$SELECT outbox.dead_letter_begin_run('{-1000,-999,-998}', 0, '{NULL,NULL,NULL}')$$),
		(3, $$SELECT outbox.dead_letter_resolve_run('{-1000,-999,-998}')$$),
		(4, $$SELECT outbox.dead_letter_add('of_key', pg_temp.topic(), 0, 5000, 'k', NULL, NULL, NULL, '00000000-0000-7000-8000-000000005000',
			'Tested', NULL, 'held', 'record', NULL, 'behind', 0) > 0$$)) q (n, query)
		CROSS JOIN LATERAL pg_temp.count_reads(q.query) c
	ORDER BY q.n;
CREATE VIEW pg_temp.left_over AS
	SELECT id, state FROM outbox.dead_letter WHERE consumer = 'of_key' AND id > -1001 ORDER BY id LIMIT 5;

-- the indexes of keys seem to be empty pages, and dear ones: the first row of all seems nearer
BEGIN;
SELECT pg_temp.write(-4000, -3001, pg_temp.topic() || '.other', 'open'), pg_temp.write(-3000, -1001, pg_temp.topic(), 'resolved'),
	pg_temp.write(-1000, -1000, pg_temp.topic(), 'retrying'), pg_temp.write(-999, -1, pg_temp.topic(), 'held') \g /dev/null
ANALYZE outbox.dead_letter;
UPDATE pg_class SET reltuples = 2, relpages = pg_relation_size(oid) / 8192
WHERE oid IN ('outbox.dead_letter_held'::regclass, 'outbox.dead_letter_key'::regclass);
SAVEPOINT written;
SET LOCAL random_page_cost = 40;
SELECT * FROM pg_temp.run;
SELECT * FROM pg_temp.left_over;
ROLLBACK TO written;

-- nothing is known of the table: a row of the topic seems to be one of the key
DELETE FROM pg_statistic WHERE starelid = 'outbox.dead_letter'::regclass;
UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'outbox.dead_letter'::regclass;
SELECT * FROM pg_temp.run;
SELECT * FROM pg_temp.left_over;
ROLLBACK;
