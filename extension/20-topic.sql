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
