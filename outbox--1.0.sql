/* SPDX-License-Identifier: PostgreSQL */
/* outbox--1.0.sql: objects of the extension.  Frozen once released.
 *
 * Sections: guard, schema, types, event ring, batch log, topics and rights,
 * emit, consumers, dead letters, relay, views, configuration tables, rights.
 */

\echo Use "CREATE EXTENSION outbox" to load this file. \quit

CREATE SCHEMA outbox;

/* ---------------------------------------------------------------- types */

/* One record header: name not NULL, value NULL allowed. */
CREATE TYPE outbox.header AS (name text, value bytea);

/* ----------------------------------------------------------- event ring
 *
 * outbox.event: committed events, insert-only; a ring of eight leaves.  Space
 * comes back by emptying a whole leaf.  Only emit() writes here.
 *
 *	txid			top-level transaction (never the tuple's xmin)
 *	seq				order inside a transaction; not an identity (reissued after a failover)
 *	segment			leaf
 *	id				UUID version 7, the event's identity
 *	topic, key		Kafka topic and record key; key NULL allowed
 *	type			ce_type
 *	payload			record value, verbatim; NULL = tombstone
 *	content_type	content-type header; NULL = none
 *	headers			the event's own headers in Kafka's encoding; NULL = none
 *	created_at		clock when emitted, ce_time
 */
CREATE SEQUENCE outbox.event_seq CACHE 1;

CREATE TABLE outbox.event (
	txid xid8 NOT NULL,
	seq bigint NOT NULL,
	segment smallint NOT NULL,
	id uuid NOT NULL,
	topic text NOT NULL,
	key bytea,
	type text NOT NULL,
	payload bytea,
	content_type text,
	headers bytea,
	created_at timestamptz NOT NULL
) PARTITION BY LIST (segment);

CREATE TABLE outbox.event_0 PARTITION OF outbox.event FOR VALUES IN (0);
CREATE TABLE outbox.event_1 PARTITION OF outbox.event FOR VALUES IN (1);
CREATE TABLE outbox.event_2 PARTITION OF outbox.event FOR VALUES IN (2);
CREATE TABLE outbox.event_3 PARTITION OF outbox.event FOR VALUES IN (3);
CREATE TABLE outbox.event_4 PARTITION OF outbox.event FOR VALUES IN (4);
CREATE TABLE outbox.event_5 PARTITION OF outbox.event FOR VALUES IN (5);
CREATE TABLE outbox.event_6 PARTITION OF outbox.event FOR VALUES IN (6);
CREATE TABLE outbox.event_7 PARTITION OF outbox.event FOR VALUES IN (7);

CREATE INDEX event_txid ON outbox.event (txid);

/* ------------------------------------------------------------ batch log
 *
 * outbox.batch: one row a batch, insert-only, in a ring of two leaves; written
 * by the relay at top level only.
 *
 *	batch_no		1, 2, ...; 0 is the genesis row written by start_relay()
 *	leaf			leaf of the ring
 *	nonce			random; says which history of batch_no this is
 *	lower, upper	the batch is what upper sees and lower does not
 *	lower_txid, lower_seq	of this transaction, events up to seq are already
 *					in earlier batches; NULL = none
 *	upper_txid, upper_seq	of this transaction, events up to seq are in this
 *					batch though upper does not see it; NULL = none
 *	events			their number
 *	digest			sum of a hash over the event ids
 *	txid			the transaction that wrote the row; equals its xmin unless the row
 *					was restored from a dump
 *	timeline, system_id, database	where it was written
 *	prepared_at		clock
 */
CREATE TABLE outbox.batch (
	batch_no bigint NOT NULL,
	leaf smallint NOT NULL,
	nonce uuid NOT NULL,
	lower pg_snapshot NOT NULL,
	upper pg_snapshot NOT NULL,
	lower_txid xid8,
	lower_seq bigint,
	upper_txid xid8,
	upper_seq bigint,
	events integer NOT NULL,
	digest bigint NOT NULL,
	txid xid8 NOT NULL,
	timeline integer NOT NULL,
	system_id bigint NOT NULL,
	database oid NOT NULL,
	prepared_at timestamptz NOT NULL
) PARTITION BY LIST (leaf);

