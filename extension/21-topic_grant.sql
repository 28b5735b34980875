/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------- rights on topics
 *
 * Who may emit to which topic (outbox.topic_grant), and what a role needs of the schema besides.
 * A role is kept as an outbox.grantee, a type that a dump carries to where the role is missing.
 */

/*
 * A role; src/grantee.c says how it differs from regrole: what is dumped, and loaded where the role
 * is missing.
 */
CREATE TYPE outbox.grantee;
CREATE FUNCTION outbox.grantee_in(cstring) RETURNS outbox.grantee
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_in';
CREATE FUNCTION outbox.grantee_out(outbox.grantee) RETURNS cstring
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_out';
CREATE FUNCTION outbox.grantee_recv(internal) RETURNS outbox.grantee
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_recv';
CREATE FUNCTION outbox.grantee_send(outbox.grantee) RETURNS bytea
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_grantee_send';
CREATE TYPE outbox.grantee (INPUT = outbox.grantee_in, OUTPUT = outbox.grantee_out,
	RECEIVE = outbox.grantee_recv, SEND = outbox.grantee_send, LIKE = pg_catalog.oid);
CREATE CAST (outbox.grantee AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (outbox.grantee AS regrole) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (regrole AS outbox.grantee) WITHOUT FUNCTION AS ASSIGNMENT;

/*
 * Who may emit to which topic; '*' stands for all.  A row counts only while the role itself has a
 * privilege on the schema: a role cannot be dropped with one, so what a dropped role leaves here
 * gives nothing to the next that gets its number.
 */
CREATE TABLE outbox.topic_grant (
	topic text NOT NULL,
	grantee outbox.grantee NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (topic, grantee)
);
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic_grant
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER topics_changed;

/* An error unless the topic is a legal name or '*'. */
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

/* What every role with a grant has, and keeps: the schema, and to ask for the version. */
CREATE FUNCTION outbox.let_in(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := outbox.role_identifier(role);
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', identifier);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.version() TO %s', identifier);
END
$$;

/*
 * Lets a role use the schema.  One that has no privilege on it yet was given no topic: what stands
 * there for its number is a dropped role's, and goes.
 */
CREATE FUNCTION outbox.admit(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.role_identifier(role);
	IF NOT EXISTS (SELECT FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
			WHERE n.nspname = 'outbox' AND a.grantee = admit.role) THEN
		DELETE FROM outbox.topic_grant g WHERE g.grantee = admit.role;
	END IF;
	PERFORM outbox.let_in(role);
END
$$;

/* What a role needs to emit, besides its rows of outbox.topic_grant. */
CREATE FUNCTION outbox.change_emit(change text, role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	identifier text := outbox.role_identifier(role);
BEGIN
	EXECUTE format(replace(change, '...',
		'EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes') || ' %s',
		identifier);
	EXECUTE format(replace(change, '...',
		'INSERT, SELECT ON outbox.outgoing') || ' %s', identifier);
	EXECUTE format(replace(change, '...', 'USAGE ON TYPE outbox.header') || ' %s', identifier);
END
$$;

/*
 * A row brings what the role needs, also one that is loaded from a dump: pg_restore gives an
 * object's privileges to all roles or, with one missing, to none.  A role that does not exist has
 * no row, and takes over none.
 */
CREATE FUNCTION outbox.take_grant() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.grantee IS NULL THEN
		RETURN NEW;				-- refused as NOT NULL
	ELSIF NEW.grantee::oid = 0 AND TG_OP = 'UPDATE' THEN
		RAISE undefined_object
			USING MESSAGE = format('the grant on topic "%s" needs a role that exists', NEW.topic);
	ELSIF NEW.grantee::oid = 0 THEN
		RETURN NULL;
	END IF;
	PERFORM outbox.let_in(NEW.grantee::regrole);
	PERFORM outbox.change_emit('GRANT ... TO', NEW.grantee::regrole);
	RETURN NEW;
END
$$;
CREATE TRIGGER take_grant BEFORE INSERT OR UPDATE OF grantee ON outbox.topic_grant
	FOR EACH ROW EXECUTE FUNCTION outbox.take_grant();
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER take_grant;

/* Lets a role, and the roles that have its privileges, emit to a topic and its
 * dead-letter topic; '*': to every topic. */
CREATE FUNCTION outbox.grant_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_topic', ARRAY['topic', topic, 'grantee', grantee::text]);
	PERFORM outbox.check_grant(topic);
	PERFORM outbox.admit(grantee);
	INSERT INTO outbox.topic_grant (topic, grantee)
		VALUES (grant_topic.topic, grant_topic.grantee) ON CONFLICT DO NOTHING;
END
$$;

/* With the last topic goes the right to call emit(); the schema stays usable,
 * for the role may also consume or operate.  A role that was dropped has no rights left. */
CREATE FUNCTION outbox.revoke_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_topic', ARRAY['topic', topic, 'grantee', grantee::text]);
	DELETE FROM outbox.topic_grant g
		WHERE g.topic = revoke_topic.topic AND g.grantee = revoke_topic.grantee;
	IF NOT FOUND THEN
		RAISE NOTICE 'role % has no grant on topic "%"', grantee, topic;
	END IF;
	IF NOT EXISTS (SELECT FROM outbox.topic_grant g WHERE g.grantee = revoke_topic.grantee)
		AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = revoke_topic.grantee) THEN
		PERFORM outbox.change_emit('REVOKE ... FROM', grantee);
	END IF;
END
$$;
