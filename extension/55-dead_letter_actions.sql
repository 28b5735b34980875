/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------------- dead letter actions
 *
 * What persons do with dead letters of both origins (grant_operate gives the right), each noted in
 * outbox.audit: one by one here, by a filter in 56, with another content in 57.  At the end stands
 * what deletes those that are done with.
 */

/*
 * Locks the letter for an action.  SQLSTATE P0002: unknown; OBX02: its version is another one
 * (NULL: any will do); 55000: not in one of the states; 22004: no id.
 */
CREATE FUNCTION outbox.dead_letter_take(id bigint, done text, states text[],
	version integer DEFAULT NULL)
RETURNS outbox.dead_letter
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	IF dead_letter_take.id IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'id of a dead letter must not be null',
			HINT = 'outbox.dead_letters lists them.';
	END IF;
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = dead_letter_take.id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'dead letter % does not exist', dead_letter_take.id
			USING ERRCODE = 'P0002', HINT = 'outbox.dead_letters lists them.';
	END IF;
	IF letter.version <> dead_letter_take.version THEN
		RAISE EXCEPTION 'dead letter % has changed', letter.id
			USING ERRCODE = 'OBX02',
				DETAIL = format('Its version is %s, not %s.', letter.version,
					dead_letter_take.version),
				HINT = 'Look at it again in outbox.dead_letters.';
	END IF;
	IF letter.state <> ALL (states) THEN
		RAISE EXCEPTION 'dead letter % cannot be %', letter.id, done
			USING ERRCODE = '55000',
				DETAIL = format('Its state is "%s"%s.', letter.state,
					CASE WHEN letter.state = 'held' AND letter.blocked_by IS NOT NULL
						THEN format(', behind dead letter %s', letter.blocked_by) ELSE '' END),
				HINT = format('The state must be %s.', array_to_string(states, ' or '));
	END IF;
	RETURN letter;
END $$;

