-- What the consumer runtime calls: watermarks, batches, dead letters.
\set VERBOSITY terse

SELECT outbox.declare_topic('t', 3);

-- compare-and-set
SELECT outbox.advance_offset('c', 't', 0, NULL, 5);
SELECT outbox.advance_offset('c', 't', 0, NULL, 6);
SELECT outbox.advance_offset('c', 't', 0, 4, 6);
SELECT outbox.advance_offset('c', 't', 0, 5, 6);
-- never backwards
SELECT outbox.advance_offset('c', 't', 0, 6, 2);
SELECT topic, partition, next_offset FROM outbox.consumer_offsets('c');
SELECT idle_seconds >= 0 AND idle_seconds < 600 AS plausible FROM outbox.consumer_offsets('c');
SELECT topic, partition, next_offset FROM outbox.consumer_offsets('other');

-- a batch: new, the same event again, one not to be claimed
SELECT outbox.begin_batch('b', '{t,u}', '{0,3}', '{NULL,NULL}', '{12,8}', '{1,1,2}', '{10,11,7}',
	'{"\\x6b",NULL,"\\x6b"}',
	'{00000000-0000-7000-8000-000000000001,00000000-0000-7000-8000-000000000001,00000000-0000-7000-8000-000000000002}',
	'{t,t,f}');
SELECT topic, partition, next_offset FROM outbox.consumer_offsets('b') ORDER BY topic;
SELECT event_id FROM outbox.idempotency WHERE consumer = 'b';
-- another member was here
SELECT outbox.begin_batch('b', '{t}', '{0}', '{NULL}', '{13}', '{1}', '{12}', '{NULL}',
	'{00000000-0000-7000-8000-000000000003}', '{t}') IS NULL AS fenced;
SELECT count(*) FROM outbox.idempotency WHERE consumer = 'b';

-- a record to be retried, and one of its key behind it
CREATE FUNCTION pg_temp.add(place bigint, key bytea, state text) RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('b', 't', 0, place, key, '\x76', '\x020a63655f69640278', '2026-01-01 00:00+00',
		('00000000-0000-7000-8000-' || lpad(place::text, 12, '0'))::uuid, 'Tested', 'flow', state,
		'record', 'P0001', 'seeded', 3600000)
$$;
SELECT pg_temp.add(12, '\x6b', 'retrying') IS NOT NULL AS added;
SELECT outbox.begin_batch('b', '{t}', '{0}', '{12}', '{16}', '{1,1,1}', '{13,14,12}', '{"\\x6b","\\x6f","\\x6b"}',
	'{00000000-0000-7000-8000-000000000013,00000000-0000-7000-8000-000000000014,00000000-0000-7000-8000-000000000012}',
	'{t,t,t}');
SELECT pg_temp.add(13, '\x6b', 'held') IS NOT NULL AS added;
SELECT pg_temp.add(15, '\x6b', 'held') IS NOT NULL AS added;
-- the same record again
SELECT pg_temp.add(13, '\x6b', 'held') IS NOT NULL AS added;
SELECT "offset", state, attempts, blocked_by IS NOT NULL AS blocked, next_attempt_at > now() AS later
FROM outbox.dead_letter WHERE consumer = 'b' ORDER BY id;
SELECT * FROM outbox.dead_letter_counts('b') ORDER BY state;
-- below the watermark and in the table: a duplicate
SELECT outbox.begin_batch('b', '{t}', '{0}', '{16}', '{17}', '{1}', '{12}', '{"\\x6b"}',
	'{00000000-0000-7000-8000-000000000012}', '{t}');

-- tries: not due yet, failed, failed for good
SELECT attempts, "offset", wait_ms > 3000000 AS later, record_ms FROM outbox.dead_letter_next('b');
SELECT id AS letter FROM outbox.dead_letter WHERE consumer = 'b' AND "offset" = 12 \gset
SELECT outbox.dead_letter_begin(:letter, 7) IS NULL AS stale;
SELECT outbox.dead_letter_failed(:letter, 1, false, 3, 0, 'record', '22012', 'again');
SELECT outbox.dead_letter_failed(:letter, 1, false, 3, 0, 'record', '22012', 'again') IS NULL AS stale;
SELECT outbox.dead_letter_failed(:letter, 2, true, 3, 0, 'permanent', 'OBX01', 'never');
SELECT topic, key, type, payload, content_type FROM outbox.event WHERE topic = 't.DLT';
SELECT h.name, CASE WHEN h.name IN ('dlt-failed-at', 'dlt-first-failed-at', 'dlt-id', 'dlt-fingerprint') THEN '...'
	ELSE convert_from(h.value, 'UTF8') END AS value
