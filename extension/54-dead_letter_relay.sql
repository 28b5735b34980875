/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- dead letters of the relay
 *
 * What the relay does with them: keys whose events wait, what is due, and its return as events.
 */

/*
 * Topics held apart, and those whose last copies are in no batch yet.  Their letters return after
 * that (extension/70-topic_hold.sql): what ended a hold waits behind the older letters of its keys.
 */
CREATE FUNCTION outbox.topics_held() RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	batched pg_snapshot := (SELECT b.upper FROM outbox.batch b ORDER BY b.batch_no DESC LIMIT 1);
BEGIN
	RETURN ARRAY(SELECT h.topic FROM outbox.topic_hold h
		WHERE h.state <> 'ended' OR NOT pg_visible_in_snapshot(h.ended_txid, batched));
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
 * Topics and keys whose events wait: those with rows held and, if holding, open or releasing; at
 * most so many.  hash: sha256 of the key.  A loose scan: the cost is that of the keys, not of the
 * rows.
 */
CREATE FUNCTION outbox.dead_letter_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off AS $$
BEGIN
	PERFORM outbox.need('dead_letter_keys', ARRAY['holding', holding::text,
		'at_most', at_most::text]);
	RETURN QUERY
	WITH RECURSIVE found AS (
		SELECT s.state, f.topic, f.hash
		FROM unnest(CASE WHEN holding THEN '{held,open,releasing}'::text[] ELSE '{held}' END)
				s (state)
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
 * Keys of one topic with rows in these states, at most so many; a loose scan like the one of all
 * topics.
 */
CREATE FUNCTION outbox.dead_letter_topic_keys(topic text, states text[], at_most integer)
RETURNS bytea[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN ARRAY(
	WITH RECURSIVE found AS (
		SELECT s.state, f.hash
		FROM unnest(states) s (state)
			CROSS JOIN LATERAL (SELECT sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = s.state AND d.topic = dead_letter_topic_keys.topic
					AND sha256(d.key) IS NOT NULL
				ORDER BY sha256(d.key) LIMIT 1) f
		UNION ALL
		SELECT p.state, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = p.state AND d.topic = dead_letter_topic_keys.topic
					AND sha256(d.key) > p.hash
				ORDER BY sha256(d.key) LIMIT 1) n
	)
	SELECT DISTINCT l.hash FROM (SELECT f.hash FROM found f LIMIT cardinality(states) * at_most) l
		LIMIT at_most);
END $$;

/*
 * What events wait, as the relay must know it to hold them: topic and hash of a key as above,
 * blocked_by, the letter it waits behind (NULL: none is open or releasing), and newest_txid, the
 * event of the newest waiting letter.  At most at_most keys: of topics with more, those with the
 * most keys are given as a whole, hash NULL, and all their events with a key wait.
 */
CREATE FUNCTION outbox.dead_letter_held_keys(holding boolean, at_most integer)
RETURNS TABLE (topic text, hash bytea, blocked_by bigint, newest_txid xid8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	states text[] := CASE WHEN holding THEN '{held,open,releasing}'::text[] ELSE '{held}' END;
	room integer := at_most;
	waiting record;
BEGIN
	FOR waiting IN
		WITH RECURSIVE found AS (
			SELECT s.state, f.topic
			FROM unnest(states) s (state)
				CROSS JOIN LATERAL (SELECT d.topic FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state
					ORDER BY d.topic LIMIT 1) f
			UNION ALL
			SELECT p.state, n.topic
			FROM found p
				CROSS JOIN LATERAL (SELECT d.topic FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = p.state AND d.topic > p.topic
					ORDER BY d.topic LIMIT 1) n
		)
		SELECT k.topic, k.hashes FROM (
			SELECT t.topic, outbox.dead_letter_topic_keys(t.topic, states, at_most + 1) AS hashes
			FROM (SELECT DISTINCT f.topic FROM found f) t OFFSET 0) k
		ORDER BY cardinality(k.hashes), k.topic
	LOOP
		IF cardinality(waiting.hashes) > room THEN
			RETURN QUERY SELECT waiting.topic, NULL::bytea, NULL::bigint, NULL::xid8;
			CONTINUE;
		END IF;
		room := room - cardinality(waiting.hashes);
		RETURN QUERY
		SELECT waiting.topic, k.hash,
			(SELECT min(l.id) FROM (VALUES ('open'), ('releasing')) s (state)
				CROSS JOIN LATERAL (SELECT d.id FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state AND d.topic = waiting.topic AND sha256(d.key) = k.hash
					ORDER BY d.id LIMIT 1) l),
			(SELECT l.txid FROM (VALUES ('held'), ('open'), ('releasing')) s (state)
				CROSS JOIN LATERAL (SELECT d.id, d.txid FROM outbox.dead_letter d
					WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
						AND d.state = s.state AND d.topic = waiting.topic AND sha256(d.key) = k.hash
					ORDER BY d.id DESC LIMIT 1) l
				ORDER BY l.id DESC LIMIT 1)
		FROM unnest(waiting.hashes) k (hash);
	END LOOP;
END $$;

/*
 * Keys of these topics that have letters among the events of these transactions, which emitted
 * letters again: what the transaction still holds of such a key waits.  Columns as above.
 */
CREATE FUNCTION outbox.dead_letter_reissued_keys(topics text[], reissued xid8[])
RETURNS TABLE (topic text, hash bytea, blocked_by bigint, newest_txid xid8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	SELECT d.topic, sha256(d.key), min(d.id) FILTER (WHERE d.state IN ('open', 'releasing')),
		max(d.txid::text::numeric)::text::xid8
	FROM outbox.dead_letter d
	WHERE d.origin = 'relay' AND d.txid = ANY (reissued) AND d.topic = ANY (topics)
		AND d.state IN ('held', 'open', 'releasing') AND d.key IS NOT NULL
	GROUP BY d.topic, sha256(d.key);
END $$;

/*
 * Of a topic that waits as a whole: first letters of keys that are held behind nothing, at most so
 * many.
 */
CREATE FUNCTION outbox.dead_letter_stranded(topic text, at_most integer) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY
	WITH RECURSIVE found AS (
		(SELECT d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
				AND d.state = 'held' AND d.topic = dead_letter_stranded.topic
				AND sha256(d.key) IS NOT NULL
			ORDER BY sha256(d.key) LIMIT 1)
		UNION ALL
		SELECT n.key, n.hash
		FROM found p
			CROSS JOIN LATERAL (SELECT d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state = 'held' AND d.topic = dead_letter_stranded.topic
					AND sha256(d.key) > p.hash
				ORDER BY sha256(d.key) LIMIT 1) n
	)
	SELECT f.key FROM found f
	WHERE NOT EXISTS (SELECT FROM outbox.dead_letter o
		WHERE o.origin = 'relay' AND o.state IN ('open', 'releasing')
			AND o.topic = dead_letter_stranded.topic AND sha256(o.key) = f.hash)
	LIMIT at_most;
END $$;

/*
 * What is held behind nothing is due: a row held while another transaction discarded the one before
 * it, or one that was held with its whole topic.  Of such a topic it is tried piece by piece, and
 * not while a person has at_most letters of it to decide.  What is of a topic that is held apart
 * waits for the end of that.  Writes nothing when there is none.
 */
CREATE FUNCTION outbox.dead_letter_sweep(at_most integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	piece CONSTANT integer := 2000;
	held CONSTANT text[] := outbox.topics_held();
	stranded record;
	key bytea;
BEGIN
	FOR stranded IN
		SELECT k.topic, l.key FROM outbox.dead_letter_held_keys(false, at_most) k
			LEFT JOIN LATERAL (SELECT d.key FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = k.topic
					AND sha256(d.key) = k.hash
				ORDER BY d.id LIMIT 1) l ON true
		WHERE k.blocked_by IS NULL AND k.topic <> ALL (held)
	LOOP
		IF stranded.key IS NOT NULL THEN
			PERFORM outbox.dead_letter_unblock(stranded.topic, stranded.key, patient => false);
		ELSIF at_most > (SELECT count(*) FROM (SELECT FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.state IN ('held', 'open', 'releasing')
					AND d.state IN ('open', 'releasing')
					AND d.topic = stranded.topic LIMIT at_most) w) THEN
			FOR key IN SELECT * FROM outbox.dead_letter_stranded(stranded.topic, piece) LOOP
				PERFORM outbox.dead_letter_unblock(stranded.topic, key, patient => false);
			END LOOP;
		END IF;
	END LOOP;
END $$;

/*
 * Emits copies of these letters into the leaf `segment`, and returns their bytes as src/backlog.h
 * counts them.
 */
CREATE FUNCTION outbox.dead_letter_emit(segment smallint, letters bigint[], OUT bytes bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	stored bigint;
BEGIN
	INSERT INTO outbox.event (txid, seq, segment, id, topic, key, type, payload, content_type,
		headers, created_at, copied_at)
	SELECT pg_current_xact_id(), nextval('outbox.event_seq'), dead_letter_emit.segment,
		l.event_id, l.topic, l.key, l.event_type, l.value, l.content_type, l.headers, l.record_time,
		clock_timestamp()
	FROM (SELECT * FROM outbox.dead_letter d WHERE d.id = ANY (letters) ORDER BY d.id) l;
	GET DIAGNOSTICS stored = ROW_COUNT;
	IF stored <> cardinality(letters) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('a trigger or rule of outbox.event keeps %s dead letters '
				'from being sent again', cardinality(letters) - stored);
	END IF;
	UPDATE outbox.dead_letter d
	SET state = 'resolved', blocked_by = NULL, reissue_txid = pg_current_xact_id(),
		resolved_at = clock_timestamp(), resolved_by = coalesce(d.resolved_by, session_user)
	WHERE d.id = ANY (letters);
	bytes := (SELECT sum(coalesce(length(l.key), 0) + coalesce(length(l.value), 0)
			+ coalesce(length(l.headers), 0)::bigint)
		FROM outbox.dead_letter l WHERE l.id = ANY (letters));
END $$;

/*
 * Emits copies of the letters that are due into the leaf `segment`, in their order, and returns
 * their number and their bytes.  Whole keys, so that nothing of a key can overtake; it ends after
 * the key that makes it at_most.  A key with a row somebody has locked is left for the next call,
 * letters of a topic that is held apart for the end of that.
 * careful: so is a key whose letters cannot be written, and problem says why of the first one; a
 * subtransaction for each, so only after a call without has failed.
 */
CREATE FUNCTION outbox.dead_letter_reissue(segment smallint, at_most integer,
	careful boolean DEFAULT false, OUT copies integer, OUT bytes bigint, OUT problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	due record;
	blocked boolean;
	first_held bigint;
	letters bigint[];
	left_over integer := 0;
	held CONSTANT text[] := outbox.topics_held();
BEGIN
	copies := 0;
	bytes := 0;
	FOR due IN
		SELECT d.id, d.topic, d.key, sha256(d.key) AS hash FROM outbox.dead_letter d
		WHERE d.origin = 'relay' AND d.state = 'releasing' AND d.topic <> ALL (held)
		ORDER BY d.id
	LOOP
		EXIT WHEN copies + left_over >= at_most;
		blocked := EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'open' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		first_held := (SELECT min(d.id) FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'held' AND d.topic = due.topic
				AND sha256(d.key) = due.hash);
		letters := ARRAY(SELECT d.id FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state IN ('held', 'releasing') AND d.topic = due.topic
				AND sha256(d.key) = due.hash
				AND (NOT blocked OR first_held IS NULL OR d.id < first_held)
			UNION ALL
			SELECT d.id FROM outbox.dead_letter d
			WHERE d.id = due.id AND d.key IS NULL AND d.state = 'releasing'
			ORDER BY 1);
		CONTINUE WHEN cardinality(letters) = 0 OR cardinality(letters) >
			(SELECT count(*) FROM (SELECT FROM outbox.dead_letter d
				WHERE d.id = ANY (letters) AND d.state IN ('held', 'releasing')
				FOR UPDATE SKIP LOCKED) l);
		IF careful THEN
			BEGIN
				bytes := bytes + outbox.dead_letter_emit(segment, letters);
			EXCEPTION WHEN OTHERS THEN
				problem := coalesce(problem, format('dead letter %s: %s', due.id, SQLERRM));
				left_over := left_over + 1;
				CONTINUE;
			END;
		ELSE
			bytes := bytes + outbox.dead_letter_emit(segment, letters);
		END IF;
		copies := copies + cardinality(letters);
	END LOOP;
END $$;
