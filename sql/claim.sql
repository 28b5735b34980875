-- outbox.claim and claim_many in one session; two sessions: test/isolation/specs/claim.spec.
\set VERBOSITY terse
SELECT outbox.claim('claim.a', '00000000-0000-7000-8000-000000000001') AS first;
SELECT outbox.claim('claim.a', '00000000-0000-7000-8000-000000000001') AS first;
SELECT outbox.claim('claim.b', '00000000-0000-7000-8000-000000000001') AS first;

-- Row 000.8: the claim goes with the transaction.
BEGIN;
SELECT outbox.claim('claim.a', '00000000-0000-7000-8000-000000000002') AS first;
SELECT outbox.claim('claim.a', '00000000-0000-7000-8000-000000000002') AS first;
ROLLBACK;
SELECT outbox.claim('claim.a', '00000000-0000-7000-8000-000000000002') AS first;

SELECT outbox.claim_many('claim.a', ARRAY[
	'00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000001',
	'00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000005',
	'00000000-0000-7000-8000-000000000003']::uuid[]) AS first;
SELECT outbox.claim_many('claim.a', '{00000000-0000-7000-8000-000000000003}') AS first;
SELECT outbox.claim_many('claim.a', '{}') AS first;
SELECT cardinality(array_positions(outbox.claim_many('claim.many',
	(SELECT array_agg(md5((i % 4000)::text)::uuid) FROM generate_series(1, 10000) i)), true)) AS firsts;
SELECT consumer, count(*), bool_and(processed_at <= clock_timestamp()) AS timed
FROM outbox.idempotency WHERE consumer LIKE 'claim.%' GROUP BY 1 ORDER BY 1;

SELECT outbox.claim(NULL, '00000000-0000-7000-8000-000000000001');
SELECT outbox.claim('claim.a', NULL);
SELECT outbox.claim('', '00000000-0000-7000-8000-000000000001');
SELECT outbox.claim(repeat('c', 256), '00000000-0000-7000-8000-000000000001');
SELECT outbox.claim_many('claim.a', NULL);
SELECT outbox.claim_many('claim.a', ARRAY[NULL]::uuid[]);
SELECT outbox.claim_many(NULL, '{}');
DELETE FROM outbox.idempotency WHERE consumer LIKE 'claim.%';
