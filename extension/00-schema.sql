/* SPDX-License-Identifier: PostgreSQL */
/* Objects of the extension.  The files of this directory, joined in the order of
 * their names, are outbox--1.0.sql.
 */

\echo Use "CREATE EXTENSION outbox" to load this file. \quit

/* As outbox.control has it, for readers and for pgspot: no name below is looked up in a
 * schema others can write to. */
SET LOCAL search_path = pg_catalog, pg_temp;

/* The tables are of PostgreSQL's own access method: emit() and the relay read and write their
 * rows below the executor. */
SET LOCAL default_table_access_method = heap;

CREATE SCHEMA outbox;

/* ---------------------------------------------------------------- types */

/* One record header: name not NULL, value NULL allowed. */
CREATE TYPE outbox.header AS (name text, value bytea);
