-- outbox.outgoing.id: the event's id, as RETURNING shows it; taken when it is given.
\set VERBOSITY default
\pset null NULL
CREATE ROLE regress_outgoing_app;
SELECT outbox.declare_topic('outgoing.id');
SELECT outbox.grant_topic('outgoing.id', 'regress_outgoing_app');
CREATE TABLE orders (id serial PRIMARY KEY, note text);
GRANT ALL ON orders, orders_id_seq TO regress_outgoing_app;
-- what RETURNING said, beside what is stored
CREATE TABLE returned (id uuid, key text);
GRANT ALL ON returned TO regress_outgoing_app;
CREATE VIEW stored AS SELECT id, outbox.bytes_text(key) AS key, seq FROM outbox.event WHERE topic = 'outgoing.id';
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'outbox.outgoing'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- made, in every way to insert, by a role that has the topic alone
SET ROLE regress_outgoing_app;
WITH made AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'a1', 'T') RETURNING id, key)
INSERT INTO returned SELECT * FROM made;
WITH made AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'b1', 'T'), ('outgoing.id', 'b2', 'T'), ('outgoing.id', 'b3', 'T') RETURNING id, key)
INSERT INTO returned SELECT * FROM made;
WITH made AS (INSERT INTO outbox.outgoing (topic, key, type) SELECT 'outgoing.id', 'c' || n, 'T' FROM generate_series(1, 3) n RETURNING *)
INSERT INTO returned SELECT id, key FROM made;
WITH made AS (INSERT INTO outbox.outgoing (topic, key, type, id) VALUES ('outgoing.id', 'd1', 'T', NULL), ('outgoing.id', 'd2', 'T', DEFAULT) ON CONFLICT DO NOTHING RETURNING id, key)
INSERT INTO returned SELECT * FROM made;
PREPARE place(text) AS WITH made AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', $1, 'T') RETURNING outgoing)
INSERT INTO returned SELECT (outgoing).id, (outgoing).key FROM made;
EXECUTE place('e1');
EXECUTE place('e2');
RESET ROLE;
SET session_replication_role = replica;
WITH made AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'r1', 'T'), ('outgoing.id', 'r2', 'T') RETURNING id, key)
INSERT INTO returned SELECT * FROM made;
RESET session_replication_role;
SELECT r.key, r.id = s.id AS same, substr(r.id::text, 15, 1) AS version FROM returned r JOIN stored s USING (key) ORDER BY s.seq;
SELECT (SELECT count(DISTINCT id) FROM stored) AS stored, (SELECT count(*) FROM returned) AS returned;

-- given: of any version, also by COPY and through a partitioned table
SET ROLE regress_outgoing_app;
INSERT INTO outbox.outgoing (topic, key, type, payload, id)
VALUES ('outgoing.id', 'g1', 'T', '{"a": 1}', '11111111-1111-4111-8111-111111111111'), ('outgoing.id', 'g2', 'T', NULL, NULL),
	('outgoing.id', 'g3', 'T', 'null', '017f22e2-79b0-7cc3-98c4-dc0c0c07398f'), ('outgoing.id', 'g4', 'T', '1', '00000000-0000-0000-0000-000000000001')
