-- outbox.idempotency: which leaf an event id belongs to, and how old claims are forgotten.
CREATE FUNCTION pg_temp.id(at timestamptz, number integer) RETURNS uuid LANGUAGE sql AS $$
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(number), 12, '0'))::uuid $$;

-- three days of the id's own time, modulo 32; -1 for ids without one
SELECT outbox.idempotency_leaf(pg_temp.id('1970-01-01 00:00+00', 1)) AS a, outbox.idempotency_leaf(pg_temp.id('1970-01-03 23:59:59.999+00', 2)) AS b,
	outbox.idempotency_leaf(pg_temp.id('1970-01-04 00:00+00', 1)) AS c, outbox.idempotency_leaf(pg_temp.id('1970-04-06 23:59+00', 1)) AS d,
	outbox.idempotency_leaf(pg_temp.id('1970-04-07 00:00+00', 1)) AS e, outbox.idempotency_leaf('ffffffff-ffff-7fff-bfff-ffffffffffff') BETWEEN 0 AND 31 AS last;
SELECT outbox.idempotency_leaf(gen_random_uuid()) AS v4, outbox.idempotency_leaf('00000000-0000-7000-0000-000000000000') AS variant, outbox.idempotency_leaf(NULL) AS none;
-- what lies in the retention and three days ahead is in use
SELECT cardinality(outbox.idempotency_leaves_since(now() - outbox.idempotency_retention())) IN (13, 14) AS used,
	outbox.idempotency_leaves_since(now() - interval '35 days') @> ARRAY(SELECT outbox.idempotency_leaf(pg_temp.id(now() - n * interval '1 day', 1)) FROM generate_series(-3, 35) n) AS they,
	(SELECT bool_or(outbox.idempotency_leaf(pg_temp.id(now() - n * interval '1 day', 1)) = ANY (outbox.idempotency_leaves_since(now() - interval '35 days'))) FROM generate_series(39, 87) n) AS others,
	cardinality(outbox.idempotency_leaves_since(now() - interval '84 days')) AS most, outbox.idempotency_retention() AS retention;

-- ids of today, too old, of a far future, without a time: claimed once
CREATE TEMP TABLE ids AS SELECT * FROM (VALUES (1, pg_temp.id(now(), 1)), (2, pg_temp.id(now() - interval '50 days', 2)),
	(3, pg_temp.id(now() - interval '50 days', 3)), (4, pg_temp.id('2200-01-01', 4)), (5, '00000000-0000-4000-8000-000000000005'::uuid),
	(6, '00000000-0000-4000-8000-000000000006'), (7, '00000000-0000-4000-8000-000000000007'),
	(8, '00000000-0000-4000-8000-000000000008')) v (number, id);
SELECT number, outbox.claim('leaves', id) AS first, outbox.claim('leaves', id) AS again, outbox.claim('leaves.b', id) AS other FROM ids ORDER BY number;
SELECT outbox.claim_many('leaves', (SELECT array_agg(id ORDER BY number) FROM ids)) AS first;
SELECT count(*) = count(*) FILTER (WHERE tableoid::regclass::text = 'outbox.idempotency_' || CASE outbox.idempotency_leaf(event_id)
	WHEN -1 THEN 'timeless' ELSE outbox.idempotency_leaf(event_id)::text END) AS in_their_leaves FROM outbox.idempotency;

-- nothing is too old
SELECT * FROM outbox.idempotency_maintain();
-- a leaf whose events are too old is emptied, but for what was claimed of late; one in use is not; ids without a time part by part
UPDATE outbox.idempotency SET processed_at = now() - interval '36 days'
WHERE consumer = 'leaves' AND event_id IN (SELECT id FROM ids WHERE number IN (1, 2, 5, 6, 7));
SELECT * FROM outbox.idempotency_maintain(2);
SELECT * FROM outbox.idempotency_maintain(2);
SELECT * FROM outbox.idempotency_maintain();
SELECT number, outbox.claim('leaves', id) AS first, outbox.claim('leaves.b', id) AS other FROM ids ORDER BY number;
-- much that is younger stays where it is until it is old, too
SELECT cardinality(array_positions(outbox.claim_many('leaves.c', (SELECT array_agg(pg_temp.id(now() - interval '50 days', n)) FROM generate_series(1, 10001) n)), true)) AS firsts;
UPDATE outbox.idempotency SET processed_at = now() - interval '36 days' WHERE consumer = 'leaves.b' AND event_id IN (SELECT id FROM ids WHERE number = 2);
SELECT emptied FROM outbox.idempotency_maintain();
UPDATE outbox.idempotency SET processed_at = now() - interval '36 days' WHERE consumer = 'leaves.c';
SELECT emptied FROM outbox.idempotency_maintain();
SELECT count(*) FROM outbox.idempotency WHERE consumer = 'leaves.c';
DELETE FROM outbox.idempotency WHERE consumer LIKE 'leaves%';