FROM outbox.event, outbox.headers_decode(headers) WITH ORDINALITY h (name, value, n)
WHERE topic = 't.DLT' AND h.name NOT LIKE 'ce\_%' AND h.name NOT LIKE 'content%' ORDER BY h.n;
-- the dead one holds the key's next record, until it is done with; then they follow in order
SELECT count(*) FROM outbox.dead_letter_next('b');
SELECT outbox.begin_batch('b', '{t}', '{0}', '{17}', '{19}', '{1,1}', '{17,18}', '{"\\x6b","\\x6f"}',
	'{00000000-0000-7000-8000-000000000017,00000000-0000-7000-8000-000000000018}', '{t,t}');
SELECT outbox.dead_letter_release('b', 't', '\x6b');
SELECT count(*) FROM outbox.dead_letter_next('b');
UPDATE outbox.dead_letter SET state = 'discarded' WHERE id = :letter;
SELECT outbox.dead_letter_release('b', 't', '\x6b');
SELECT "offset", attempts, wait_ms FROM outbox.dead_letter_next('b');
SELECT id AS letter FROM outbox.dead_letter WHERE consumer = 'b' AND "offset" = 13 \gset
SELECT outbox.dead_letter_begin(:letter, 0);
SELECT outbox.dead_letter_resolve(:letter);
SELECT "offset", state, attempts, reason FROM outbox.dead_letter WHERE consumer = 'b' ORDER BY id;

-- an earlier row that is open again holds the rest, not the one that is due; without hold nothing waits
UPDATE outbox.dead_letter SET state = 'open' WHERE consumer = 'b' AND "offset" = 12;
SELECT pg_temp.add(22, '\x6b', 'held') IS NOT NULL AS added;
SELECT outbox.dead_letter_resolve(id) FROM outbox.dead_letter WHERE consumer = 'b' AND "offset" = 15;
SELECT "offset", state FROM outbox.dead_letter WHERE consumer = 'b' AND key = '\x6b' ORDER BY id;
SELECT outbox.begin_batch('b', '{t}', '{0}', '{19}', '{20}', '{1}', '{19}', '{"\\x6b"}',
	'{00000000-0000-7000-8000-000000000019}', '{t}', hold => false);
-- processed before: a duplicate, also behind a dead letter
SELECT outbox.begin_batch('b', '{t}', '{0}', '{20}', '{21}', '{1,1}', '{19,20}', '{"\\x6b","\\x6b"}',
	'{00000000-0000-7000-8000-000000000019,00000000-0000-7000-8000-000000000020}', '{t,t}');

-- with Spring's headers: numbers big-endian
SELECT h.name, h.value FROM outbox.dead_letter d,
	unnest(outbox.dead_letter_headers(d, true)) WITH ORDINALITY h (name, value, n)
WHERE d.consumer = 'b' AND d."offset" = 12 AND h.name LIKE 'kafka%' ORDER BY h.n;

-- the caller keeps its trace while a record of another flow is published
BEGIN;
SET LOCAL outbox.correlation_id = 'mine';
SET LOCAL outbox.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SET LOCAL outbox.tracestate = 'a=b';
SELECT pg_temp.add(20, '\x6c', 'open') IS NOT NULL AS added;
SHOW outbox.correlation_id;
SHOW outbox.traceparent;
SHOW outbox.tracestate;
SELECT h.name, convert_from(h.value, 'UTF8') AS value
FROM outbox.event, outbox.headers_decode(headers) WITH ORDINALITY h (name, value, n)
WHERE topic = 't.DLT' AND key = '\x6c' AND h.name IN ('correlationid', 'traceparent', 'tracestate') ORDER BY h.n;
COMMIT;

-- an id that is taken is an error, not a record that is known already
BEGIN;
SELECT setval('outbox.dead_letter_id_seq', min(id), false) > 0 AS set FROM outbox.dead_letter;
SELECT pg_temp.add(21, '\x6c', 'retrying');
ROLLBACK;
SELECT setval('outbox.dead_letter_id_seq', max(id)) > 0 AS set FROM outbox.dead_letter;

-- a dump takes along whatever holds data but the installation's name
SELECT c.oid::regclass
FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE e.extname = 'outbox' AND c.relkind IN ('r', 'p', 'S') AND c.oid <> ALL (e.extconfig)
ORDER BY 1;

-- rights
CREATE ROLE regress_outbox_consumer;
SET ROLE regress_outbox_consumer;
SELECT outbox.consumer_offsets('b');
RESET ROLE;
SELECT outbox.grant_consume('regress_outbox_consumer');
SET ROLE regress_outbox_consumer;
SELECT count(*) FROM outbox.consumer_offsets('b');
SELECT outbox.dead_letter_publish(1);
SELECT * FROM outbox.consumer_offset;
RESET ROLE;
DROP OWNED BY regress_outbox_consumer;
DROP ROLE regress_outbox_consumer;