RETURNING topic, key, type, payload, headers, CASE WHEN key <> 'g2' THEN id END AS id;
COPY outbox.outgoing (topic, key, type, id) FROM stdin;
outgoing.id	g5	T	22222222-2222-4222-8222-222222222222
\.
COPY outbox.outgoing FROM stdin;
outgoing.id	g6	T	\N	\N	33333333-3333-4333-8333-333333333333
outgoing.id	g7	T	\N	\N	\N
\.
RESET ROLE;
CREATE TABLE parted (id uuid, topic text, key text, type text, payload jsonb, headers jsonb) PARTITION BY LIST (topic);
ALTER TABLE parted ATTACH PARTITION outbox.outgoing DEFAULT;
INSERT INTO parted (topic, key, type) VALUES ('outgoing.id', 'p1', 'T') RETURNING tableoid::regclass, key, substr(id::text, 15, 1) AS version;
INSERT INTO parted (topic, key, type, id) VALUES ('outgoing.id', 'p2', 'T', '44444444-4444-4444-8444-444444444444') RETURNING id;
ALTER TABLE parted DETACH PARTITION outbox.outgoing;
SELECT key, CASE WHEN id::text LIKE '________-____-7___-%' AND key <> 'g3' THEN 'made' ELSE id::text END AS id FROM stored WHERE key >= 'g' AND key < 'r' ORDER BY seq;
SELECT outbox.bytes_text(key) AS key, outbox.bytes_text(payload) AS payload FROM outbox.event WHERE topic = 'outgoing.id' AND outbox.bytes_text(key) IN ('g2', 'g3') ORDER BY seq;
-- that it is unique is the caller's promise
INSERT INTO outbox.outgoing (topic, key, type, id) VALUES ('outgoing.id', 'g1', 'T', '11111111-1111-4111-8111-111111111111') ON CONFLICT DO NOTHING;
SELECT count(*) FROM stored WHERE id = '11111111-1111-4111-8111-111111111111';
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'o1', 'T') ON CONFLICT (id) DO NOTHING;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'o2', 'T') ON CONFLICT (id) DO UPDATE SET key = 'x' RETURNING id;
MERGE INTO outbox.outgoing o USING (SELECT '11111111-1111-4111-8111-111111111111'::uuid AS id) s ON o.id = s.id
WHEN NOT MATCHED THEN INSERT (topic, type, id) VALUES ('outgoing.id', 'T', s.id);
-- through an application's view, and in a function
CREATE VIEW wrapped AS SELECT key, id, topic, type FROM outbox.outgoing;
GRANT ALL ON wrapped TO regress_outgoing_app;
SET ROLE regress_outgoing_app;
WITH made AS (INSERT INTO wrapped (topic, key, type) VALUES ('outgoing.id', 'x1', 'T'), ('outgoing.id', 'x2', 'T') RETURNING id, key)
INSERT INTO returned SELECT * FROM made;
DO $$
DECLARE
	made uuid;
BEGIN
	INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'x3', 'T') RETURNING id INTO STRICT made;
	INSERT INTO returned VALUES (made, 'x3');
END $$;
RESET ROLE;
DROP VIEW wrapped;
SELECT r.key, r.id = s.id AS same FROM returned r JOIN stored s USING (key) WHERE key LIKE 'x%' ORDER BY s.seq;

-- nil is no id; a statement that has one stores nothing
INSERT INTO outbox.outgoing (topic, key, type, id) VALUES ('outgoing.id', 'n1', 'T', NULL), ('outgoing.id', 'n2', 'T', '00000000-0000-0000-0000-000000000000');
COPY outbox.outgoing (topic, key, type, id) FROM stdin;
outgoing.id	n3	T	00000000-0000-0000-0000-000000000000
\.
SELECT count(*) FROM stored WHERE key LIKE 'n%';
-- constraints and triggers see the id that is stored; a default of the column is obeyed
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO returned VALUES (NEW.id, NEW.key);
	RETURN NULL;
END $$;
CREATE TRIGGER see AFTER INSERT ON outbox.outgoing FOR EACH ROW EXECUTE FUNCTION see();
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN id SET NOT NULL;
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 't1', 'T'), ('outgoing.id', 't2', 'T');
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN id DROP NOT NULL;
DROP TRIGGER see ON outbox.outgoing;
SELECT r.key, r.id = s.id AS same FROM returned r JOIN stored s USING (key) WHERE key LIKE 't%' ORDER BY key;
-- so do generated columns, and a constraint that asks where it is; a trigger before it sees what is given, and may give one
CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.id := CASE WHEN NEW.id IS NULL THEN '77777777-7777-4777-8777-777777777777'::uuid END;
	RETURN NEW;
