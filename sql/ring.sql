-- What somebody makes of the ring is honoured by emit()'s direct write, or emit() refuses and names it.
\pset null NULL
\set SHOW_CONTEXT never
SELECT current_database() AS home \gset
CREATE DATABASE regress_ring;
\c regress_ring
-- the tables are of heap whatever the default is
CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = other;
CREATE EXTENSION outbox;
SHOW default_table_access_method;
RESET default_table_access_method;
SELECT DISTINCT a.amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind = 'r';
SELECT outbox.declare_topic('ring.test');
CREATE FUNCTION emit() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text;
BEGIN
	RETURN CASE WHEN outbox.emit('ring.test', 'k', 'T', '{}') IS NOT NULL THEN 'stored' END;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', state, message, '--', detail);
END $$;
-- each change alone: what emit() says
CREATE FUNCTION try(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE change;
	answer := emit();
	RAISE EXCEPTION 'undo' USING ERRCODE = 'P0099', DETAIL = answer;
EXCEPTION WHEN SQLSTATE 'P0099' THEN
	RETURN answer;
END $$;
SELECT emit();

-- a constant default is stored, as what PostgreSQL shows for the older rows
SELECT outbox.emit('ring.test', 'old', 'T', '{}') IS NOT NULL AS emitted;
ALTER TABLE outbox.event DETACH PARTITION outbox.event_0;
ALTER TABLE outbox.event_0 ADD COLUMN filler int;
ALTER TABLE outbox.event_0 DROP COLUMN filler;
ALTER TABLE outbox.event ATTACH PARTITION outbox.event_0 FOR VALUES IN (0);
ALTER TABLE outbox.event ADD COLUMN gone int DEFAULT 7;
ALTER TABLE outbox.event DROP COLUMN gone;
ALTER TABLE outbox.event ADD COLUMN tenant text NOT NULL DEFAULT 'acme', ADD COLUMN shard int DEFAULT 1 + 1, ADD COLUMN note varchar(4) DEFAULT 'abc',
	ADD COLUMN amount numeric NOT NULL DEFAULT 1.50, ADD COLUMN tags text[] DEFAULT ARRAY['a', 'b'], ADD COLUMN doc jsonb DEFAULT '{"a": 1}',
	ADD COLUMN long text DEFAULT repeat('long', 3000), ADD COLUMN nothing text DEFAULT NULL, ADD COLUMN at timestamptz DEFAULT '2026-01-01 00:00:00Z';
CREATE INDEX event_tenant ON outbox.event (tenant, id);
SELECT count(emit()) FROM generate_series(1, 200);
SELECT outbox.emit_bytes('ring.test', 'k', 'T', 'x') IS NOT NULL AS emitted;
INSERT INTO outbox.outgoing (topic, type) VALUES ('ring.test', 'T');
INSERT INTO outbox.event (txid, seq, segment, id, topic, type, created_at)
VALUES (pg_current_xact_id(), nextval('outbox.event_seq'), 0, gen_random_uuid(), 'ring.test', 'ByHand', now());
SELECT tenant, shard, note, amount, tags, doc, length(long) AS long, nothing, at = '2026-01-01 00:00:00Z' AS at, count(*) FROM outbox.event GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
SET jit = on;
SET jit_above_cost = 0;
SELECT max(tenant), count(*) FROM outbox.event;
RESET jit;
RESET jit_above_cost;
SET enable_seqscan = off;
SELECT count(*) FROM outbox.event_0 WHERE tenant = 'acme';
RESET enable_seqscan;
-- a default that changes is followed, on the ring as an INSERT would
ALTER TABLE outbox.event ALTER COLUMN tenant SET DEFAULT 'other';
SELECT emit();
ALTER TABLE outbox.event ALTER COLUMN tenant DROP DEFAULT;
SELECT emit();
ALTER TABLE outbox.event ALTER COLUMN tenant DROP NOT NULL;
SELECT emit();
SELECT tenant, count(*) FROM outbox.event GROUP BY 1 ORDER BY 1;
ALTER TABLE outbox.event DROP COLUMN tenant, DROP COLUMN shard, DROP COLUMN note, DROP COLUMN amount, DROP COLUMN tags, DROP COLUMN doc,
	DROP COLUMN long, DROP COLUMN nothing, DROP COLUMN at;
SELECT emit();

-- columns that cannot be
CREATE DOMAIN short AS text CHECK (length(value) < 5);
CREATE DOMAIN given AS text NOT NULL;
CREATE DOMAIN free AS text;
CREATE FUNCTION mine() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'mine' $$;
DO $$ DECLARE leaf regclass; BEGIN
	FOR leaf IN SELECT relid FROM pg_partition_tree('outbox.event') LOOP
		EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER refuse_change', leaf);
	END LOOP;
	TRUNCATE outbox.event;
	FOR leaf IN SELECT relid FROM pg_partition_tree('outbox.event') LOOP
		EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER refuse_change', leaf);
	END LOOP;
END $$;
SELECT try('ALTER TABLE outbox.event ADD COLUMN tenant text NOT NULL');
SELECT try('ALTER TABLE outbox.event ADD COLUMN at timestamptz DEFAULT now()');
SELECT try('ALTER TABLE outbox.event ADD COLUMN at timestamptz NOT NULL DEFAULT now()');
SELECT try('ALTER TABLE outbox.event ADD COLUMN chance float8 DEFAULT random()');
SELECT try('ALTER TABLE outbox.event ADD COLUMN who name NOT NULL DEFAULT session_user');
SELECT try('ALTER TABLE outbox.event ADD COLUMN n bigserial');
SELECT try('ALTER TABLE outbox.event ADD COLUMN own text DEFAULT mine()');
SELECT try('ALTER TABLE outbox.event ADD COLUMN size int GENERATED ALWAYS AS (length(payload)) STORED');
SELECT try('ALTER TABLE outbox.event ADD COLUMN s short');
SELECT try('ALTER TABLE outbox.event ADD COLUMN s short DEFAULT ''abc''');
SELECT try('ALTER TABLE outbox.event ADD COLUMN g given DEFAULT ''abc''');
SELECT try('ALTER TABLE outbox.event ADD COLUMN f free DEFAULT ''abc''');
SELECT try('ALTER TABLE outbox.event ADD COLUMN f free');
SELECT try('ALTER TABLE outbox.event ADD COLUMN f free; ALTER DOMAIN free SET DEFAULT ''x''; SELECT emit(); ALTER DOMAIN free ADD CHECK (value <> ''y'')');
SELECT try('ALTER TABLE outbox.event ADD COLUMN f free; SELECT emit(); ALTER DOMAIN free ADD CONSTRAINT c CHECK (value <> ''y'')');
SELECT try('ALTER TABLE outbox.event ALTER COLUMN key SET NOT NULL');
SELECT try('ALTER TABLE outbox.event_0 ALTER COLUMN payload SET NOT NULL');
SELECT try('ALTER TABLE outbox.event RENAME COLUMN key TO record_key');
SELECT try('ALTER TABLE outbox.event DROP COLUMN copied_at');
-- only where the views are gone that use the column
CREATE FUNCTION drop_views() RETURNS void LANGUAGE plpgsql SET client_min_messages = error AS $$
DECLARE
	used regclass;
BEGIN
	FOR used IN SELECT oid FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'v' LOOP
		EXECUTE format('ALTER EXTENSION outbox DROP VIEW %s', used);
	END LOOP;
	EXECUTE (SELECT 'DROP VIEW ' || string_agg(oid::regclass::text, ', ') || ' CASCADE' FROM pg_class
		WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'v');
END $$;
SELECT try('SELECT drop_views(); ALTER TABLE outbox.event ALTER COLUMN topic TYPE varchar(10)');
SELECT try('SELECT drop_views(); ALTER TABLE outbox.event ALTER COLUMN created_at TYPE timestamptz(0)');
SELECT try('SELECT drop_views(); ALTER TABLE outbox.event ALTER COLUMN copied_at TYPE timestamptz(3)');

-- constraints, triggers, policies, rules, indexes
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TABLE known (name text PRIMARY KEY);
SELECT try('ALTER TABLE outbox.event ADD CONSTRAINT lower_case CHECK (topic = lower(topic))');
SELECT try('ALTER TABLE outbox.event_0 ADD CONSTRAINT small CHECK (length(payload) < 100) NOT VALID');
SELECT try('CREATE TRIGGER watch BEFORE INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION nothing()');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event_0 FOR EACH ROW EXECUTE FUNCTION nothing()');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event FOR EACH STATEMENT EXECUTE FUNCTION nothing()');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event_0 FOR EACH STATEMENT EXECUTE FUNCTION nothing()');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event_0 REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION nothing()');
SELECT try('CREATE CONSTRAINT TRIGGER watch AFTER INSERT ON outbox.event DEFERRABLE FOR EACH ROW EXECUTE FUNCTION nothing()');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE outbox.event ENABLE REPLICA TRIGGER watch');
SELECT try('CREATE TRIGGER watch AFTER INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE outbox.event DISABLE TRIGGER watch');
SELECT try('CREATE TRIGGER watch AFTER UPDATE OR DELETE ON outbox.event FOR EACH ROW EXECUTE FUNCTION nothing()');
SELECT try('ALTER TABLE outbox.event ADD CONSTRAINT known_topic FOREIGN KEY (topic) REFERENCES known');
SELECT try('ALTER TABLE outbox.event ADD CONSTRAINT one UNIQUE (segment, id); CREATE TABLE note (segment smallint, id uuid, CONSTRAINT noted FOREIGN KEY (segment, id) REFERENCES outbox.event (segment, id))');
SELECT try('ALTER TABLE outbox.event ENABLE ROW LEVEL SECURITY');
SELECT try('ALTER TABLE outbox.event FORCE ROW LEVEL SECURITY');
SELECT try('ALTER TABLE outbox.event ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY');
SELECT try('ALTER TABLE outbox.event_0 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY');
SELECT try('CREATE POLICY mine ON outbox.event USING (true)');
SELECT try('ALTER TABLE outbox.event_0 ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON outbox.event_0 USING (true)');
SELECT try('CREATE RULE quiet AS ON INSERT TO outbox.event DO INSTEAD NOTHING');
SELECT try('CREATE RULE quiet AS ON INSERT TO outbox.event_0 DO ALSO NOTIFY emitted');
SELECT try('CREATE UNIQUE INDEX once ON outbox.event_0 (topic, key)');
SELECT try('ALTER TABLE outbox.event_0 ADD CONSTRAINT once UNIQUE (topic, key) DEFERRABLE');
SELECT try('ALTER TABLE outbox.event_0 ADD CONSTRAINT alone EXCLUDE USING btree (id WITH =)');
SELECT try('CREATE INDEX ON outbox.event_0 USING brin (created_at) WITH (autosummarize = on); CREATE INDEX ON outbox.event_0 USING hash (topic); CREATE INDEX ON outbox.event_0 USING gin ((ARRAY[topic]))');

