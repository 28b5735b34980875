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
-- what is stored is not to be seen or changed through the table
SELECT count(*) FROM outbox.outgoing;
SELECT o.key FROM outbox.outgoing o JOIN outbox.topic t ON t.name = o.topic;
UPDATE outbox.outgoing SET key = 'x';
DELETE FROM outbox.outgoing;
TRUNCATE outbox.outgoing;
MERGE INTO outbox.outgoing o USING (SELECT 'outgoing.test' AS topic) s ON o.topic = s.topic
WHEN NOT MATCHED THEN INSERT (topic, type) VALUES (s.topic, 'T');
ANALYZE outbox.outgoing;
-- COPY too
COPY outbox.outgoing (topic, key, type, payload) FROM stdin;
outgoing.test	k5	T	{"a": "b"}
\.
SELECT outbox.bytes_text(payload) FROM outbox.event WHERE topic = 'outgoing.test' AND key = 'k5';

-- In replica role, as replication's apply workers and migration tools are, every way stores and counts what it stores.
\unset QUIET
\set QUIET off
CREATE VIEW wrapped AS SELECT topic, key, type, payload FROM outbox.outgoing;
CREATE TABLE placed (key text);
CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', NEW.key, 'Replica');
	RETURN NEW;
END $$;
CREATE TRIGGER announce BEFORE INSERT ON placed FOR EACH ROW EXECUTE FUNCTION announce();
ALTER TABLE placed ENABLE ALWAYS TRIGGER announce;
CREATE TABLE placed_too (key text);
CREATE RULE announce AS ON INSERT TO placed_too
	DO INSTEAD INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', NEW.key, 'Replica');
ALTER TABLE placed_too ENABLE ALWAYS RULE announce;
PREPARE place AS INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', $1, 'Replica');
EXECUTE place('r0');
SET session_replication_role = replica;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r1', 'Replica');
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r2', 'Replica'), ('outgoing.test', 'r3', 'Replica');
INSERT INTO outbox.outgoing (topic, key, type) SELECT 'outgoing.test', 'r' || i, 'Replica' FROM generate_series(4, 6) i;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r7', 'Replica') RETURNING key;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r8', 'Replica') ON CONFLICT DO NOTHING;
EXECUTE place('r9');
INSERT INTO wrapped VALUES ('outgoing.test', 'r10', 'Replica', '{}');
INSERT INTO placed VALUES ('r11');
INSERT INTO placed_too VALUES ('r12');
WITH w AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r13', 'Replica') RETURNING key) SELECT count(*) FROM w;
COPY outbox.outgoing (topic, key, type) FROM stdin;
outgoing.test	r14	Replica
outgoing.test	r15	Replica
\.
INSERT INTO outbox.outgoing VALUES ('unknown', 'k', 'T', '{}');
SET session_replication_role = local;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'r16', 'Replica');
RESET session_replication_role;
\set QUIET on
SELECT count(*), count(DISTINCT key), string_agg(outbox.bytes_text(key), ' ' ORDER BY seq) AS keys
FROM outbox.event WHERE topic = 'outgoing.test' AND type = 'Replica';

-- What somebody makes of the table is honoured or refused, never taken and forgotten.
\set VERBOSITY default
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN type SET DEFAULT 'Defaulted';
ALTER FOREIGN TABLE outbox.outgoing ADD CONSTRAINT only_short CHECK (length(key) < 5);
INSERT INTO outbox.outgoing (topic, key) VALUES ('outgoing.test', 'd1') RETURNING type;
INSERT INTO outbox.outgoing (topic, key, id) VALUES ('outgoing.test', 'too long', '00000000-0000-4000-8000-000000000001');
ALTER FOREIGN TABLE outbox.outgoing DROP CONSTRAINT only_short;
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN type DROP DEFAULT;
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN key SET NOT NULL;
INSERT INTO outbox.outgoing (topic, type, id) VALUES ('outgoing.test', 'T', '00000000-0000-4000-8000-000000000001');
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN key DROP NOT NULL;
ALTER FOREIGN TABLE outbox.outgoing ADD COLUMN tenant text DEFAULT 'acme';
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'd2', 'T');
COPY outbox.outgoing (topic, key, type) FROM stdin;
outgoing.test	d2	T
\.
ALTER FOREIGN TABLE outbox.outgoing DROP COLUMN tenant;
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN headers TYPE varchar(30);
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'd2', 'T');
ALTER FOREIGN TABLE outbox.outgoing DROP COLUMN headers;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'd2', 'T');
ALTER FOREIGN TABLE outbox.outgoing ADD COLUMN headers jsonb;
ALTER FOREIGN TABLE outbox.outgoing DROP COLUMN id;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.test', 'd2', 'T');
ALTER FOREIGN TABLE outbox.outgoing ADD COLUMN id uuid;
INSERT INTO outbox.outgoing (topic, key, type, headers) VALUES ('outgoing.test', 'd5', 'T', '{"a": "b"}') RETURNING id IS NOT NULL AS made;
CREATE FOREIGN TABLE stray (topic text, key bytea) SERVER outbox_outgoing;
INSERT INTO stray VALUES ('outgoing.test', 'd3');
DROP FOREIGN TABLE stray;
CREATE TABLE parted (topic text, key text, type text, payload jsonb, headers jsonb, id uuid) PARTITION BY LIST (topic);
ALTER TABLE parted ATTACH PARTITION outbox.outgoing DEFAULT;
INSERT INTO parted (topic, key, type) VALUES ('outgoing.test', 'd4', 'T');
SELECT count(*) FROM parted;
ALTER TABLE parted DETACH PARTITION outbox.outgoing;
SELECT outbox.bytes_text(key) AS key, type FROM outbox.event WHERE topic = 'outgoing.test' AND key >= 'd1' AND key <= 'd9' ORDER BY seq;
DROP VIEW wrapped;
DROP TABLE placed, placed_too, parted;
DROP FUNCTION announce;
-- the wrapper belongs to the first superuser, who alone is sure to stay one
SELECT w.fdwowner = 10 AS by_the_first, w.fdwacl, s.srvacl FROM pg_foreign_data_wrapper w JOIN pg_foreign_server s ON s.srvfdw = w.oid
WHERE w.fdwname = 'outbox_outgoing';
