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
CREATE FUNCTION pg_temp.note(code text, ended boolean, counts boolean DEFAULT true, tried_ms bigint DEFAULT 0, earlier integer DEFAULT 0,
	event uuid DEFAULT '00000000-0000-7000-9000-000000000030', part integer DEFAULT 0,
	OUT tries integer, OUT ends integer, OUT soon boolean, OUT alike boolean, OUT works boolean)
LANGUAGE sql AS $$
	SELECT n.tries, n.ends, n.failing_ms BETWEEN 0 AND 60000, n.alike, n.works
	FROM outbox.note_trouble('r', 't', part, 30, event, earlier, 0, code, 'why', ended, counts, tried_ms) n
$$;
SELECT * FROM pg_temp.note('57014', false, earlier => 1);
SELECT * FROM pg_temp.note('57P01', true);
SELECT * FROM outbox.partition_trouble('r', 't', 0);
-- one that has not come to its call, or was ended by who stopped the server, counts nothing; that of another's crash, or the server's, is no end of its own
SELECT * FROM pg_temp.note('57P01', true, counts => false);
SELECT * FROM pg_temp.note('57P01', true, tried_ms => 1000000000000);
SELECT * FROM pg_temp.note('57P02', true, tried_ms => 1000000000000);
SELECT * FROM pg_temp.note('08006', true, tried_ms => 1000000000000);
SELECT * FROM pg_temp.note('08006', true);
SELECT * FROM pg_temp.note('58030', false);
-- nobody else fails, somebody does, and others of the consumer are done
SELECT * FROM pg_temp.note('58030', false, part => 1);
SELECT * FROM pg_temp.note('58030', false);
SELECT * FROM pg_temp.note('57014', false);
UPDATE outbox.consumer_trouble SET tried_at = tried_at - interval '1 hour' WHERE partition = 1;
SELECT * FROM pg_temp.note('58030', false);
SELECT outbox.begin_batch('r', '{t}', '{5}', '{NULL}', '{2}', '{1}', '{1}', '{NULL}', '{00000000-0000-7000-8000-000000000051}', '{f}');
SELECT * FROM pg_temp.note('58030', false, tried_ms => 10000);
SELECT outbox.begin_batch('r', '{t}', '{5}', '{2}', '{3}', '{1}', '{2}', '{NULL}', '{00000000-0000-7000-8000-000000000052}', '{t}');
SELECT * FROM pg_temp.note('58030', false, tried_ms => 10000);
SELECT outbox.end_trouble('r', 't', 1, 30);
-- another record of the place is another one
SELECT * FROM pg_temp.note(NULL, false, event => '00000000-0000-7000-9000-000000000031');
SELECT outbox.end_trouble('r', 't', 0, 29), outbox.end_trouble('r', 't', 0, 30);
SELECT count(*) FROM outbox.consumer_trouble;
SELECT outbox.dead_letter_troubled(id, code, 'why', ended, tried_ms) FROM outbox.dead_letter,
	(VALUES ('57P01', true, 1000000000000), ('57014', false, 0), ('57P01', true, 0)) t (code, ended, tried_ms) WHERE consumer = 'r' AND "offset" = 24;
SELECT state, error_class, sqlstate, troubles, ends, troubled_since IS NOT NULL AS since FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
SELECT outbox.dead_letter_failed(id, attempts, true, 3, 0, 'crash', '57014', 'too long') FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
SELECT state, error_class, troubles, ends, troubled_since, attempts FROM outbox.dead_letter WHERE consumer = 'r' AND "offset" = 24;
