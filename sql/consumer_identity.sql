-- Consumers under a new name; letters of CloudEvents in structured mode, published and edited.
\set VERBOSITY terse
SELECT outbox.declare_topic('identity.' || t) FROM unnest('{a,b,c}'::text[]) t;

-- whom nobody knows: topics that others have read and this one has not, the one that moved last first
SELECT * FROM outbox.consumer_is_new('crm', '{identity.a,identity.b}');
SELECT outbox.advance_offset('crm', 'identity.a', 0, NULL, 5), outbox.advance_offset('crm', 'identity.a', 1, NULL, 5),
	outbox.advance_offset('stats', 'identity.a', 0, NULL, 9), outbox.advance_offset('stats', 'identity.b', 0, NULL, 9);
UPDATE outbox.consumer_offset o SET updated_at = v.at::timestamptz
FROM (VALUES ('crm', 'identity.a', 0, '2026-02-03 04:05:06.7+00'), ('crm', 'identity.a', 1, '2026-01-03 04:05:06+00'),
	('stats', 'identity.a', 0, '2026-01-01 00:00+00'), ('stats', 'identity.b', 0, '2026-01-01 00:00+00')) v (consumer, topic, partition, at)
WHERE (o.consumer, o.topic, o.partition) = (v.consumer, v.topic, v.partition);
SELECT * FROM outbox.consumer_is_new('crm2', '{identity.a,identity.b,identity.c}');
-- known to one topic, new to the other
SELECT * FROM outbox.consumer_is_new('crm', '{identity.a,identity.b}');
SELECT * FROM outbox.consumer_is_new('stats', '{identity.a,identity.b}');
SELECT * FROM outbox.consumer_is_new('crm2', '{identity.c}');
SELECT * FROM outbox.consumer_is_new('crm2', '{}');

-- a letter is an event in binary mode: the record's content type has another name
CREATE FUNCTION pg_temp.add(number bigint, content_type text) RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('crm', 'identity.a', 0, number, 'k', '{"id":"17"}',
		outbox.headers_encode(ARRAY[('x', 'own'), ('Content-Type', convert_to(content_type, 'UTF8'))]::outbox.header[], false), now(),
		('00000000-0000-7000-8001-' || lpad(number::text, 12, '0'))::uuid, 'Placed', NULL, 'open', 'decode', NULL, 'bad', 1000) $$;
SELECT count(pg_temp.add(n, content_type)) FROM unnest(ARRAY['application/cloudevents+json; charset=utf-8',
	' Application/CloudEvents-Batch+JSON', 'application/cloudevents+avro', 'application/json', NULL]) WITH ORDINALITY c (content_type, n);
SELECT e.payload, e.content_type, (SELECT convert_from(h.value, 'UTF8') FROM outbox.headers_decode(e.headers) h
	WHERE h.name = 'dlt-original-content-type') AS original,
	(SELECT string_agg(h.name, ' ') FROM outbox.headers_decode(e.headers) h WHERE h.name !~ '^dlt-') AS own
FROM outbox.event e WHERE e.topic = 'identity.a.DLT' ORDER BY e.seq;

-- an edited copy is the event its row says, whatever id the envelope has
SET outbox.allow_dead_letter_edit = on;
SELECT id AS letter FROM outbox.dead_letter WHERE topic = 'identity.a' AND "offset" = 1 \gset
SELECT outbox.claim('crm', '00000000-0000-7000-8001-000000000001');
SELECT outbox.dead_letter_edit(:letter, 1, '{"id":"17","data":1}', 'mended') IS NOT NULL AS edited;
SELECT outbox.dead_letter_begin(d.id, d.attempts, '00000000-0000-7000-8001-000000000001') AS claimed
FROM outbox.dead_letter d WHERE d.id = :letter;
SELECT count(*) FROM outbox.idempotency i JOIN outbox.dead_letter d USING (event_id) WHERE d.id = :letter AND i.consumer = 'crm';

-- rights
CREATE ROLE regress_identity_consumer;
SET ROLE regress_identity_consumer;
SELECT * FROM outbox.consumer_is_new('crm2', '{identity.a}');
RESET ROLE;
SELECT outbox.grant_consume('regress_identity_consumer');
SET ROLE regress_identity_consumer;
SELECT topic FROM outbox.consumer_is_new('crm2', '{identity.a}');
RESET ROLE;
SELECT outbox.revoke_consume('regress_identity_consumer');
SET ROLE regress_identity_consumer;
SELECT topic FROM outbox.consumer_is_new('crm2', '{identity.a}');
RESET ROLE;
DROP OWNED BY regress_identity_consumer;
DROP ROLE regress_identity_consumer;
