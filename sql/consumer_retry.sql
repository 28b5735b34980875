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
-- the clock was set back by hours since a row failed: it waits as long as it was to
UPDATE outbox.dead_letter SET last_failed_at = now() + interval '6 hours', next_attempt_at = now() + interval '6 hours 10 seconds'
WHERE consumer = 'r' AND topic = 'other';
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
