/* Made by scripts/install-script; what is to change is in extension/. */

/* SPDX-License-Identifier: PostgreSQL */
/* Objects of the extension.  The files of this directory, joined in the order of
 * their names, are the install script (scripts/install-script).
 */

\echo Use "CREATE EXTENSION outbox" to load this file. \quit

/* As outbox.control has it, for readers and for pgspot: no name below is looked up in a
 * schema others can write to. */
SET LOCAL search_path = pg_catalog, pg_temp;

/* The tables are of PostgreSQL's own access method: emit() and the relay read and write their
 * rows below the executor. */
SET LOCAL default_table_access_method = heap;

CREATE SCHEMA outbox;

/*
 * The version of the library that this session runs, as '1.0'.  That of the objects is
 * pg_extension.extversion; the two differ between the installation of new files and ALTER
 * EXTENSION outbox UPDATE.
 */
CREATE FUNCTION outbox.version() RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_version';

/* ---------------------------------------------------------------- types */

/*
 * One record header: name not NULL, value NULL allowed.  A name is text in the database's encoding
 * and UTF-8 in the record; bytes that are no text here are written as \x and two hex digits each,
 * in both directions.
 */
CREATE TYPE outbox.header AS (name text, value bytea);

/*
 * SQLSTATE 22004 when one of the arguments is NULL, naming it.  called: the function without its
 * schema; arguments: names and values in turns.
 */
CREATE FUNCTION outbox.need(called text, arguments text[]) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	FOR i IN 1 .. cardinality(arguments) BY 2 LOOP
		IF arguments[i + 1] IS NULL THEN
			RAISE null_value_not_allowed USING
				MESSAGE = format('%s of outbox.%s must not be null', arguments[i], called);
		END IF;
	END LOOP;
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------------------------- audit
 *
 * outbox.audit: what persons did with dead letters and replays, insert-only.
 *
 *	role	the session's login role, whatever SET ROLE says
 *	action	name of the function
 *	object	what it was done to: 'dead_letter 7'
 *	reason	the person's words; NULL = none
 *	detail	the rest, as the action needs it; NULL = none
 */
