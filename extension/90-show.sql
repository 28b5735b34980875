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
