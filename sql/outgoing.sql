-- INSERT INTO outbox.outgoing is emit().
\set VERBOSITY terse
\pset null NULL
SELECT outbox.declare_topic('outgoing.test');
INSERT INTO outbox.outgoing (topic, key, type, payload, headers)
VALUES ('outgoing.test', 'k1', 'T', '{"path": "C:\\new", "u": "\u00e9", "é": 1}', '{"a": "b"}'),
	('outgoing.test', 'k2', 'T', NULL, NULL);
INSERT INTO outbox.outgoing (topic, type, payload) SELECT 'outgoing.test', 'T', to_jsonb(i) FROM generate_series(1, 3) i;
INSERT INTO outbox.outgoing VALUES ('outgoing.test', 'k3', 'T', '{}') RETURNING topic, key;
SELECT outbox.emit('outgoing.test', 'k4', 'T', '{"path": "C:\\new", "u": "\u00e9", "é": 1}', '{"a": "b"}') IS NOT NULL AS emitted;
SELECT outbox.bytes_text(key) AS key, type, outbox.bytes_text(payload) AS payload, content_type, headers
FROM outbox.event WHERE topic = 'outgoing.test' ORDER BY seq;
-- what is stored is not to be seen or changed through the view
SELECT count(*) FROM outbox.outgoing;
UPDATE outbox.outgoing SET key = 'x';
DELETE FROM outbox.outgoing;
-- COPY too
COPY outbox.outgoing (topic, key, type, payload) FROM stdin;
outgoing.test	k5	T	{"a": "b"}
\.
SELECT outbox.bytes_text(payload) FROM outbox.event WHERE topic = 'outgoing.test' AND key = 'k5';
