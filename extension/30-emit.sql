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

/* For plain INSERTs (ORMs): its trigger is emit() itself. */
CREATE VIEW outbox.outgoing AS
	SELECT NULL::text AS topic, NULL::text AS key, NULL::text AS type,
		NULL::jsonb AS payload, NULL::jsonb AS headers
	WHERE false;

CREATE FUNCTION outbox.capture() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'outbox_capture';

CREATE TRIGGER capture INSTEAD OF INSERT ON outbox.outgoing
	FOR EACH ROW EXECUTE FUNCTION outbox.capture();
