-- What emit, emit_json and emit_bytes store.
\set VERBOSITY terse
\pset null NULL
SELECT outbox.declare_topic('emit.test');

CREATE VIEW stored AS
	SELECT e.topic, outbox.bytes_text(e.key) AS key, e.type, outbox.bytes_text(e.payload) AS payload,
		e.content_type,
		(SELECT string_agg(h.name || '=' || coalesce(encode(h.value, 'escape'), 'NULL'), ' ' ORDER BY h.n)
		 FROM outbox.headers_decode(e.headers) WITH ORDINALITY h(name, value, n)) AS headers
	FROM outbox.event e
	WHERE e.topic = 'emit.test'
	ORDER BY e.seq;

SELECT outbox.emit('emit.test', 'k1', 'T', '{"b": 1,   "a": "x"}') IS NOT NULL AS emitted;
SELECT outbox.emit('emit.test', NULL, 'T', NULL) IS NOT NULL AS tombstone;
SELECT outbox.emit('emit.test', '', 'T', '[]', '{"tenant": "7", "a": ""}') IS NOT NULL AS emitted;
SELECT outbox.emit_json('emit.test', 'k2', 'T', '{"b": 1,   "a": "\u00e9\\n"}') IS NOT NULL AS verbatim;
SELECT outbox.emit_json('emit.test', 'k2', 'T', NULL, '{}') IS NOT NULL AS tombstone;
SELECT outbox.emit_bytes('emit.test', '\xff00', 'T', '\x0001', 'application/x', ARRAY[
	('n', '\x00ff'), ('n', '\x00ff'), ('empty', ''), ('none', NULL)]::outbox.header[]) IS NOT NULL AS emitted;
SELECT outbox.emit_bytes('emit.test', NULL, 'T', NULL) IS NOT NULL AS tombstone;
SELECT outbox.emit_bytes(topic => 'emit.test', key => 'k', type => 'T', payload => '', headers => '{}') IS NOT NULL AS emitted;
SELECT * FROM stored;

-- Untyped literals and parameters reach the function that is named.
PREPARE untyped AS SELECT outbox.emit($1, $2, $3, $4, $5) IS NOT NULL AS emitted;
EXECUTE untyped('emit.test', 'k3', 'T', '{"a": 1}', '{"h": "v"}');
SELECT * FROM stored WHERE key = 'k3';

-- Settings become headers; a header of the caller wins.
SET outbox.correlation_id = 'c-1';
SET outbox.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SET outbox.tracestate = 'a=b';
SELECT outbox.emit('emit.test', 'k4', 'T', '1') IS NOT NULL AS emitted;
SELECT outbox.emit('emit.test', 'k4', 'T', '2', '{"x": "y", "correlationid": "mine"}') IS NOT NULL AS emitted;
SELECT outbox.emit_bytes('emit.test', 'k4', 'T', '3', NULL, ARRAY[('tracestate', 'mine')]::outbox.header[]) IS NOT NULL AS emitted;
SELECT payload, headers FROM stored WHERE key = 'k4';
RESET outbox.correlation_id;
RESET outbox.traceparent;
RESET outbox.tracestate;

-- The id is a version 7 UUID of created_at, and the one returned.
WITH emitted AS MATERIALIZED (SELECT outbox.emit('emit.test', 'k5', 'T', '{}') AS id FROM generate_series(1, 500))
SELECT count(DISTINCT id) AS ids FROM emitted;
SELECT count(*) AS events,
	bool_and(substr(id::text, 15, 1) = '7' AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS version_7,
	bool_and(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint =
			 floor(extract(epoch FROM created_at) * 1000)) AS time,
	count(DISTINCT txid) AS transactions,
	bool_and(txid = xmin::text::xid8) AS top_level
FROM outbox.event WHERE topic = 'emit.test' AND key = 'k5';

-- A payload that needs TOAST.
SELECT outbox.emit_json('emit.test', 'k6', 'T', to_json(string_agg(md5(i::text), ''))) IS NOT NULL AS emitted
FROM generate_series(1, 10000) i;
SELECT length(payload), md5(payload) = (SELECT md5(to_json(string_agg(md5(i::text), ''))::text) FROM generate_series(1, 10000) i) AS equal
FROM outbox.event WHERE topic = 'emit.test' AND key = 'k6';
CREATE TABLE document (body json);
INSERT INTO document SELECT to_json(string_agg(md5(i::text), '')) FROM generate_series(1, 10000) i;
SELECT outbox.emit_json('emit.test', 'k7', 'T', body) IS NOT NULL AS emitted FROM document;
SELECT length(payload) FROM outbox.event WHERE topic = 'emit.test' AND key = 'k7';

-- Indexes somebody added, a rebuilt index and an added column are honoured.
CREATE INDEX event_by_type ON outbox.event (type, created_at);
CREATE INDEX event_by_length ON outbox.event (length(payload)) WHERE type = 'Indexed';
ALTER TABLE outbox.event ADD COLUMN note text;
REINDEX TABLE outbox.event_0;
SELECT outbox.emit('emit.test', 'k8', 'Indexed', '{"a": 1}') IS NOT NULL AS emitted;
SELECT outbox.emit('emit.test', 'k8', 'Other', '{"a": 1}') IS NOT NULL AS emitted;
SET enable_seqscan = off;
SELECT count(*) FROM outbox.event WHERE type = 'Indexed';
SELECT count(*) FROM outbox.event WHERE type = 'Indexed' AND length(payload) = 8;
EXPLAIN (COSTS OFF) SELECT count(*) FROM outbox.event_0 WHERE type = 'Indexed' AND length(payload) = 8;
SELECT count(*) FROM outbox.event_0 WHERE txid = (SELECT txid FROM outbox.event WHERE type = 'Indexed');
RESET enable_seqscan;
DROP INDEX outbox.event_by_type, outbox.event_by_length;
ALTER TABLE outbox.event DROP COLUMN note;
SELECT outbox.emit('emit.test', 'k9', 'T', '{"a": 1}') IS NOT NULL AS emitted;
SELECT * FROM stored WHERE key = 'k9';

DROP TABLE document;
DROP VIEW stored;