CREATE TABLE outbox.audit (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	role name NOT NULL DEFAULT session_user,
	action text NOT NULL,
	object text,
	reason text,
	detail jsonb
);

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------- event ring
 *
 * outbox.event: committed events, insert-only; a ring of eight leaves.  Space
 * comes back by emptying a whole leaf.  Only emit() writes here.
 *
 *	txid			top-level transaction (never the tuple's xmin)
 *	seq				order inside a transaction; not an identity (reissued after a failover)
 *	segment			leaf
 *	id				the event's identity: a UUID of version 7, or what the emitter gave to
 *					outbox.outgoing; not unique
 *	topic, key		Kafka topic and record key; key NULL allowed
 *	type			ce_type; like content_type in the database's encoding, the relay makes it UTF-8
 *	payload			record value, verbatim; NULL = tombstone; key, payload and headers are the
 *					record's bytes
 *	content_type	content-type header; NULL = none
 *	headers			the event's own headers in Kafka's encoding; NULL = none
 *	created_at		clock when emitted, ce_time
 *	copied_at		clock when the relay wrote this copy, for a replay or of a dead letter; NULL =
 *					an original
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
	created_at timestamptz NOT NULL,
	copied_at timestamptz
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

/* SPDX-License-Identifier: PostgreSQL */
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
 *	prepared_at		clock; the time stamp of its records
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

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------------- topics
 *
 * outbox.topic: declared topics; the relay creates them in Kafka before it
 * first sends to them and never shrinks or deletes one.
 *
 *	partitions			number when created
 *	replication_factor	NULL = broker's default
 *	retention_ms		-1 = for ever, NULL = broker's default
 *	cleanup_policy		delete | compact | compact,delete; NULL = broker's default
 *	max_message_bytes	max.message.bytes, which emit() keeps to; NULL = broker's default, which
 *						it does not know
 *	on_unavailable		what becomes of its events when a partition has had no leader for 30 s:
 *						hold	they are held apart (outbox.topic_hold), all others go on
 *						wait	all events of the database wait with them
 *
 * The checks are those of declare_topic(), for rows that are changed by hand (src/topic.c).
 */
CREATE TABLE outbox.topic (
	name text PRIMARY KEY CONSTRAINT topic_name_legal
		CHECK (name COLLATE "C" ~ '^[a-zA-Z0-9._-]{1,249}$'
			AND name NOT IN ('.', '..', 'outbox.cursor', 'outbox_cursor')
			AND NOT starts_with(name, '__')
			AND (length(name) <= 245 OR right(name, 4) = '.DLT')),
	partitions integer NOT NULL CONSTRAINT topic_partitions_in_range
		CHECK (partitions BETWEEN 1 AND 10000),
	replication_factor smallint CONSTRAINT topic_replication_factor_in_range
		CHECK (replication_factor BETWEEN 1 AND 32767),
	retention_ms bigint CONSTRAINT topic_retention_ms_in_range CHECK (retention_ms >= -1),
	cleanup_policy text CONSTRAINT topic_cleanup_policy_known
		CHECK (cleanup_policy IN ('delete', 'compact', 'compact,delete')),
	max_message_bytes integer CONSTRAINT topic_max_message_bytes_in_range
		CHECK (max_message_bytes >= 1024),
	on_unavailable text NOT NULL DEFAULT 'hold' CONSTRAINT topic_on_unavailable_known
		CHECK (on_unavailable IN ('hold', 'wait')),
	declared_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	declared_by name NOT NULL DEFAULT session_user
);

/* Whatever changes these tables makes every backend read them again. */
CREATE FUNCTION outbox.topics_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_topics_changed';
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic ENABLE ALWAYS TRIGGER topics_changed;

/* A second call with the same values does nothing; partitions may grow, on_unavailable may change
 * (NULL: as it is, of a new topic hold).  The dead-letter topic <name>.DLT counts as declared with
 * its topic, and is held or waited for as its topic is.  A name that Kafka would take for
 * another one's, a.b and a_b, is refused. */
CREATE FUNCTION outbox.declare_topic(name text, partitions integer DEFAULT 6,
		replication_factor integer DEFAULT NULL, retention_ms bigint DEFAULT NULL,
		cleanup_policy text DEFAULT NULL, max_message_bytes integer DEFAULT NULL,
		on_unavailable text DEFAULT NULL) RETURNS void
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_declare_topic';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------- rights on topics
 *
 * Who may emit to which topic (outbox.topic_grant), and what a role needs of the schema besides.
 * A role is kept as an outbox.grantee, a type that a dump carries to where the role is missing.
 */

/*
 * A role; src/grantee.c says how it differs from regrole: what is dumped, and loaded where the role
 * is missing.
 */
CREATE TYPE outbox.grantee;
CREATE FUNCTION outbox.grantee_in(cstring) RETURNS outbox.grantee
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_in';
CREATE FUNCTION outbox.grantee_out(outbox.grantee) RETURNS cstring
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_out';
CREATE FUNCTION outbox.grantee_recv(internal) RETURNS outbox.grantee
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_recv';
CREATE FUNCTION outbox.grantee_send(outbox.grantee) RETURNS bytea
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_send';
CREATE TYPE outbox.grantee (INPUT = outbox.grantee_in, OUTPUT = outbox.grantee_out,
	RECEIVE = outbox.grantee_recv, SEND = outbox.grantee_send, LIKE = pg_catalog.oid);
CREATE CAST (outbox.grantee AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (outbox.grantee AS regrole) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (regrole AS outbox.grantee) WITHOUT FUNCTION AS ASSIGNMENT;

/*
 * Who may emit to which topic; '*' stands for all.  A row counts only while the role itself has a
 * privilege on the schema: a role cannot be dropped with one, so what a dropped role leaves here
 * gives nothing to the next that gets its number.
 */
CREATE TABLE outbox.topic_grant (
	topic text NOT NULL,
	grantee outbox.grantee NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (topic, grantee)
);
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic_grant
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER topics_changed;

/* An error unless the topic is a legal name or '*'. */
CREATE FUNCTION outbox.check_grant(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_grant';

/* The role as an identifier of a statement; regrole takes numbers of roles that are none. */
CREATE FUNCTION outbox.role_identifier(role regrole) RETURNS text
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := (SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = role);
BEGIN
	IF identifier IS NULL THEN
		RAISE EXCEPTION 'role % does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
	RETURN identifier;
END
$$;

/* What every role with a grant has, and keeps: the schema, and to ask for the version. */
CREATE FUNCTION outbox.let_in(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := outbox.role_identifier(role);
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', identifier);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.version() TO %s', identifier);
END
$$;

/*
 * Lets a role use the schema.  One that has no privilege on it yet was given no topic: what stands
 * there for its number is a dropped role's, and goes.
 */
CREATE FUNCTION outbox.admit(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.role_identifier(role);
	IF NOT EXISTS (SELECT FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
			WHERE n.nspname = 'outbox' AND a.grantee = admit.role) THEN
		DELETE FROM outbox.topic_grant g WHERE g.grantee = admit.role;
	END IF;
	PERFORM outbox.let_in(role);
END
$$;

/* What a role needs to emit, besides its rows of outbox.topic_grant. */
CREATE FUNCTION outbox.change_emit(change text, role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := outbox.role_identifier(role);
BEGIN
	EXECUTE format(replace(change, '...',
		'EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes') || ' %s',
		identifier);
	EXECUTE format(replace(change, '...',
		'INSERT, SELECT ON outbox.outgoing') || ' %s', identifier);
	EXECUTE format(replace(change, '...', 'USAGE ON TYPE outbox.header') || ' %s', identifier);
END
$$;

/*
 * A row brings what the role needs, also one that is loaded from a dump: pg_restore gives an
 * object's privileges to all roles or, with one missing, to none.  A role that does not exist has
 * no row, and takes over none.
 */
CREATE FUNCTION outbox.take_grant() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.grantee IS NULL THEN
		RETURN NEW;				-- refused as NOT NULL
	ELSIF NEW.grantee::oid = 0 AND TG_OP = 'UPDATE' THEN
		RAISE undefined_object
			USING MESSAGE = format('the grant on topic "%s" needs a role that exists', NEW.topic);
	ELSIF NEW.grantee::oid = 0 THEN
		RETURN NULL;
	END IF;
	PERFORM outbox.let_in(NEW.grantee::regrole);
	PERFORM outbox.change_emit('GRANT ... TO', NEW.grantee::regrole);
	RETURN NEW;
END
$$;
CREATE TRIGGER take_grant BEFORE INSERT OR UPDATE OF grantee ON outbox.topic_grant
	FOR EACH ROW EXECUTE FUNCTION outbox.take_grant();
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER take_grant;

/* Lets a role, and the roles that have its privileges, emit to a topic and its
 * dead-letter topic; '*': to every topic. */
CREATE FUNCTION outbox.grant_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_topic', ARRAY['topic', topic, 'grantee', grantee::text]);
	PERFORM outbox.check_grant(topic);
	PERFORM outbox.admit(grantee);
	INSERT INTO outbox.topic_grant (topic, grantee)
		VALUES (grant_topic.topic, grant_topic.grantee) ON CONFLICT DO NOTHING;
END
$$;

/* With the last topic goes the right to call emit(); the schema stays usable,
 * for the role may also consume or operate.  A role that was dropped has no rights left. */
CREATE FUNCTION outbox.revoke_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_topic', ARRAY['topic', topic, 'grantee', grantee::text]);
	DELETE FROM outbox.topic_grant g
		WHERE g.topic = revoke_topic.topic AND g.grantee = revoke_topic.grantee;
	IF NOT FOUND THEN
		RAISE NOTICE 'role % has no grant on topic "%"', grantee, topic;
	END IF;
	IF NOT EXISTS (SELECT FROM outbox.topic_grant g WHERE g.grantee = revoke_topic.grantee)
		AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = revoke_topic.grantee) THEN
		PERFORM outbox.change_emit('REVOKE ... FROM', grantee);
	END IF;
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------------------- emit
 *
 * How events are emitted: outbox.emit, emit_json and emit_bytes, the table outbox.outgoing for
 * plain INSERTs, and the flow and trace that they get.
 */

/*
 * The three functions return the event's id.  NULL payload: tombstone.  They run as the caller,
 * look nothing up through search_path (so no SET, which costs microseconds a call), and check
 * outbox.topic_grant.  Three names: overloads would resolve untyped literals wrongly.
 */

/* Key and payload as UTF-8 text. */
CREATE FUNCTION outbox.emit(topic text, key text, type text, payload jsonb,
	headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit';

/* The payload's text is kept verbatim. */
CREATE FUNCTION outbox.emit_json(topic text, key text, type text, payload json,
	headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_json';

/* Bytes as given; headers may repeat. */
CREATE FUNCTION outbox.emit_bytes(topic text, key bytea, type text, payload bytea,
	content_type text DEFAULT NULL, headers outbox.header[] DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_bytes';

/*
 * For plain INSERTs (ORMs) and COPY: each row is emit(), in every session_replication_role.  A
 * foreign table, because a view's trigger cannot be ENABLE ALWAYS; it holds nothing.
 *
 *	topic, key, type, payload, headers	as of emit(); topic and type are needed
 *	id	the event's id, as RETURNING shows it; NULL or left out: made, of version 7.  One that is
 *		given is taken, nil is refused (22023); it is not looked up, so a second event of the same
 *		id is for consumers the first one again
 */
CREATE FUNCTION outbox.outgoing_handler() RETURNS fdw_handler LANGUAGE C
AS 'MODULE_PATHNAME', 'outbox_outgoing_handler';

CREATE FOREIGN DATA WRAPPER outbox_outgoing HANDLER outbox.outgoing_handler NO VALIDATOR;
CREATE SERVER outbox_outgoing FOREIGN DATA WRAPPER outbox_outgoing;
CREATE FOREIGN TABLE outbox.outgoing (
	topic text,
	key text,
	type text,
	payload jsonb,
	headers jsonb,
	id uuid
) SERVER outbox_outgoing;
COMMENT ON FOREIGN TABLE outbox.outgoing IS
	'each row that is inserted is emitted; RETURNING shows it, a SELECT shows no row';
COMMENT ON COLUMN outbox.outgoing.topic IS 'Kafka topic; not null';
COMMENT ON COLUMN outbox.outgoing.key IS 'record key; null: none';
COMMENT ON COLUMN outbox.outgoing.type IS 'ce_type; not null';
COMMENT ON COLUMN outbox.outgoing.payload IS
	'record value; null: tombstone, which the JSON text null is not';
COMMENT ON COLUMN outbox.outgoing.headers IS 'an object of strings; null: none';
COMMENT ON COLUMN outbox.outgoing.id IS
	'ce_id; null: made; that a given one is unique is the caller''s promise';

/* Only a superuser may own a wrapper: the first one does, so that REASSIGN OWNED can give
 * away all the rest. */
DO $$
BEGIN
	EXECUTE pg_catalog.format('ALTER FOREIGN DATA WRAPPER outbox_outgoing OWNER TO %I',
		(SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10));
END
$$;
/* ----------------------------------------------------- consumer runtime
 *
 * What the runtime of services/ calls; grant_consume gives the rights.
 */
/*
 * What the transaction emits from here on belongs to this flow and this trace; NULL or empty: to
 * none.  Always true: it stands in a WHERE clause, which comes before the select list that emits.
 * Errors: 22023.
 */
CREATE FUNCTION outbox.set_context(correlation_id text, traceparent text, tracestate text)
	RETURNS boolean
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_set_context';
COMMENT ON FUNCTION outbox.set_context(text, text, text) IS
	'flow and trace of what the transaction emits';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------------------ relay
 *
 * The installation that a relay belongs to, how the relay is started and stopped, and what it tells
 * of itself.  start_relay() and stop_relay() turn the database setting outbox.relay, which the
 * launcher looks at when they commit (src/utility.c); the functions they call are in src/status.c.
 */

/*
 * The installation's name in Kafka: group outbox-relay.<id> and transactional.id.
 *
 *	marker			id of the data directory's marker (bgworker/launcher/marker.c) that this
 *					database belongs to; NULL = no relay has run in it
 *	marker_timeline	the server's timeline when that was so
 *	held			why the relay holds as a copy, until outbox.adopt(); NULL = it does not
 *	held_delivered	Kafka is known to have the last batch
 */
CREATE TABLE outbox.installation (
	id uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	marker uuid,
	marker_timeline integer,
	held text,
	held_delivered boolean NOT NULL DEFAULT false,
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO outbox.installation (id) VALUES (pg_catalog.gen_random_uuid());

/*
 * May start_relay() go on?  SQLSTATE 55000: not preloaded, no brokers, replica role; 25001: inside
 * a subtransaction; 53400: the server has too many databases; 25006: a standby, or read only.
 */
CREATE FUNCTION outbox.check_start() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_start';

/* Where this database is, as the batch log notes it. */
CREATE FUNCTION outbox.server_identity(
		OUT timeline integer, OUT system_id bigint, OUT database oid)
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_server_identity';

/*
 * The relay's shared status; counters count since the server's start.  state: as in
 * bgworker/README.md, or not preloaded, standby (the relay runs on the primary), suspended: a
 * command keeps it away, which hold_reason names.  hold_reason also says when outbox.batch is empty
 * and start_relay() has to be called.  backlog_bytes: keys, payloads and headers of committed
 * events not delivered yet, what outbox.max_backlog limits; without a relay and without a limit,
 * those since the server's start; NULL when not preloaded and on a standby.  recovered_at: since
 * when what last_error tells of is over; NULL: it is not, or there is none.
 */
CREATE FUNCTION outbox.relay_slot(
		OUT state text, OUT hold_reason text, OUT pid integer, OUT sender_pid integer,
		OUT delivered_batch bigint, OUT events_sent bigint, OUT bytes_sent bigint,
		OUT batches_sent bigint, OUT events_refused bigint, OUT recoveries bigint,
		OUT suspect_transactions bigint, OUT possibly_doubled bigint, OUT refusal_rounds bigint,
		OUT rotations bigint, OUT rotations_refused bigint,
		OUT started_at timestamptz, OUT delivered_at timestamptz,
		OUT last_error text, OUT last_error_at timestamptz,
		OUT delivery text, OUT order_mode text, OUT kafka text, OUT switched_on boolean,
		OUT backlog_bytes bigint, OUT recovered_at timestamptz)
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_relay_slot';

/*
 * A row for each database of the server that emitted, relays or was found with events
 * waiting.  wanted: its switch is on and a relay can run.  waiting_since: time of the oldest
 * event known to wait without a relay; NULL = none, or a relay has delivered it.
 */
CREATE FUNCTION outbox.database_slots(
		OUT database oid, OUT wanted boolean, OUT state text, OUT hold_reason text,
		OUT pid integer, OUT sender_pid integer, OUT waiting_since timestamptz,
		OUT delivered_at timestamptz, OUT last_error text, OUT last_error_at timestamptz,
		OUT recovered_at timestamptz)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_database_slots';

/*
 * Events restored from a dump taken before the first start, with transaction ids that this server
 * has yet to give: no snapshot would see them until then.  They become this transaction's.
 */
CREATE FUNCTION outbox.restamp_restored() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM outbox.event e
			WHERE e.txid >= pg_snapshot_xmax(pg_current_snapshot())
				AND e.txid <> pg_current_xact_id()) THEN
		ALTER TABLE ONLY outbox.event DISABLE TRIGGER refuse_change;
		UPDATE outbox.event e SET txid = pg_current_xact_id()
			WHERE e.txid >= pg_snapshot_xmax(pg_current_snapshot())
				AND e.txid <> pg_current_xact_id();
		ALTER TABLE ONLY outbox.event ENABLE ALWAYS TRIGGER refuse_change;
	END IF;
END
$$;

/*
 * Begins the batch log if it is empty, and turns the relay on: it starts when this commits.
 * SQLSTATE as check_start(); 55000 also when a trigger keeps the log from being begun.
 */
CREATE FUNCTION outbox.start_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_start();
	IF NOT EXISTS (SELECT FROM outbox.batch) THEN
		LOCK TABLE outbox.batch IN SHARE ROW EXCLUSIVE MODE;
		PERFORM outbox.restamp_restored();
		INSERT INTO outbox.batch (batch_no, leaf, nonce, lower, upper, events, digest,
								  txid, timeline, system_id, database, prepared_at)
			SELECT 0, 0, gen_random_uuid(), '3:3:', '3:3:', 0, 0,
				   pg_current_xact_id(), i.timeline, i.system_id, i.database, clock_timestamp()
			FROM outbox.server_identity() i
			WHERE NOT EXISTS (SELECT FROM outbox.batch);
		IF NOT FOUND AND NOT EXISTS (SELECT FROM outbox.batch) THEN
			RAISE object_not_in_prerequisite_state USING
				MESSAGE = 'a trigger or rule of outbox.batch keeps its first row '
					'from being written',
				HINT = 'Drop it, then call outbox.start_relay() again.';
		END IF;
	ELSIF (SELECT pid IS NOT NULL FROM outbox.relay_slot()) AND
		EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
				WHERE d.datname = current_database() AND s.setrole = 0 AND
					'outbox.relay=on' = ANY (s.setconfig)) THEN
		RAISE NOTICE 'the relay of database "%" runs already', current_database();
		RETURN;
	END IF;
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = on', current_database());
END
$$;

/* Turns the relay off: it ends when this commits.  Events are stored all the same. */
CREATE FUNCTION outbox.stop_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = off', current_database());
END
$$;

/* Ends a hold.  'resend': what is not known to be delivered is sent; 'skip': it
 * is taken as delivered. */
CREATE FUNCTION outbox.adopt(decision text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_adopt';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------------- claims
 *
 * outbox.idempotency: which events a consumer has processed; how an event is claimed, and how
 * claims that are too old are forgotten.
 */

/*
 * The leaf of outbox.idempotency that an event id belongs to, by nothing but the id: of version 7
 * the three days of its time, modulo 32; of all others -1.
 */
CREATE FUNCTION outbox.idempotency_leaf(event_id uuid) RETURNS integer
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_idempotency_leaf';

/* outbox.idempotency_retention. */
CREATE FUNCTION outbox.idempotency_retention() RETURNS interval
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'outbox_idempotency_retention';

/*
 * The leaves of events emitted since then, until the next of three days begins; others are not in
 * use.
 */
CREATE FUNCTION outbox.idempotency_leaves_since(since timestamptz) RETURNS integer[]
	LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'outbox_idempotency_leaves_since';

/*
 * outbox.idempotency: events a consumer has processed.  A row commits with the
 * consumer's own work.  A ring of leaves by the events' time, each emptied as a whole when its
 * events are too old, and one for ids without a time.  Rows are written by claim() alone.
 */
CREATE TABLE outbox.idempotency (
	event_id uuid NOT NULL,
	consumer text NOT NULL,
	processed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) PARTITION BY LIST (outbox.idempotency_leaf(event_id));
/* At most 255 bytes: no leaf needs a TOAST table. */
ALTER TABLE outbox.idempotency ALTER consumer SET STORAGE PLAIN;

/*
 * Leaves 0 to 31 and, as -1, the one of ids without a time.  The keys are primary ones, so that a
 * subscriber finds rows without reading the leaf.
 */
DO $$
DECLARE
	leaf text;
BEGIN
	FOR n IN -1 .. 31 LOOP
		leaf := 'idempotency_' || CASE n WHEN -1 THEN 'timeless' ELSE n::text END;
		EXECUTE pg_catalog.format('CREATE TABLE outbox.%1$s PARTITION OF outbox.idempotency
			(CONSTRAINT %1$s_event PRIMARY KEY (event_id, consumer))
			FOR VALUES IN (%2$s)', leaf, n);
		EXECUTE pg_catalog.format('CREATE INDEX %1$s_age ON outbox.%1$s USING %2$s (processed_at)',
			leaf, CASE n WHEN -1 THEN 'btree' ELSE 'brin' END);
	END LOOP;
END
$$;

/* True the first time.  A concurrent call for the same event waits for the other
 * transaction's end. */
CREATE FUNCTION outbox.claim(consumer text, event_id uuid) RETURNS boolean
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim';

/* The same for a batch, in one statement; answers in the order of event_ids. */
CREATE FUNCTION outbox.claim_many(consumer text, event_ids uuid[]) RETURNS boolean[]
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim_many';

/*
 * Forgets claims older than outbox.idempotency_retention; the consumer runtime calls it once an
 * hour.  A leaf whose events are too old is emptied, its younger rows (old events claimed late) are
 * put back, unless they are above 10,000 or somebody uses it: then it is for a later call.  Of ids
 * without a time at most that many rows are deleted.  Returns the leaves emptied and the rows
 * deleted: as many as asked for, and it is to be called again.  Waits for no lock.
 */
CREATE FUNCTION outbox.idempotency_maintain(at_most integer DEFAULT 5000, OUT emptied integer,
	OUT deleted integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cutoff timestamptz := clock_timestamp() - outbox.idempotency_retention();
	used integer[] := outbox.idempotency_leaves_since(cutoff);
	leaf regclass;
BEGIN
	PERFORM outbox.need('idempotency_maintain', ARRAY['at_most', at_most::text]);
	emptied := 0;
	FOR leaf IN
		SELECT c.oid FROM generate_series(0, 31) n JOIN pg_class c
			ON c.relnamespace = 'outbox'::regnamespace AND c.relname = 'idempotency_' || n
		WHERE n <> ALL (used) AND pg_relation_size(c.oid) > 0
	LOOP
		emptied := emptied + outbox.idempotency_empty(leaf, cutoff)::integer;
	END LOOP;
	DELETE FROM outbox.idempotency_timeless t WHERE t.ctid = ANY (ARRAY(
		SELECT o.ctid FROM outbox.idempotency_timeless o WHERE o.processed_at < cutoff
		ORDER BY o.processed_at LIMIT at_most FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS deleted = ROW_COUNT;
END $$;
COMMENT ON FUNCTION outbox.idempotency_maintain(integer) IS
	'forgets claims older than outbox.idempotency_retention';

/*
 * Empties a leaf but for the rows younger than cutoff.  false: nothing is older, too much is
 * younger, it is in use.
 */
CREATE FUNCTION outbox.idempotency_empty(leaf regclass, cutoff timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	most constant integer := 10000;
	outdated boolean;
	younger integer;
	kept jsonb;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE processed_at < $1),
		(SELECT count(*) FROM (SELECT FROM %1$s WHERE processed_at >= $1 LIMIT $2 + 1) y)', leaf)
	INTO outdated, younger USING cutoff, most;
	IF NOT outdated OR younger > most THEN
		RETURN false;
	END IF;
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', leaf);
	EXECUTE format('SELECT jsonb_agg(y)
		FROM (SELECT * FROM %s WHERE processed_at >= $1 LIMIT $2 + 1) y', leaf)
	INTO kept USING cutoff, most;
	IF jsonb_array_length(kept) > most THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE %s', leaf);
	EXECUTE format('INSERT INTO %1$s SELECT * FROM jsonb_populate_recordset(NULL::%1$s, $1)', leaf)
		USING coalesce(kept, '[]');
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;
END $$;

/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------------- batches of a consumer
 *
 * How the runtime of services/ processes records in one transaction: begin_batch moves the
 * watermarks and says of each record whether it is new, a duplicate or held; trim_batch takes the
 * end back.
 */

/*
 * Which records of a batch wait behind a row of their key that is retrying or open: their places,
 * counted from 1.  part_of, keys: as in begin_batch.  Those rows are locked until the transaction
 * ends: none of them is done with before what is held behind it can be seen.
 * OFFSET 0: each key is looked up, however few rows the planner expects.
 */
CREATE FUNCTION outbox.dead_letter_blocked(consumer text, part_topics text[], part_of integer[],
	keys bytea[])
RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	locked bigint[] := '{}';
	blocking bigint[];
BEGIN
	IF NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = dead_letter_blocked.consumer
				AND d.state IN ('retrying', 'open')) THEN
		RETURN '{}';
	END IF;
	/* A row waited for may have made the next of its key due: until all that block are locked. */
	LOOP
		blocking := ARRAY(SELECT b.id
			FROM (SELECT DISTINCT part_topics[r.part] AS topic, sha256(r.key) AS hash
					FROM unnest(part_of, keys) r (part, key) WHERE r.key IS NOT NULL) k
				CROSS JOIN LATERAL (SELECT d.id FROM outbox.dead_letter d
					WHERE d.consumer = dead_letter_blocked.consumer AND d.topic = k.topic
						AND sha256(d.key) = k.hash AND d.state IN ('retrying', 'open') OFFSET 0) b
			ORDER BY b.id);
		EXIT WHEN blocking = locked;
		locked := ARRAY(SELECT d.id FROM outbox.dead_letter d
			WHERE d.id = ANY (blocking) AND d.state IN ('retrying', 'open')
			ORDER BY d.id FOR SHARE);
	END LOOP;
	IF locked = '{}' THEN
		RETURN '{}';
	END IF;
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
		WHERE EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.id = ANY (locked) AND d.topic = part_topics[r.part]
				AND sha256(d.key) = sha256(r.key))
		ORDER BY r.place);
END $$;

/*
 * Which of the events the consumer has processed; NULL: none.  Planned with its values, so that the
 * leaves of other days are neither locked nor looked into.
 */
CREATE FUNCTION outbox.processed_ids(consumer text, ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	processed uuid[];
BEGIN
	EXECUTE 'SELECT array_agg(i.event_id) FROM outbox.idempotency i
		WHERE i.consumer = $1 AND i.event_id = ANY ($2)
			AND outbox.idempotency_leaf(i.event_id) = ANY ($3)'
	INTO processed
	USING processed_ids.consumer, ids,
		ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(ids) a (id));
	RETURN processed;
END $$;

/*
 * Which of the records asked for have been processed before: their places, counted from 1.
 * part_seen: each partition's seen_to, only below it anything has; the others as in begin_batch,
 * ids: what is claimed.
 */
CREATE FUNCTION outbox.seen_and_processed(consumer text, asked boolean[], part_seen bigint[],
	part_of integer[], offsets bigint[], ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	places integer[];
	seen uuid[];
	processed uuid[];
BEGIN
	SELECT array_agg(r.place), array_agg(r.id) INTO places, seen
	FROM unnest(asked, part_of, offsets, ids) WITH ORDINALITY r (asked, part, "offset", id, place)
	WHERE r.asked AND r."offset" < part_seen[r.part];
	IF places IS NULL THEN
		RETURN '{}';
	END IF;
	processed := outbox.processed_ids(consumer, seen);
	RETURN ARRAY(SELECT s.place FROM unnest(places, seen) s (place, id)
		WHERE s.id = ANY (processed));
END $$;

/*
 * Which records have been processed, or have a dead letter, by an event id without time stamp and
 * digest: their places, counted from 1.  part_old: each partition's old_ids_to; the others as in
 * begin_batch.
 */
CREATE FUNCTION outbox.known_by_old_id(consumer text, part_topics text[], part_numbers integer[],
	part_old bigint[], part_of integer[], offsets bigint[], old_ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	asked uuid[] := ARRAY(SELECT r.old_id
		FROM unnest(part_of, offsets, old_ids) r (part, "offset", old_id)
		WHERE r.old_id IS NOT NULL AND r."offset" < part_old[r.part]);
	processed uuid[];
BEGIN
	IF asked = '{}' THEN
		RETURN '{}';
	END IF;
	processed := outbox.processed_ids(consumer, asked);
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, offsets, old_ids) WITH ORDINALITY r (part, "offset", old_id, place)
		WHERE r.old_id IS NOT NULL AND r."offset" < part_old[r.part]
			AND (r.old_id = ANY (processed)
				OR EXISTS (SELECT FROM outbox.dead_letter d
					WHERE d.consumer = known_by_old_id.consumer AND d.topic = part_topics[r.part]
						AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
						AND d.event_id = r.old_id)));
END $$;

/*
 * Opens a batch: moves the watermarks of its partitions and claims its events.  part_* describe the
 * partitions; part_of says, counted from 1, which one a record is of; wanted is false for records
 * that are not to be claimed; claim_ids, where not NULL, are claimed instead of event_ids
 * (re-processing); hold: does a record wait behind a dead letter of its key? One without a key
 * never does.  part_logs: the log_no a partition was read with, NULL: of any; old_ids: event ids
 * without time stamp and digest, NULL where a record never had another one; part_times,
 * part_digests: of the record before part_next, as in outbox.consumer_anchor; part_done_to: records
 * of the batch lie above part_next, up to there, for earlier ones are not done; NULL: none does.
 * Returns how each record is claimed, in one character, or NULL when a watermark had moved:
 *	n	new
 *	d	duplicate: processed before, or in outbox.dead_letter already
 *	h	held: an earlier record of its key is retrying or open
 */
CREATE FUNCTION outbox.begin_batch(consumer text, part_topics text[], part_numbers integer[],
	part_expected bigint[], part_next bigint[],
	part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[], wanted boolean[],
	claim_ids uuid[] DEFAULT NULL, hold boolean DEFAULT true, part_logs integer[] DEFAULT NULL,
	old_ids uuid[] DEFAULT NULL, part_times bigint[] DEFAULT NULL,
	part_digests bigint[] DEFAULT NULL, part_done_to bigint[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	claims text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	places integer[];
	claimed boolean[];
	place integer;
	part record;
	part_seen bigint[];
	part_old bigint[];
	above boolean := false;
BEGIN
	IF consumer IS NULL OR wanted IS NULL OR hold IS NULL THEN
		PERFORM outbox.need('begin_batch', ARRAY['consumer', consumer, 'wanted', wanted::text,
			'hold', hold::text]);
	END IF;
	FOR i IN 1 .. cardinality(part_topics) LOOP
		part := outbox.move_offset(consumer, part_topics[i], part_numbers[i],
			part_expected[i], part_next[i], part_logs[i], part_times[i], part_digests[i],
			true = ANY (wanted), part_done_to[i]);
		IF NOT part.moved THEN
			RETURN NULL;
		END IF;
		part_seen[i] := part.seen_to;
		part_old[i] := part.old_ids_to;
		above := above OR coalesce(part.seen_to > part_expected[i], false);
	END LOOP;

	IF hold THEN
		FOREACH place IN ARRAY outbox.dead_letter_blocked(consumer, part_topics, part_of, keys) LOOP
			claims[place] := 'h';
		END LOOP;
	END IF;

	/* Only records below seen_to can have been seen before: at their position, or processed. */
	FOR place IN
		SELECT r.place FROM unnest(part_of, offsets, event_ids)
			WITH ORDINALITY r (part, "offset", event_id, place)
		WHERE r."offset" < part_seen[r.part]
			AND (EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id))
	LOOP
		claims[place] := 'd';
	END LOOP;
	/* Another member may have been above this one's watermark: what it has done is no letter. */
	above := above AND false = ANY (wanted);
	IF 'h' = ANY (claims) OR above THEN
		FOREACH place IN ARRAY outbox.seen_and_processed(consumer,
			ARRAY(SELECT r.claim = 'h' OR (above AND r.claim = 'n' AND NOT r.wanted)
				FROM unnest(claims, wanted) WITH ORDINALITY r (claim, wanted, place)
				ORDER BY r.place),
			part_seen, part_of, offsets, ARRAY(SELECT coalesce(r.claim_id, r.event_id)
				FROM unnest(claim_ids, event_ids) WITH ORDINALITY r (claim_id, event_id, place)
				ORDER BY r.place))
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;
	IF old_ids IS NOT NULL THEN
		FOREACH place IN ARRAY outbox.known_by_old_id(consumer, part_topics, part_numbers, part_old,
			part_of, offsets, old_ids)
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;

	places := ARRAY(SELECT r.place::integer
		FROM unnest(claims, wanted) WITH ORDINALITY r (claim, wanted, place)
		WHERE r.claim = 'n' AND r.wanted ORDER BY r.place);
	IF cardinality(places) > 0 THEN
		claimed := outbox.claim_many(consumer,
			ARRAY(SELECT coalesce(claim_ids[r.place], event_ids[r.place])
				FROM unnest(places) WITH ORDINALITY r (place, n) ORDER BY r.n));
		FOR i IN 1 .. cardinality(places) LOOP
			IF NOT claimed[i] THEN
				claims[places[i]] := 'd';
			END IF;
		END LOOP;
	END IF;
	RETURN array_to_string(claims, '');
END $$;
COMMENT ON FUNCTION outbox.begin_batch(text, text[], integer[], bigint[], bigint[], integer[],
	bigint[], bytea[], uuid[], boolean[], uuid[], boolean, integer[], uuid[], bigint[], bigint[],
	bigint[]) IS
	'first statement of a consumer''s transaction';

/*
 * Takes back what begin_batch has done in this transaction for the records from a failed one on, so
 * that those before it can be committed.  part_next: where the watermarks belong, NULL: there was
 * none; claim_ids: what was claimed in vain.  What other transactions have written stays as it is.
 */
CREATE FUNCTION outbox.trim_batch(consumer text, part_topics text[], part_numbers integer[],
	part_next bigint[], claim_ids uuid[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own xid := pg_current_xact_id()::xid;
BEGIN
	PERFORM outbox.need('trim_batch', ARRAY['consumer', consumer, 'part_topics', part_topics::text,
		'part_numbers', part_numbers::text, 'part_next', part_next::text,
		'claim_ids', claim_ids::text]);
	/* Planned with its values: leaves of other days are neither locked nor looked into. */
	EXECUTE 'DELETE FROM outbox.idempotency i WHERE i.consumer = $1 AND i.event_id = ANY ($2)
		AND i.xmin = $3 AND outbox.idempotency_leaf(i.event_id) = ANY ($4)'
	USING trim_batch.consumer, claim_ids, own,
		ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(claim_ids) c (id));
	UPDATE outbox.consumer_offset o SET next_offset = p.next,
		last_offset = CASE WHEN o.last_offset < p.next THEN o.last_offset END,
		last_ms = CASE WHEN o.last_offset < p.next THEN o.last_ms END,
		last_digest = CASE WHEN o.last_offset < p.next THEN o.last_digest END
	FROM unnest(part_topics, part_numbers, part_next) p (topic, partition, next)
	WHERE o.consumer = trim_batch.consumer AND o.topic = p.topic AND o.partition = p.partition
		AND p.next IS NOT NULL AND o.xmin = own;
	DELETE FROM outbox.consumer_offset o
	USING unnest(part_topics, part_numbers, part_next) p (topic, partition, next)
	WHERE o.consumer = trim_batch.consumer AND o.topic = p.topic AND o.partition = p.partition
		AND p.next IS NULL AND o.xmin = own;
END $$;
COMMENT ON FUNCTION outbox.trim_batch(text, text[], integer[], bigint[], uuid[]) IS
	'takes back the end of a consumer''s batch';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ watermarks of consumers
 *
 * How far each consumer has come in each partition, and how that is moved.
 */

/*
 * outbox.consumer_offset: how far a consumer has come, written in the same
 * transaction as the effects.
 *
 *	next_offset	records below it are done or lie in outbox.dead_letter
 *	log_no	raised when the partition's log is found to be another one; a member that has an earlier
 *		number is refused
 *	went_back_from	records below it may have been seen though next_offset is not above them: it
 *		went back from there, or they were done before an earlier one was; NULL: there are none
 *	old_ids_to	records below it may be known by an event id without time stamp and digest; NULL: an
 *		older version wrote the row, all below next_offset may
 *	seen_to	the highest next_offset there ever was
 *	called_at	when a handler was called last, and its effects committed with the row
 *	last_offset, last_ms, last_digest	the last record read of this log, as in
 *		outbox.consumer_anchor; NULL: not known
 */
CREATE TABLE outbox.consumer_offset (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	next_offset bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	log_no integer NOT NULL DEFAULT 0,
	went_back_from bigint,
	old_ids_to bigint,
	seen_to bigint GENERATED ALWAYS AS (greatest(next_offset, went_back_from)) STORED,
	last_offset bigint,
	last_ms bigint,
	last_digest bigint,
	called_at timestamptz,
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/* idle_seconds: since the watermark moved last. */
CREATE FUNCTION outbox.consumer_offsets(consumer text)
RETURNS TABLE (topic text, partition integer, next_offset bigint, idle_seconds double precision,
	log_no integer, seen_to bigint, old_ids_to bigint, last_offset bigint, last_ms bigint,
	last_digest bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_offsets', ARRAY['consumer', consumer]);
	RETURN QUERY SELECT o.topic, o.partition, o.next_offset,
		extract(epoch FROM clock_timestamp() - o.updated_at)::double precision,
		o.log_no, o.seen_to, coalesce(o.old_ids_to, o.next_offset), o.last_offset, o.last_ms,
		o.last_digest
	FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_offsets.consumer;
END $$;
COMMENT ON FUNCTION outbox.consumer_offsets(text) IS
	'how far a consumer has come in each partition';

/*
 * Moves a watermark by compare-and-set.  expected NULL: no row yet; log_no NULL: of any log, for a
 * caller that knows records without id by their old event ids alone, so these count up to next;
 * record_ms, digest: of the record before next, NULL: not known; calls: a handler is called in the
 * transaction; done_to: records before it are done in the transaction, above next, NULL: none is.
 * moved is false when another member was here; seen_to, old_ids_to: as before, but seen_to includes
 * done_to, NULL when there was no row.
 */
CREATE FUNCTION outbox.move_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint, log_no integer, record_ms bigint, digest bigint, calls boolean,
	done_to bigint, OUT moved boolean, OUT seen_to bigint, OUT old_ids_to bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	newer boolean := digest IS NOT NULL AND (expected IS NULL OR move_offset.next > expected);
BEGIN
	IF expected IS NULL THEN
		INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset, old_ids_to,
			last_offset, last_ms, last_digest, called_at, went_back_from)
		VALUES (move_offset.consumer, move_offset.topic, move_offset.partition, move_offset.next,
			CASE WHEN move_offset.log_no IS NULL THEN move_offset.next ELSE 0 END,
			CASE WHEN digest IS NOT NULL THEN move_offset.next - 1 END, record_ms, digest,
			CASE WHEN calls THEN clock_timestamp() END, done_to)
		ON CONFLICT DO NOTHING;
		moved := FOUND;
		RETURN;
	END IF;
	UPDATE outbox.consumer_offset o
	SET next_offset = greatest(o.next_offset, move_offset.next),
		old_ids_to = CASE WHEN move_offset.log_no IS NULL
			THEN greatest(coalesce(o.old_ids_to, o.next_offset), move_offset.next)
			ELSE coalesce(o.old_ids_to, o.next_offset) END,
		last_offset = CASE WHEN newer THEN move_offset.next - 1 ELSE o.last_offset END,
		last_ms = CASE WHEN newer THEN move_offset.record_ms ELSE o.last_ms END,
		last_digest = CASE WHEN newer THEN move_offset.digest ELSE o.last_digest END,
		updated_at = clock_timestamp(),
		called_at = CASE WHEN calls THEN clock_timestamp() ELSE o.called_at END,
		went_back_from = greatest(o.went_back_from, done_to)
	WHERE o.consumer = move_offset.consumer AND o.topic = move_offset.topic
		AND o.partition = move_offset.partition AND o.next_offset = expected
		AND (move_offset.log_no IS NULL OR o.log_no = move_offset.log_no)
	RETURNING greatest(expected, o.went_back_from), o.old_ids_to INTO seen_to, old_ids_to;
	moved := FOUND;
END $$;

/* expected NULL: no row yet.  false: another member has moved the watermark; roll back. */
CREATE FUNCTION outbox.advance_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF consumer IS NULL OR topic IS NULL OR partition IS NULL OR next IS NULL THEN
		PERFORM outbox.need('advance_offset', ARRAY['consumer', consumer, 'topic', topic,
			'partition', partition::text, 'next', next::text]);
	END IF;
	RETURN (outbox.move_offset(consumer, topic, partition, expected, next, NULL, NULL, NULL,
		false, NULL)).moved;
END $$;
COMMENT ON FUNCTION outbox.advance_offset(text, text, integer, bigint, bigint) IS
	'moves a watermark by compare-and-set';

/*
 * The topics, of those given, in which others have come somewhere and this consumer has never been:
 * was it renamed, it reads what they have processed again.  others: who, and when their watermark
 * moved last (UTC).
 */
CREATE FUNCTION outbox.consumer_is_new(consumer text, topics text[])
RETURNS TABLE (topic text, others text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_is_new', ARRAY['consumer', consumer, 'topics', topics::text]);
	RETURN QUERY
	SELECT l.topic, string_agg(format('%s (moved last at %s)', l.consumer,
			to_char(l.moved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
		', ' ORDER BY l.moved_at DESC, l.consumer)
	FROM (SELECT o.topic, o.consumer, max(o.updated_at) AS moved_at FROM outbox.consumer_offset o
			WHERE o.topic = ANY (topics) GROUP BY o.topic, o.consumer) l
	GROUP BY l.topic
	HAVING NOT bool_or(l.consumer = consumer_is_new.consumer)
	ORDER BY l.topic;
END $$;
COMMENT ON FUNCTION outbox.consumer_is_new(text, text[]) IS
	'topics that other consumers have read and this one has not';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer anchors
 *
 * What tells a consumer that a partition's log is another one than the one it read: records it has
 * processed, which must be found there unchanged.
 */

/* outbox.consumer_anchor: about eight records of each partition, ever farther apart.
 *
 *	record_ms	the record's time stamp, ms since 1970; -1: none
 *	digest	of key and value, services/kafka/digest.h
 */
CREATE TABLE outbox.consumer_anchor (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	"offset" bigint NOT NULL,
	record_ms bigint NOT NULL,
	digest bigint NOT NULL,
	kept_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (consumer, topic, partition, "offset")
);

/*
 * The anchors of these partitions, the newest of each first; place: of the partition, counted from
 * 1.
 */
CREATE FUNCTION outbox.consumer_anchors(consumer text, part_topics text[], part_numbers integer[])
RETURNS TABLE (place integer, "offset" bigint, record_ms bigint, digest bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_anchors', ARRAY['consumer', consumer,
		'part_topics', part_topics::text, 'part_numbers', part_numbers::text]);
	RETURN QUERY SELECT p.place::integer, a."offset", a.record_ms, a.digest
	FROM unnest(part_topics, part_numbers) WITH ORDINALITY p (topic, partition, place)
		JOIN outbox.consumer_anchor a ON a.consumer = consumer_anchors.consumer
			AND a.topic = p.topic AND a.partition = p.partition
	ORDER BY p.place, a."offset" DESC;
END $$;
COMMENT ON FUNCTION outbox.consumer_anchors(text, text[], integer[]) IS
	'by which records a consumer knows its logs again';

/*
 * Keeps a processed record as an anchor (NULL: none) and forgets those at the offsets `dropped`.
 * false: another member was here, nothing is changed.  Need not survive the server: it is not
 * waited for.
 */
CREATE FUNCTION outbox.keep_anchor(consumer text, topic text, partition integer, log_no integer,
	"offset" bigint, record_ms bigint, digest bigint, dropped bigint[] DEFAULT '{}')
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('keep_anchor', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'log_no', log_no::text, 'dropped', dropped::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	PERFORM FROM outbox.consumer_offset o
	WHERE o.consumer = keep_anchor.consumer AND o.topic = keep_anchor.topic
		AND o.partition = keep_anchor.partition AND o.log_no = keep_anchor.log_no
		AND (keep_anchor."offset" IS NULL OR o.next_offset > keep_anchor."offset") FOR SHARE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	DELETE FROM outbox.consumer_anchor a
	WHERE a.consumer = keep_anchor.consumer AND a.topic = keep_anchor.topic
		AND a.partition = keep_anchor.partition AND a."offset" = ANY (dropped);
	IF keep_anchor."offset" IS NOT NULL THEN
		INSERT INTO outbox.consumer_anchor AS a (consumer, topic, partition, "offset", record_ms,
			digest)
		VALUES (keep_anchor.consumer, keep_anchor.topic, keep_anchor.partition,
			keep_anchor."offset", keep_anchor.record_ms, keep_anchor.digest)
		ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
		SET record_ms = excluded.record_ms, digest = excluded.digest, kept_at = excluded.kept_at;
	END IF;
	RETURN true;
END $$;
COMMENT ON FUNCTION outbox.keep_anchor(text, text, integer, integer, bigint, bigint, bigint,
	bigint[]) IS
	'keeps a processed record to know its log again by';

/*
 * The partition's log is another one from `next` on: the watermark goes back there, by
 * compare-and-set of watermark and log.  seen_to stays; what was known of later records of the old
 * log by their place alone is forgotten.  Returns the log's new number, or NULL when another member
 * was here.  SQLSTATE 22023: next is negative or above expected; 22004: an argument is NULL.
 */
CREATE FUNCTION outbox.rewind_offset(consumer text, topic text, partition integer, expected bigint,
	log_no integer, next bigint)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known integer;
BEGIN
	PERFORM outbox.need('rewind_offset', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'expected', expected::text, 'log_no', log_no::text,
		'next', next::text]);
	IF next < 0 OR next > expected THEN
		RAISE EXCEPTION 'a watermark cannot go back from % to %', expected, next
			USING ERRCODE = '22023', DETAIL = 'Allowed: 0 to where it is.';
	END IF;
	UPDATE outbox.consumer_offset o
	SET next_offset = rewind_offset.next, went_back_from = o.seen_to, log_no = o.log_no + 1,
		old_ids_to = least(coalesce(o.old_ids_to, o.next_offset), rewind_offset.next),
		last_offset = NULL, last_ms = NULL, last_digest = NULL,
		updated_at = clock_timestamp()
	WHERE o.consumer = rewind_offset.consumer AND o.topic = rewind_offset.topic
		AND o.partition = rewind_offset.partition AND o.next_offset = expected
		AND o.log_no = rewind_offset.log_no
	RETURNING o.log_no INTO known;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	DELETE FROM outbox.consumer_anchor a
	WHERE a.consumer = rewind_offset.consumer AND a.topic = rewind_offset.topic
		AND a.partition = rewind_offset.partition AND a."offset" >= rewind_offset.next;
	UPDATE outbox.consumer_attempt a SET "offset" = NULL, crashes = 0, calls = NULL
	WHERE a.consumer = rewind_offset.consumer AND a.topic = rewind_offset.topic
		AND a.partition = rewind_offset.partition;
	RETURN known;
END $$;
COMMENT ON FUNCTION outbox.rewind_offset(text, text, integer, bigint, integer, bigint) IS
	'the watermark goes back, for the log was made anew';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer attempts
 *
 * How a record that ends the process is found.  A member notes the partitions it takes and
 * deletes the note when it leaves them; who finds a note of another member runs what that one can
 * have had in hand record by record, and notes each before it.  Each call is a transaction of its
 * own, which need not survive the server: it is not waited for.
 */

/*
 * outbox.consumer_attempt
 *
 *	owner	the member that works on the partition; NULL: it left before all was run that it was to
 *		run one by one
 *	"offset"	the record run alone last; NULL: none
 *	crashes	how often a member has ended with it in hand, while it is not done
 *	calls	of a member whose handlers call out: the records whose calls may be under way, as
 *		outbox.begin_calls notes them
 */
CREATE TABLE outbox.consumer_attempt (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	owner text,
	"offset" bigint,
	crashes integer NOT NULL DEFAULT 0,
	calls bigint[],
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/* owner takes the partition.  true: records are to be run one by one. */
CREATE FUNCTION outbox.take_partition(consumer text, topic text, partition integer, owner text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	earlier outbox.consumer_attempt;
	left_over boolean;
	lost boolean;
BEGIN
	PERFORM outbox.need('take_partition', ARRAY['consumer', take_partition.consumer,
		'topic', take_partition.topic, 'partition', take_partition.partition::text,
		'owner', take_partition.owner]);
	PERFORM set_config('synchronous_commit', 'off', true);
	SELECT * INTO earlier FROM outbox.consumer_attempt a
	WHERE a.consumer = take_partition.consumer AND a.topic = take_partition.topic
		AND a.partition = take_partition.partition FOR UPDATE;
	left_over := FOUND AND earlier.owner IS DISTINCT FROM take_partition.owner;
	lost := left_over AND earlier.owner IS NOT NULL
		AND NOT EXISTS (SELECT FROM outbox.consumer_offset o
			WHERE o.consumer = take_partition.consumer AND o.topic = take_partition.topic
				AND o.partition = take_partition.partition AND o.next_offset > earlier."offset");
	INSERT INTO outbox.consumer_attempt AS a (consumer, topic, partition, owner)
	VALUES (take_partition.consumer, take_partition.topic, take_partition.partition,
		take_partition.owner)
	ON CONFLICT (consumer, topic, partition) DO UPDATE
	SET owner = excluded.owner,
		crashes = CASE WHEN a."offset" IS NULL THEN 0 ELSE a.crashes + lost::integer END;
	RETURN left_over;
END $$;
COMMENT ON FUNCTION outbox.take_partition(text, text, integer, text) IS
	'notes who works on a partition';

/*
 * The record is going to be run alone, or read again.  Returns how often the process has ended with
 * it in hand; the first time that is 1, for it may have been the one in the batch.  Before the
 * watermark nothing is noted: 0, or the attempts of its dead letter of class crash, by which it is
 * known below seen_to, too.
 */
CREATE FUNCTION outbox.note_attempt(consumer text, topic text, partition integer, owner text,
	"offset" bigint, event_id uuid)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known integer;
	done outbox.consumer_offset;
BEGIN
	PERFORM outbox.need('note_attempt', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'owner', owner, 'offset', "offset"::text,
		'event_id', event_id::text]);
	SELECT * INTO done FROM outbox.consumer_offset o
	WHERE o.consumer = note_attempt.consumer AND o.topic = note_attempt.topic
		AND o.partition = note_attempt.partition AND o.seen_to > note_attempt."offset";
	IF FOUND THEN
		SELECT max(d.attempts) INTO known FROM outbox.dead_letter d
		WHERE d.consumer = note_attempt.consumer AND d.topic = note_attempt.topic
			AND d.partition = note_attempt.partition AND d."offset" = note_attempt."offset"
			AND d.event_id = note_attempt.event_id AND d.error_class = 'crash';
		IF known IS NOT NULL OR done.next_offset > note_attempt."offset" THEN
			RETURN coalesce(known, 0);
		END IF;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.consumer_attempt a
	SET "offset" = note_attempt."offset",
		crashes = CASE WHEN a."offset" = note_attempt."offset" THEN a.crashes ELSE 1 END
	WHERE a.consumer = note_attempt.consumer AND a.topic = note_attempt.topic
		AND a.partition = note_attempt.partition AND a.owner = note_attempt.owner
	RETURNING a.crashes INTO known;
	RETURN coalesce(known, 1);
END $$;
COMMENT ON FUNCTION outbox.note_attempt(text, text, integer, text, bigint, uuid) IS
	'notes a record that may end the process';

/* owner has left the partition.  finished: all was run that it was to run one by one. */
CREATE FUNCTION outbox.leave_partition(consumer text, topic text, partition integer, owner text,
	finished boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('leave_partition', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'owner', owner, 'finished', finished::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	IF finished THEN
		DELETE FROM outbox.consumer_attempt a
		WHERE a.consumer = leave_partition.consumer AND a.topic = leave_partition.topic
			AND a.partition = leave_partition.partition AND a.owner = leave_partition.owner;
	ELSE
		UPDATE outbox.consumer_attempt a SET owner = NULL
		WHERE a.consumer = leave_partition.consumer AND a.topic = leave_partition.topic
			AND a.partition = leave_partition.partition AND a.owner = leave_partition.owner;
	END IF;
END $$;
COMMENT ON FUNCTION outbox.leave_partition(text, text, integer, text, boolean) IS
	'takes the note back';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------- records that end their session
 *
 * A record that fails for itself alone with what is waited for otherwise (its session ends, the
 * server runs out of something) is tried alone, in new sessions.  Each try is noted in a
 * transaction of its own before it is made, and flushed: the session, and the server, may not
 * survive it.
 */

/*
 * outbox.consumer_trouble
 *
 *	tries	made alone; those that failed, and the running one
 *	ends	of those that failed the last so many ended their session
 *	failing_since	the first of them
 *	tried_at	the running one
 *	sqlstate, error_message, ended	what the try before the last one failed with; ended: its session
 *		did
 */
CREATE TABLE outbox.consumer_trouble (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	"offset" bigint NOT NULL,
	event_id uuid NOT NULL,
	tries integer NOT NULL,
	ends integer NOT NULL,
	failing_since timestamptz NOT NULL,
	tried_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	sqlstate text,
	error_message text NOT NULL,
	ended boolean NOT NULL,
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/*
 * Has anything else of the consumer, or of another one with the same SQLSTATE, failed lately and is
 * not done?  The record at a place, or a letter (letter: its id), does not count itself.
 */
CREATE FUNCTION outbox.others_fail(consumer text, topic text, partition integer, error_code text,
	letter bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_trouble c
			WHERE (c.consumer = others_fail.consumer OR c.sqlstate = error_code)
				AND c.tried_at > clock_timestamp() - interval '5 min'
				AND (letter IS NOT NULL OR (c.consumer, c.topic, c.partition)
					<> (others_fail.consumer, others_fail.topic, others_fail.partition)))
		OR EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.state = 'retrying' AND d.troubles > 0
				AND (d.consumer = others_fail.consumer OR d.sqlstate = error_code)
				AND d.last_failed_at > clock_timestamp() - interval '5 min'
				AND d.id IS DISTINCT FROM letter)
$$;

/* Has a handler's call of the consumer been made since, and committed? */
CREATE FUNCTION outbox.others_work(consumer text, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_offset o
		WHERE o.consumer = others_work.consumer AND o.called_at > since)
$$;

/*
 * A try that began so long ago has failed.  Does it count?  Not when somebody has stopped the
 * server meanwhile (57P01; a crash leaves another SQLSTATE).  Has its own session ended, and not
 * with the whole server, or because another process has crashed?
 */
CREATE FUNCTION outbox.judge_try(error_code text, ended boolean, tried_ms bigint,
	OUT counts boolean, OUT own_end boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT NOT (s.restarted AND error_code IS NOT DISTINCT FROM '57P01'),
		ended AND NOT s.restarted AND error_code IS DISTINCT FROM '57P02'
	FROM (SELECT coalesce(pg_postmaster_start_time()
			> clock_timestamp() - tried_ms * interval '1 millisecond', false) AS restarted) s
$$;

/*
 * The record is going to be tried alone.  earlier: tries that failed before it was noted first,
 * earlier_ms: since the first of them; sqlstate, error_message, ended: of the last try that failed;
 * counts: the try that was noted last has failed for the record's sake; tried_ms: since it began,
 * NULL: not known.  Returns the tries before this one, of them the last so many that ended their
 * session, for how long they have failed; from the fifth on whether others fail alike, and whether
 * others of the consumer have been done since the last.
 */
CREATE FUNCTION outbox.note_trouble(consumer text, topic text, partition integer, "offset" bigint,
	event_id uuid, earlier integer, earlier_ms bigint, error_code text, error_message text,
	ended boolean, counts boolean, tried_ms bigint, OUT tries integer, OUT ends integer,
	OUT failing_ms bigint, OUT alike boolean, OUT works boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	try record;
	more integer;
	noted outbox.consumer_trouble;
BEGIN
	PERFORM outbox.need('note_trouble', ARRAY['consumer', note_trouble.consumer,
		'topic', note_trouble.topic, 'partition', note_trouble.partition::text,
		'offset', note_trouble."offset"::text, 'event_id', note_trouble.event_id::text,
		'earlier', earlier::text, 'earlier_ms', earlier_ms::text,
		'error_message', note_trouble.error_message, 'ended', note_trouble.ended::text,
		'counts', note_trouble.counts::text]);
	PERFORM set_config('synchronous_commit', 'local', true);
	SELECT * INTO try FROM outbox.judge_try(error_code, note_trouble.ended, tried_ms);
	more := (note_trouble.counts AND try.counts)::integer;
	INSERT INTO outbox.consumer_trouble AS c (consumer, topic, partition, "offset", event_id, tries,
		ends, failing_since, sqlstate, error_message, ended)
	VALUES (note_trouble.consumer, note_trouble.topic, note_trouble.partition,
		note_trouble."offset", note_trouble.event_id, earlier + 1,
		CASE WHEN try.own_end THEN least(earlier, 1) ELSE 0 END,
		clock_timestamp() - earlier_ms * interval '1 millisecond', error_code,
		outbox.cut_text(note_trouble.error_message, 1024), note_trouble.ended)
	ON CONFLICT (consumer, topic, partition) DO UPDATE
	SET "offset" = excluded."offset", event_id = excluded.event_id, sqlstate = excluded.sqlstate,
		error_message = excluded.error_message, ended = excluded.ended,
		tried_at = excluded.tried_at,
		tries = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.tries + more ELSE excluded.tries END,
		ends = CASE WHEN (c."offset", c.event_id) <> (excluded."offset", excluded.event_id)
				THEN excluded.ends
			WHEN more = 0 THEN c.ends WHEN try.own_end THEN c.ends + 1 ELSE 0 END,
		failing_since = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.failing_since ELSE excluded.failing_since END
	RETURNING * INTO noted;
	tries := noted.tries - 1;
	ends := noted.ends;
	failing_ms := round(extract(epoch FROM clock_timestamp() - noted.failing_since) * 1000);
	IF tries >= 5 THEN
		alike := outbox.others_fail(note_trouble.consumer, note_trouble.topic,
			note_trouble.partition, error_code, NULL);
		works := outbox.others_work(note_trouble.consumer,
			clock_timestamp() - tried_ms * interval '1 millisecond');
	END IF;
END $$;
COMMENT ON FUNCTION outbox.note_trouble(text, text, integer, bigint, uuid, integer, bigint, text,
	text, boolean, boolean, bigint) IS
	'notes a record that may end the session';

/* The record of the partition that was tried alone last and is not done, if any. */
CREATE FUNCTION outbox.partition_trouble(consumer text, topic text, partition integer)
RETURNS TABLE ("offset" bigint, event_id uuid, sqlstate text, error_message text, ended boolean,
	tries integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('partition_trouble', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text]);
	RETURN QUERY SELECT c."offset", c.event_id, c.sqlstate, c.error_message, c.ended, c.tries
	FROM outbox.consumer_trouble c
	WHERE c.consumer = partition_trouble.consumer AND c.topic = partition_trouble.topic
		AND c.partition = partition_trouble.partition;
END $$;
COMMENT ON FUNCTION outbox.partition_trouble(text, text, integer) IS
	'the record that is tried alone';

/* The record is done. */
CREATE FUNCTION outbox.end_trouble(consumer text, topic text, partition integer, "offset" bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('end_trouble', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	DELETE FROM outbox.consumer_trouble c
	WHERE c.consumer = end_trouble.consumer AND c.topic = end_trouble.topic
		AND c.partition = end_trouble.partition AND c."offset" = end_trouble."offset";
END $$;
COMMENT ON FUNCTION outbox.end_trouble(text, text, integer, bigint) IS
	'takes the note of a record in trouble back';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------- a record that a consumer is stuck at
 *
 * How a person has a consumer step over it.
 */

/*
 * The consumer steps over a record that it cannot do: the event is claimed for it, so its next try
 * finds it processed already, wherever the record is read from.  What follows goes on, the same key
 * too.  Noted in outbox.audit.  topic to event_id as in the log line partition_halted; replay_id,
 * too: NULL unless the line has one, of a copy that is processed anew and claimed by both ids.
 * Waits for the end of a try that is under way.  SQLSTATE 22004: an argument is NULL, or there is
 * no reason; 42704: no consumer of that name has come to the partition; 22023: the record lies
 * before its watermark; 55000: it has processed the event already.
 */
CREATE FUNCTION outbox.consumer_skip(consumer text, topic text, partition integer, "offset" bigint,
	event_id uuid, reason text, replay_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	watermark bigint;
	bits bit(128) := ('x' || translate(event_id::text, '-', ''))::bit(128)
		# ('x' || translate(replay_id::text, '-', ''))::bit(128);
BEGIN
	PERFORM outbox.need('consumer_skip', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text, 'event_id', event_id::text]);
	PERFORM outbox.dead_letter_need_reason(reason, 'to skip a record');
	/* Locked: a try under way may make a dead letter of the record, and claims nothing then. */
	SELECT o.next_offset INTO watermark FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_skip.consumer AND o.topic = consumer_skip.topic
		AND o.partition = consumer_skip.partition FOR SHARE;
	IF watermark IS NULL AND NOT EXISTS (SELECT FROM outbox.consumer_attempt a
			WHERE a.consumer = consumer_skip.consumer AND a.topic = consumer_skip.topic
				AND a.partition = consumer_skip.partition) THEN
		RAISE undefined_object USING
			MESSAGE = format('no consumer "%s" has come to partition %s of topic "%s"',
				consumer, partition, topic),
			HINT = 'Name it as its setting group_id does; at a partition''s first record '
				'it must be running.';
	ELSIF "offset" < watermark THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('consumer "%s" is done with offset %s of partition %s of topic "%s"',
				consumer, "offset", partition, topic),
			DETAIL = format('Its watermark is %s.', watermark);
	ELSIF NOT outbox.claim(consumer, coalesce((lpad(to_hex(bits::bit(64)::bigint), 16, '0') ||
			lpad(to_hex((bits << 64)::bit(64)::bigint), 16, '0'))::uuid, event_id)) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('consumer "%s" has processed event %s already', consumer, event_id),
			HINT = 'Give replay_id, too, if the log line has one.';
	END IF;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('consumer_skip', format('event %s', event_id), reason,
		jsonb_build_object('consumer', consumer, 'topic', topic, 'partition', partition,
			'offset', "offset", 'replay_id', replay_id));
END $$;
COMMENT ON FUNCTION outbox.consumer_skip(text, text, integer, bigint, uuid, text, uuid) IS
	'a consumer steps over a record it is stuck at';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------- what outbox-consume gives a function
 *
 * Records as a handler written in SQL sees them.
 *
 * The function of the generic consumer (services/consume) is f(outbox.consumed_event) or, for
 * values that are no JSON, f(outbox.consumed_bytes); it returns text, the outcome for the metrics.
 * A later version may add fields at the end.
 *
 *	id				the event's id: ce_id, else id, else made from position, time stamp and content;
 *					never NULL
 *	type			ce_type, else eventType; NULL = none
 *	topic, partition, "offset"	the record's position; never NULL
 *	key				record key; NULL = none
 *	value			record value; NULL = tombstone
 *	headers			{name: text of the first header of that name}; names and values that are no
 *					UTF-8, or have a character the database has not, as \x and hex, null for no
 *					value; never NULL
 *	correlation_id	NULL = none
 *	occurred_at		ce_time, else the record's time stamp; NULL = neither
 *	replay_id		the outbox.replay() this is a copy of; NULL = none
 */
CREATE TYPE outbox.consumed_event AS (
	id uuid,
	type text,
	topic text,
	partition integer,
	"offset" bigint,
	key text,
	value jsonb,
	headers jsonb,
	correlation_id text,
	occurred_at timestamptz,
	replay_id uuid
);
CREATE TYPE outbox.consumed_bytes AS (
	id uuid,
	type text,
	topic text,
	partition integer,
	"offset" bigint,
	key bytea,
	value bytea,
	headers jsonb,
	correlation_id text,
	occurred_at timestamptz,
	replay_id uuid
);

/* headers of the above from those of a record, in Kafka's encoding; NULL: {}. */
CREATE FUNCTION outbox.consumed_headers(headers bytea) RETURNS jsonb
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_consumed_headers';

/*
 * For functions of consumers: a field of a JSON object as text.  NULL, missing or "": OBX01, the
 * event can never succeed.  Not STRICT: a tombstone has no value, and so no field.
 */
CREATE FUNCTION outbox.required(value jsonb, field text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(value->>field, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'OBX01',
			MESSAGE = format('required field "%s" is missing', field);
	END IF;
	RETURN value->>field;
END
$$;

/*
 * A text of a record, UTF-8, as this database can hold it: bytes that are no UTF-8 and characters
 * it has not become % and two hex digits a byte, so that two values stay two; at most so many
 * bytes, here and in UTF-8, cut between characters.
 */
CREATE FUNCTION outbox.wire_text(value bytea, most integer) RETURNS text
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_wire_text';
COMMENT ON FUNCTION outbox.wire_text(bytea, integer) IS
	'a text of a record as the database can hold it';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------- calls to other systems
 *
 * What a consumer asks before its handlers call out: which records a call may be made for.  Nothing
 * is decided here: begin_batch judges each record again when its answer has come.
 */

/*
 * Which records have been processed, or have a dead letter at their place: their places, counted
 * from 1.  ids: what is claimed; the others as in begin_batch.
 */
CREATE FUNCTION outbox.known_records(consumer text, part_topics text[], part_numbers integer[],
	part_of integer[], offsets bigint[], event_ids uuid[], ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	processed uuid[] := outbox.processed_ids(consumer, ids);
BEGIN
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, offsets, event_ids, ids)
			WITH ORDINALITY r (part, "offset", event_id, id, place)
		WHERE r.id = ANY (processed)
			OR EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = known_records.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id));
END $$;

/* As outbox.dead_letter_blocked, without a lock. */
CREATE FUNCTION outbox.blocked_records(consumer text, part_topics text[], part_of integer[],
	keys bytea[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = blocked_records.consumer AND d.state IN ('retrying', 'open')) THEN
		RETURN '{}';
	END IF;
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
		WHERE EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = blocked_records.consumer AND d.topic = part_topics[r.part]
				AND sha256(d.key) = sha256(r.key) AND d.state IN ('retrying', 'open')));
END $$;

/*
 * May the handlers of these records call out?  Returns a character for each: n yes; d processed
 * before, or in outbox.dead_letter; h held behind a dead letter of its key.  Arguments as in
 * outbox.begin_batch, ids: what is claimed.  Notes for owner which calls of the partitions may be
 * under way from now on, these records' and those at noted_of and noted, so that the next owner
 * runs them one by one if the process ends; that need not survive the server, it is not waited for.
 */
CREATE FUNCTION outbox.begin_calls(consumer text, owner text, part_topics text[],
	part_numbers integer[], part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[],
	ids uuid[], hold boolean, old_ids uuid[], noted_of integer[], noted bigint[])
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	claims text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	part_old bigint[];
	place integer;
BEGIN
	PERFORM outbox.need('begin_calls', ARRAY['consumer', begin_calls.consumer,
		'owner', begin_calls.owner, 'hold', hold::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.consumer_attempt a SET calls = n.offsets
	FROM (SELECT part_topics[u.part] AS topic, part_numbers[u.part] AS partition,
			array_agg(DISTINCT u."offset") AS offsets
		FROM unnest(part_of || noted_of, begin_calls.offsets || noted) u (part, "offset")
		GROUP BY u.part) n
	WHERE a.consumer = begin_calls.consumer AND a.topic = n.topic AND a.partition = n.partition
		AND a.owner = begin_calls.owner;

	IF hold THEN
		FOREACH place IN ARRAY outbox.blocked_records(begin_calls.consumer, part_topics, part_of,
			keys)
		LOOP
			claims[place] := 'h';
		END LOOP;
	END IF;
	FOREACH place IN ARRAY outbox.known_records(begin_calls.consumer, part_topics, part_numbers,
		part_of, begin_calls.offsets, event_ids, ids)
	LOOP
		claims[place] := 'd';
	END LOOP;
	IF old_ids IS NOT NULL THEN
		part_old := ARRAY(SELECT coalesce(o.old_ids_to, o.next_offset)
			FROM unnest(part_topics, part_numbers) WITH ORDINALITY p (topic, partition, part)
				LEFT JOIN outbox.consumer_offset o ON o.consumer = begin_calls.consumer
					AND o.topic = p.topic AND o.partition = p.partition
			ORDER BY p.part);
		FOREACH place IN ARRAY outbox.known_by_old_id(begin_calls.consumer, part_topics,
			part_numbers, part_old, part_of, begin_calls.offsets, old_ids)
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;
	RETURN array_to_string(claims, '');
END $$;
COMMENT ON FUNCTION outbox.begin_calls(text, text, text[], integer[], integer[], bigint[], bytea[],
	uuid[], uuid[], boolean, uuid[], integer[], bigint[]) IS
	'for which records a consumer''s handlers may call out';

/*
 * The records of a partition whose calls may have been under way when its last owner's process
 * ended, for who has taken it; NULL: none was.
 */
CREATE FUNCTION outbox.attempt_calls(consumer text, topic text, partition integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('attempt_calls', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text]);
	RETURN (SELECT a.calls FROM outbox.consumer_attempt a
		WHERE a.consumer = attempt_calls.consumer AND a.topic = attempt_calls.topic
			AND a.partition = attempt_calls.partition);
END $$;
COMMENT ON FUNCTION outbox.attempt_calls(text, text, integer) IS
	'which calls may have been under way when a process ended';

/*
 * Has a letter's event been processed meanwhile?  Then its handler need not call out.  claim_id: as
 * in outbox.dead_letter_begin.
 */
CREATE FUNCTION outbox.dead_letter_claimed(dead_letter bigint, claim_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_claimed', ARRAY['dead_letter', dead_letter::text]);
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = dead_letter_claimed.dead_letter;
	RETURN outbox.processed_ids(letter.consumer, ARRAY[coalesce(
		CASE WHEN letter.replay_of IS NULL THEN claim_id END, letter.event_id)]) IS NOT NULL;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_claimed(bigint, uuid) IS
	'has a dead letter''s event been processed meanwhile';

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------- dead letters
 *
 * outbox.dead_letter, the one table of what the relay could not send and consumers could not
 * process, and which failures are of one kind.
 */

/* left(), which in SQL_ASCII would cut inside a character of UTF-8. */
CREATE FUNCTION outbox.cut_text(value text, characters integer) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_cut_text';

/*
 * The text's UTF-8; what cannot become any is shown as \x and hex digits, so that no message keeps
 * a letter from its topic.
 */
CREATE FUNCTION outbox.text_bytes(value text) RETURNS bytea
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_text_bytes';

/*
 * Which failures are one and the same: 16 hex digits over consumer (NULL: the relay), class,
 * sqlstate and the message without what differs from record to record: quoted text, uuids, hex,
 * words with digits, numbers, and the values of keys, "(order_id)=(...)".
 */
CREATE FUNCTION outbox.dead_letter_fingerprint(consumer text, error_class text, sqlstate text,
	error_message text)
RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_dead_letter_fingerprint';

/*
 * outbox.dead_letter: what could not be sent (origin relay) or processed (origin
 * consumer).
 *
 *	state	retrying	origin consumer: tries are left, next at next_attempt_at
 *			held		waits behind an earlier record of its key, retrying or open;
 *						blocked_by: which one that was when the row was written
 *			open		tries are spent: a person decides
 *			releasing	origin relay: the relay emits it again, with what is held behind it
 *			resolved, discarded	done with
 *	headers	Kafka's encoding
 *	content_type	origin relay; a consumer's stands in headers
 *	txid, seq, batch_no	origin relay: the event and the batch it was left out of (I7); an
 *			event with a row is never sent, only its copy is
 *	reissue_txid	origin relay: the transaction that emitted the copy
 *	unended	origin consumer: tries begun that have not ended: the running one, and those the process
 *			did not survive
 *	troubles	origin consumer: tries that failed with what is waited for, in a row; the first at
 *		troubled_since
 *	ends	origin consumer: of these the last so many ended their session
 *	fingerprint	the same for failures of one kind
 *	version	raised whenever the state changes, or the content by an edit
 *	replay_of	the letter that keeps what this edited one was before
 *	note	the newest one; outbox.audit has all of them
 *
 * The indexes hold a digest of the key: a key may be longer than an index entry.
 *
 * A key's rows in a state are asked for by sha256(key) BETWEEN hash AND hash, in the order
 * sha256(key), id, with enable_sort off: only one index has that order, so it is read whatever the
 * statistics say.  With sha256(key) = hash the primary key would have it too.  A function with
 * enable_sort off must not call what has to sort: the planner's penalty for that makes the server
 * compile the statement (jit).
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
	content_type text,
	headers bytea,
	record_time timestamptz,
	event_id uuid NOT NULL,
	event_type text,
	correlation_id text,
	error_class text NOT NULL,
	sqlstate text,
	error_message text NOT NULL,
	attempts integer NOT NULL DEFAULT 1,
	unended integer NOT NULL DEFAULT 0,
	troubles integer NOT NULL DEFAULT 0,
	ends integer NOT NULL DEFAULT 0,
	troubled_since timestamptz,
	first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	next_attempt_at timestamptz,
	state text NOT NULL
		CHECK (state IN ('retrying', 'held', 'open', 'releasing', 'resolved', 'discarded')),
	blocked_by bigint,
	txid xid8,
	seq bigint,
	batch_no bigint,
	reissue_txid xid8,
	resolved_at timestamptz,
	resolved_by name,
	reason text,
	note text,
	fingerprint text GENERATED ALWAYS AS
		(outbox.dead_letter_fingerprint(consumer, error_class, sqlstate, error_message)) STORED,
	version integer NOT NULL DEFAULT 1,
	replay_of bigint
);
CREATE UNIQUE INDEX dead_letter_record
	ON outbox.dead_letter (consumer, topic, partition, "offset", event_id)
	WHERE consumer IS NOT NULL;
CREATE INDEX dead_letter_waiting ON outbox.dead_letter (consumer, next_attempt_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_last_failed ON outbox.dead_letter (consumer, last_failed_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_key ON outbox.dead_letter (consumer, topic, pg_catalog.sha256(key), id)
	WHERE consumer IS NOT NULL AND state IN ('retrying', 'open');
CREATE INDEX dead_letter_held ON outbox.dead_letter (consumer, topic, pg_catalog.sha256(key), id)
	WHERE consumer IS NOT NULL AND state = 'held';
CREATE INDEX dead_letter_relay_key ON outbox.dead_letter (state, topic, pg_catalog.sha256(key), id)
	WHERE origin = 'relay' AND state IN ('held', 'open', 'releasing');
CREATE INDEX dead_letter_batch ON outbox.dead_letter (batch_no)
	WHERE origin = 'relay';
CREATE INDEX dead_letter_left_out ON outbox.dead_letter (txid) WHERE origin = 'relay';
CREATE INDEX dead_letter_reissued ON outbox.dead_letter (reissue_txid)
	WHERE reissue_txid IS NOT NULL;
CREATE INDEX dead_letter_fingerprint ON outbox.dead_letter (fingerprint, id)
	WHERE state IN ('retrying', 'held', 'open', 'releasing');
CREATE INDEX dead_letter_replay_of ON outbox.dead_letter (replay_of) WHERE replay_of IS NOT NULL;

CREATE FUNCTION outbox.dead_letter_raise_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.version := OLD.version + 1;
	RETURN NEW;
END $$;
CREATE TRIGGER raise_version BEFORE UPDATE OF state, event_id ON outbox.dead_letter
	FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.event_id <> NEW.event_id)
	EXECUTE FUNCTION outbox.dead_letter_raise_version();
ALTER TABLE outbox.dead_letter ENABLE ALWAYS TRIGGER raise_version;

/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------- dead letters on <topic>.DLT
 *
 * How a consumer's letter that is open becomes an event for whoever reads its topic's dead-letter
 * topic.
 */

/*
 * What a dead letter's event says beside the record's own headers: why it is here; spring: also as
 * Spring Kafka writes it, numbers big-endian.
 */
CREATE FUNCTION outbox.dead_letter_headers(letter outbox.dead_letter, spring boolean DEFAULT false)
RETURNS outbox.header[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	added outbox.header[];
BEGIN
	added := ARRAY(
		SELECT ROW(h.name, outbox.text_bytes(h.value))::outbox.header
		FROM (VALUES
			(1, 'dlt-original-topic', letter.topic),
			(2, 'dlt-original-partition', letter.partition::text),
			(3, 'dlt-original-offset', letter."offset"::text),
			(4, 'dlt-original-timestamp',
				round(extract(epoch FROM letter.record_time) * 1000)::bigint::text),
			(5, 'dlt-consumer-group', letter.consumer),
			(6, 'dlt-error-class', letter.error_class),
			(7, 'dlt-sqlstate', letter.sqlstate),
			(8, 'dlt-error-message', outbox.cut_text(letter.error_message, 1024)),
			(9, 'dlt-attempts', letter.attempts::text),
			(10, 'dlt-first-failed-at', to_char(letter.first_failed_at AT TIME ZONE 'UTC',
				'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(11, 'dlt-failed-at', to_char(letter.last_failed_at AT TIME ZONE 'UTC',
				'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(12, 'dlt-id', letter.id::text),
			(13, 'dlt-fingerprint', letter.fingerprint)) h (n, name, value)
		WHERE h.value IS NOT NULL
		ORDER BY h.n);
	IF spring THEN
		added := added || ARRAY(
			SELECT ROW('kafka_dlt-' || h.name, h.value)::outbox.header
			FROM (VALUES
				(1, 'original-topic', outbox.text_bytes(letter.topic)),
				(2, 'original-partition', int4send(letter.partition)),
				(3, 'original-offset', int8send(letter."offset")),
				(4, 'original-timestamp',
					int8send(round(extract(epoch FROM letter.record_time) * 1000)::bigint)),
				(5, 'original-timestamp-type',
					CASE WHEN letter.record_time IS NOT NULL THEN 'CreateTime'::bytea END),
				(6, 'original-consumer-group', outbox.text_bytes(letter.consumer)),
				(7, 'exception-fqcn', outbox.text_bytes(
					concat_ws('.', 'outbox', letter.error_class, letter.sqlstate))),
				(8, 'exception-message', outbox.text_bytes(letter.error_message)))
				h (n, name, value)
			WHERE h.value IS NOT NULL
			ORDER BY h.n);
	END IF;
	RETURN added;
END $$;

/*
 * Emits an event with a record's headers, own, byte for byte: those of an event (content-type,
 * ce_...) are renamed dlt-original-... unless the letter's event says the same, those of an earlier
 * letter are left out.
 */
CREATE FUNCTION outbox.dead_letter_event(topic text, key bytea, type text, payload bytea, own bytea,
	correlation_id text, added outbox.header[]) RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_event';

/*
 * Emits the dead letter to <topic>.DLT: key, value and headers as they were.  The suffix is fixed:
 * who may write dead letters must not choose the topic they are emitted to.  The letter is an event
 * of its own, in CloudEvents' binary mode, in the flow and trace of its record.
 */
CREATE FUNCTION outbox.dead_letter_publish(dead_letter bigint, spring boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO STRICT letter FROM outbox.dead_letter d
		WHERE d.id = dead_letter_publish.dead_letter;
	BEGIN
		PERFORM outbox.dead_letter_event(letter.topic || '.DLT', letter.key, letter.event_type,
			letter.value, letter.headers, letter.correlation_id,
			outbox.dead_letter_headers(letter, spring));
		UPDATE outbox.dead_letter d SET reason = NULL
		WHERE d.id = letter.id AND starts_with(letter.reason, 'not published: ');
	EXCEPTION WHEN OTHERS THEN
		/* What may pass is waited for; else the row alone must do. */
		IF SQLSTATE LIKE '08%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57P%' OR SQLSTATE LIKE '40%'
			OR SQLSTATE IN ('55P03', '25006') THEN
			RAISE;
		END IF;
		UPDATE outbox.dead_letter d SET reason = 'not published: ' || SQLERRM
		WHERE d.id = letter.id;
	END;
END $$;

/* Why an open letter is not on <topic>.DLT; NULL: it is, or there is no such letter. */
CREATE FUNCTION outbox.dead_letter_unpublished(dead_letter bigint) RETURNS text
LANGUAGE plpgsql STRICT VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT pg_catalog.substr(d.reason, 16) FROM outbox.dead_letter d
		WHERE d.id = dead_letter_unpublished.dead_letter AND d.state = 'open'
			AND starts_with(d.reason, 'not published: '));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_unpublished(bigint) IS
	'why a dead letter is not on its topic';

/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- dead letters of consumers
 *
 * How a record that is not done becomes a letter, what releases those held behind it, and how many
 * there are.
 */

/* The rows of the key that are retrying or open, in their order. */
CREATE FUNCTION outbox.dead_letter_blocking(consumer text, topic text, key bytea)
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	hash bytea := sha256(key);
BEGIN
	RETURN QUERY SELECT d.id FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_blocking.consumer AND d.topic = dead_letter_blocking.topic
		AND sha256(d.key) BETWEEN hash AND hash AND d.state IN ('retrying', 'open')
	ORDER BY sha256(d.key), d.id;
END $$;

/*
 * Writes a record that is not done.  state: retrying (due after backoff_ms), held (behind the rows
 * of its key that are retrying or open) or open (published at once; spring: with Spring's headers
 * too).  tries: those made so far, none when held.
 */
CREATE FUNCTION outbox.dead_letter_add(consumer text, topic text, partition integer,
	"offset" bigint, key bytea, value bytea, headers bytea, record_time timestamptz, event_id uuid,
	event_type text, correlation_id text, state text, error_class text, error_code text,
	error_message text, backoff_ms integer, tries integer DEFAULT 1, spring boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held boolean := dead_letter_add.state = 'held';
	added bigint;
BEGIN
	PERFORM outbox.need('dead_letter_add', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text, 'event_id', event_id::text,
		'state', state, 'error_class', error_class, 'error_message', error_message,
		'tries', tries::text]);
	INSERT INTO outbox.dead_letter (origin, consumer, topic, partition, "offset", key, value,
		headers, record_time, event_id, event_type, correlation_id, error_class, sqlstate,
		error_message, attempts, next_attempt_at, state, blocked_by)
	VALUES ('consumer', dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.partition,
		dead_letter_add."offset", dead_letter_add.key, dead_letter_add.value,
		dead_letter_add.headers, dead_letter_add.record_time, dead_letter_add.event_id,
		dead_letter_add.event_type, dead_letter_add.correlation_id, dead_letter_add.error_class,
		dead_letter_add.error_code, outbox.cut_text(dead_letter_add.error_message, 1024),
		CASE WHEN held THEN 0 ELSE tries END,
		CASE WHEN dead_letter_add.state = 'retrying'
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		dead_letter_add.state,
		CASE WHEN held THEN (SELECT max(b.id)
			FROM outbox.dead_letter_blocking(dead_letter_add.consumer, dead_letter_add.topic,
				dead_letter_add.key) b (id)) END)
	ON CONFLICT (consumer, topic, partition, "offset", event_id)
		WHERE consumer IS NOT NULL DO NOTHING
	RETURNING id INTO added;
	IF added IS NOT NULL AND dead_letter_add.state = 'open' THEN
		PERFORM outbox.dead_letter_publish(added, spring);
	END IF;
	RETURN added;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_add(text, text, integer, bigint, bytea, bytea, bytea,
	timestamptz, uuid, text, text, text, text, text, text, integer, integer, boolean) IS
	'a record that could not be processed';

/*
 * The key's first held row is due now unless an earlier row of the key is retrying or open.  To be
 * called in the transaction that changes such a row, after the change; not when a held row is
 * changed.  The held row is locked first, so that of two callers the later one sees what the other
 * has done; what another transaction discards meanwhile, the next one replaces.
 */
CREATE FUNCTION outbox.dead_letter_release(consumer text, topic text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	hash bytea := sha256(key);
	first_held bigint;
BEGIN
	SELECT d.id INTO first_held FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_release.consumer AND d.topic = dead_letter_release.topic
		AND sha256(d.key) BETWEEN hash AND hash AND d.state = 'held'
	ORDER BY sha256(d.key), d.id LIMIT 1 FOR UPDATE;
	UPDATE outbox.dead_letter d
	SET state = 'retrying', next_attempt_at = clock_timestamp(), blocked_by = NULL
	WHERE d.id = first_held AND NOT EXISTS (SELECT
		FROM outbox.dead_letter_blocking(dead_letter_release.consumer, dead_letter_release.topic,
			dead_letter_release.key) b (id)
		WHERE b.id < first_held);
END $$;

/*
 * Rows not done with, for the metrics; unpublished: of the open ones, those that are not on
 * <topic>.DLT.
 */
CREATE FUNCTION outbox.dead_letter_counts(consumer text)
RETURNS TABLE (topic text, state text, number bigint, unpublished bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_counts', ARRAY['consumer', consumer]);
	RETURN QUERY SELECT d.topic, d.state, count(*),
		count(*) FILTER (WHERE d.state = 'open' AND starts_with(d.reason, 'not published: '))
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_counts.consumer AND d.state IN ('retrying', 'held', 'open')
	GROUP BY d.topic, d.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_counts(text) IS
	'dead letters not done with, by topic and state';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ retries of dead letters
 *
 * How a consumer tries a letter again: outbox.dead_letter_next takes it, begin opens the
 * transaction, resolve ends it; a try that failed is noted by failed or troubled, one that did
 * neither by put_back.  What is held behind the letter follows in the same transaction: next_run,
 * begin_run, resolve_run.
 */

/*
 * The lock of who tries a row, the session's until it gives it up or ends; no role can take it with
 * pg_advisory_lock().
 */
CREATE FUNCTION outbox.dead_letter_lock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_lock';
CREATE FUNCTION outbox.dead_letter_unlock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_unlock';

/*
 * The row of the topics (NULL: of any) to be tried next, and in how many ms it is due; rows of one
 * key in their order; in_hand: but for these, which the caller has already.  0: now; then the
 * caller has it, others pass it by, until the caller's outbox.dead_letter_put_back or the end of
 * its connection; crashes: how often a process has ended while it tried the row; failing_ms: since
 * it failed first.  A transaction of its own, not waited for: what it writes need not survive the
 * server.
 */
CREATE FUNCTION outbox.dead_letter_next(consumer text, topics text[] DEFAULT NULL,
	in_hand bigint[] DEFAULT '{}')
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
	known integer := 0;
BEGIN
	PERFORM outbox.need('dead_letter_next', ARRAY['consumer', consumer,
		'in_hand', in_hand::text]);
	/* The clock was set back: what failed by its old time waits as long as it was to, no longer. */
	IF (SELECT max(d.last_failed_at) > clock_timestamp() FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying')
	THEN
		UPDATE outbox.dead_letter d
		SET next_attempt_at = clock_timestamp() + (d.next_attempt_at - d.last_failed_at),
			last_failed_at = clock_timestamp()
		WHERE d.id IN (SELECT w.id FROM outbox.dead_letter w
			WHERE w.consumer = dead_letter_next.consumer AND w.state = 'retrying'
				AND w.last_failed_at > clock_timestamp()
			ORDER BY w.next_attempt_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
	END IF;
	FOR letter IN
		SELECT * FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying'
			AND (topics IS NULL OR d.topic = ANY (topics)) AND d.id <> ALL (in_hand)
		ORDER BY d.next_attempt_at
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM outbox.dead_letter b
			WHERE b.consumer = dead_letter_next.consumer AND b.topic = letter.topic
				AND sha256(b.key) = sha256(letter.key) AND b.state = 'retrying'
				AND b.id < letter.id);
		IF letter.next_attempt_at <= clock_timestamp() THEN
			CONTINUE WHEN NOT outbox.dead_letter_lock(letter.id);
			PERFORM set_config('synchronous_commit', 'off', true);
			UPDATE outbox.dead_letter d SET unended = d.unended + 1
			WHERE d.id = (SELECT w.id FROM outbox.dead_letter w
				WHERE w.id = letter.id AND w.state = 'retrying' AND w.attempts = letter.attempts
					AND w.next_attempt_at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
			RETURNING d.unended - 1 INTO known;
			IF NOT FOUND THEN
				PERFORM outbox.dead_letter_unlock(letter.id);
				CONTINUE;
			END IF;
		END IF;
		RETURN QUERY SELECT letter.id, letter.attempts, letter.topic, letter.partition,
			letter."offset", letter.key, letter.value, letter.headers,
			CASE WHEN letter.next_attempt_at <= clock_timestamp() THEN 0
				ELSE ceil(extract(epoch FROM letter.next_attempt_at - clock_timestamp()) * 1000)
				END::bigint,
			round(extract(epoch FROM letter.record_time) * 1000)::bigint, known,
			round(extract(epoch FROM clock_timestamp() - letter.first_failed_at) * 1000)::bigint;
		RETURN;
	END LOOP;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next(text, text[], bigint[]) IS
	'the dead letter to be tried next';

/*
 * What outbox.dead_letter_next tells, and when it is due and has neither been tried before nor been
 * in hand when a process ended, the letters held behind it in their order, together at most `most`
 * and 4 MB.  troubles, ends, trouble_ms, troubled_ms: how often the first has failed as
 * outbox.dead_letter_troubled notes, the last so many with their session, since when, and when
 * last; alike: another record or letter is failing the same way, and nobody's has been done since.
 */
CREATE FUNCTION outbox.dead_letter_next_run(consumer text, topics text[], most integer,
	in_hand bigint[] DEFAULT '{}')
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint, troubles integer, ends integer, trouble_ms bigint, troubled_ms bigint,
	alike boolean, sqlstate text, error_message text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
	first record;
	letter outbox.dead_letter;
	hash bytea;
BEGIN
	PERFORM outbox.need('dead_letter_next_run', ARRAY['consumer', dead_letter_next_run.consumer,
		'most', most::text, 'in_hand', in_hand::text]);
	SELECT * INTO first
	FROM outbox.dead_letter_next(dead_letter_next_run.consumer, topics, in_hand);
	IF first.id IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = first.id;
	hash := sha256(letter.key);
	RETURN QUERY SELECT first.id, first.attempts, first.topic, first.partition, first."offset",
		first.key, first.value, first.headers, first.wait_ms, first.record_ms, first.crashes,
		first.failing_ms, letter.troubles, letter.ends,
		round(extract(epoch FROM clock_timestamp() - letter.troubled_since) * 1000)::bigint,
		round(extract(epoch FROM clock_timestamp() - letter.last_failed_at) * 1000)::bigint,
		letter.troubles > 0
			AND outbox.others_fail(letter.consumer, letter.topic, letter.partition,
				letter.sqlstate, letter.id)
			AND NOT outbox.others_work(letter.consumer, letter.last_failed_at),
		letter.sqlstate, letter.error_message;
	IF first.wait_ms > 0 OR first.attempts > 0 OR first.crashes > 0 OR letter.troubles > 0
		OR most < 2 THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT h.id, h.attempts, h.topic, h.partition, h."offset", h.key, h.value,
		h.headers, 0::bigint, round(extract(epoch FROM h.record_time) * 1000)::bigint, 0,
		round(extract(epoch FROM clock_timestamp() - h.first_failed_at) * 1000)::bigint, 0, 0,
		NULL::bigint, NULL::bigint, false, NULL::text, NULL::text
	FROM (SELECT d.*, sum(coalesce(octet_length(d.value), 0) + coalesce(octet_length(d.headers), 0))
				OVER (ORDER BY d.place, d.id) AS bytes
			FROM (SELECT w.*, sha256(w.key) AS place FROM outbox.dead_letter w
				WHERE w.consumer = dead_letter_next_run.consumer AND w.topic = letter.topic
					AND sha256(w.key) BETWEEN hash AND hash AND w.state = 'held'
				ORDER BY sha256(w.key), w.id LIMIT most - 1) d) h
	WHERE h.bytes <= 4194304
	ORDER BY h.place, h.id;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next_run(text, text[], integer, bigint[]) IS
	'the dead letters of a key to be tried next';

/*
 * The caller of outbox.dead_letter_next is done with the row; a try that has neither succeeded nor
 * failed is not counted, and not repeated within later_ms.
 */
CREATE FUNCTION outbox.dead_letter_put_back(dead_letter bigint, later_ms integer DEFAULT 0)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_put_back', ARRAY['dead_letter', dead_letter::text,
		'later_ms', later_ms::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.dead_letter d SET unended = d.unended - 1,
		next_attempt_at = CASE WHEN d.state = 'retrying' AND later_ms > 0
			THEN greatest(d.next_attempt_at,
				clock_timestamp() + later_ms * interval '1 millisecond')
			ELSE d.next_attempt_at END
	WHERE d.id = dead_letter_put_back.dead_letter AND d.unended > 0;
	PERFORM outbox.dead_letter_unlock(dead_letter);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_put_back(bigint, integer) IS
	'ends what dead_letter_next began';

/*
 * Locks the row for a try and claims its event: n new, d processed before, NULL when somebody else
 * has the row or has tried it since.  An edited copy is the event that its row says, whatever id
 * the record has within its value.
 */
CREATE FUNCTION outbox.dead_letter_begin(dead_letter bigint, attempts integer,
	claim_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_begin', ARRAY['dead_letter', dead_letter::text,
		'attempts', attempts::text]);
	RETURN nullif(outbox.dead_letter_begin_run(ARRAY[dead_letter], attempts, ARRAY[claim_id]), '');
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin(bigint, integer, uuid) IS 'first statement of a retry';

/*
 * Locks letters for a try and claims their events.  ids: as outbox.dead_letter_next_run told them,
 * the first with its attempts; claim_ids: as in outbox.dead_letter_begin.  Returns a character for
 * each, n new, d processed before, up to the first that somebody else has or has done with, or that
 * another one of its key has come before; '': none.
 */
CREATE FUNCTION outbox.dead_letter_begin_run(ids bigint[], attempts integer, claim_ids uuid[])
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off AS $$
DECLARE
	letter outbox.dead_letter;
	behind record;
	place integer := 1;
	asked uuid[];
	blocking bigint;
BEGIN
	PERFORM outbox.need('dead_letter_begin_run', ARRAY['ids', ids::text, 'attempts', attempts::text,
		'claim_ids', claim_ids::text]);
	SELECT * INTO letter FROM outbox.dead_letter d
	WHERE d.id = ids[1] AND d.state = 'retrying' AND d.attempts = dead_letter_begin_run.attempts
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN '';
	END IF;
	asked[1] := coalesce(CASE WHEN letter.replay_of IS NULL THEN claim_ids[1] END, letter.event_id);
	IF cardinality(ids) > 1 THEN
		SELECT min(b.id) INTO blocking
		FROM outbox.dead_letter_blocking(letter.consumer, letter.topic, letter.key) b (id)
		WHERE b.id <> letter.id;
		FOR behind IN
			SELECT d.id, d.event_id, d.replay_of, d.state = 'held' AND d.key = letter.key
				AND d.topic = letter.topic AND d.consumer = letter.consumer AS follows
			FROM outbox.dead_letter d WHERE d.id = ANY (ids[2:])
			ORDER BY d.id FOR UPDATE SKIP LOCKED
		LOOP
			place := place + 1;
			EXIT WHEN behind.id <> ids[place] OR behind.id > blocking OR NOT behind.follows;
			asked[place] := coalesce(CASE WHEN behind.replay_of IS NULL THEN claim_ids[place] END,
				behind.event_id);
		END LOOP;
	END IF;
	RETURN (SELECT string_agg(CASE WHEN c.claimed THEN 'n' ELSE 'd' END, '' ORDER BY c.place)
		FROM unnest(outbox.claim_many(letter.consumer, asked)) WITH ORDINALITY c (claimed, place));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin_run(bigint[], integer, uuid[]) IS
	'first statement of a retry of several';

/* The try has succeeded. */
CREATE FUNCTION outbox.dead_letter_resolve(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_resolve', ARRAY['dead_letter', dead_letter::text]);
	PERFORM outbox.dead_letter_resolve_run(ARRAY[dead_letter]);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve(bigint) IS
	'last statement of a retry that succeeded';

/*
 * Their tries have succeeded; the next held one of the key is due.  ids: as
 * outbox.dead_letter_begin_run has locked them.
 */
CREATE FUNCTION outbox.dead_letter_resolve_run(ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_resolve_run', ARRAY['ids', ids::text]);
	WITH done AS (UPDATE outbox.dead_letter d
	SET state = 'resolved', attempts = d.attempts + greatest(d.unended, 1), unended = 0,
		next_attempt_at = NULL, blocked_by = NULL, troubles = 0, ends = 0, troubled_since = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = 'retry succeeded'
	WHERE d.id = ANY (ids) AND d.state = CASE WHEN d.id = ids[1] THEN 'retrying' ELSE 'held' END
	RETURNING *)
	SELECT * INTO letter FROM done WHERE done.id = ids[1];
	IF FOUND THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve_run(bigint[]) IS
	'last statement of a retry of several that succeeded';

/*
 * The try has failed, in a transaction of its own; error_class crash: it was not made, for the
 * process did not survive those before it.  Returns the row's new state, retrying (due after
 * backoff_ms) or open (then it is published; spring: with Spring's headers too), or NULL when
 * somebody else has dealt with it.
 */
CREATE FUNCTION outbox.dead_letter_failed(dead_letter bigint, attempts integer, permanent boolean,
	retry_max integer, backoff_ms integer,
	error_class text, error_code text, error_message text, spring boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	final boolean := permanent OR dead_letter_failed.attempts >= retry_max;
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_failed', ARRAY['dead_letter', dead_letter::text,
		'attempts', attempts::text, 'permanent', permanent::text, 'retry_max', retry_max::text,
		'backoff_ms', backoff_ms::text, 'error_class', error_class,
		'error_message', error_message]);
	UPDATE outbox.dead_letter d
	SET attempts = d.attempts + CASE WHEN dead_letter_failed.error_class = 'crash'
			THEN greatest(d.unended - 1, d.troubles, 1) ELSE greatest(d.unended, 1) END,
		unended = 0, troubles = 0, ends = 0, troubled_since = NULL,
		last_failed_at = clock_timestamp(),
		state = CASE WHEN final THEN 'open' ELSE 'retrying' END,
		next_attempt_at = CASE WHEN NOT final
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		error_class = dead_letter_failed.error_class, sqlstate = error_code,
		error_message = outbox.cut_text(dead_letter_failed.error_message, 1024)
	WHERE d.id = dead_letter_failed.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_failed.attempts
	RETURNING * INTO letter;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF final THEN
		PERFORM outbox.dead_letter_publish(letter.id, spring);
	END IF;
	RETURN letter.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_failed(bigint, integer, boolean, integer, integer,
	text, text, text, boolean) IS 'notes a retry that failed';

/*
 * The try, taken by outbox.dead_letter_next_run, has failed with what is waited for otherwise: the
 * letter is to be tried alone, as a record is that outbox.note_trouble notes; ended: its session
 * has ended with it.  tried_ms: since the try began, NULL: not known.
 */
CREATE FUNCTION outbox.dead_letter_troubled(dead_letter bigint, error_code text, error_message text,
	ended boolean, tried_ms bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	try record;
BEGIN
	PERFORM outbox.need('dead_letter_troubled', ARRAY['dead_letter', dead_letter::text,
		'error_message', dead_letter_troubled.error_message,
		'ended', dead_letter_troubled.ended::text]);
	SELECT * INTO try FROM outbox.judge_try(error_code, dead_letter_troubled.ended, tried_ms);
	IF NOT try.counts THEN
		RETURN;
	END IF;
	PERFORM set_config('synchronous_commit', 'local', true);
	UPDATE outbox.dead_letter d
	SET troubles = d.troubles + 1, ends = CASE WHEN try.own_end THEN d.ends + 1 ELSE 0 END,
		troubled_since = coalesce(d.troubled_since, clock_timestamp()),
		last_failed_at = clock_timestamp(), error_class = 'infrastructure', sqlstate = error_code,
		error_message = outbox.cut_text(dead_letter_troubled.error_message, 1024)
	WHERE d.id = dead_letter_troubled.dead_letter AND d.state = 'retrying';
END $$;
COMMENT ON FUNCTION outbox.dead_letter_troubled(bigint, text, text, boolean, bigint) IS
	'notes a retry that failed for itself alone';

/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- dead letters of the relay
 *
 * What the relay does with them: keys whose events wait, what is due, and its return as events.
 */

/*
 * Topics held apart, and those whose last copies are in no batch yet.  Their letters return after
 * that (extension/70-topic_hold.sql): what ended a hold waits behind the older letters of its keys.
 */
CREATE FUNCTION outbox.topics_held() RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	batched pg_snapshot := (SELECT b.upper FROM outbox.batch b ORDER BY b.batch_no DESC LIMIT 1);
BEGIN
	RETURN ARRAY(SELECT h.topic FROM outbox.topic_hold h
		WHERE h.state <> 'ended' OR NOT pg_visible_in_snapshot(h.ended_txid, batched));
END $$;

/*
 * Origin relay: what is held for the key is due when nothing before it waits any more.
 * The first one is locked, and judged again when another transaction has changed it meanwhile; what
 * that discards, the next one replaces.  patient false (the relay): a first one that somebody has
 * locked is left as it is.
 */
CREATE FUNCTION outbox.dead_letter_unblock(topic text, key bytea, patient boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hash bytea := sha256(key);
	first_held bigint;
BEGIN
	IF EXISTS (SELECT FROM outbox.dead_letter o
			WHERE o.origin = 'relay' AND o.state IN ('open', 'releasing')
				AND o.topic = dead_letter_unblock.topic AND sha256(o.key) = hash) THEN
		RETURN;
	END IF;
	IF patient THEN
		SELECT d.id INTO first_held FROM outbox.dead_letter d
		WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = dead_letter_unblock.topic
			AND sha256(d.key) = hash
		ORDER BY d.id LIMIT 1 FOR UPDATE;
	ELSE
		SELECT d.id INTO first_held FROM outbox.dead_letter d
		WHERE d.state = 'held' AND d.id = (SELECT min(w.id) FROM outbox.dead_letter w
			WHERE w.origin = 'relay' AND w.state = 'held' AND w.topic = dead_letter_unblock.topic
				AND sha256(w.key) = hash)
		FOR UPDATE SKIP LOCKED;
	END IF;
	UPDATE outbox.dead_letter d SET state = 'releasing', blocked_by = NULL WHERE d.id = first_held;
END $$;

/*
 * Topics and keys whose events wait: those with rows held and, if holding, open or releasing; at
 * most so many.  hash: sha256 of the key.  A loose scan: the cost is that of the keys, not of the
 * rows.
 */
CREATE FUNCTION outbox.dead_letter_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off AS $$
BEGIN
	PERFORM outbox.need('dead_letter_keys', ARRAY['holding', holding::text,
		'at_most', at_most::text]);
	RETURN QUERY
	WITH RECURSIVE found AS (
		SELECT s.state, f.topic, f.hash
		FROM unnest(CASE WHEN holding THEN '{held,open,releasing}'::text[] ELSE '{held}' END)
				s (state)
			CROSS JOIN LATERAL (SELECT d.topic, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND sha256(d.key) IS NOT NULL
				ORDER BY d.topic, sha256(d.key) LIMIT 1) f
		UNION ALL
		SELECT p.state, n.topic, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT d.topic, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = p.state AND (d.topic, sha256(d.key)) > (p.topic, p.hash)
				ORDER BY d.topic, sha256(d.key) LIMIT 1) n
	)
	SELECT DISTINCT l.topic, l.hash FROM (SELECT f.topic, f.hash FROM found f LIMIT 3 * at_most) l
	LIMIT at_most;
END $$;

/*
 * Keys of one topic with rows in these states, at most so many; a loose scan like the one of all
 * topics.
 */
CREATE FUNCTION outbox.dead_letter_topic_keys(topic text, states text[], at_most integer)
RETURNS bytea[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN ARRAY(
	WITH RECURSIVE found AS (
		SELECT s.state, f.hash
		FROM unnest(states) s (state)
			CROSS JOIN LATERAL (SELECT sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND d.topic = dead_letter_topic_keys.topic
					AND sha256(d.key) IS NOT NULL
				ORDER BY sha256(d.key) LIMIT 1) f
		UNION ALL
		SELECT p.state, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = p.state AND d.topic = dead_letter_topic_keys.topic
					AND sha256(d.key) > p.hash
				ORDER BY sha256(d.key) LIMIT 1) n
	)
	SELECT DISTINCT l.hash FROM (SELECT f.hash FROM found f LIMIT cardinality(states) * at_most) l
		LIMIT at_most);
END $$;

/*
 * What events wait, as the relay must know it to hold them: topic and hash of a key as above,
 * blocked_by, the letter it waits behind (NULL: none is open or releasing), and newest_txid, the
 * event of the newest waiting letter.  At most at_most keys: of topics with more, those with the
 * most keys are given as a whole, hash NULL, and all their events with a key wait.
 */
CREATE FUNCTION outbox.dead_letter_held_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea, blocked_by bigint, newest_txid xid8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	states text[] := CASE WHEN holding THEN '{held,open,releasing}'::text[] ELSE '{held}' END;
	room integer := at_most;
	waiting record;
BEGIN
	FOR waiting IN
		WITH RECURSIVE found AS (
			SELECT s.state, f.topic
			FROM unnest(states) s (state)
				CROSS JOIN LATERAL (SELECT d.topic FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state
					ORDER BY d.topic LIMIT 1) f
			UNION ALL
			SELECT p.state, n.topic
			FROM found p
				CROSS JOIN LATERAL (SELECT d.topic FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = p.state AND d.topic > p.topic
					ORDER BY d.topic LIMIT 1) n
		)
		SELECT k.topic, k.hashes FROM (
			SELECT t.topic, outbox.dead_letter_topic_keys(t.topic, states, at_most + 1) AS hashes
			FROM (SELECT DISTINCT f.topic FROM found f) t OFFSET 0) k
		ORDER BY cardinality(k.hashes), k.topic
	LOOP
		IF cardinality(waiting.hashes) > room THEN
			RETURN QUERY SELECT waiting.topic, NULL::bytea, NULL::bigint, NULL::xid8;
			CONTINUE;
		END IF;
		room := room - cardinality(waiting.hashes);
		RETURN QUERY
		SELECT waiting.topic, k.hash,
			(SELECT min(l.id) FROM (VALUES ('open'), ('releasing')) s (state)
				CROSS JOIN LATERAL (SELECT d.id FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state AND d.topic = waiting.topic AND sha256(d.key) = k.hash
					ORDER BY d.id LIMIT 1) l),
			(SELECT l.txid FROM (VALUES ('held'), ('open'), ('releasing')) s (state)
				CROSS JOIN LATERAL (SELECT d.id, d.txid FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state AND d.topic = waiting.topic AND sha256(d.key) = k.hash
					ORDER BY d.id DESC LIMIT 1) l
				ORDER BY l.id DESC LIMIT 1)
		FROM unnest(waiting.hashes) k (hash);
	END LOOP;
END $$;

/*
 * Keys of these topics that have letters among the events of these transactions, which emitted
 * letters again: what the transaction still holds of such a key waits.  Columns as above.
 */
CREATE FUNCTION outbox.dead_letter_reissued_keys(topics text[], reissued xid8[])
RETURNS TABLE (topic text, hash bytea, blocked_by bigint, newest_txid xid8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	SELECT d.topic, sha256(d.key), min(d.id) FILTER (WHERE d.state IN ('open', 'releasing')),
		max(d.txid::text::numeric)::text::xid8
	FROM outbox.dead_letter d
	WHERE d.origin = 'relay' AND d.txid = ANY (reissued) AND d.topic = ANY (topics)
		AND d.state IN ('held', 'open', 'releasing') AND d.key IS NOT NULL
	GROUP BY d.topic, sha256(d.key);
END $$;

/*
 * Of a topic that waits as a whole: first letters of keys that are held behind nothing, at most so
 * many.
 */
CREATE FUNCTION outbox.dead_letter_stranded(topic text, at_most integer) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	WITH RECURSIVE found AS (
		(SELECT d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
				AND d.state = 'held' AND d.topic = dead_letter_stranded.topic
				AND sha256(d.key) IS NOT NULL
			ORDER BY sha256(d.key) LIMIT 1)
		UNION ALL
		SELECT n.key, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = 'held' AND d.topic = dead_letter_stranded.topic
					AND sha256(d.key) > p.hash
				ORDER BY sha256(d.key) LIMIT 1) n
	)
	SELECT f.key FROM found f
	WHERE NOT EXISTS (SELECT FROM outbox.dead_letter o
		WHERE o.origin = 'relay' AND o.state IN ('open', 'releasing')
			AND o.topic = dead_letter_stranded.topic AND sha256(o.key) = f.hash)
	LIMIT at_most;
END $$;

/*
 * What is held behind nothing is due: a row held while another transaction discarded the one before
 * it, or one that was held with its whole topic.  Of such a topic it is tried piece by piece, and
 * not while a person has at_most letters of it to decide.  What is of a topic that is held apart
 * waits for the end of that.  Writes nothing when there is none.
 */
CREATE FUNCTION outbox.dead_letter_sweep(at_most integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	piece CONSTANT integer := 2000;
	held CONSTANT text[] := outbox.topics_held();
	stranded record;
	key bytea;
BEGIN
	FOR stranded IN
		SELECT k.topic, l.key FROM outbox.dead_letter_held_keys(false, at_most) k
			LEFT JOIN LATERAL (SELECT d.key FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = k.topic
					AND sha256(d.key) = k.hash
				ORDER BY d.id LIMIT 1) l ON true
		WHERE k.blocked_by IS NULL AND k.topic <> ALL (held)
	LOOP
		IF stranded.key IS NOT NULL THEN
			PERFORM outbox.dead_letter_unblock(stranded.topic, stranded.key, patient => false);
		ELSIF at_most > (SELECT count(*) FROM (SELECT FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state IN ('open', 'releasing')
					AND d.topic = stranded.topic LIMIT at_most) w) THEN
			FOR key IN SELECT * FROM outbox.dead_letter_stranded(stranded.topic, piece) LOOP
				PERFORM outbox.dead_letter_unblock(stranded.topic, key, patient => false);
			END LOOP;
		END IF;
	END LOOP;
END $$;

/*
 * Emits copies of these letters into the leaf `segment`, and returns their bytes as src/backlog.h
 * counts them.
 */
CREATE FUNCTION outbox.dead_letter_emit(segment smallint, letters bigint[], OUT bytes bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	stored bigint;
BEGIN
	INSERT INTO outbox.event (txid, seq, segment, id, topic, key, type, payload, content_type,
		headers, created_at, copied_at)
	SELECT pg_current_xact_id(), nextval('outbox.event_seq'), dead_letter_emit.segment,
		l.event_id, l.topic, l.key, l.event_type, l.value, l.content_type, l.headers, l.record_time,
		clock_timestamp()
	FROM (SELECT * FROM outbox.dead_letter d WHERE d.id = ANY (letters) ORDER BY d.id) l;
	GET DIAGNOSTICS stored = ROW_COUNT;
	IF stored <> cardinality(letters) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('a trigger or rule of outbox.event keeps %s dead letters '
				'from being sent again', cardinality(letters) - stored);
	END IF;
	UPDATE outbox.dead_letter d
	SET state = 'resolved', blocked_by = NULL, reissue_txid = pg_current_xact_id(),
		resolved_at = clock_timestamp(), resolved_by = coalesce(d.resolved_by, session_user)
	WHERE d.id = ANY (letters);
	bytes := (SELECT sum(coalesce(length(l.key), 0) + coalesce(length(l.value), 0)
			+ coalesce(length(l.headers), 0)::bigint)
		FROM outbox.dead_letter l WHERE l.id = ANY (letters));
END $$;

/*
 * Emits copies of the letters that are due into the leaf `segment`, in their order, and returns
 * their number and their bytes.  Whole keys, so that nothing of a key can overtake; it ends after
 * the key that makes it at_most.  A key with a row somebody has locked is left for the next call,
 * letters of a topic that is held apart for the end of that.
 * careful: so is a key whose letters cannot be written, and problem says why of the first one; a
 * subtransaction for each, so only after a call without has failed.
 */
CREATE FUNCTION outbox.dead_letter_reissue(segment smallint, at_most integer,
	careful boolean DEFAULT false, OUT copies integer, OUT bytes bigint, OUT problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	due record;
	blocked boolean;
	first_held bigint;
	letters bigint[];
	left_over integer := 0;
	held CONSTANT text[] := outbox.topics_held();
BEGIN
	copies := 0;
	bytes := 0;
	FOR due IN
		SELECT d.id, d.topic, d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
		WHERE d.origin = 'relay' AND d.state = 'releasing' AND d.topic <> ALL (held)
		ORDER BY d.id
	LOOP
		EXIT WHEN copies + left_over >= at_most;
		blocked := EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'open' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		first_held := (SELECT min(d.id) FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		letters := ARRAY(SELECT d.id FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state IN ('held', 'releasing') AND d.topic = due.topic
				AND sha256(d.key) = due.hash
				AND (NOT blocked OR first_held IS NULL OR d.id < first_held)
			UNION ALL
			SELECT d.id FROM outbox.dead_letter d
			WHERE d.id = due.id AND d.key IS NULL AND d.state = 'releasing'
			ORDER BY 1);
		CONTINUE WHEN cardinality(letters) = 0 OR cardinality(letters) >
			(SELECT count(*) FROM (SELECT FROM outbox.dead_letter d
				WHERE d.id = ANY (letters) AND d.state IN ('held', 'releasing')
				FOR UPDATE SKIP LOCKED) l);
		IF careful THEN
			BEGIN
				bytes := bytes + outbox.dead_letter_emit(segment, letters);
			EXCEPTION WHEN OTHERS THEN
				problem := coalesce(problem, format('dead letter %s: %s', due.id, SQLERRM));
				left_over := left_over + 1;
				CONTINUE;
			END;
		ELSE
			bytes := bytes + outbox.dead_letter_emit(segment, letters);
		END IF;
		copies := copies + cardinality(letters);
	END LOOP;
END $$;

/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------------- dead letter actions
 *
 * What persons do with dead letters of both origins (grant_operate gives the right), each noted in
 * outbox.audit: one by one here, by a filter in 56, with another content in 57.  At the end stands
 * what deletes those that are done with.
 */

/*
 * Locks the letter for an action.  SQLSTATE P0002: unknown; OBX02: its version is another one
 * (NULL: any will do); 55000: not in one of the states; 22004: no id.
 */
CREATE FUNCTION outbox.dead_letter_take(id bigint, done text, states text[],
	version integer DEFAULT NULL)
RETURNS outbox.dead_letter
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	IF dead_letter_take.id IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'id of a dead letter must not be null',
			HINT = 'outbox.dead_letters lists them.';
	END IF;
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = dead_letter_take.id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'dead letter % does not exist', dead_letter_take.id
			USING ERRCODE = 'P0002', HINT = 'outbox.dead_letters lists them.';
	END IF;
	IF letter.version <> dead_letter_take.version THEN
		RAISE EXCEPTION 'dead letter % has changed', letter.id
			USING ERRCODE = 'OBX02',
				DETAIL = format('Its version is %s, not %s.', letter.version,
					dead_letter_take.version),
				HINT = 'Look at it again in outbox.dead_letters.';
	END IF;
	IF letter.state <> ALL (states) THEN
		RAISE EXCEPTION 'dead letter % cannot be %', letter.id, done
			USING ERRCODE = '55000',
				DETAIL = format('Its state is "%s"%s.', letter.state,
					CASE WHEN letter.state = 'held' AND letter.blocked_by IS NOT NULL
						THEN format(', behind dead letter %s', letter.blocked_by) ELSE '' END),
				HINT = format('The state must be %s.', array_to_string(states, ' or '));
	END IF;
	RETURN letter;
END $$;

/* Notes an action in outbox.audit; letter as it was before, more: what else belongs into detail. */
CREATE FUNCTION outbox.dead_letter_audit(letter outbox.dead_letter, action text, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES (action, format('dead_letter %s', letter.id), reason,
		jsonb_build_object('origin', letter.origin, 'consumer', letter.consumer,
			'topic', letter.topic, 'event_id', letter.event_id, 'state', letter.state) || more);
END $$;

/* SQLSTATE 22004: no reason; what: the action, 'to discard a dead letter'. */
CREATE FUNCTION outbox.dead_letter_need_reason(reason text, what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(btrim(reason), '') = '' THEN
		RAISE EXCEPTION 'a reason is needed %', what
			USING ERRCODE = '22004', HINT = 'It is kept in outbox.audit.';
	END IF;
END $$;

/*
 * An error if the topic, as it is declared, does not take the event: as emit() refuses it
 * (docs/errors.md).  type and headers: of the record as the relay writes it.
 */
CREATE FUNCTION outbox.dead_letter_check_topic(topic text, key bytea, type text, payload bytea,
	content_type text, headers bytea)
RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_check_topic';

/* ---------------------------------- the changes of state, of a letter locked */

CREATE FUNCTION outbox.dead_letter_do_replay(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_check_topic(letter.topic, letter.key, letter.event_type,
			letter.value, letter.content_type, letter.headers);
	END IF;
	UPDATE outbox.dead_letter d
	SET state = CASE d.origin WHEN 'relay' THEN 'releasing' ELSE 'retrying' END,
		next_attempt_at = CASE d.origin WHEN 'consumer' THEN clock_timestamp() END,
		resolved_by = session_user, reason = dead_letter_do_replay.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_replay', reason, more);
END $$;

/* What is held behind the letter goes on, unless something else is before it. */
CREATE FUNCTION outbox.dead_letter_do_discard(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'discarded', next_attempt_at = NULL, blocked_by = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user,
		reason = dead_letter_do_discard.reason
	WHERE d.id = letter.id;
	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_unblock(letter.topic, letter.key, patient => true);
	ELSIF letter.state IN ('retrying', 'open') THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_discard', reason, more);
END $$;

CREATE FUNCTION outbox.dead_letter_do_restore(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'open', resolved_at = NULL, resolved_by = NULL,
		reason = dead_letter_do_restore.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_restore', reason, more);
END $$;

/* ------------------------------------------------------------- one by one */

/*
 * Processes (origin consumer) or sends (origin relay) the letter again, soon; of the relay's
 * with it what is held behind it.  A consumer's goes to that consumer alone.  State: open; of a
 * consumer's also retrying (then it is due now).
 */
CREATE FUNCTION outbox.dead_letter_replay(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_do_replay(outbox.dead_letter_take(id, 'replayed', CASE
		WHEN (SELECT d.origin FROM outbox.dead_letter d
			WHERE d.id = dead_letter_replay.id) = 'consumer'
		THEN '{open,retrying}'::text[] ELSE '{open}' END), reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_replay(bigint, text) IS
	'has a dead letter processed or sent again';

/*
 * Gives the letter up; what is held behind it goes on.  State: any but resolved and discarded.
 * SQLSTATE 22004: no reason.
 */
CREATE FUNCTION outbox.dead_letter_discard(id bigint, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to discard a dead letter');
	PERFORM outbox.dead_letter_do_discard(
		outbox.dead_letter_take(id, 'discarded', '{open,held,retrying,releasing}'), reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_discard(bigint, text) IS 'gives a dead letter up';

/* Takes a discard back.  State: discarded; becomes open. */
CREATE FUNCTION outbox.dead_letter_restore(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_do_restore(outbox.dead_letter_take(id, 'restored', '{discarded}'),
		reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_restore(bigint, text) IS
	'takes the discard of a dead letter back';

/* Any state.  NULL takes the note away. */
CREATE FUNCTION outbox.dead_letter_note(id bigint, note text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	letter := outbox.dead_letter_take(id, 'noted',
		'{retrying,held,open,releasing,resolved,discarded}');
	UPDATE outbox.dead_letter d SET note = dead_letter_note.note WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_note', note);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_note(bigint, text) IS 'writes a note on a dead letter';

/* ------------------------------------------------------------ many at once */

/*
 * Deletes letters resolved or discarded before that time, at most so many, the oldest first, and
 * returns their number; outbox.audit keeps its rows and gets one.  Letters stay while an event they
 * leave out is retained, an edited copy points to them, or somebody has them locked.  A discarded
 * record that Kafka delivers again after it was deleted is processed: keep them as long as their
 * topics are retained.  SQLSTATE 22004, 22023: before or at_most (1 to 100000).
 */
CREATE FUNCTION outbox.dead_letter_purge(before timestamptz, at_most integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	newest_batch bigint := (SELECT max(b.batch_no) FROM outbox.batch b);
	deleted integer;
BEGIN
	IF before IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'before of a purge must not be null';
	ELSIF (at_most BETWEEN 1 AND 100000) IS NOT TRUE THEN
		RAISE EXCEPTION 'at_most is out of range'
			USING ERRCODE = '22023', DETAIL = 'Allowed: 1 to 100000 dead letters.';
	END IF;
	DELETE FROM outbox.dead_letter WHERE id = ANY (ARRAY(
		SELECT d.id FROM outbox.dead_letter d
		WHERE d.state IN ('resolved', 'discarded') AND d.resolved_at < before
			AND NOT EXISTS (SELECT FROM outbox.dead_letter c WHERE c.replay_of = d.id)
			AND (d.origin = 'consumer' OR (coalesce(d.batch_no < newest_batch, true)
				AND NOT EXISTS (SELECT FROM outbox.event e WHERE e.txid = d.txid)
				AND NOT EXISTS (SELECT FROM outbox.event e WHERE e.txid = d.reissue_txid)))
		ORDER BY d.id LIMIT at_most FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS deleted = ROW_COUNT;
	IF deleted > 0 THEN
		INSERT INTO outbox.audit (action, detail)
		VALUES ('dead_letter_purge', jsonb_build_object('before', before, 'deleted', deleted));
	END IF;
	RETURN deleted;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_purge(timestamptz, integer) IS
	'deletes dead letters done with long ago';

/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------- dead letter actions, by a filter
 *
 * The actions of 55 on all letters that a filter chooses.
 *
 * dry_run: changes nothing and shows what would be (NULL: true).  at_most: 1 to 100000 letters, the
 * oldest first, of a discard the newest first, so that none of them is let go by the discard of one
 * it is held behind; how many a second is the caller's.  Letters somebody else has locked are left
 * out.  Returns the letters: operation, the id all of them have in outbox.audit (NULL: dry run);
 * was, the state before.  SQLSTATE 22023: a state the action does not take, at_most out of range.
 */

/*
 * The filter of all of them; NULL: all.
 *
 *	key				as UTF-8 text
 *	failed_from, failed_to	last_failed_at, the end excluded.  Never what has failed since the
 *					statement began; who calls in chunks gives the time of the first as failed_to
 *	state			one of those the action takes
 */
CREATE TYPE outbox.dead_letter_filter AS (
	origin text,
	consumer text,
	topic text,
	fingerprint text,
	event_type text,
	key text,
	failed_from timestamptz,
	failed_to timestamptz,
	state text
);

/* What they share; action: name of the one for a single letter. */
CREATE FUNCTION outbox.dead_letter_where(action text, allowed text[],
	wanted outbox.dead_letter_filter, reason text, dry_run boolean, at_most integer)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	chosen record;
	letter outbox.dead_letter;
	more jsonb;
BEGIN
	IF wanted.state <> ALL (allowed) THEN
		RAISE EXCEPTION '% does not take dead letters in state "%"', action, wanted.state
			USING ERRCODE = '22023',
				HINT = format('The state must be %s.', array_to_string(allowed, ' or '));
	ELSIF (at_most BETWEEN 1 AND 100000) IS NOT TRUE THEN
		RAISE EXCEPTION 'at_most is out of range'
			USING ERRCODE = '22023', DETAIL = 'Allowed: 1 to 100000 dead letters.';
	END IF;
	operation := CASE WHEN NOT dry_run THEN gen_random_uuid() END;
	more := jsonb_build_object('operation', operation);
	FOR chosen IN
		SELECT d.id, d.event_id, d.state, d.version, d.last_failed_at FROM outbox.dead_letter d
		WHERE d.state = ANY (CASE WHEN wanted.state IS NULL THEN allowed
			ELSE ARRAY[wanted.state] END)
			AND (wanted.origin IS NULL OR d.origin = wanted.origin)
			AND (wanted.consumer IS NULL OR d.consumer = wanted.consumer)
			AND (wanted.topic IS NULL OR d.topic = wanted.topic)
			AND (wanted.fingerprint IS NULL OR d.fingerprint = wanted.fingerprint)
			AND (wanted.event_type IS NULL OR d.event_type = wanted.event_type)
			AND (wanted.key IS NULL OR d.key = convert_to(wanted.key, 'UTF8'))
			AND (wanted.failed_from IS NULL OR d.last_failed_at >= wanted.failed_from)
			AND d.last_failed_at < least(wanted.failed_to, statement_timestamp())
			AND (d.origin = 'consumer' OR d.state <> 'retrying')
		ORDER BY CASE action WHEN 'dead_letter_discard' THEN -d.id ELSE d.id END LIMIT at_most
	LOOP
		IF operation IS NOT NULL THEN
			SELECT * INTO letter FROM outbox.dead_letter d
			WHERE d.id = chosen.id AND d.version = chosen.version
				AND d.last_failed_at = chosen.last_failed_at
			FOR UPDATE SKIP LOCKED;
			CONTINUE WHEN NOT FOUND;
			CASE action
				WHEN 'dead_letter_replay'
					THEN PERFORM outbox.dead_letter_do_replay(letter, reason, more);
				WHEN 'dead_letter_discard'
					THEN PERFORM outbox.dead_letter_do_discard(letter, reason, more);
				WHEN 'dead_letter_restore'
					THEN PERFORM outbox.dead_letter_do_restore(letter, reason, more);
			END CASE;
		END IF;
		id := chosen.id;
		event_id := chosen.event_id;
		was := chosen.state;
		RETURN NEXT;
	END LOOP;
END $$;

/* state: open; retrying: a consumer's that wait for their next try are due now. */
CREATE FUNCTION outbox.dead_letter_replay_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	state text DEFAULT 'open', reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_replay', '{open,retrying}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, state),
		reason, dry_run, at_most);
END $$;

/* SQLSTATE 22004: no reason. */
CREATE FUNCTION outbox.dead_letter_discard_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	state text DEFAULT 'open', reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to discard dead letters');
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_discard',
		'{open,held,retrying,releasing}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, state),
		reason, dry_run, at_most);
END $$;

/* Those discarded become open. */
CREATE FUNCTION outbox.dead_letter_restore_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_restore', '{discarded}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, NULL),
		reason, dry_run, at_most);
END $$;

/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------- dead letters with another content
 *
 * How a person has a letter processed or sent again with another value or other headers.
 */

/* An error unless outbox.allow_dead_letter_edit is on. */
CREATE FUNCTION outbox.dead_letter_copy_id() RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_copy_id';

/*
 * An error if the bytes are above outbox.max_event_bytes, and above what is known to be possible.
 */
CREATE FUNCTION outbox.dead_letter_check_size(bytes bigint, known bigint) RETURNS void
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_check_size';

/* Kafka's encoding; own: refuses the names that the relay writes itself. */
CREATE FUNCTION outbox.headers_encode(headers outbox.header[], own boolean) RETURNS bytea
	LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'outbox_headers_encode';

/*
 * A consumer's record's headers, byte for byte, with the copy's id as ce_id and without a replay's;
 * NULL: none.
 */
CREATE FUNCTION outbox.dead_letter_copy_own(headers bytea, copy_id text) RETURNS bytea
	LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'outbox_dead_letter_copy_own';

/*
 * The headers of an edited letter; given NULL: those it has.  A consumer's carry the copy's id, as
 * the consumer reads it there, and no replay's.
 */
CREATE FUNCTION outbox.dead_letter_copy_headers(letter outbox.dead_letter, copy_id uuid,
	given outbox.header[])
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF letter.origin = 'relay' THEN
		RETURN CASE WHEN given IS NULL THEN letter.headers
			ELSE outbox.headers_encode(given, true) END;
	ELSIF given IS NULL THEN
		RETURN outbox.dead_letter_copy_own(letter.headers, copy_id::text);
	END IF;
	RETURN outbox.headers_encode(ARRAY[
		ROW('ce_id', convert_to(copy_id::text, 'UTF8'))::outbox.header] || ARRAY(
		SELECT ROW(h.name, h.value)::outbox.header
		FROM unnest(given) WITH ORDINALITY h (name, value, n)
		WHERE coalesce(lower(h.name COLLATE "C"), '') <> 'ce_id'
			AND NOT starts_with(coalesce(lower(h.name COLLATE "C"), ''), 'outbox-replay-')
		ORDER BY h.n), false);
END $$;

/* As outbox.max_event_bytes counts. */
CREATE FUNCTION outbox.dead_letter_bytes(key bytea, value bytea, headers bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(length(key), 0)::bigint + coalesce(length(value), 0)
		+ coalesce(length(headers), 0)
$$;

/*
 * Replays the letter with another content: a new event, with an id of its own.  The letter keeps
 * its id and so its place among those of its key, and becomes the copy; what it was is kept as a
 * resolved letter, whose id is returned, and to which the copy's replay_of points.  A consumer's
 * copy is processed by that consumer alone, the relay's is sent with what is held behind it.
 *
 *	version		of the letter as it was read (outbox.dead_letters)
 *	value		NULL: a tombstone
 *	headers		NULL: those it has; names the relay writes are refused (relay) or replaced
 *				(consumer: ce_id)
 *
 * State: open; of a consumer's also retrying.  SQLSTATE 55000: switched off, or not in such a
 * state; OBX02: another version; 22004: no version or no reason; P0002: no such letter; 42939: a
 * header's name is reserved; 54000: key, value and headers are above outbox.max_event_bytes, and a
 * consumer's also above what they were; 22004, 54000: the relay's topic does not take the copy, as
 * it is declared.
 */
CREATE FUNCTION outbox.dead_letter_edit(id bigint, version integer, value bytea, reason text,
	headers outbox.header[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	copy_id uuid := outbox.dead_letter_copy_id();
	original bigint := nextval('outbox.dead_letter_id_seq');
	letter outbox.dead_letter;
	copy_headers bytea;
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to edit a dead letter');
	IF version IS NULL THEN
		RAISE null_value_not_allowed
			USING MESSAGE = 'the version of the dead letter is needed to edit it';
	END IF;
	letter := outbox.dead_letter_take(id, 'edited', CASE
		WHEN (SELECT d.origin FROM outbox.dead_letter d
			WHERE d.id = dead_letter_edit.id) = 'consumer'
		THEN '{open,retrying}'::text[] ELSE '{open}' END, version);
	/* 64: a consumer's copy has the header ce_id, which the record may not have had. */
	copy_headers := outbox.dead_letter_copy_headers(letter, copy_id, dead_letter_edit.headers);
	PERFORM outbox.dead_letter_check_size(
		outbox.dead_letter_bytes(letter.key, dead_letter_edit.value, copy_headers),
		CASE letter.origin WHEN 'consumer'
			THEN outbox.dead_letter_bytes(letter.key, letter.value, letter.headers) + 64
			ELSE 0 END);

	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_check_topic(letter.topic, letter.key, letter.event_type,
			dead_letter_edit.value, letter.content_type, copy_headers);
	END IF;

	/* attempts: a member that read the letter as it was finds that it has changed. */
	UPDATE outbox.dead_letter d
	SET event_id = copy_id, value = dead_letter_edit.value,
		headers = copy_headers,
		state = CASE d.origin WHEN 'relay' THEN 'releasing' ELSE 'retrying' END,
		attempts = d.attempts + CASE d.origin WHEN 'relay' THEN 0 ELSE 1 END, unended = 0,
		troubles = 0, ends = 0, troubled_since = NULL,
		next_attempt_at = CASE d.origin WHEN 'consumer' THEN clock_timestamp() END,
		txid = NULL, seq = NULL, batch_no = NULL,
		resolved_by = session_user, reason = dead_letter_edit.reason, replay_of = original
	WHERE d.id = letter.id;
	/* The event left out of its batch stays left out (I7), a record redelivered is found. */
	INSERT INTO outbox.dead_letter (id, origin, consumer, topic, partition, "offset", key, value,
		content_type, headers, record_time, event_id, event_type, correlation_id, error_class,
		sqlstate, error_message, attempts, first_failed_at, last_failed_at, state, txid, seq,
		batch_no, reissue_txid, resolved_at, resolved_by, reason, note, version, replay_of)
	OVERRIDING SYSTEM VALUE
	VALUES (original, letter.origin, letter.consumer, letter.topic, letter.partition,
		letter."offset", letter.key, letter.value, letter.content_type, letter.headers,
		letter.record_time, letter.event_id, letter.event_type, letter.correlation_id,
		letter.error_class, letter.sqlstate, letter.error_message, letter.attempts,
		letter.first_failed_at, letter.last_failed_at, 'resolved', letter.txid, letter.seq,
		letter.batch_no, letter.reissue_txid, clock_timestamp(), session_user,
		dead_letter_edit.reason,
		format('edited: dead letter %s is the copy, event %s', letter.id, copy_id),
		letter.version + 1, letter.replay_of);
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_edit', reason,
		jsonb_build_object('version', letter.version, 'original', original,
			'copy_event_id', copy_id));
	RETURN original;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_edit(bigint, integer, bytea, text, outbox.header[]) IS
	'replays a dead letter with another content';

/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------------- replay
 *
 * outbox.replay_job: replays; the relay carries them out one after the other, the oldest first
 * (bgworker/replay/replay.c), and notes here in the transaction of the copies how far it is.
 *
 *	created_from, created_to	the events' created_at, end excluded
 *	topic, type, key	filters; NULL = all
 *	target_topic	NULL = the events' own
 *	consumer		the one it is for (header outbox-replay-group); NULL = all
 *	reprocess		consumers that had the event run it again
 *	rate			events a second, at most
 *	installation	whose transaction ids these are: a dump restored elsewhere does not go on
 *	snapshot, txid	events that snapshot sees, without those of the transaction that asked
 *	held, held_topics	events left out, for their topic is held apart and they were not sent
 *	timed_from		the oldest transaction whose commit time was kept when it began
 *	done_*			place of the last event copied, in the order of copying; NULL = none
 */
CREATE TABLE outbox.replay_job (
	id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	created_from timestamptz NOT NULL,
	created_to timestamptz NOT NULL,
	topic text,
	type text,
	key bytea,
	target_topic text,
	consumer text,
	reprocess boolean NOT NULL,
	rate integer NOT NULL,
	reason text,
	state text NOT NULL DEFAULT 'running'
		CHECK (state IN ('running', 'paused', 'done', 'cancelled', 'failed')),
	total bigint NOT NULL,
	replayed bigint NOT NULL DEFAULT 0,
	held bigint NOT NULL DEFAULT 0,
	held_topics text[] NOT NULL DEFAULT '{}',
	installation uuid NOT NULL,
	snapshot pg_snapshot NOT NULL,
	txid xid8 NOT NULL,
	timed_from xid8,
	done_rank smallint,
	done_order bigint,
	done_txid xid8,
	done_seq bigint,
	created_by name NOT NULL DEFAULT session_user,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started_at timestamptz,
	finished_at timestamptz,
	last_error text
);
CREATE INDEX replay_job_running ON outbox.replay_job (created_at, id) WHERE state = 'running';

/* At commit the relay looks at outbox.replay_job and outbox.topic_hold. */
CREATE FUNCTION outbox.ask_relay() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_ask_relay';

/* Raises unless the role that called replay() may emit to the topic; NULL may be. */
CREATE FUNCTION outbox.check_target(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_target';

/* Are the arguments of a replay in range?  SQLSTATE 22004: NULL; 22023: any other. */
CREATE FUNCTION outbox.check_replay("from" timestamptz, "to" timestamptz, consumer text,
	reprocess boolean, rate integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF "from" IS NULL OR "to" IS NULL OR reprocess IS NULL OR rate IS NULL THEN
		RAISE null_value_not_allowed USING
			MESSAGE = 'from, to, reprocess and rate of a replay must not be null',
			HINT = 'Use ''-infinity'' and ''infinity'' for all that is retained.';
	ELSIF "from" >= "to" THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'a replay must begin before it ends',
			DETAIL = format('It would hold events emitted from %s on and before %s.', "from", "to");
	ELSIF rate NOT BETWEEN 1 AND 100000 THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'rate of a replay is out of range',
			DETAIL = 'Allowed: 1 to 100000 events a second.';
	ELSIF octet_length(consumer) NOT BETWEEN 1 AND 255 THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'name of a consumer must have 1 to 255 bytes';
	ELSIF reprocess AND consumer IS NULL THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'a replay for re-processing must name its consumer',
			DETAIL = 'Every consumer of the topic would repeat its effects.',
			HINT = 'Give consumer => ''group'', or leave reprocess out.';
	END IF;
END
$$;

/*
 * Sends retained events again: copies with the same id, key, type, payload, created_at and headers,
 * and the headers outbox-replay-id, outbox-replay-group (with consumer) and outbox-replay-mode
 * (with reprocess).  "from" <= created_at < "to"; topic, type, key: NULL = all.  Copies are never
 * replayed.  Returns the number of events now; replay_id is NULL for a dry run, which changes
 * nothing.  Another target_topic than the events' own needs the caller's right to emit to it
 * (outbox.grant_topic).  Transactions still open are not part: their events come by themselves.
 */
CREATE FUNCTION outbox.replay("from" timestamptz, "to" timestamptz, topic text DEFAULT NULL,
	type text DEFAULT NULL, key text DEFAULT NULL, target_topic text DEFAULT NULL,
	consumer text DEFAULT NULL, reprocess boolean DEFAULT false, rate integer DEFAULT 1000,
	dry_run boolean DEFAULT false, reason text DEFAULT NULL,
	OUT replay_id uuid, OUT events bigint) RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key_bytes bytea := convert_to(key, 'UTF8');
	seen pg_snapshot;
	oldest timestamptz;
BEGIN
	PERFORM outbox.need('replay', ARRAY['dry_run', dry_run::text]);
	PERFORM outbox.check_replay("from", "to", consumer, reprocess, rate);
	IF target_topic IS DISTINCT FROM replay.topic THEN
		PERFORM outbox.check_target(target_topic);
	END IF;
	WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS now)
	SELECT s.now, c.number, c.first INTO seen, events, oldest
	FROM s, LATERAL (SELECT min(e.created_at) AS first,
			count(*) FILTER (WHERE e.created_at >= "from" AND e.created_at < "to"
				AND (replay.topic IS NULL OR e.topic = replay.topic)
				AND (replay.type IS NULL OR e.type = replay.type)
				AND (key_bytes IS NULL OR e.key = key_bytes)) AS number
		FROM outbox.event e
		WHERE e.copied_at IS NULL AND pg_visible_in_snapshot(e.txid, s.now)
			AND e.txid IS DISTINCT FROM pg_current_xact_id_if_assigned()) c;
	IF oldest IS NULL THEN
		RAISE NOTICE 'no event is retained';
	ELSIF oldest > "from" THEN
		RAISE NOTICE 'events are retained from % on', oldest;
	END IF;
	IF dry_run THEN
		RETURN;
	END IF;
	INSERT INTO outbox.replay_job (created_from, created_to, topic, type, key, target_topic,
		consumer, reprocess, rate, reason, total, installation, snapshot, txid)
	SELECT "from", "to", replay.topic, replay.type, key_bytes, replay.target_topic, replay.consumer,
		replay.reprocess, replay.rate, replay.reason, events, i.id, seen, pg_current_xact_id()
	FROM outbox.installation i
	RETURNING id INTO replay_id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('replay', 'replay ' || replay_id, replay.reason, jsonb_strip_nulls(jsonb_build_object(
		'from', "from", 'to', "to", 'topic', replay.topic, 'type', replay.type, 'key', replay.key,
		'target_topic', replay.target_topic, 'consumer', replay.consumer,
		'reprocess', replay.reprocess, 'rate', replay.rate, 'events', events)));
	PERFORM outbox.ask_relay();
END
$$;

/*
 * Gives a replay another state and writes the audit; what replay_pause, _resume and _cancel share.
 */
CREATE FUNCTION outbox.change_replay(replay_id uuid, action text, allowed text[], wanted text,
	reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	job outbox.replay_job;
BEGIN
	IF replay_id IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'replay_id of a replay must not be null',
			HINT = 'See outbox.replays.';
	END IF;
	SELECT * INTO job FROM outbox.replay_job j WHERE j.id = change_replay.replay_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE undefined_object USING
			MESSAGE = format('there is no replay %s', replay_id),
			HINT = 'See outbox.replays.';
	ELSIF job.state <> ALL (allowed) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('replay %s is %s', replay_id, job.state),
			DETAIL = format('It must be %s.', array_to_string(allowed, ' or '));
	ELSIF wanted = 'running' AND NOT EXISTS (SELECT FROM outbox.installation i
		WHERE i.id = job.installation) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('replay %s belongs to the database this one was restored '
				'or copied from', replay_id),
			HINT = 'Call outbox.replay() again.';
	END IF;
	UPDATE outbox.replay_job j
	SET state = wanted, last_error = CASE WHEN wanted <> 'running' THEN j.last_error END,
		finished_at = CASE WHEN wanted = 'cancelled' THEN clock_timestamp() END
	WHERE j.id = change_replay.replay_id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES (change_replay.action, 'replay ' || replay_id, change_replay.reason,
		jsonb_build_object('replayed', job.replayed, 'of', job.total));
	PERFORM outbox.ask_relay();
END
$$;

/* The relay stops at once, between two transactions; replay_resume goes on where it was. */
CREATE FUNCTION outbox.replay_pause(replay_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_pause', '{running}', 'paused', reason);
END
$$;

CREATE FUNCTION outbox.replay_resume(replay_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_resume', '{paused,failed}', 'running', reason);
END
$$;

/* For good; what was copied so far is sent. */
CREATE FUNCTION outbox.replay_cancel(replay_id uuid, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_cancel', '{running,paused,failed}', 'cancelled',
		reason);
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------ topics held apart
 *
 * A held topic's events are left out of the batches, and come back as copies in their order.  The
 * relay writes all three tables but for what topic_hold() and topic_release() ask for.
 */

/*
 * outbox.topic_hold: holds, the ended ones too.
 *
 *	cause		leader		a partition has no leader; ends by itself
 *				operator	topic_hold(); topic_release() ends it
 *				refused		Kafka takes nothing for the topic (dead_letter_policy hold_topic);
 *							topic_release() ends it
 *	partition	cause leader: the first without a leader
 *	state		held		its events are left out
 *				releasing	they come back as copies; new ones are left out still
 *				ended
 *	ended_txid	the transaction of the last copy; what commits behind it is sent as usual.  NULL
 *				after a restore, too
 *	copied		events that came back; NULL until it has ended
 */
CREATE TABLE outbox.topic_hold (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic text NOT NULL,
	cause text NOT NULL CHECK (cause IN ('leader', 'operator', 'refused')),
	partition integer,
	reason text NOT NULL,
	state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'releasing', 'ended')),
	held_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	held_by name NOT NULL DEFAULT session_user,
	released_at timestamptz,
	released_by name,
	ended_at timestamptz,
	ended_txid xid8,
	copied bigint
);
CREATE UNIQUE INDEX topic_hold_topic ON outbox.topic_hold (topic) WHERE state <> 'ended';

/*
 * outbox.topic_hold_batch: what a hold left out of a batch (I7), written with the batch's row or
 * before the batch is sent again.  A batch leaves out the events of the hold's topic exactly when
 * there is a row, but for the hold's own copies (outbox.topic_hold_copy).
 *
 *	lower ... upper_seq	the batch's range, as in outbox.batch, whose rows go earlier
 *	events, bytes		left out; bytes as src/backlog.h counts them
 *	oldest_at			when the oldest of them was emitted, or copied
 */
CREATE TABLE outbox.topic_hold_batch (
	hold bigint NOT NULL,
	batch_no bigint NOT NULL,
	lower pg_snapshot NOT NULL,
	upper pg_snapshot NOT NULL,
	lower_txid xid8,
	lower_seq bigint,
	upper_txid xid8,
	upper_seq bigint,
	events integer NOT NULL,
	bytes bigint NOT NULL,
	oldest_at timestamptz NOT NULL,
	PRIMARY KEY (hold, batch_no)
);
CREATE INDEX topic_hold_batch_no ON outbox.topic_hold_batch (batch_no);

/*
 * outbox.topic_hold_copy: transactions of a hold's copies.
 *
 *	txid			the transaction
 *	last_batch, last_txid, last_seq	the last event it copied, and of which batch
 *	refused_batch	the batch that its copies are left out of, as Kafka did not take them or an
 *					earlier copy: they are copied again; -1: they are in none yet; NULL: none
 */
CREATE TABLE outbox.topic_hold_copy (
	hold bigint NOT NULL,
	txid xid8 PRIMARY KEY,
	last_batch bigint NOT NULL,
	last_txid xid8 NOT NULL,
	last_seq bigint NOT NULL,
	copies integer NOT NULL,
	bytes bigint NOT NULL,
	refused_batch bigint
);
CREATE INDEX topic_hold_copy_hold ON outbox.topic_hold_copy (hold, txid);

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ topics held: actions
 *
 * What persons do with holds (grant_operate gives the right), noted in outbox.audit.  They only
 * change outbox.topic_hold; the relay sees it between two batches.
 */

/*
 * Locks the topic until the transaction ends, against whoever begins or changes a hold of it.
 * patient false (the relay): false when somebody has it locked.
 */
CREATE FUNCTION outbox.topic_hold_lock(topic text, patient boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	names CONSTANT text[] := ARRAY[topic,
		CASE WHEN right(topic, 4) = '.DLT' THEN left(topic, -4) END];
	locked integer;
BEGIN
	IF patient THEN
		PERFORM FROM outbox.topic t WHERE t.name = ANY (names) ORDER BY t.name FOR UPDATE;
		PERFORM FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended' FOR UPDATE;
		RETURN true;
	END IF;
	SELECT count(*) INTO locked FROM (SELECT FROM outbox.topic t WHERE t.name = ANY (names)
		FOR UPDATE SKIP LOCKED) l;
	IF locked < (SELECT count(*) FROM outbox.topic t WHERE t.name = ANY (names)) THEN
		RETURN false;
	END IF;
	SELECT count(*) INTO locked FROM (SELECT FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended' FOR UPDATE SKIP LOCKED) l;
	RETURN locked = (SELECT count(*) FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended');
END
$$;

/*
 * Holds the topic: its events are left out of the batches from the next one on and wait, in their
 * order, until topic_release().  A hold that the relay began becomes a person's, which does not end
 * by itself; one that is being released is held again.  SQLSTATE 22004: no topic or reason; 42704:
 * it is neither declared nor held.
 */
CREATE FUNCTION outbox.topic_hold(topic text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hold outbox.topic_hold;
	number bigint;
BEGIN
	PERFORM outbox.need('topic_hold', ARRAY['topic', topic]);
	PERFORM outbox.dead_letter_need_reason(reason, 'to hold a topic');
	PERFORM outbox.topic_hold_lock(topic, true);
	SELECT * INTO hold FROM outbox.topic_hold h
	WHERE h.topic = topic_hold.topic AND h.state <> 'ended';
	IF hold.id IS NULL AND NOT EXISTS (SELECT FROM outbox.topic t
			WHERE t.name = topic_hold.topic OR t.name || '.DLT' = topic_hold.topic) THEN
		RAISE undefined_object USING
			MESSAGE = format('topic "%s" is not declared', topic),
			HINT = 'outbox.topic lists the declared ones.';
	END IF;
	IF hold.cause = 'operator' AND hold.state = 'held' THEN
		RAISE NOTICE 'topic "%" is held already, by % since %', topic, hold.held_by, hold.held_at;
		RETURN;
	END IF;
	IF hold.id IS NULL THEN
		INSERT INTO outbox.topic_hold (topic, cause, reason)
		VALUES (topic_hold.topic, 'operator', topic_hold.reason) RETURNING id INTO number;
	ELSE
		number := hold.id;
		UPDATE outbox.topic_hold h
		SET state = 'held', cause = 'operator', partition = NULL, reason = topic_hold.reason,
			held_by = session_user, released_at = NULL, released_by = NULL
		WHERE h.id = number;
	END IF;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('topic_hold', format('topic %s', topic), topic_hold.reason,
		jsonb_strip_nulls(jsonb_build_object('hold', number, 'cause', hold.cause,
			'state', hold.state)));
	PERFORM outbox.ask_relay();
END
$$;
COMMENT ON FUNCTION outbox.topic_hold(text, text) IS
	'leaves a topic''s events out of the batches until topic_release()';

/*
 * Ends a hold, whoever began it: what it left out is sent in its order, and only then what was
 * emitted meanwhile and later.  A partition that still has no leader, and a topic that Kafka
 * refuses with dead_letter_policy hold_topic, is held again.  SQLSTATE 22004: no topic; 55000: it
 * is not held.
 */
CREATE FUNCTION outbox.topic_release(topic text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hold outbox.topic_hold;
BEGIN
	PERFORM outbox.need('topic_release', ARRAY['topic', topic]);
	PERFORM outbox.topic_hold_lock(topic, true);
	SELECT * INTO hold FROM outbox.topic_hold h
	WHERE h.topic = topic_release.topic AND h.state <> 'ended';
	IF hold.id IS NULL THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('topic "%s" is not held', topic),
			HINT = 'outbox.topic_holds lists the holds.';
	ELSIF hold.state = 'releasing' THEN
		RAISE NOTICE 'topic "%" is being released already', topic;
		RETURN;
	END IF;
	UPDATE outbox.topic_hold h
	SET state = 'releasing', released_at = clock_timestamp(), released_by = session_user
	WHERE h.id = hold.id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('topic_release', format('topic %s', topic), topic_release.reason,
		jsonb_build_object('hold', hold.id, 'cause', hold.cause));
	PERFORM outbox.ask_relay();
END
$$;
COMMENT ON FUNCTION outbox.topic_release(text, text) IS
	'sends what a hold of the topic left out, in its order, and ends the hold';

/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- topics held: the relay
 *
 * What the relay does with holds that is more than a statement.
 */

/*
 * After a restore from a dump, whose transaction ids are another server's: of topics that are held
 * the events that wait get txid 5 and come again; copies that must not come, for they are refused
 * or their events come again, get 4.  delivered: transactions that Kafka has; NULL: all.  No hold
 * has left out anything afterwards, nor ended with a transaction of this server.
 */
CREATE FUNCTION outbox.topic_hold_restamp(delivered pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.event e SET txid = '4'
	FROM outbox.topic_hold_copy c JOIN outbox.topic_hold h ON h.id = c.hold
	WHERE e.txid = c.txid AND e.topic = h.topic AND (c.refused_batch IS NOT NULL
		OR (h.state <> 'ended' AND NOT pg_visible_in_snapshot(c.txid, delivered)));
	UPDATE outbox.event e SET txid = '5'
	FROM outbox.topic_hold_batch b JOIN outbox.topic_hold h ON h.id = b.hold
	WHERE h.state <> 'ended' AND e.topic = h.topic
		AND e.txid >= pg_snapshot_xmin(b.lower)
		AND e.txid <= greatest(pg_snapshot_xmax(b.upper), b.upper_txid)
		AND (pg_visible_in_snapshot(e.txid, b.upper)
			OR coalesce(e.txid = b.upper_txid AND e.seq <= b.upper_seq, false))
		AND NOT pg_visible_in_snapshot(e.txid, b.lower)
		AND NOT coalesce(e.txid = b.lower_txid AND e.seq <= b.lower_seq, false)
		AND NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.txid = e.txid AND d.seq = e.seq)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
			WHERE c.hold = h.id AND c.txid = e.txid)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
				JOIN outbox.event x ON x.txid = c.txid AND x.id = e.id
			WHERE c.hold = h.id)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
				JOIN outbox.dead_letter d ON d.txid = c.txid AND d.event_id = e.id
					AND d.origin = 'relay'
			WHERE c.hold = h.id);
	UPDATE outbox.topic_hold SET ended_txid = NULL WHERE ended_txid IS NOT NULL;
	DELETE FROM outbox.topic_hold_copy;
	DELETE FROM outbox.topic_hold_batch;
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ bytes and names as text
 *
 * What views and people are shown of what may be no text in the database's encoding.
 */

/*
 * Text when the bytes are UTF-8, else \x and hex digits.  Characters that the database's encoding
 * lacks are written as JSON would: \u20ac.
 */
CREATE FUNCTION outbox.bytes_text(bytea) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_bytes_text';

/* Headers in Kafka's encoding as rows, in their order.  SQLSTATE 22023: the bytes are none. */
CREATE FUNCTION outbox.headers_decode(bytea) RETURNS SETOF outbox.header
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_headers_decode';

/* Would headers_decode take the bytes? */
CREATE FUNCTION outbox.headers_readable(bytea) RETURNS boolean
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_headers_readable';

/*
 * The value of the first header of that name in any case of letters; name: ASCII.  As a consumer
 * reads a correlation id, so that both find one flow: what is no character here, and control
 * characters, as % and two hex digits a byte; at most 256 bytes.  NULL: there is none, it has no
 * value, or the bytes are not headers.
 */
CREATE FUNCTION outbox.header_value(headers bytea, name text) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_header_value';

/*
 * The name of a database or role; bytes that are no text here, as in a name given in another
 * encoding, as \x and hex digits.
 */
CREATE FUNCTION outbox.name_text(name) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_name_text';

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ what topic holds hold
 *
 * How much each leaves out, and whether an event is.
 */

/*
 * Topics held apart, the ended holds too; both lists of a hold are read once, those of an ended one
 * not at all.
 *
 *	events, bytes	left out and not copied yet
 *	oldest_at		of the oldest of them, or of one of its batch; NULL: none
 *	copied			events that came back
 */
CREATE VIEW outbox.topic_holds AS
	SELECT h.topic, h.cause, h.partition, h.reason, h.state, h.held_at,
		outbox.name_text(h.held_by) AS held_by, coalesce(l.events, 0) - c.copies AS events,
		coalesce(l.bytes, 0) - c.bytes AS bytes,
		CASE WHEN l.events_copied > c.copies THEN least(l.oldest_copied, l.oldest_left)
			ELSE l.oldest_left END AS oldest_at,
		coalesce(h.copied, c.copies) AS copied, h.released_at,
		outbox.name_text(h.released_by) AS released_by, h.ended_at
	FROM outbox.topic_hold h
		CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.sum(copies), 0)::bigint AS copies,
				coalesce(pg_catalog.sum(bytes), 0)::bigint AS bytes,
				coalesce(pg_catalog.max(last_batch), -1) AS last_batch
			FROM outbox.topic_hold_copy
			WHERE h.state <> 'ended' AND hold = h.id AND refused_batch IS NULL) c
		CROSS JOIN LATERAL (SELECT pg_catalog.sum(events)::bigint AS events,
				pg_catalog.sum(bytes)::bigint AS bytes,
				pg_catalog.sum(events) FILTER (WHERE batch_no <= c.last_batch) AS events_copied,
				pg_catalog.min(oldest_at) FILTER (WHERE batch_no = c.last_batch) AS oldest_copied,
				pg_catalog.min(oldest_at) FILTER (WHERE batch_no > c.last_batch) AS oldest_left
			FROM outbox.topic_hold_batch
			WHERE h.state <> 'ended' AND hold = h.id) l;

/*
 * Has a topic hold left the event out?  No row: no.  The copy of it that is not refused; NULL: none
 * yet.  Rows of a hold go when all it copied is delivered: no row then either, its events are sent.
 */
CREATE FUNCTION outbox.topic_hold_event(topic text, id uuid, txid xid8, seq bigint)
RETURNS TABLE (copy_txid xid8, copy_seq bigint)
LANGUAGE plpgsql STRICT STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held record;
BEGIN
	SELECT c.hold, c.refused_batch INTO held FROM outbox.topic_hold_copy c
	WHERE c.txid = topic_hold_event.txid;
	IF held.refused_batch IS NOT NULL THEN
		RETURN QUERY SELECT NULL::xid8, NULL::bigint;
		RETURN;
	END IF;
	-- the first batch that reaches the event has it, or one before the hold had
	SELECT h.id AS hold, l.batch_no INTO held
	FROM outbox.topic_hold h
		CROSS JOIN LATERAL (SELECT b.* FROM outbox.topic_hold_batch b
			WHERE b.hold = h.id AND (pg_visible_in_snapshot(topic_hold_event.txid, b.upper)
				OR (topic_hold_event.txid = b.upper_txid AND topic_hold_event.seq <= b.upper_seq))
			ORDER BY b.batch_no LIMIT 1) l
	WHERE h.topic = topic_hold_event.topic AND h.id IS DISTINCT FROM held.hold
		AND (pg_visible_in_snapshot(topic_hold_event.txid, l.lower)
			OR (topic_hold_event.txid = l.lower_txid
				AND topic_hold_event.seq <= l.lower_seq)) IS NOT TRUE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT c.txid, c.seq
	FROM (SELECT 1) one
		LEFT JOIN LATERAL (SELECT e.txid, e.seq
			FROM (SELECT t.txid, t.last_batch,
						lag(t.last_batch, 1, -1::bigint) OVER (ORDER BY t.txid) AS first_batch
					FROM outbox.topic_hold_copy t
					WHERE t.hold = held.hold AND t.refused_batch IS NULL) t
				CROSS JOIN LATERAL (SELECT e.txid, e.seq, e.id FROM outbox.event e
					WHERE e.txid = t.txid OFFSET 0) e
			WHERE held.batch_no BETWEEN t.first_batch AND t.last_batch
				AND e.id = topic_hold_event.id
			LIMIT 1) c ON true;
END $$;

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------------------ views
 *
 * What people and programs look at: relay, batches, backlog, dead letters, flows, events, replays.
 */

/* Batches, the retained ones; columns as of outbox.batch. */
CREATE VIEW outbox.batches AS
	SELECT b.batch_no, b.events, b.lower, b.upper, b.lower_txid, b.lower_seq,
		b.upper_txid, b.upper_seq, b.txid, b.timeline, b.prepared_at
	FROM outbox.batch b;

/*
 * The last batch known delivered: the one before the last while it is not known.  It and
 * reached_batch are found once in a query, whatever else the plan repeats for each event (for which
 * it needs no more than stale statistics).
 */
CREATE VIEW outbox.delivered_batch AS
	WITH found AS MATERIALIZED (
		SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
		FROM outbox.relay_slot() s,
			LATERAL (SELECT max(batch_no) AS batch_no FROM outbox.batch) l,
			LATERAL (SELECT * FROM outbox.batch
					WHERE batch_no <= coalesce(s.delivered_batch, greatest(l.batch_no - 1, 0))
					ORDER BY batch_no DESC LIMIT 1) b
		UNION ALL
		SELECT -1, '3:3:', NULL, NULL
		WHERE NOT EXISTS (SELECT FROM outbox.batch))
	SELECT f.batch_no, f.upper, f.upper_txid, f.upper_seq FROM found f;

/*
 * The last batch that may be delivered: the newest while it is not known, as when no relay has run
 * since the server's start.  No row on a standby, which knows nothing of it.
 */
CREATE VIEW outbox.reached_batch AS
	WITH found AS MATERIALIZED (
		SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
		FROM outbox.relay_slot() s,
			LATERAL (SELECT * FROM outbox.batch
					WHERE batch_no <= coalesce(s.delivered_batch, 9223372036854775807)
					ORDER BY batch_no DESC LIMIT 1) b
		WHERE s.state <> 'standby'
		UNION ALL
		SELECT -1, '3:3:', NULL, NULL
		WHERE NOT EXISTS (SELECT FROM outbox.batch) AND NOT pg_catalog.pg_is_in_recovery())
	SELECT f.batch_no, f.upper, f.upper_txid, f.upper_seq FROM found f;

/*
 * Events known to wait (I1: two index scans); none on a standby.  OFFSET 0: the events are looked
 * up by the batch and its list, never the list for each event.  What a topic hold has left out is
 * not among them, its copies are: see outbox.topic_holds.
 */
CREATE VIEW outbox.unsent AS
	SELECT w.*
	FROM outbox.reached_batch d
		CROSS JOIN LATERAL (SELECT * FROM outbox.event e
				WHERE e.txid >= pg_catalog.pg_snapshot_xmax(d.upper)
					AND (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
				OFFSET 0) w
	UNION ALL
	SELECT w.*
	FROM outbox.reached_batch d
		CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
		CROSS JOIN LATERAL (SELECT * FROM outbox.event e
				WHERE e.txid = x.txid
					AND (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
				OFFSET 0) w;

/* Events of outbox.unsent, by topic; bytes: of keys and payloads. */
CREATE VIEW outbox.backlog AS
	SELECT u.topic, pg_catalog.count(*) AS events,
		pg_catalog.sum(coalesce(pg_catalog.length(u.key), 0)
			+ coalesce(pg_catalog.length(u.payload), 0))::bigint AS bytes,
		pg_catalog.min(coalesce(u.copied_at, u.created_at)) AS oldest_created_at,
		pg_catalog.clock_timestamp() - pg_catalog.min(coalesce(u.copied_at, u.created_at))
			AS oldest_age
	FROM outbox.unsent u
	GROUP BY u.topic;

/* Dead letters without what the records hold.  blocked_by, reissue_txid: see outbox.dead_letter. */
CREATE VIEW outbox.dead_letters AS
	SELECT d.id, d.origin, d.consumer, d.state, d.topic, outbox.bytes_text(d.key) AS key,
		d.event_id, d.event_type, d.error_class, d.sqlstate, d.error_message, d.attempts,
		d.blocked_by, d.first_failed_at, d.last_failed_at, d.next_attempt_at, d.batch_no,
		d.reissue_txid, d.resolved_at, outbox.name_text(d.resolved_by) AS resolved_by, d.reason,
		d.note, d.fingerprint, d.version, d.replay_of
	FROM outbox.dead_letter d;

/* Dead letters not done with, by kind; error_message: that of the newest. */
CREATE VIEW outbox.dead_letter_groups AS
	SELECT g.fingerprint, g.origin, g.consumer, g.topic, g.error_class, g.sqlstate,
		(SELECT d.error_message FROM outbox.dead_letter d WHERE d.id = g.newest) AS error_message,
		g.open, g.retrying, g.held, g.releasing, g.first_failed_at, g.last_failed_at,
		pg_catalog.clock_timestamp() - g.first_failed_at AS oldest_age
	FROM (SELECT d.fingerprint, d.origin, d.consumer, d.topic, d.error_class, d.sqlstate,
				pg_catalog.max(d.id) AS newest,
				pg_catalog.count(*) FILTER (WHERE d.state = 'open') AS open,
				pg_catalog.count(*) FILTER (WHERE d.state = 'retrying') AS retrying,
				pg_catalog.count(*) FILTER (WHERE d.state = 'held') AS held,
				pg_catalog.count(*) FILTER (WHERE d.state = 'releasing') AS releasing,
				pg_catalog.min(d.first_failed_at) AS first_failed_at,
				pg_catalog.max(d.last_failed_at) AS last_failed_at
		FROM outbox.dead_letter d
		WHERE d.state IN ('retrying', 'held', 'open', 'releasing')
		GROUP BY d.fingerprint, d.origin, d.consumer, d.topic, d.error_class, d.sqlstate) g;

/* Their number, and the seconds since the oldest one failed first; no row: none. */
CREATE VIEW outbox.dead_letter_depth AS
	SELECT d.origin, d.consumer, d.topic, d.state, pg_catalog.count(*) AS number,
		greatest(0, extract(epoch FROM pg_catalog.clock_timestamp()
			- pg_catalog.min(d.first_failed_at)))::double precision AS oldest_seconds
	FROM outbox.dead_letter d
	WHERE d.state IN ('retrying', 'held', 'open', 'releasing')
	GROUP BY d.origin, d.consumer, d.topic, d.state;

/*
 * batch_no: the last one.  oldest_unsent_age: of the oldest transaction's first event of
 * outbox.unsent; NULL = none, or, on a standby, not known.  dead_letters_open: the relay's own that
 * a person must decide; keys_held: keys of which events wait behind one.  topics_held: topics held
 * apart; events_held: what was left out for it and not copied yet.
 */
CREATE VIEW outbox.relay_status AS
	SELECT outbox.name_text(pg_catalog.current_database()) AS database, s.state, s.hold_reason,
		s.pid, s.sender_pid, (SELECT pg_catalog.max(batch_no) FROM outbox.batch) AS batch_no,
		s.delivered_batch, s.events_sent, s.bytes_sent, s.batches_sent, s.events_refused,
		s.recoveries, s.suspect_transactions, s.possibly_doubled, s.refusal_rounds, s.rotations,
		s.rotations_refused,
		pg_catalog.clock_timestamp() - least(
			(SELECT e.waits_since
			FROM outbox.reached_batch d
				CROSS JOIN LATERAL (SELECT coalesce(copied_at, created_at) AS waits_since
					FROM outbox.event
					WHERE txid >= pg_catalog.pg_snapshot_xmax(d.upper)
						AND (txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
					ORDER BY txid LIMIT 1) e),
			(SELECT pg_catalog.min(e.waits_since)
			FROM outbox.reached_batch d
				CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
				CROSS JOIN LATERAL (SELECT coalesce(copied_at, created_at) AS waits_since
					FROM outbox.event
					WHERE txid = x.txid
						AND (txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
					LIMIT 1) e)) AS oldest_unsent_age,
		s.backlog_bytes, s.started_at, s.delivered_at, s.last_error, s.last_error_at,
		s.recovered_at, s.delivery, s.order_mode, s.kafka,
		(SELECT pg_catalog.count(*) FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'open') AS dead_letters_open,
		(SELECT pg_catalog.count(*) FROM outbox.dead_letter_keys(false, 1000000)) AS keys_held,
		d.topics_held, d.events_held
	FROM outbox.relay_slot() s
		CROSS JOIN (SELECT pg_catalog.count(*) AS topics_held,
				coalesce(pg_catalog.sum(events), 0)::bigint AS events_held
			FROM outbox.topic_holds WHERE state <> 'ended') d;

/*
 * The databases of the server, whichever one asks: a row with waiting_since and no pid has events
 * that nobody relays.
 */
CREATE VIEW outbox.databases AS
	SELECT outbox.name_text(d.datname) AS database, s.wanted, s.state, s.hold_reason, s.pid,
		s.sender_pid, s.waiting_since,
		pg_catalog.clock_timestamp() - s.waiting_since AS waiting_age, s.delivered_at,
		s.last_error, s.last_error_at, s.recovered_at
	FROM outbox.database_slots() s
		JOIN pg_catalog.pg_database d ON d.oid = s.database;

/*
 * What became of a flow in this database, without what the records hold: WHERE correlation_id = ...
 * reads the ring and the dead letters once, no index serves it.
 *
 *	source	event			emitted here; state waiting, sent, dead_letter: refused or held, see the
 *							letter, or held: its topic is, and no copy of it sent yet (a copy has a
 *							row of its own); NULL: not known here, as on a standby
 *			dead_letter		origin relay or, with its consumer, origin consumer; state as there
 *	at		when emitted, or last failed
 *
 * Without rows of holds, which is the rule, no event is asked of them.
 */
CREATE VIEW outbox.flow AS
	SELECT outbox.header_value(e.headers, 'correlationid') AS correlation_id,
		coalesce(e.copied_at, e.created_at) AS at, 'event' AS source,
		CASE WHEN EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.txid = e.txid AND d.seq = e.seq) THEN 'dead_letter'
			WHEN (pg_catalog.pg_visible_in_snapshot(e.txid, b.upper)
				OR (e.txid = b.upper_txid AND e.seq <= b.upper_seq)) THEN
				coalesce((SELECT CASE
						WHEN EXISTS (SELECT FROM outbox.dead_letter d WHERE d.origin = 'relay'
							AND d.txid = h.copy_txid AND d.seq = h.copy_seq) THEN 'dead_letter'
						WHEN (pg_catalog.pg_visible_in_snapshot(h.copy_txid, b.upper)
							OR (h.copy_txid = b.upper_txid AND h.copy_seq <= b.upper_seq))
							THEN 'sent'
						ELSE 'held' END
					FROM outbox.topic_hold_event(e.topic, e.id, e.txid, e.seq) h
					WHERE (SELECT EXISTS (SELECT FROM outbox.topic_hold_batch)
						OR EXISTS (SELECT FROM outbox.topic_hold_copy))), 'sent')
			WHEN NOT (pg_catalog.pg_visible_in_snapshot(e.txid, r.upper)
				OR (e.txid = r.upper_txid AND e.seq <= r.upper_seq) IS TRUE) THEN 'waiting'
		END AS state,
		e.topic, outbox.bytes_text(e.key) AS key, e.type, e.id AS event_id, NULL::text AS consumer
	FROM outbox.event e CROSS JOIN outbox.delivered_batch b LEFT JOIN outbox.reached_batch r ON true
	UNION ALL
	SELECT coalesce(d.correlation_id, outbox.header_value(d.headers, 'correlationid')),
		d.last_failed_at, 'dead_letter', d.state, d.topic, outbox.bytes_text(d.key),
		d.event_type, d.event_id, d.consumer
	FROM outbox.dead_letter d;

/* headers: an array in their order; of bytes that are none a string. */
CREATE VIEW outbox.events AS
	SELECT e.txid, e.seq, e.segment, e.id, e.topic, outbox.bytes_text(e.key) AS key, e.type,
		outbox.bytes_text(e.payload) AS payload, e.content_type,
		CASE WHEN outbox.headers_readable(e.headers) IS NOT FALSE THEN
			(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
				'name', h.name, 'value', outbox.bytes_text(h.value)) ORDER BY h.place)
			FROM outbox.headers_decode(e.headers) WITH ORDINALITY h(name, value, place))
			ELSE pg_catalog.to_jsonb(outbox.bytes_text(e.headers)) END AS headers,
		e.created_at, e.copied_at
	FROM outbox.event e;

/* eta: what is left, at the rate; NULL unless running. */
CREATE VIEW outbox.replays AS
	SELECT j.id AS replay_id, j.state, j.replayed, j.total,
		round(100.0 * j.replayed / nullif(j.total, 0), 1) AS percent, j.rate,
		CASE WHEN j.state = 'running' THEN
			pg_catalog.make_interval(secs => (j.total - j.replayed)::double precision / j.rate)
		END AS eta,
		j.created_from, j.created_to, j.topic, j.type, outbox.bytes_text(j.key) AS key,
		j.target_topic, j.consumer, j.reprocess, outbox.name_text(j.created_by) AS created_by,
		j.reason, j.created_at, j.started_at, j.finished_at, j.last_error
	FROM (SELECT r.id,
			CASE WHEN r.installation = i.id OR r.state NOT IN ('running', 'paused') THEN r.state
				ELSE 'failed' END AS state,
			CASE WHEN r.installation = i.id OR r.state NOT IN ('running', 'paused')
				THEN r.last_error
				ELSE 'restored or copied from another database: call outbox.replay() again'
			END AS last_error,
			r.replayed, r.total, r.rate, r.created_from, r.created_to, r.topic, r.type, r.key,
			r.target_topic, r.consumer, r.reprocess, r.created_by, r.reason, r.created_at,
			r.started_at, r.finished_at
		FROM outbox.replay_job r CROSS JOIN outbox.installation i) j;

/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------- tables that nobody changes
 *
 * outbox.event, outbox.batch and outbox.audit are insert-only; rows that logical replication
 * applies to them, or to outbox.installation, are dropped.
 */

/* Both are explained in src/guard.c. */
CREATE FUNCTION outbox.refuse_change() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_refuse_change';
CREATE FUNCTION outbox.drop_replicated() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_drop_replicated';

DO $$
DECLARE
	guarded regclass;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['outbox.event', 'outbox.batch', 'outbox.audit',
		'outbox.installation'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER drop_replicated
			BEFORE INSERT OR UPDATE OR DELETE ON %s
			FOR EACH ROW EXECUTE FUNCTION outbox.drop_replicated()', guarded);
	END LOOP;
	FOR guarded IN SELECT coalesce(p.relid, t.root)
		FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.batch',
			'outbox.audit']::regclass[]) t(root)
		LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.root) p ON true LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE REPLICA TRIGGER drop_replicated',
			guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_change
			BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()', guarded);
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER refuse_change',
			guarded);
	END LOOP;
	ALTER TABLE outbox.installation ENABLE REPLICA TRIGGER drop_replicated;
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- replica identity
 *
 * A publication FOR ALL TABLES, or of this schema, forbids UPDATE and DELETE in tables without a
 * replica identity.  Primary keys are one; all others get FULL, which is written to WAL at
 * wal_level logical alone, for each row that is changed or deleted.  Roots of partitions as well,
 * and their leaves in the same way, for a publication with publish_via_partition_root sends the
 * root's.
 */
DO $$
DECLARE
	identified regclass;
BEGIN
	FOR identified IN SELECT c.oid FROM pg_catalog.pg_class c
			WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p') AND
				(c.relispartition OR NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisprimary)) ORDER BY c.oid LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', identified);
	END LOOP;
END
$$;

/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------- configuration tables
 *
 * What pg_dump takes along: all but outbox.installation, which says whose database this is; leaves
 * as their root.  One statement for each: two in one SELECT fail with "tuple already updated by
 * self".
 */
DO $$
DECLARE
	kept regclass;
BEGIN
	FOR kept IN SELECT coalesce(p.relid, t.root)
		FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.event_seq', 'outbox.batch',
			'outbox.topic', 'outbox.dead_letter', 'outbox.dead_letter_id_seq', 'outbox.audit',
			'outbox.audit_id_seq', 'outbox.replay_job', 'outbox.idempotency',
			'outbox.consumer_offset', 'outbox.consumer_attempt', 'outbox.consumer_trouble',
			'outbox.consumer_anchor', 'outbox.topic_hold', 'outbox.topic_hold_id_seq',
			'outbox.topic_hold_batch', 'outbox.topic_hold_copy']::regclass[]) t(root)
		LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.root) p ON true LOOP
		PERFORM pg_catalog.pg_extension_config_dump(kept, '');
	END LOOP;
END
$$;
/* Rows that count: what dropped roles have left would be somebody else's elsewhere. */
SELECT pg_catalog.pg_extension_config_dump('outbox.topic_grant',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_namespace n
		CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
		JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE n.nspname = ''outbox'' AND r.oid = topic_grant.grantee)');

/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------------- rights
 *
 * Nothing to PUBLIC.  grant_topic, grant_consume, grant_watch and grant_operate give
 * rights to roles, revoke_topic, revoke_consume, revoke_watch and revoke_operate take
 * them back; the schema stays usable, for a role may have several of them.
 */

/* The lists; change is 'GRANT ... TO' or 'REVOKE ... FROM' with three dots. */
CREATE FUNCTION outbox.change_operate(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.start_relay(), outbox.stop_relay(), outbox.adopt(text), outbox.relay_slot(),
		outbox.database_slots(), outbox.declare_topic, outbox.grant_topic, outbox.revoke_topic,
		outbox.dead_letter_replay, outbox.dead_letter_discard, outbox.dead_letter_restore,
		outbox.dead_letter_replay_where, outbox.dead_letter_discard_where,
		outbox.dead_letter_restore_where, outbox.dead_letter_edit, outbox.dead_letter_purge,
		outbox.consumer_skip, outbox.dead_letter_note, outbox.dead_letter_keys, outbox.bytes_text,
		outbox.headers_decode, outbox.headers_readable, outbox.header_value, outbox.name_text,
		outbox.topic_hold_event, outbox.topic_hold(text, text), outbox.topic_release(text, text),
		outbox.replay, outbox.replay_pause, outbox.replay_resume, outbox.replay_cancel') || ' %s',
		outbox.role_identifier(role));
	EXECUTE format(replace(change, '...', 'SELECT ON
		outbox.relay_status, outbox.databases, outbox.backlog, outbox.batches, outbox.audit,
		outbox.dead_letters, outbox.dead_letter_groups, outbox.dead_letter_depth, outbox.flow,
		outbox.topic_holds, outbox.replays') || ' %s', outbox.role_identifier(role));
END
$$;
CREATE FUNCTION outbox.change_watch(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.relay_slot(), outbox.database_slots(), outbox.dead_letter_keys, outbox.bytes_text,
		outbox.name_text') || ' %s', outbox.role_identifier(role));
	EXECUTE format(replace(change, '...', 'SELECT ON
		outbox.relay_status, outbox.databases, outbox.backlog, outbox.batches,
		outbox.dead_letter_groups, outbox.dead_letter_depth, outbox.topic_holds,
		outbox.replays') || ' %s', outbox.role_identifier(role));
END
$$;
CREATE FUNCTION outbox.change_consume(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.claim, outbox.claim_many, outbox.idempotency_maintain, outbox.idempotency_retention,
		outbox.set_context, outbox.wire_text, outbox.consumed_headers, outbox.consumer_offsets,
		outbox.advance_offset, outbox.begin_batch, outbox.trim_batch, outbox.consumer_anchors,
		outbox.keep_anchor, outbox.rewind_offset, outbox.dead_letter_add, outbox.dead_letter_next,
		outbox.dead_letter_begin, outbox.dead_letter_resolve, outbox.dead_letter_failed,
		outbox.dead_letter_fingerprint, outbox.dead_letter_put_back, outbox.dead_letter_counts,
		outbox.dead_letter_unpublished, outbox.dead_letter_next_run, outbox.dead_letter_begin_run,
		outbox.dead_letter_resolve_run, outbox.dead_letter_troubled, outbox.note_trouble,
		outbox.partition_trouble, outbox.end_trouble, outbox.take_partition, outbox.note_attempt,
		outbox.leave_partition, outbox.attempt_calls, outbox.begin_calls,
		outbox.dead_letter_claimed, outbox.required, outbox.consumer_is_new') || ' %s',
		outbox.role_identifier(role));
	EXECUTE format(replace(change, '...',
		'USAGE ON TYPE outbox.consumed_event, outbox.consumed_bytes') || ' %s',
		outbox.role_identifier(role));
END
$$;

/*
 * Lets a role start, stop and watch the relay of this database, deal with dead letters, skip what
 * consumers are stuck at, send retained events again to their own topics (replay; to another one
 * only with that topic's grant), declare topics, and give and take with grant_topic the right to
 * emit to any topic: so it can give that right to itself too.
 */
CREATE FUNCTION outbox.grant_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_operate', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_operate('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_operate', ARRAY['role', role::text]);
	PERFORM outbox.change_operate('REVOKE ... FROM', role);
END
$$;

/*
 * Lets a role look and do nothing: the state of the relay, backlog, numbers of dead letters,
 * topics held apart, replays.  It sees keys and error messages, no payloads.  Everything in it is
 * in grant_operate too, so of a role that has both revoke_operate leaves nothing: grant again.
 */
CREATE FUNCTION outbox.grant_watch(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_watch', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_watch('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_watch(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_watch', ARRAY['role', role::text]);
	PERFORM outbox.change_watch('REVOKE ... FROM', role);
END
$$;

/*
 * Lets a role consume: claim events, keep offsets and dead letters.  Consumers are not
 * bound to roles: a role with this grant may name any consumer, so it can claim events
 * of another consumer of this database, move its watermarks and write its dead letters,
 * and with them emit to any <topic>.DLT.  Grant it to services that trust each other.
 */
CREATE FUNCTION outbox.grant_consume(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_consume', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_consume('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_consume(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_consume', ARRAY['role', role::text]);
	PERFORM outbox.change_consume('REVOKE ... FROM', role);
END
$$;

/*
 * Gives every role that has one of the grants what the grant brings now: after an update, whose
 * lists may name more.  Which grant a role has is told by a function that no other one brings.
 * Internal: update scripts call it, by renew_grants().
 */
CREATE FUNCTION outbox.give_again() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	given record;
BEGIN
	FOR given IN
		SELECT g.change, a.grantee::regrole AS role
		FROM (VALUES
			('emit', 'emit_json', 1), ('consume', 'claim_many', 2),
			('watch', 'relay_slot', 3), ('operate', 'start_relay', 4)) g (change, mark, place)
			JOIN pg_proc p ON p.pronamespace = 'outbox'::regnamespace AND p.proname = g.mark
			CROSS JOIN LATERAL aclexplode(p.proacl) a
		WHERE a.grantee NOT IN (0, p.proowner)
		ORDER BY g.place, a.grantee
	LOOP
		PERFORM outbox.let_in(given.role);
		EXECUTE format('SELECT outbox.%I($1, $2)', 'change_' || given.change)
			USING 'GRANT ... TO', given.role;
	END LOOP;
END
$$;

/*
 * The same inside of an update script, so that the rights are the roles' and not noted as the
 * extension's own, which no dump would take along.
 */
CREATE FUNCTION outbox.renew_grants() RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_renew_grants';

/*
 * Only the owner has anything when the script ends: neither PUBLIC nor whom ALTER DEFAULT
 * PRIVILEGES names.  Also of the types of rows: whoever makes a column of one stands in the way of
 * DROP EXTENSION.
 */
DO $$
DECLARE
	given record;
BEGIN
	FOR given IN
		WITH object (kind, name, acl, owner) AS (
			SELECT 'SCHEMA', 'outbox', n.nspacl, n.nspowner
			FROM pg_catalog.pg_namespace n WHERE n.nspname = 'outbox'
			UNION ALL
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
				c.oid::regclass::text, c.relacl, c.relowner
			FROM pg_catalog.pg_class c
			WHERE c.relnamespace = 'outbox'::regnamespace
				AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			UNION ALL
			SELECT 'ROUTINE', p.oid::regprocedure::text,
				coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner
			FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'outbox'::regnamespace
			UNION ALL
			SELECT 'TYPE', t.oid::regtype::text,
				coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner)), t.typowner
			FROM pg_catalog.pg_type t
			WHERE t.typnamespace = 'outbox'::regnamespace AND t.typcategory <> 'A')
		SELECT DISTINCT o.kind, o.name,
			coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC') AS role
		FROM object o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
			LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE a.grantee <> o.owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s',
			given.kind, given.name, given.role);
	END LOOP;
END
$$;
/*
 * pg_dump knows no privileges of row types, and would warn of each that is noted as the
 * extension's.
 */
DELETE FROM pg_catalog.pg_init_privs i
USING pg_catalog.pg_type t JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
WHERE i.classoid = 'pg_catalog.pg_type'::regclass AND i.objoid = t.oid
	AND t.typnamespace = 'outbox'::regnamespace AND c.relkind <> 'c';
