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
