-- What a record of Kafka holds need not be text: its dead letter keeps the bytes, and so does its event.

-- a text of a record; the database is UTF8
SELECT v, outbox.wire_text(v, 256) FROM unnest(ARRAY['abc', 'a\303\244b', 'a\344b', '\355\240\200', 'a\000b', ''::bytea]) v;
SELECT m, outbox.wire_text('\x61c3a4e282ac', m) FROM generate_series(0, 6) m;
SELECT m, outbox.wire_text('\x61e4', m) FROM generate_series(1, 4) m;
SELECT outbox.wire_text(NULL, 1) IS NULL AS none;

-- headers of outbox.consumed_event: the first of each name; {"a": "1", "a": "2", "\xff": NULL, "b": "\xe4", "": ""}
SELECT outbox.consumed_headers('\x0a026102310261023202ff01026202e40000');
SELECT outbox.consumed_headers(NULL), outbox.consumed_headers(''), outbox.consumed_headers('\x0202610231ff');

-- a letter whose header names and values are no text, and one whose type and content type no event has
SELECT outbox.declare_topic('bytes.DLT');
CREATE FUNCTION pg_temp.header(name bytea, value bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT set_byte('\x00', 0, 2 * length(name)) || name || coalesce(set_byte('\x00', 0, 2 * length(value)) || value, '\x01')
$$;
CREATE FUNCTION pg_temp.add(place bigint, headers bytea, type text DEFAULT 'T', topic text DEFAULT 'bytes') RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('bytes', topic, 0, place, '\xff00', '\xfe', headers, NULL,
		('00000000-0000-7000-8000-' || lpad(place::text, 12, '0'))::uuid, type, 'flow-ä', 'open', 'decode', NULL, 'seeded', 0)
$$;
SELECT pg_temp.add(1, '\x0e' || pg_temp.header('\xfffe', '\x00ff') || pg_temp.header('', '') || pg_temp.header('null', NULL)
	|| pg_temp.header('\xc3a4', '\xc3a4') || pg_temp.header('CE_type', '\xe4') || pg_temp.header('correlationid', '\x666c6f772de4')
	|| pg_temp.header('dlt-old', 'gone')) AS letter \gset
SELECT outbox.dead_letter_unpublished(:letter) IS NULL AS published;
SELECT key, payload, type, content_type FROM outbox.event WHERE topic = 'bytes.DLT';
-- byte for byte, in their order, behind the letter's own correlation id and before what says why it is here
SELECT position(pg_temp.header('correlationid', 'flow-\303\244') || pg_temp.header('\xfffe', '\x00ff') || pg_temp.header('', '')
	|| pg_temp.header('null', NULL) || pg_temp.header('\xc3a4', '\xc3a4') || pg_temp.header('dlt-original-CE_type', '\xe4')
	|| pg_temp.header('dlt-original-correlationid', '\x666c6f772de4') || pg_temp.header('dlt-original-topic', 'bytes') IN headers) AS found
FROM outbox.event WHERE topic = 'bytes.DLT';

-- content types: taken over, of a structured event, and such as emit() refuses
SELECT pg_temp.add(n, '\x02' || pg_temp.header('Content-Type', value), repeat('t', 300) || E'\n') > 0 AS added
FROM unnest(ARRAY['text/plain', 'application/cloudevents+json', 'a\012b', '', '\xe4'::bytea]) WITH ORDINALITY c (value, i)
	CROSS JOIN LATERAL (SELECT 10 + c.i) p (n) ORDER BY c.i;
SELECT length(e.type), e.content_type,
	(SELECT h.value FROM outbox.headers_decode(e.headers) h WHERE h.name = 'dlt-original-content-type') AS original
FROM outbox.event e WHERE e.topic = 'bytes.DLT' ORDER BY e.seq OFFSET 1;
SELECT pg_temp.add(20, NULL, E'a\nb') > 0 AS added;
SELECT type FROM outbox.event WHERE topic = 'bytes.DLT' ORDER BY seq DESC LIMIT 1;

-- a traceparent that is one goes on as it is, another is kept
SELECT pg_temp.add(21, '\x04' || pg_temp.header('traceparent', 'none')
	|| pg_temp.header('TraceParent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')) > 0 AS added;
SELECT h.name, convert_from(h.value, 'UTF8') AS value
FROM (SELECT * FROM outbox.event WHERE topic = 'bytes.DLT' ORDER BY seq DESC LIMIT 1) e, outbox.headers_decode(e.headers) WITH ORDINALITY h (name, value, n)
WHERE h.name ~* 'trace' ORDER BY h.n;

-- an edited copy keeps the other bytes
SET outbox.allow_dead_letter_edit = on;
SELECT outbox.dead_letter_edit(:letter, 1, 'v', 'value mended') > 0 AS edited;
RESET outbox.allow_dead_letter_edit;
SELECT headers = '\x10' || pg_temp.header('ce_id', event_id::text::bytea) || pg_temp.header('\xfffe', '\x00ff') || pg_temp.header('', '')
	|| pg_temp.header('null', NULL) || pg_temp.header('\xc3a4', '\xc3a4') || pg_temp.header('CE_type', '\xe4')
	|| pg_temp.header('correlationid', '\x666c6f772de4') || pg_temp.header('dlt-old', 'gone') AS kept
FROM outbox.dead_letter WHERE id = :letter;

-- not published: told and counted
SELECT pg_temp.add(1, '\x02ff') > 0 AS added;
SELECT pg_temp.add(30, '\x02ff') AS letter \gset
SELECT outbox.dead_letter_unpublished(:letter);
SELECT outbox.dead_letter_unpublished(pg_temp.add(31, NULL, 'T', 'nobody'));
SELECT * FROM outbox.dead_letter_counts('bytes') ORDER BY topic, state;
-- published after all, whatever a person has called it
SELECT id AS letter FROM outbox.dead_letter WHERE topic = 'nobody' \gset
SELECT outbox.declare_topic('nobody.DLT');
SELECT outbox.dead_letter_replay(:letter, 'not published: nobody.DLT was missing');
SELECT outbox.dead_letter_unpublished(:letter) IS NULL AS waits;
SELECT outbox.dead_letter_failed(:letter, 1, true, 0, 0, 'record', NULL, 'again');
SELECT outbox.dead_letter_unpublished(:letter) IS NULL AS published;
SELECT outbox.dead_letter_unpublished(0) IS NULL AS unknown;
