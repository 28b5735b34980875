/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------------- emit
 *
 * The three functions return the event's id.  NULL payload: tombstone.  They run as
 * the caller, look nothing up through search_path (so no SET, which costs
 * microseconds a call), and check outbox.topic_grant.  Three names:
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

/*
 * For plain INSERTs (ORMs) and COPY: each row is emit(), in every session_replication_role.  A
 * foreign table, because a view's trigger cannot be ENABLE ALWAYS; it holds nothing.
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
	headers jsonb
) SERVER outbox_outgoing;

/* Only a superuser may own a wrapper: the first one does, so that REASSIGN OWNED can give
 * away all the rest. */
DO $$
BEGIN
	EXECUTE pg_catalog.format('ALTER FOREIGN DATA WRAPPER outbox_outgoing OWNER TO %I',
		(SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10));
END
$$;
