/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------- dead letter actions, by a filter
 *
 * The actions of 55 on all letters that a filter chooses.
 *
 * dry_run: changes nothing and shows what would be (NULL: true).  at_most: 1 to 100000 letters, the
 * oldest first, of a discard the newest first, so that none of them is let go by the discard of one
 * it is held behind; how many a second is the caller's.  Letters somebody else has locked are left
 * out.  Returns the letters: operation, the id all of them have in outbox.audit (NULL: dry run);
 * was, the state before.  SQLSTATE 22023: a state the action does not take, at_most out of range.
 */

/*
 * The filter of all of them; NULL: all.
 *
 *	key				as UTF-8 text
 *	failed_from, failed_to	last_failed_at, the end excluded.  Never what has failed since the
 *					statement began; who calls in chunks gives the time of the first as failed_to
 *	state			one of those the action takes
 */
CREATE TYPE outbox.dead_letter_filter AS (
	origin text,
	consumer text,
	topic text,
	fingerprint text,
	event_type text,
	key text,
	failed_from timestamptz,
	failed_to timestamptz,
	state text
);

/* What they share; action: name of the one for a single letter. */
CREATE FUNCTION outbox.dead_letter_where(action text, allowed text[],
	wanted outbox.dead_letter_filter, reason text, dry_run boolean, at_most integer)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	chosen record;
	letter outbox.dead_letter;
	more jsonb;
BEGIN
	IF wanted.state <> ALL (allowed) THEN
		RAISE EXCEPTION '% does not take dead letters in state "%"', action, wanted.state
			USING ERRCODE = '22023',
				HINT = format('The state must be %s.', array_to_string(allowed, ' or '));
	ELSIF (at_most BETWEEN 1 AND 100000) IS NOT TRUE THEN
		RAISE EXCEPTION 'at_most is out of range'
			USING ERRCODE = '22023', DETAIL = 'Allowed: 1 to 100000 dead letters.';
	END IF;
	operation := CASE WHEN NOT dry_run THEN gen_random_uuid() END;
	more := jsonb_build_object('operation', operation);
	FOR chosen IN
		SELECT d.id, d.event_id, d.state, d.version, d.last_failed_at FROM outbox.dead_letter d
		WHERE d.state = ANY (CASE WHEN wanted.state IS NULL THEN allowed
			ELSE ARRAY[wanted.state] END)
			AND (wanted.origin IS NULL OR d.origin = wanted.origin)
			AND (wanted.consumer IS NULL OR d.consumer = wanted.consumer)
			AND (wanted.topic IS NULL OR d.topic = wanted.topic)
			AND (wanted.fingerprint IS NULL OR d.fingerprint = wanted.fingerprint)
			AND (wanted.event_type IS NULL OR d.event_type = wanted.event_type)
			AND (wanted.key IS NULL OR d.key = convert_to(wanted.key, 'UTF8'))
			AND (wanted.failed_from IS NULL OR d.last_failed_at >= wanted.failed_from)
			AND d.last_failed_at < least(wanted.failed_to, statement_timestamp())
			AND (d.origin = 'consumer' OR d.state <> 'retrying')
		ORDER BY CASE action WHEN 'dead_letter_discard' THEN -d.id ELSE d.id END LIMIT at_most
	LOOP
		IF operation IS NOT NULL THEN
			SELECT * INTO letter FROM outbox.dead_letter d
			WHERE d.id = chosen.id AND d.version = chosen.version
				AND d.last_failed_at = chosen.last_failed_at
			FOR UPDATE SKIP LOCKED;
			CONTINUE WHEN NOT FOUND;
			CASE action
				WHEN 'dead_letter_replay'
					THEN PERFORM outbox.dead_letter_do_replay(letter, reason, more);
				WHEN 'dead_letter_discard'
					THEN PERFORM outbox.dead_letter_do_discard(letter, reason, more);
				WHEN 'dead_letter_restore'
					THEN PERFORM outbox.dead_letter_do_restore(letter, reason, more);
			END CASE;
		END IF;
		id := chosen.id;
		event_id := chosen.event_id;
		was := chosen.state;
		RETURN NEXT;
	END LOOP;
END $$;

/* state: open; retrying: a consumer's that wait for their next try are due now. */
CREATE FUNCTION outbox.dead_letter_replay_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	state text DEFAULT 'open', reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_replay', '{open,retrying}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, state),
		reason, dry_run, at_most);
END $$;

/* SQLSTATE 22004: no reason. */
CREATE FUNCTION outbox.dead_letter_discard_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	state text DEFAULT 'open', reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to discard dead letters');
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_discard',
		'{open,held,retrying,releasing}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, state),
		reason, dry_run, at_most);
END $$;

/* Those discarded become open. */
CREATE FUNCTION outbox.dead_letter_restore_where(origin text DEFAULT NULL,
	consumer text DEFAULT NULL, topic text DEFAULT NULL, fingerprint text DEFAULT NULL,
	event_type text DEFAULT NULL, key text DEFAULT NULL,
	failed_from timestamptz DEFAULT NULL, failed_to timestamptz DEFAULT NULL,
	reason text DEFAULT NULL, dry_run boolean DEFAULT false,
	at_most integer DEFAULT 1000)
RETURNS TABLE (operation uuid, id bigint, event_id uuid, was text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM outbox.dead_letter_where('dead_letter_restore', '{discarded}',
		(origin, consumer, topic, fingerprint, event_type, key, failed_from, failed_to, NULL),
		reason, dry_run, at_most);
END $$;
