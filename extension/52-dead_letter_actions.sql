/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------------- dead letter actions
 *
 * What persons do with dead letters of both origins (grant_operate gives the right), each noted
 * in outbox.audit, and what the relay does then.
 */

/* Locks the letter for an action.  SQLSTATE P0002: unknown; 55000: not in one of the states. */
CREATE FUNCTION outbox.dead_letter_take(id bigint, done text, states text[])
RETURNS outbox.dead_letter
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = dead_letter_take.id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'dead letter % does not exist', coalesce(dead_letter_take.id::text, 'NULL')
			USING ERRCODE = 'P0002', HINT = 'outbox.dead_letters lists them.';
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

/* Notes an action in outbox.audit. */
CREATE FUNCTION outbox.dead_letter_audit(letter outbox.dead_letter, action text, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES (action, format('dead_letter %s', letter.id), reason,
		jsonb_build_object('origin', letter.origin, 'consumer', letter.consumer, 'topic', letter.topic,
			'event_id', letter.event_id, 'state', letter.state));
END $$;

/*
 * Origin relay: what is held for the key is due when nothing before it waits any more.
 * The first one is locked, and judged again when another transaction has changed it meanwhile; what
 * that discards, the next one replaces.  patient false (the relay): a first one that somebody has
 * locked is left as it is.
 */
CREATE FUNCTION outbox.dead_letter_unblock(topic text, key bytea, patient boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hash bytea := sha256(key);
	first_held bigint;
BEGIN
	IF EXISTS (SELECT FROM outbox.dead_letter o
			WHERE o.origin = 'relay' AND o.state IN ('open', 'releasing')
				AND o.topic = dead_letter_unblock.topic AND sha256(o.key) = hash) THEN
		RETURN;
	END IF;
	IF patient THEN
		SELECT d.id INTO first_held FROM outbox.dead_letter d
		WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = dead_letter_unblock.topic
			AND sha256(d.key) = hash
		ORDER BY d.id LIMIT 1 FOR UPDATE;
	ELSE
		SELECT d.id INTO first_held FROM outbox.dead_letter d
		WHERE d.state = 'held' AND d.id = (SELECT min(w.id) FROM outbox.dead_letter w
			WHERE w.origin = 'relay' AND w.state = 'held' AND w.topic = dead_letter_unblock.topic
				AND sha256(w.key) = hash)
		FOR UPDATE SKIP LOCKED;
	END IF;
	UPDATE outbox.dead_letter d SET state = 'releasing', blocked_by = NULL WHERE d.id = first_held;
END $$;

/*
 * Processes (origin consumer) or sends (origin relay) the letter again, soon; of the relay's
 * with it what is held behind it.  State: open; of a consumer's also retrying (then it is due now).
 */
CREATE FUNCTION outbox.dead_letter_replay(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	letter := outbox.dead_letter_take(id, 'replayed', CASE
		WHEN (SELECT d.origin FROM outbox.dead_letter d WHERE d.id = dead_letter_replay.id) = 'consumer'
		THEN '{open,retrying}'::text[] ELSE '{open}' END);
	UPDATE outbox.dead_letter d
	SET state = CASE d.origin WHEN 'relay' THEN 'releasing' ELSE 'retrying' END,
		next_attempt_at = CASE d.origin WHEN 'consumer' THEN clock_timestamp() END,
		resolved_by = session_user, reason = dead_letter_replay.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_replay', reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_replay(bigint, text) IS 'has a dead letter processed or sent again';

/*
 * Gives the letter up; what is held behind it goes on.  State: any but resolved and discarded.
 * SQLSTATE 22004: no reason.
 */
CREATE FUNCTION outbox.dead_letter_discard(id bigint, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	IF coalesce(btrim(reason), '') = '' THEN
		RAISE EXCEPTION 'a reason is needed to discard a dead letter'
			USING ERRCODE = '22004', HINT = 'It is kept in outbox.audit.';
	END IF;
	letter := outbox.dead_letter_take(id, 'discarded', '{open,held,retrying,releasing}');
	UPDATE outbox.dead_letter d
	SET state = 'discarded', next_attempt_at = NULL, blocked_by = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = dead_letter_discard.reason
	WHERE d.id = letter.id;
	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_unblock(letter.topic, letter.key, patient => true);
	ELSIF letter.state IN ('retrying', 'open') THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_discard', reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_discard(bigint, text) IS 'gives a dead letter up';

/* Takes a discard back.  State: discarded; becomes open. */
CREATE FUNCTION outbox.dead_letter_restore(id bigint, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	letter := outbox.dead_letter_take(id, 'restored', '{discarded}');
	UPDATE outbox.dead_letter d
	SET state = 'open', resolved_at = NULL, resolved_by = NULL, reason = dead_letter_restore.reason
	WHERE d.id = letter.id;
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_restore', reason);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_restore(bigint, text) IS 'takes the discard of a dead letter back';

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

/* ------------------------------------------------------ what the relay does */

/*
 * Topics and keys whose events wait: those with rows held and, if holding, open or releasing;
 * at most so many.  hash: sha256 of the key.  A loose scan: the cost is that of the keys, not of the rows.
 */
CREATE FUNCTION outbox.dead_letter_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	WITH RECURSIVE found AS (
		SELECT s.state, f.topic, f.hash
		FROM unnest(CASE WHEN holding THEN '{held,open,releasing}'::text[] ELSE '{held}' END) s (state)
			CROSS JOIN LATERAL (SELECT d.topic, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND sha256(d.key) IS NOT NULL
				ORDER BY d.topic, sha256(d.key) LIMIT 1) f
		UNION ALL
		SELECT p.state, n.topic, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT d.topic, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = p.state AND (d.topic, sha256(d.key)) > (p.topic, p.hash)
				ORDER BY d.topic, sha256(d.key) LIMIT 1) n
	)
	SELECT DISTINCT l.topic, l.hash FROM (SELECT f.topic, f.hash FROM found f LIMIT 3 * at_most) l
	LIMIT at_most;
END $$;

/*
 * The same with what the relay must know to hold an event: blocked_by, the letter it waits
 * behind (NULL: none is open or releasing), and newest_txid, the event of the newest waiting letter.
 */
CREATE FUNCTION outbox.dead_letter_held_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea, blocked_by bigint, newest_txid xid8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	SELECT k.topic, k.hash,
		(SELECT min(l.id) FROM (VALUES ('open'), ('releasing')) s (state)
			CROSS JOIN LATERAL (SELECT d.id FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND d.topic = k.topic AND sha256(d.key) = k.hash
				ORDER BY d.id LIMIT 1) l),
		(SELECT l.txid FROM (VALUES ('held'), ('open'), ('releasing')) s (state)
			CROSS JOIN LATERAL (SELECT d.id, d.txid FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND d.topic = k.topic AND sha256(d.key) = k.hash
				ORDER BY d.id DESC LIMIT 1) l
			ORDER BY l.id DESC LIMIT 1)
	FROM outbox.dead_letter_keys(holding, at_most) k;
END $$;

/*
 * What is held behind nothing is due: a row held while another transaction discarded the one
 * before it.  Writes nothing when there is none.
 */
CREATE FUNCTION outbox.dead_letter_sweep(at_most integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	stranded record;
BEGIN
	FOR stranded IN
		SELECT l.topic, l.key FROM outbox.dead_letter_held_keys(false, at_most) k
			CROSS JOIN LATERAL (SELECT d.topic, d.key FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = k.topic
					AND sha256(d.key) = k.hash
				ORDER BY d.id LIMIT 1) l
		WHERE k.blocked_by IS NULL
	LOOP
		PERFORM outbox.dead_letter_unblock(stranded.topic, stranded.key, patient => false);
	END LOOP;
END $$;

/*
 * Emits copies of the letters that are due into the leaf `segment`, in their order, and returns
 * their number and their bytes as src/backlog.h counts them.  Whole keys, so that nothing of a key can overtake; it ends after the key that makes it
 * at_most.  A key with a row somebody has locked is left for the next call.
 */
CREATE FUNCTION outbox.dead_letter_reissue(segment smallint, at_most integer,
	OUT copies integer, OUT bytes bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	due record;
	blocked boolean;
	first_held bigint;
	letters bigint[];
BEGIN
	copies := 0;
	bytes := 0;
	FOR due IN
		SELECT d.id, d.topic, d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
		WHERE d.origin = 'relay' AND d.state = 'releasing' ORDER BY d.id
	LOOP
		EXIT WHEN copies >= at_most;
		blocked := EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'open' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		first_held := (SELECT min(d.id) FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		letters := ARRAY(SELECT d.id FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state IN ('held', 'releasing') AND d.topic = due.topic
				AND sha256(d.key) = due.hash AND (NOT blocked OR first_held IS NULL OR d.id < first_held)
			UNION ALL
			SELECT d.id FROM outbox.dead_letter d
			WHERE d.id = due.id AND d.key IS NULL AND d.state = 'releasing'
			ORDER BY 1);
		CONTINUE WHEN cardinality(letters) = 0 OR cardinality(letters) >
			(SELECT count(*) FROM (SELECT FROM outbox.dead_letter d
				WHERE d.id = ANY (letters) AND d.state IN ('held', 'releasing')
				FOR UPDATE SKIP LOCKED) l);
		INSERT INTO outbox.event (txid, seq, segment, id, topic, key, type, payload, content_type,
			headers, created_at, copied_at)
		SELECT pg_current_xact_id(), nextval('outbox.event_seq'), dead_letter_reissue.segment,
			l.event_id, l.topic, l.key, l.event_type, l.value, l.content_type, l.headers, l.record_time,
			clock_timestamp()
		FROM (SELECT * FROM outbox.dead_letter d WHERE d.id = ANY (letters) ORDER BY d.id) l;
		UPDATE outbox.dead_letter d
		SET state = 'resolved', blocked_by = NULL, reissue_txid = pg_current_xact_id(),
			resolved_at = clock_timestamp(), resolved_by = coalesce(d.resolved_by, session_user)
		WHERE d.id = ANY (letters);
		copies := copies + cardinality(letters);
		bytes := bytes + (SELECT sum(coalesce(length(l.key), 0) + coalesce(length(l.value), 0)
				+ coalesce(length(l.headers), 0)::bigint)
			FROM outbox.dead_letter l WHERE l.id = ANY (letters));
	END LOOP;
END $$;