CREATE TABLE outbox.batch_0 PARTITION OF outbox.batch FOR VALUES IN (0);
CREATE TABLE outbox.batch_1 PARTITION OF outbox.batch FOR VALUES IN (1);

CREATE UNIQUE INDEX batch_0_no ON outbox.batch_0 (batch_no);
CREATE UNIQUE INDEX batch_1_no ON outbox.batch_1 (batch_no);

/* The installation's name in Kafka: group outbox-relay.<id> and transactional.id. */
CREATE TABLE outbox.installation (
	id uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO outbox.installation (id) VALUES (pg_catalog.gen_random_uuid());

/* ------------------------------------------------------ topics and rights
 *
 * outbox.topic: declared topics; the relay creates them in Kafka before it
 * first sends to them and never shrinks or deletes one.
 *
 *	partitions			number when created
 *	replication_factor	NULL = broker's default
 *	retention_ms		-1 = for ever, NULL = broker's default
 *	cleanup_policy		delete | compact | compact,delete; NULL = broker's default
 */
CREATE TABLE outbox.topic (
	name text PRIMARY KEY,
	partitions integer NOT NULL,
	replication_factor smallint,
	retention_ms bigint,
	cleanup_policy text,
	declared_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	declared_by name NOT NULL DEFAULT session_user
);

/* Who may emit to which topic; '*' stands for all. */
CREATE TABLE outbox.topic_grant (
	topic text NOT NULL,
	grantee regrole NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (topic, grantee)
);

/* Whatever changes these tables makes every backend read them again. */
CREATE FUNCTION outbox.topics_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_topics_changed';
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic_grant
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic ENABLE ALWAYS TRIGGER topics_changed;
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER topics_changed;

/* A second call with the same values does nothing; partitions may grow.  The
 * dead-letter topic <name>.DLT counts as declared with its topic. */
CREATE FUNCTION outbox.declare_topic(name text, partitions integer DEFAULT 6,
		replication_factor integer DEFAULT NULL, retention_ms bigint DEFAULT NULL,
		cleanup_policy text DEFAULT NULL) RETURNS void
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_declare_topic';

CREATE FUNCTION outbox.check_grant(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_grant';

/* Lets a role, and the roles that have its privileges, emit to a topic and its
 * dead-letter topic; '*': to every topic. */
CREATE FUNCTION outbox.grant_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_grant(topic);
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', grantee);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes TO %s', grantee);
	EXECUTE format('GRANT INSERT ON outbox.outgoing TO %s', grantee);
	EXECUTE format('GRANT USAGE ON TYPE outbox.header TO %s', grantee);
	INSERT INTO outbox.topic_grant (topic, grantee)
		VALUES (grant_topic.topic, grant_topic.grantee) ON CONFLICT DO NOTHING;
END
$$;

/* With the last topic goes the right to call emit(); the schema stays usable,
 * for the role may also consume or operate. */
CREATE FUNCTION outbox.revoke_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM outbox.topic_grant g
		WHERE g.topic = revoke_topic.topic AND g.grantee = revoke_topic.grantee;
	IF NOT FOUND THEN
		RAISE NOTICE 'role % has no grant on topic "%"', grantee, topic;
	END IF;
	IF NOT EXISTS (SELECT FROM outbox.topic_grant g WHERE g.grantee = revoke_topic.grantee) THEN
		EXECUTE format('REVOKE EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes FROM %s', grantee);
		EXECUTE format('REVOKE INSERT ON outbox.outgoing FROM %s', grantee);
		EXECUTE format('REVOKE USAGE ON TYPE outbox.header FROM %s', grantee);
	END IF;
END
$$;

/* ----------------------------------------------------------------- emit
 *
 * The three functions return the event's id.  NULL payload: tombstone.  They run as
 * the caller, look nothing up through search_path (so no SET, which would
 * cost more than the insert), and check outbox.topic_grant.  Three names:
 * overloads would resolve untyped literals wrongly.
 */

/* Key and payload as UTF-8 text. */
CREATE FUNCTION outbox.emit(topic text, key text, type text, payload jsonb, headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit';

/* The payload's text is kept verbatim. */
CREATE FUNCTION outbox.emit_json(topic text, key text, type text, payload json, headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_json';

/* Bytes as given; headers may repeat. */
CREATE FUNCTION outbox.emit_bytes(topic text, key bytea, type text, payload bytea,
	content_type text DEFAULT NULL, headers outbox.header[] DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_bytes';

/* For plain INSERTs (ORMs): its trigger is emit() itself. */
CREATE VIEW outbox.outgoing AS
	SELECT NULL::text AS topic, NULL::text AS key, NULL::text AS type,
		NULL::jsonb AS payload, NULL::jsonb AS headers
	WHERE false;

CREATE FUNCTION outbox.capture() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'outbox_capture';

CREATE TRIGGER capture INSTEAD OF INSERT ON outbox.outgoing
	FOR EACH ROW EXECUTE FUNCTION outbox.capture();

/* ------------------------------------------------------------ consumers */

/* outbox.idempotency: events a consumer has processed.  A row commits with the
 * consumer's own work. */
CREATE TABLE outbox.idempotency (
	event_id uuid NOT NULL,
	consumer text NOT NULL,
	processed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (event_id, consumer)
);

/* True the first time.  A concurrent call for the same event waits for the other
 * transaction's end. */
CREATE FUNCTION outbox.claim(consumer text, event_id uuid) RETURNS boolean
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim';

/* The same for a batch, in one statement; answers in the order of event_ids. */
CREATE FUNCTION outbox.claim_many(consumer text, event_ids uuid[]) RETURNS boolean[]
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim_many';

/* @section consumers: table consumer_offset and the functions of the consumer runtime */
/* @end consumers */

/* --------------------------------------------------------- dead letters
 *
 * outbox.dead_letter: what could not be sent (origin relay) or processed (origin
 * consumer).
 *
 *	state	retrying	tries are left, next at next_attempt_at
 *			held		waits behind blocked_by, an earlier record of its key
 *			open		tries are spent: a person decides
 *			resolved, discarded	done with
 *	headers	Kafka's encoding
 *	txid, seq, batch_no	origin relay: the event and the batch it was left out of
 */
CREATE TABLE outbox.dead_letter (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	origin text NOT NULL CHECK (origin IN ('relay', 'consumer')),
	consumer text CHECK ((consumer IS NULL) = (origin = 'relay')),
	topic text NOT NULL,
	partition integer,
	"offset" bigint,
	key bytea,
	value bytea,
	headers bytea,
	record_time timestamptz,
	event_id uuid NOT NULL,
	event_type text,
	correlation_id text,
	error_class text NOT NULL,
	sqlstate text,
	error_message text NOT NULL,
	attempts integer NOT NULL DEFAULT 1,
	first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	next_attempt_at timestamptz,
	state text NOT NULL CHECK (state IN ('retrying', 'held', 'open', 'resolved', 'discarded')),
	blocked_by bigint,
	txid xid8,
	seq bigint,
	batch_no bigint,
	resolved_at timestamptz,
	resolved_by name,
	reason text,
	UNIQUE (consumer, topic, partition, "offset")
);
CREATE INDEX dead_letter_waiting ON outbox.dead_letter (consumer, next_attempt_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_key ON outbox.dead_letter (consumer, topic, key, id)
	WHERE state IN ('retrying', 'held', 'open');
CREATE INDEX dead_letter_batch ON outbox.dead_letter (batch_no)
	WHERE origin = 'relay';

/* ---------------------------------------------------------------- relay */

/* start_relay() and stop_relay() turn the database setting outbox.relay; the
 * functions they call are in src/status.c. */

CREATE FUNCTION outbox.check_start() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_start';
CREATE FUNCTION outbox.ask_launcher() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_ask_launcher';
CREATE FUNCTION outbox.server_identity(
		OUT timeline integer, OUT system_id bigint, OUT database oid)
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_server_identity';

/* The relay's shared status; counters count since the server's start. */
CREATE FUNCTION outbox.relay_slot(
		OUT state text, OUT hold_reason text, OUT pid integer, OUT sender_pid integer,
		OUT delivered_batch bigint, OUT events_sent bigint, OUT bytes_sent bigint,
		OUT batches_sent bigint, OUT events_refused bigint, OUT recoveries bigint,
		OUT suspect_transactions bigint, OUT rotations bigint, OUT rotations_refused bigint,
		OUT started_at timestamptz, OUT delivered_at timestamptz,
		OUT last_error text, OUT last_error_at timestamptz,
		OUT delivery text, OUT order_mode text, OUT kafka text, OUT switched_on boolean)
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_relay_slot';

/* Text when the bytes are UTF-8, else \x and hex digits. */
CREATE FUNCTION outbox.bytes_text(bytea) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_bytes_text';

/* Headers in Kafka's encoding as rows, in their order. */
CREATE FUNCTION outbox.headers_decode(bytea) RETURNS SETOF outbox.header
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_headers_decode';

CREATE FUNCTION outbox.start_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_start();
	IF NOT EXISTS (SELECT FROM outbox.batch) THEN
		LOCK TABLE outbox.batch IN SHARE ROW EXCLUSIVE MODE;
		INSERT INTO outbox.batch (batch_no, leaf, nonce, lower, upper, events, digest,
								  txid, timeline, system_id, database, prepared_at)
			SELECT 0, 0, gen_random_uuid(), '3:3:', '3:3:', 0, 0,
				   pg_current_xact_id(), i.timeline, i.system_id, i.database, clock_timestamp()
			FROM outbox.server_identity() i
			WHERE NOT EXISTS (SELECT FROM outbox.batch);
	ELSIF (SELECT state NOT IN ('stopped', 'backoff') FROM outbox.relay_slot()) AND
		EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
				WHERE d.datname = current_database() AND s.setrole = 0 AND
					'outbox.relay=on' = ANY (s.setconfig)) THEN
		RAISE NOTICE 'the relay of database "%" runs already', current_database();
		RETURN;
	END IF;
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = on', current_database());
	PERFORM outbox.ask_launcher();
END
$$;

CREATE FUNCTION outbox.stop_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = off', current_database());
	PERFORM outbox.ask_launcher();
END
$$;

/* Ends a hold.  'resend': what is not known to be delivered is sent; 'skip': it
 * is taken as delivered. */
CREATE FUNCTION outbox.adopt(decision text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_adopt';

/* outbox.event and outbox.batch are insert-only, and rows that logical
 * replication applies are dropped. */
CREATE FUNCTION outbox.refuse_change() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_refuse_change';
CREATE FUNCTION outbox.drop_replicated() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_drop_replicated';

DO $$
DECLARE
	guarded regclass;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['outbox.event', 'outbox.batch'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER drop_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s
			FOR EACH ROW EXECUTE FUNCTION outbox.drop_replicated()', guarded);
	END LOOP;
	FOR guarded IN SELECT p.relid FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.batch']::regclass[]) t(root),
		pg_catalog.pg_partition_tree(t.root) p LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE REPLICA TRIGGER drop_replicated', guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()', guarded);
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER refuse_change', guarded);
	END LOOP;
END
$$;

/* ---------------------------------------------------------------- views */

CREATE VIEW outbox.batches AS
	SELECT b.batch_no, b.events, b.lower, b.upper, b.lower_txid, b.lower_seq,
		   b.upper_txid, b.upper_seq, b.txid, b.timeline, b.prepared_at
	FROM outbox.batch b;

/* The last batch known delivered: the one before the last while it is not known. */
CREATE VIEW outbox.delivered_batch AS
	SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
	FROM outbox.relay_slot() s,
		LATERAL (SELECT max(batch_no) AS batch_no FROM outbox.batch) l,
		LATERAL (SELECT * FROM outbox.batch
				 WHERE batch_no <= coalesce(s.delivered_batch, greatest(l.batch_no - 1, 0))
				 ORDER BY batch_no DESC LIMIT 1) b
	UNION ALL
	SELECT -1, '3:3:', NULL, NULL
	WHERE NOT EXISTS (SELECT FROM outbox.batch);

/* Events not known to be delivered (I1: two index scans). */
CREATE VIEW outbox.unsent AS
	SELECT e.*
	FROM outbox.delivered_batch d
		JOIN outbox.event e ON e.txid >= pg_catalog.pg_snapshot_xmax(d.upper)
	WHERE (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
	UNION ALL
	SELECT e.*
	FROM outbox.delivered_batch d
		CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
		JOIN outbox.event e ON e.txid = x.txid
	WHERE (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE;

CREATE VIEW outbox.backlog AS
	SELECT u.topic, pg_catalog.count(*) AS events,
		   pg_catalog.sum(coalesce(pg_catalog.length(u.key), 0) +
						  coalesce(pg_catalog.length(u.payload), 0))::bigint AS bytes,
		   pg_catalog.min(u.created_at) AS oldest_created_at,
		   pg_catalog.clock_timestamp() - pg_catalog.min(u.created_at) AS oldest_age
	FROM outbox.unsent u
	GROUP BY u.topic;

/* batch_no: the last one.  oldest_unsent_age: of the oldest transaction's first
 * event; NULL = everything visible is delivered. */
CREATE VIEW outbox.relay_status AS
	SELECT pg_catalog.current_database() AS database, s.state, s.hold_reason, s.pid, s.sender_pid,
		   (SELECT pg_catalog.max(batch_no) FROM outbox.batch) AS batch_no,
		   s.delivered_batch, s.events_sent, s.bytes_sent, s.batches_sent, s.events_refused,
		   s.recoveries, s.suspect_transactions, s.rotations, s.rotations_refused,
		   pg_catalog.clock_timestamp() - least(
			(SELECT e.created_at
			 FROM outbox.delivered_batch d
				CROSS JOIN LATERAL (SELECT created_at FROM outbox.event
									WHERE txid >= pg_catalog.pg_snapshot_xmax(d.upper) AND
										(txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
									ORDER BY txid LIMIT 1) e),
			(SELECT pg_catalog.min(e.created_at)
			 FROM outbox.delivered_batch d
				CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
				CROSS JOIN LATERAL (SELECT created_at FROM outbox.event
									WHERE txid = x.txid AND
										(txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
									LIMIT 1) e)) AS oldest_unsent_age,
		   s.started_at, s.delivered_at, s.last_error, s.last_error_at,
		   s.delivery, s.order_mode, s.kafka
	FROM outbox.relay_slot() s;

CREATE VIEW outbox.events AS
	SELECT e.txid, e.seq, e.segment, e.id, e.topic, outbox.bytes_text(e.key) AS key, e.type,
		   outbox.bytes_text(e.payload) AS payload, e.content_type,
		   (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
				'name', h.name, 'value', outbox.bytes_text(h.value)) ORDER BY h.place)
			FROM outbox.headers_decode(e.headers) WITH ORDINALITY h(name, value, place)) AS headers,
		   e.created_at
	FROM outbox.event e;

/* Lets a role start, stop and watch the relay of this database. */
CREATE FUNCTION outbox.grant_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.start_relay(), outbox.stop_relay(),
		outbox.adopt(text), outbox.relay_slot(), outbox.declare_topic,
		outbox.grant_topic, outbox.revoke_topic TO %s', role);
	EXECUTE format('GRANT SELECT ON outbox.relay_status, outbox.backlog, outbox.batches TO %s', role);
END
$$;

/* ------------------------------------------------- configuration tables
 *
 * What pg_dump takes along.  One statement each: two in one SELECT fail with
 * "tuple already updated by self".
 */
SELECT pg_catalog.pg_extension_config_dump('outbox.event', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_2', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_3', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_4', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_5', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_6', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_7', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.topic', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.topic_grant', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency', '');

/* Lets a role consume: claim events, keep offsets and dead letters. */
CREATE FUNCTION outbox.grant_consume(role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.claim, outbox.claim_many TO %s', role);
END
$$;

/* --------------------------------------------------------------- rights
 *
 * Nothing to PUBLIC.  grant_topic, grant_consume and grant_operate give rights
 * to roles.
 */
REVOKE ALL ON SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON TYPE outbox.header FROM PUBLIC;