END $$;
BEGIN;
ALTER FOREIGN TABLE outbox.outgoing DROP COLUMN key;
ALTER FOREIGN TABLE outbox.outgoing ADD COLUMN key text GENERATED ALWAYS AS (left(id::text, 8)) STORED;
ALTER FOREIGN TABLE outbox.outgoing ADD CONSTRAINT here CHECK (tableoid = 'outbox.outgoing'::regclass);
INSERT INTO outbox.outgoing (topic, type) VALUES ('outgoing.id', 'Generated'), ('outgoing.id', 'Generated') RETURNING key = left(id::text, 8) AS same;
COPY outbox.outgoing (topic, type) FROM stdin;
outgoing.id	Generated
\.
CREATE TRIGGER give BEFORE INSERT ON outbox.outgoing FOR EACH ROW EXECUTE FUNCTION give();
INSERT INTO outbox.outgoing (topic, type) VALUES ('outgoing.id', 'Given') RETURNING key, id;
INSERT INTO outbox.outgoing (topic, type, id) VALUES ('outgoing.id', 'Generated', '77777777-7777-4777-8777-777777777777') RETURNING key = left(id::text, 8) AS same, substr(id::text, 15, 1) AS version;
SELECT type, outbox.bytes_text(key) = left(id::text, 8) AS same FROM outbox.event WHERE type IN ('Generated', 'Given') ORDER BY seq;
ROLLBACK;
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN id SET DEFAULT gen_random_uuid();
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'v4', 'T') RETURNING substr(id::text, 15, 1) AS version;
ALTER FOREIGN TABLE outbox.outgoing ALTER COLUMN id DROP DEFAULT;

-- what the role may: no row is shown, nothing is changed, and without the topic nothing at all
SET ROLE regress_outgoing_app;
SELECT count(*) FROM outbox.outgoing;
SELECT * FROM outbox.outgoing WHERE id = '11111111-1111-4111-8111-111111111111';
UPDATE outbox.outgoing SET key = 'x';
DELETE FROM outbox.outgoing;
INSERT INTO outbox.outgoing (topic, type) VALUES ('outgoing.other', 'T') RETURNING id;
-- lastval() is of the sequence that was used last, and that is outbox's
INSERT INTO orders (note) VALUES ('one');
INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'l1', 'T');
SELECT lastval();
SELECT currval(pg_get_serial_sequence('orders', 'id'));
RESET ROLE;
SELECT outbox.revoke_topic('outgoing.id', 'regress_outgoing_app');
SET ROLE regress_outgoing_app;
INSERT INTO outbox.outgoing (topic, type) VALUES ('outgoing.id', 'T') RETURNING id;
SELECT * FROM outbox.outgoing;
RESET ROLE;

-- PostgreSQL leaves out what nobody reads: a SELECT in WITH, the select list of EXISTS.  What changes data it always runs.
WITH e AS (SELECT outbox.emit('outgoing.id', 'w1', 'T', '{}')) SELECT 1 AS one;
SELECT 1 AS one WHERE EXISTS (SELECT outbox.emit('outgoing.id', 'w2', 'T', '{}'));
WITH e AS MATERIALIZED (SELECT outbox.emit('outgoing.id', 'w3', 'T', '{}')) SELECT 1 AS one;
WITH e AS (SELECT outbox.emit('outgoing.id', 'w4', 'T', '{}') AS id) SELECT id IS NOT NULL AS read FROM e;
WITH e AS (INSERT INTO outbox.outgoing (topic, key, type) VALUES ('outgoing.id', 'w5', 'T')) SELECT 1 AS one;
WITH o AS (INSERT INTO orders (note) VALUES ('two') RETURNING id)
SELECT outbox.emit('outgoing.id', 'w6', 'T', to_jsonb(o)) IS NOT NULL AS emitted FROM o;
SELECT key FROM stored WHERE key LIKE 'w%' ORDER BY seq;
DROP VIEW stored;
DROP TABLE orders, returned, parted;
DROP FUNCTION see, give;
DROP OWNED BY regress_outgoing_app;
DROP ROLE regress_outgoing_app;
