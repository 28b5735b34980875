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
