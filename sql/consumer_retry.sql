-- Which dead letter is tried next, how one waits, and the context of a handler's call.
\set VERBOSITY terse
SELECT outbox.declare_topic('t', 3);
CREATE FUNCTION pg_temp.add(place bigint, key bytea, state text, topic text DEFAULT 't') RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('r', topic, 0, place, key, '\x76', NULL, NULL,
		('00000000-0000-7000-9000-' || lpad(place::text, 12, '0'))::uuid, 'Tested', NULL, state,
		'record', 'P0001', 'seeded', 0)
$$;
SELECT count(pg_temp.add(n, ('\x0' || n % 2)::bytea, 'retrying')) AS added FROM generate_series(1, 4) n;
SELECT count(pg_temp.add(5, '\x05', 'retrying', 'other')) AS added;

-- rows of one key in their order, rows of the topics asked for
UPDATE outbox.dead_letter SET next_attempt_at = now() - interval '1 hour' WHERE consumer = 'r' AND "offset" = 3;
UPDATE outbox.dead_letter SET next_attempt_at = now() - interval '1 minute' WHERE consumer = 'r' AND "offset" = 1;
SELECT id AS first, "offset", topic FROM outbox.dead_letter_next('r', '{t}') \gset first_
SELECT :first_offset AS "offset";
SELECT "offset", topic FROM outbox.dead_letter_next('r', '{other}');
SELECT "offset", topic FROM outbox.dead_letter_next('r', '{none}');
-- put back for later: its key waits, another one goes on; what is not retrying any more has no time
SELECT outbox.dead_letter_put_back(:first_first, 3600000);
SELECT unended, next_attempt_at > now() + interval '59 minutes' AS later FROM outbox.dead_letter WHERE id = :first_first;
SELECT "offset" FROM outbox.dead_letter_next('r', '{t}');
UPDATE outbox.dead_letter SET state = 'discarded', next_attempt_at = NULL, unended = 1 WHERE id = :first_first;
SELECT outbox.dead_letter_put_back(:first_first, 3600000);
SELECT unended, next_attempt_at FROM outbox.dead_letter WHERE id = :first_first;
SELECT "offset" FROM outbox.dead_letter_next('r', '{t}');
SELECT pg_advisory_unlock_all();
-- a session has a row once, however often a statement took it that then failed
SELECT outbox.dead_letter_lock(:first_first), outbox.dead_letter_lock(:first_first), outbox.dead_letter_unlock(:first_first);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- the clock was set back by hours since a row failed: it waits as long as it was to, also where another waits for longer
UPDATE outbox.dead_letter SET last_failed_at = now() + interval '6 hours', next_attempt_at = now() + interval '6 hours 10 seconds'
WHERE consumer = 'r' AND topic = 'other';
UPDATE outbox.dead_letter SET next_attempt_at = now() + interval '1 day' WHERE consumer = 'r' AND topic = 't' AND "offset" = 4;
SELECT "offset", wait_ms BETWEEN 1 AND 10000 AS as_meant FROM outbox.dead_letter_next('r', '{other}');

-- a record behind a dead one of its key: held, or done before; the leaves of other days are not locked
SELECT outbox.claim('r', '00000000-0000-7000-9000-000000000008');
SELECT outbox.advance_offset('r', 't', 0, NULL, 9);
BEGIN;
SELECT outbox.begin_batch('r', '{t}', '{0}', '{9}', '{11}', '{1,1,1,1}', '{7,8,9,10}', '{"\\x01","\\x01","\\x01","\\x09"}',
	'{00000000-0000-7000-9000-000000000007,00000000-0000-7000-9000-000000000008,00000000-0000-7000-9000-000000000009,00000000-0000-7000-9000-000000000010}',
	'{t,t,t,t}');
SELECT count(DISTINCT relation) <= 3 AS few FROM pg_locks
WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'outbox.idempotency%' AND relation::regclass::text NOT LIKE '%event';
ROLLBACK;

