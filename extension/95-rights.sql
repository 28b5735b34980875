/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------------- rights
 *
 * Nothing to PUBLIC.  grant_topic, grant_consume, grant_watch and grant_operate give
 * rights to roles, revoke_topic, revoke_consume, revoke_watch and revoke_operate take
 * them back; the schema stays usable, for a role may have several of them.
 */

/* The lists; change is 'GRANT ... TO' or 'REVOKE ... FROM' with three dots. */
CREATE FUNCTION outbox.change_operate(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.start_relay(), outbox.stop_relay(), outbox.adopt(text), outbox.relay_slot(),
		outbox.database_slots(), outbox.declare_topic, outbox.grant_topic, outbox.revoke_topic,
		outbox.dead_letter_replay, outbox.dead_letter_discard, outbox.dead_letter_restore,
		outbox.dead_letter_replay_where, outbox.dead_letter_discard_where,
		outbox.dead_letter_restore_where, outbox.dead_letter_edit, outbox.dead_letter_purge,
		outbox.consumer_skip, outbox.dead_letter_note, outbox.dead_letter_keys, outbox.bytes_text,
		outbox.headers_decode, outbox.headers_readable, outbox.header_value, outbox.name_text,
		outbox.topic_hold_event, outbox.topic_hold(text, text), outbox.topic_release(text, text),
		outbox.replay, outbox.replay_pause, outbox.replay_resume, outbox.replay_cancel') || ' %s',
		outbox.role_identifier(role));
	EXECUTE format(replace(change, '...', 'SELECT ON
		outbox.relay_status, outbox.databases, outbox.backlog, outbox.batches, outbox.audit,
		outbox.dead_letters, outbox.dead_letter_groups, outbox.dead_letter_depth, outbox.flow,
		outbox.topic_holds, outbox.replays') || ' %s', outbox.role_identifier(role));
END
$$;
CREATE FUNCTION outbox.change_watch(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.relay_slot(), outbox.database_slots(), outbox.dead_letter_keys, outbox.bytes_text,
		outbox.name_text') || ' %s', outbox.role_identifier(role));
	EXECUTE format(replace(change, '...', 'SELECT ON
		outbox.relay_status, outbox.databases, outbox.backlog, outbox.batches,
		outbox.dead_letter_groups, outbox.dead_letter_depth, outbox.topic_holds,
		outbox.replays') || ' %s', outbox.role_identifier(role));
END
$$;
CREATE FUNCTION outbox.change_consume(change text, role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format(replace(change, '...', 'EXECUTE ON FUNCTION
		outbox.claim, outbox.claim_many, outbox.idempotency_maintain, outbox.idempotency_retention,
		outbox.set_context, outbox.wire_text, outbox.consumed_headers, outbox.consumer_offsets,
		outbox.advance_offset, outbox.begin_batch, outbox.trim_batch, outbox.consumer_anchors,
		outbox.keep_anchor, outbox.rewind_offset, outbox.dead_letter_add, outbox.dead_letter_next,
		outbox.dead_letter_begin, outbox.dead_letter_resolve, outbox.dead_letter_failed,
		outbox.dead_letter_fingerprint, outbox.dead_letter_put_back, outbox.dead_letter_counts,
		outbox.dead_letter_unpublished, outbox.dead_letter_next_run, outbox.dead_letter_begin_run,
		outbox.dead_letter_resolve_run, outbox.dead_letter_troubled, outbox.note_trouble,
		outbox.partition_trouble, outbox.end_trouble, outbox.take_partition, outbox.note_attempt,
		outbox.leave_partition, outbox.attempt_calls, outbox.begin_calls,
		outbox.dead_letter_claimed, outbox.required, outbox.consumer_is_new') || ' %s',
		outbox.role_identifier(role));
	EXECUTE format(replace(change, '...',
		'USAGE ON TYPE outbox.consumed_event, outbox.consumed_bytes') || ' %s',
		outbox.role_identifier(role));
END
$$;

/*
 * Lets a role start, stop and watch the relay of this database, deal with dead letters, skip what
 * consumers are stuck at, send retained events again to their own topics (replay; to another one
 * only with that topic's grant), declare topics, and give and take with grant_topic the right to
 * emit to any topic: so it can give that right to itself too.
 */
CREATE FUNCTION outbox.grant_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_operate', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_operate('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_operate', ARRAY['role', role::text]);
	PERFORM outbox.change_operate('REVOKE ... FROM', role);
END
$$;

/*
 * Lets a role look and do nothing: the state of the relay, backlog, numbers of dead letters,
 * topics held apart, replays.  It sees keys and error messages, no payloads.  Everything in it is
 * in grant_operate too, so of a role that has both revoke_operate leaves nothing: grant again.
 */
CREATE FUNCTION outbox.grant_watch(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_watch', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_watch('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_watch(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_watch', ARRAY['role', role::text]);
	PERFORM outbox.change_watch('REVOKE ... FROM', role);
END
$$;

/*
 * Lets a role consume: claim events, keep offsets and dead letters.  Consumers are not
 * bound to roles: a role with this grant may name any consumer, so it can claim events
 * of another consumer of this database, move its watermarks and write its dead letters,
 * and with them emit to any <topic>.DLT.  Grant it to services that trust each other.
 */
CREATE FUNCTION outbox.grant_consume(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('grant_consume', ARRAY['role', role::text]);
	PERFORM outbox.admit(role);
	PERFORM outbox.change_consume('GRANT ... TO', role);
END
$$;
CREATE FUNCTION outbox.revoke_consume(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('revoke_consume', ARRAY['role', role::text]);
	PERFORM outbox.change_consume('REVOKE ... FROM', role);
END
$$;

/*
 * Gives every role that has one of the grants what the grant brings now: after an update, whose
 * lists may name more.  Which grant a role has is told by a function that no other one brings.
 * Internal: update scripts call it, by renew_grants().
 */
CREATE FUNCTION outbox.give_again() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	given record;
BEGIN
	FOR given IN
		SELECT g.change, a.grantee::regrole AS role
		FROM (VALUES
			('emit', 'emit_json', 1), ('consume', 'claim_many', 2),
			('watch', 'relay_slot', 3), ('operate', 'start_relay', 4)) g (change, mark, place)
			JOIN pg_proc p ON p.pronamespace = 'outbox'::regnamespace AND p.proname = g.mark
			CROSS JOIN LATERAL aclexplode(p.proacl) a
		WHERE a.grantee NOT IN (0, p.proowner)
		ORDER BY g.place, a.grantee
	LOOP
		PERFORM outbox.let_in(given.role);
		EXECUTE format('SELECT outbox.%I($1, $2)', 'change_' || given.change)
			USING 'GRANT ... TO', given.role;
	END LOOP;
END
$$;

/*
 * The same inside of an update script, so that the rights are the roles' and not noted as the
 * extension's own, which no dump would take along.
 */
CREATE FUNCTION outbox.renew_grants() RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_renew_grants';

/*
 * Only the owner has anything when the script ends: neither PUBLIC nor whom ALTER DEFAULT
 * PRIVILEGES names.  Also of the types of rows: whoever makes a column of one stands in the way of
 * DROP EXTENSION.
 */
DO $$
DECLARE
	given record;
BEGIN
	FOR given IN
		WITH object (kind, name, acl, owner) AS (
			SELECT 'SCHEMA', 'outbox', n.nspacl, n.nspowner
			FROM pg_catalog.pg_namespace n WHERE n.nspname = 'outbox'
			UNION ALL
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
				c.oid::regclass::text, c.relacl, c.relowner
			FROM pg_catalog.pg_class c
			WHERE c.relnamespace = 'outbox'::regnamespace
				AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			UNION ALL
			SELECT 'ROUTINE', p.oid::regprocedure::text,
				coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner
			FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'outbox'::regnamespace
			UNION ALL
			SELECT 'TYPE', t.oid::regtype::text,
				coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner)), t.typowner
			FROM pg_catalog.pg_type t
			WHERE t.typnamespace = 'outbox'::regnamespace AND t.typcategory <> 'A')
		SELECT DISTINCT o.kind, o.name,
			coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC') AS role
		FROM object o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
			LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE a.grantee <> o.owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s',
			given.kind, given.name, given.role);
	END LOOP;
END
$$;
/*
 * pg_dump knows no privileges of row types, and would warn of each that is noted as the
 * extension's.
 */
DELETE FROM pg_catalog.pg_init_privs i
USING pg_catalog.pg_type t JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
WHERE i.classoid = 'pg_catalog.pg_type'::regclass AND i.objoid = t.oid
	AND t.typnamespace = 'outbox'::regnamespace AND c.relkind <> 'c';
