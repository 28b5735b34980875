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
