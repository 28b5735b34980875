/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------ topics and rights
 *
 * outbox.topic: declared topics; the relay creates them in Kafka before it
 * first sends to them and never shrinks or deletes one.
 *
 *	partitions			number when created
 *	replication_factor	NULL = broker's default
 *	retention_ms		-1 = for ever, NULL = broker's default
 *	cleanup_policy		delete | compact | compact,delete; NULL = broker's default
 *
 * The checks are those of declare_topic(), for rows that are changed by hand (src/topic.c).
 */
CREATE TABLE outbox.topic (
	name text PRIMARY KEY CONSTRAINT topic_name_legal CHECK (name COLLATE "C" ~ '^[a-zA-Z0-9._-]{1,249}$' AND
		name NOT IN ('.', '..', 'outbox.cursor') AND NOT starts_with(name, '__') AND
		(length(name) <= 245 OR right(name, 4) = '.DLT')),
	partitions integer NOT NULL CONSTRAINT topic_partitions_in_range CHECK (partitions BETWEEN 1 AND 10000),
	replication_factor smallint CONSTRAINT topic_replication_factor_in_range CHECK (replication_factor BETWEEN 1 AND 32767),
	retention_ms bigint CONSTRAINT topic_retention_ms_in_range CHECK (retention_ms >= -1),
	cleanup_policy text CONSTRAINT topic_cleanup_policy_known CHECK (cleanup_policy IN ('delete', 'compact', 'compact,delete')),
	declared_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	declared_by name NOT NULL DEFAULT session_user
);

/* Who may emit to which topic; '*' stands for all. */
CREATE TABLE outbox.topic_grant (
	topic text NOT NULL,
	grantee regrole NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (topic, grantee)
);

/* Whatever changes these tables makes every backend read them again. */
CREATE FUNCTION outbox.topics_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_topics_changed';
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic_grant
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic ENABLE ALWAYS TRIGGER topics_changed;
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER topics_changed;

/* A second call with the same values does nothing; partitions may grow.  The
 * dead-letter topic <name>.DLT counts as declared with its topic. */
CREATE FUNCTION outbox.declare_topic(name text, partitions integer DEFAULT 6,
		replication_factor integer DEFAULT NULL, retention_ms bigint DEFAULT NULL,
		cleanup_policy text DEFAULT NULL) RETURNS void
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_declare_topic';

CREATE FUNCTION outbox.check_grant(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_grant';

/* The role as an identifier of a statement; regrole takes numbers of roles that are none. */
CREATE FUNCTION outbox.role_identifier(role regrole) RETURNS text
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := (SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = role);
BEGIN
	IF identifier IS NULL THEN
		RAISE EXCEPTION 'role % does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
	RETURN identifier;
END
$$;

/* Lets a role, and the roles that have its privileges, emit to a topic and its
 * dead-letter topic; '*': to every topic. */
CREATE FUNCTION outbox.grant_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := outbox.role_identifier(grantee);
BEGIN
	PERFORM outbox.check_grant(topic);
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', identifier);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes TO %s', identifier);
	EXECUTE format('GRANT INSERT ON outbox.outgoing TO %s', identifier);
	EXECUTE format('GRANT USAGE ON TYPE outbox.header TO %s', identifier);
	INSERT INTO outbox.topic_grant (topic, grantee)
		VALUES (grant_topic.topic, grant_topic.grantee) ON CONFLICT DO NOTHING;
END
$$;

/* With the last topic goes the right to call emit(); the schema stays usable,
 * for the role may also consume or operate.  A role that was dropped has no rights left. */
CREATE FUNCTION outbox.revoke_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM outbox.topic_grant g
		WHERE g.topic = revoke_topic.topic AND g.grantee = revoke_topic.grantee;
	IF NOT FOUND THEN
		RAISE NOTICE 'role % has no grant on topic "%"', grantee, topic;
	END IF;
	IF NOT EXISTS (SELECT FROM outbox.topic_grant g WHERE g.grantee = revoke_topic.grantee)
		AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = revoke_topic.grantee) THEN
		EXECUTE format('REVOKE EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes FROM %s', outbox.role_identifier(grantee));
		EXECUTE format('REVOKE INSERT ON outbox.outgoing FROM %s', outbox.role_identifier(grantee));
		EXECUTE format('REVOKE USAGE ON TYPE outbox.header FROM %s', outbox.role_identifier(grantee));
	END IF;
END
$$;