-- storage
SELECT try('ALTER TABLE outbox.event_0 SET UNLOGGED');
SELECT try('ALTER TABLE outbox.event_0 SET ACCESS METHOD other');
SELECT try('ALTER TABLE outbox.event DETACH PARTITION outbox.event_0');
SELECT try('ALTER TABLE outbox.event_0 RENAME TO event_9');
SELECT try('ALTER TABLE outbox.event_0 RENAME TO event_9; CREATE TABLE outbox.event_0 (LIKE outbox.event_9) PARTITION BY LIST (topic)');
SELECT try('ALTER TABLE outbox.event_0 REPLICA IDENTITY FULL; ALTER TABLE outbox.event_0 SET (fillfactor = 50); ALTER TABLE outbox.event_0 CLUSTER ON event_0_txid_idx');
-- nothing is left of it, and in replica role the same holds
SELECT emit();
SET session_replication_role = replica;
SELECT emit();
SELECT try('CREATE TRIGGER watch BEFORE INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION nothing()');
RESET session_replication_role;

-- the whole refusal, of each way to emit
ALTER TABLE outbox.event ADD CONSTRAINT never CHECK (false) NOT VALID;
SELECT outbox.emit('ring.test', 'k', 'T', '{}');
SELECT outbox.emit_bytes('ring.test', 'k', 'T', '');
INSERT INTO outbox.outgoing (topic, type) VALUES ('ring.test', 'T');
ALTER TABLE outbox.event DROP CONSTRAINT never;
SELECT emit();
\c :home
/* Its events are unsent, of which DROP DATABASE would warn. */
SET client_min_messages = error;
DROP DATABASE regress_ring;
RESET client_min_messages;