-- the context is there before the select list is looked at, and gone with the transaction
BEGIN;
SELECT current_setting('outbox.correlation_id') AS flow, current_setting('outbox.traceparent') AS trace,
	current_setting('outbox.tracestate') AS state
WHERE outbox.set_context('c', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'a=b');
SELECT current_setting('outbox.correlation_id') AS flow, current_setting('outbox.traceparent') AS trace,
	current_setting('outbox.tracestate') AS state
WHERE outbox.set_context('d', NULL, '');
COMMIT;
SELECT current_setting('outbox.correlation_id') AS flow;
SELECT outbox.set_context(NULL, 'no trace', NULL);

UPDATE outbox.dead_letter SET state = 'discarded', next_attempt_at = NULL WHERE consumer = 'r';
-- what is held behind a letter comes with it, up to one that somebody has done with; the rest stays held
SELECT pg_temp.add(20, '\x20', 'open') AS first \gset run_
SELECT count(pg_temp.add(n, '\x20', 'held')) AS held FROM generate_series(21, 25) n;
SELECT outbox.dead_letter_replay(:run_first);
UPDATE outbox.dead_letter SET attempts = 0 WHERE id = :run_first;
SELECT array_agg(id ORDER BY "offset") AS ids, array_agg("offset" ORDER BY "offset") AS offsets FROM outbox.dead_letter_next_run('r', '{t}', 6) \gset run_
SELECT :'run_offsets' AS offsets;
SELECT outbox.claim('r', '00000000-0000-7000-9000-000000000021');
SELECT outbox.dead_letter_discard(id, 'a test') FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 23;
BEGIN;
SELECT outbox.dead_letter_begin_run(:'run_ids', 0, array_fill(NULL::uuid, '{6}'));
ROLLBACK;
SELECT outbox.dead_letter_begin_run(:'run_ids', 1, array_fill(NULL::uuid, '{6}')) AS stale;
BEGIN;
SELECT outbox.dead_letter_begin_run((:'run_ids'::bigint[])[1:3], 0, array_fill(NULL::uuid, '{3}'));
SELECT outbox.dead_letter_resolve_run((:'run_ids'::bigint[])[1:3]);
COMMIT;
SELECT outbox.dead_letter_put_back(:run_first);
SELECT "offset", state, attempts, unended FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" BETWEEN 20 AND 25 ORDER BY 1;
-- one that has failed before, or was in hand when a process ended, comes alone
UPDATE outbox.dead_letter SET unended = 1 WHERE consumer = 'r' AND "offset" = 24;
SELECT "offset", crashes FROM outbox.dead_letter_next_run('r', '{t}', 6);
SELECT pg_advisory_unlock_all();

-- tries that failed for a record alone
SELECT * FROM outbox.note_trouble('r', 't', 0, 30, '00000000-0000-7000-9000-000000000030', 1, 0, '57014', 'too long', false) \gset note_
SELECT :note_tries AS tries, :note_failing_ms < 60000 AS soon;
SELECT tries, failing_ms >= 0 AS since FROM outbox.note_trouble('r', 't', 0, 30, '00000000-0000-7000-9000-000000000030', 0, 0, '57P01', 'ended', true);
SELECT * FROM outbox.partition_trouble('r', 't', 0);
-- another record of the place is another one
SELECT tries FROM outbox.note_trouble('r', 't', 0, 30, '00000000-0000-7000-9000-000000000031', 0, 0, NULL, 'else', false);
SELECT outbox.end_trouble('r', 't', 0, 29), outbox.end_trouble('r', 't', 0, 30);
SELECT count(*) FROM outbox.consumer_trouble;
SELECT outbox.dead_letter_troubled(id, '57014', 'too long') FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
SELECT state, error_class, sqlstate, troubles, troubled_since IS NOT NULL AS since FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
SELECT outbox.dead_letter_failed(id, attempts, true, 3, 0, 'crash', '57014', 'too long') FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
SELECT state, error_class, troubles, troubled_since, attempts FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
