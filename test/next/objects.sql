/* SPDX-License-Identifier: PostgreSQL */
/* What version 1.99 has more: a note on a topic. */

ALTER TABLE outbox.topic ADD COLUMN note text;

CREATE FUNCTION outbox.topic_note(topic text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'SELECT t.note FROM outbox.topic t WHERE t.name = $1';

CREATE TABLE outbox.note_kind (kind text PRIMARY KEY);
