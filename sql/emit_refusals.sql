-- Every refusal of emit(): SQLSTATE, message, detail and hint (docs/errors.md).
SELECT outbox.declare_topic('refusals.test');

CREATE FUNCTION refusal(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;
\pset format unaligned
\pset expanded on
\pset tuples_only on

-- arguments
SELECT * FROM refusal($$SELECT outbox.emit(NULL, 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', NULL, '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', '', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', repeat('T', 256), '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', 'k', 'T', '', repeat('c', 256))$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', 'k', 'T', '', '')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', repeat('T', 255), '{}')$$);

-- topic names
SELECT * FROM refusal($$SELECT outbox.emit('', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('.', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('..', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('a b', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('größe', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit(repeat('a', 250), 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('__consumer_offsets', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('outbox.cursor', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('unknown', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test.DLT', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('unknown.DLT', 'k', 'T', '{}')$$);

-- headers
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '[]')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '"a"')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"a": 1}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"a": {"b": "c"}}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"a": null}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"": "v"}')$$);
SELECT r.* FROM unnest(ARRAY['ce_specversion', 'ce_id', 'ce_source', 'ce_type', 'ce_time', 'Content-Type']) name,
	refusal(format($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"%s": "v"}')$$, name)) r;
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', 'k', 'T', '', NULL, ARRAY[NULL]::outbox.header[])$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', 'k', 'T', '', NULL, ARRAY[('a', ''), (NULL, '')]::outbox.header[])$$);

-- size: key, payload and headers together
SET outbox.max_event_bytes = 20;
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', '12345', 'T', '123456789012345')$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.test', '123456', 'T', '123456789012345')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.test', 'k', 'T', '{}', '{"name": "value of it"}')$$);
RESET outbox.max_event_bytes;

-- what the topic, as it is declared, does not take: no key where it is compacted, nor a record above its limit
SELECT outbox.declare_topic('refusals.compact', cleanup_policy => 'compact');
SELECT outbox.declare_topic('refusals.both', cleanup_policy => 'compact,delete', max_message_bytes => 1024);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.compact', NULL, 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit_json('refusals.both', NULL, 'T', '{}')$$);
SELECT * FROM refusal($$INSERT INTO outbox.outgoing (topic, type) VALUES ('refusals.both', 'T')$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.compact', '', 'T', NULL)$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.compact.DLT', NULL, 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.both', 'k', 'T', decode(repeat('00', 1000), 'hex'))$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.both', repeat('k', 1000), 'T', NULL)$$);
SELECT * FROM refusal($$SELECT outbox.emit('refusals.both', 'k', 'T', NULL, jsonb_build_object('h', repeat('v', 1000)))$$);
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.both', 'k', 'T', decode(repeat('00', 700), 'hex'))$$);
-- every size that is taken is one that Kafka takes: none is refused and a smaller one is not
SELECT count(*) AS taken, max(n) - min(n) + 1 AS without_gap, min(n) FROM generate_series(600, 1024) n, refusal(format(
	$$SELECT outbox.emit_bytes('refusals.both', 'k', 'T', decode(repeat('00', %s), 'hex'))$$, n)) r WHERE r.state IS NULL;
-- a change of the row counts at once
UPDATE outbox.topic SET cleanup_policy = 'delete', max_message_bytes = NULL WHERE name = 'refusals.both';
SELECT * FROM refusal($$SELECT outbox.emit_bytes('refusals.both', NULL, 'T', decode(repeat('00', 1000), 'hex'))$$);

-- undeclared topics when that is allowed
SET outbox.require_declared_topics = off;
SELECT * FROM refusal($$SELECT outbox.emit('refusals.unknown', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('__x', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$SELECT outbox.emit('a/b', 'k', 'T', '{}')$$);
RESET outbox.require_declared_topics;
SELECT * FROM refusal($$SELECT outbox.emit('refusals.unknown', 'k', 'T', '{}')$$);

-- the foreign table refuses the same
SELECT * FROM refusal($$INSERT INTO outbox.outgoing VALUES ('unknown', 'k', 'T', '{}')$$);
SELECT * FROM refusal($$INSERT INTO outbox.outgoing (topic, key) VALUES ('refusals.test', 'k')$$);

-- nothing refused was stored
\pset expanded off
\pset tuples_only off
SELECT topic, type = repeat('T', 255) AS longest_type, count(*) FROM outbox.event
WHERE topic LIKE 'refusals.%' GROUP BY 1, 2 ORDER BY 1, 2;
DROP FUNCTION refusal;