/* Notes an action in outbox.audit; letter as it was before, more: what else belongs into detail. */
CREATE FUNCTION outbox.dead_letter_audit(letter outbox.dead_letter, action text, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES (action, format('dead_letter %s', letter.id), reason,
		jsonb_build_object('origin', letter.origin, 'consumer', letter.consumer,
			'topic', letter.topic, 'event_id', letter.event_id, 'state', letter.state) || more);
END $$;

/* SQLSTATE 22004: no reason; what: the action, 'to discard a dead letter'. */
CREATE FUNCTION outbox.dead_letter_need_reason(reason text, what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(btrim(reason), '') = '' THEN
		RAISE EXCEPTION 'a reason is needed %', what
			USING ERRCODE = '22004', HINT = 'It is kept in outbox.audit.';
	END IF;
END $$;

/*
 * An error if the topic, as it is declared, does not take the event: as emit() refuses it
 * (docs/errors.md).  type and headers: of the record as the relay writes it.
 */
CREATE FUNCTION outbox.dead_letter_check_topic(topic text, key bytea, type text, payload bytea,
	content_type text, headers bytea)
RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_check_topic';

/* ---------------------------------- the changes of state, of a letter locked */

CREATE FUNCTION outbox.dead_letter_do_replay(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_check_topic(letter.topic, letter.key, letter.event_type,
			letter.value, letter.content_type, letter.headers);
	END IF;
	UPDATE outbox.dead_letter d
	SET state = CASE d.origin WHEN 'relay' THEN 'releasing' ELSE 'retrying' END,
		next_attempt_at = CASE d.origin WHEN 'consumer' THEN clock_timestamp() END,
		resolved_by = session_user, reason = dead_letter_do_replay.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_replay', reason, more);
END $$;

/* What is held behind the letter goes on, unless something else is before it. */
CREATE FUNCTION outbox.dead_letter_do_discard(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'discarded', next_attempt_at = NULL, blocked_by = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user,
		reason = dead_letter_do_discard.reason
	WHERE d.id = letter.id;
	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_unblock(letter.topic, letter.key, patient => true);
	ELSIF letter.state IN ('retrying', 'open') THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_discard', reason, more);
END $$;

CREATE FUNCTION outbox.dead_letter_do_restore(letter outbox.dead_letter, reason text,
	more jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'open', resolved_at = NULL, resolved_by = NULL,
		reason = dead_letter_do_restore.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_restore', reason, more);
END $$;

/* ------------------------------------------------------------- one by one */

/*
 * Processes (origin consumer) or sends (origin relay) the letter again, soon; of the relay's
 * with it what is held behind it.  A consumer's goes to that consumer alone.  State: open; of a
 * consumer's also retrying (then it is due now).
 */
CREATE FUNCTION outbox.dead_letter_replay(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_do_replay(outbox.dead_letter_take(id, 'replayed', CASE
		WHEN (SELECT d.origin FROM outbox.dead_letter d
			WHERE d.id = dead_letter_replay.id) = 'consumer'
		THEN '{open,retrying}'::text[] ELSE '{open}' END), reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_replay(bigint, text) IS
	'has a dead letter processed or sent again';

/*
 * Gives the letter up; what is held behind it goes on.  State: any but resolved and discarded.
 * SQLSTATE 22004: no reason.
 */
CREATE FUNCTION outbox.dead_letter_discard(id bigint, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to discard a dead letter');
	PERFORM outbox.dead_letter_do_discard(
		outbox.dead_letter_take(id, 'discarded', '{open,held,retrying,releasing}'), reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_discard(bigint, text) IS 'gives a dead letter up';

/* Takes a discard back.  State: discarded; becomes open. */
CREATE FUNCTION outbox.dead_letter_restore(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_do_restore(outbox.dead_letter_take(id, 'restored', '{discarded}'),
		reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_restore(bigint, text) IS
	'takes the discard of a dead letter back';

/* Any state.  NULL takes the note away. */
CREATE FUNCTION outbox.dead_letter_note(id bigint, note text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	letter := outbox.dead_letter_take(id, 'noted',
		'{retrying,held,open,releasing,resolved,discarded}');
	UPDATE outbox.dead_letter d SET note = dead_letter_note.note WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_note', note);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_note(bigint, text) IS 'writes a note on a dead letter';

/* ------------------------------------------------------------ many at once */

/*
 * Deletes letters resolved or discarded before that time, at most so many, the oldest first, and
 * returns their number; outbox.audit keeps its rows and gets one.  Letters stay while an event they
 * leave out is retained, an edited copy points to them, or somebody has them locked.  A discarded
 * record that Kafka delivers again after it was deleted is processed: keep them as long as their
 * topics are retained.  SQLSTATE 22004, 22023: before or at_most (1 to 100000).
 */
CREATE FUNCTION outbox.dead_letter_purge(before timestamptz, at_most integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	newest_batch bigint := (SELECT max(b.batch_no) FROM outbox.batch b);
	deleted integer;
BEGIN
	IF before IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'before of a purge must not be null';
	ELSIF (at_most BETWEEN 1 AND 100000) IS NOT TRUE THEN
		RAISE EXCEPTION 'at_most is out of range'
			USING ERRCODE = '22023', DETAIL = 'Allowed: 1 to 100000 dead letters.';
	END IF;
	DELETE FROM outbox.dead_letter WHERE id = ANY (ARRAY(
		SELECT d.id FROM outbox.dead_letter d
		WHERE d.state IN ('resolved', 'discarded') AND d.resolved_at < before
			AND NOT EXISTS (SELECT FROM outbox.dead_letter c WHERE c.replay_of = d.id)
			AND (d.origin = 'consumer' OR (coalesce(d.batch_no < newest_batch, true)
				AND NOT EXISTS (SELECT FROM outbox.event e WHERE e.txid = d.txid)
				AND NOT EXISTS (SELECT FROM outbox.event e WHERE e.txid = d.reissue_txid)))
		ORDER BY d.id LIMIT at_most FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS deleted = ROW_COUNT;
	IF deleted > 0 THEN
		INSERT INTO outbox.audit (action, detail)
		VALUES ('dead_letter_purge', jsonb_build_object('before', before, 'deleted', deleted));
	END IF;
	RETURN deleted;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_purge(timestamptz, integer) IS
	'deletes dead letters done with long ago';
