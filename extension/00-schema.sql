/* SPDX-License-Identifier: PostgreSQL */
/* Objects of the extension.  The files of this directory, joined in the order of
 * their names, are outbox--1.0.sql.
 */

\echo Use "CREATE EXTENSION outbox" to load this file. \quit

CREATE SCHEMA outbox;

/* ---------------------------------------------------------------- types */

/* One record header: name not NULL, value NULL allowed. */
CREATE TYPE outbox.header AS (name text, value bytea);
