/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------- records that end their session
 *
 * A record that fails for itself alone with what is waited for otherwise (its session ends, the server runs
 * out of something) is tried alone, in new sessions.  Each try is noted in a transaction of its own before it
 * is made, and flushed: the session, and the server, may not survive it.
 */

/* outbox.consumer_trouble
 *
 *	tries	made alone; those that failed, and the running one
 *	ends	of those that failed the last so many ended their session
 *	failing_since	the first of them
 *	tried_at	the running one
 *	sqlstate, error_message, ended	what the try before the last one failed with; ended: its session did
 */
CREATE TABLE outbox.consumer_trouble (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	"offset" bigint NOT NULL,
	event_id uuid NOT NULL,
	tries integer NOT NULL,
	ends integer NOT NULL,
	failing_since timestamptz NOT NULL,
	tried_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	sqlstate text,
	error_message text NOT NULL,
	ended boolean NOT NULL,
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/*
 * Has anything else of the consumer, or of another one with the same SQLSTATE, failed lately and is not done?  The record
 * at a place, or a letter (letter: its id), does not count itself.
 */
CREATE FUNCTION outbox.others_fail(consumer text, topic text, partition integer, error_code text, letter bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_trouble c
			WHERE (c.consumer = others_fail.consumer OR c.sqlstate = error_code) AND c.tried_at > clock_timestamp() - interval '5 min'
				AND (letter IS NOT NULL OR (c.consumer, c.topic, c.partition)
					<> (others_fail.consumer, others_fail.topic, others_fail.partition)))
		OR EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.state = 'retrying' AND d.troubles > 0 AND (d.consumer = others_fail.consumer OR d.sqlstate = error_code)
				AND d.last_failed_at > clock_timestamp() - interval '5 min' AND d.id IS DISTINCT FROM letter)
$$;

/* Has a handler's call of the consumer been made since, and committed? */
CREATE FUNCTION outbox.others_work(consumer text, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_offset o
		WHERE o.consumer = others_work.consumer AND o.called_at > since)
$$;

/*
 * A try that began so long ago has failed.  Does it count?  Not when somebody has stopped the server meanwhile (57P01; a crash leaves
 * another SQLSTATE).  Has its own session ended, and not with the whole server, or because another process has crashed?
 */
CREATE FUNCTION outbox.judge_try(error_code text, ended boolean, tried_ms bigint, OUT counts boolean, OUT own_end boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT NOT (s.restarted AND error_code IS NOT DISTINCT FROM '57P01'), ended AND NOT s.restarted AND error_code IS DISTINCT FROM '57P02'
	FROM (SELECT coalesce(pg_postmaster_start_time() > clock_timestamp() - tried_ms * interval '1 millisecond', false) AS restarted) s
$$;

/*
 * The record is going to be tried alone.  earlier: tries that failed before it was noted first, earlier_ms: since
 * the first of them; sqlstate, error_message, ended: of the last try that failed; counts: the try that was noted last has
 * failed for the record's sake; tried_ms: since it began, NULL: not known.  Returns the tries before this one, of them the last so many
 * that ended their session, for how long they have failed; from the fifth on whether others fail alike, and whether others
 * of the consumer have been done since the last.
 */
CREATE FUNCTION outbox.note_trouble(consumer text, topic text, partition integer, "offset" bigint, event_id uuid,
	earlier integer, earlier_ms bigint, error_code text, error_message text, ended boolean, counts boolean, tried_ms bigint,
	OUT tries integer, OUT ends integer, OUT failing_ms bigint, OUT alike boolean, OUT works boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	try record;
	more integer;
	noted outbox.consumer_trouble;
BEGIN
	PERFORM outbox.need('note_trouble', ARRAY['consumer', note_trouble.consumer, 'topic', note_trouble.topic,
		'partition', note_trouble.partition::text, 'offset', note_trouble."offset"::text, 'event_id', note_trouble.event_id::text,
		'earlier', earlier::text, 'earlier_ms', earlier_ms::text, 'error_message', note_trouble.error_message, 'ended', note_trouble.ended::text,
		'counts', note_trouble.counts::text]);
	PERFORM set_config('synchronous_commit', 'local', true);
	SELECT * INTO try FROM outbox.judge_try(error_code, note_trouble.ended, tried_ms);
	more := (note_trouble.counts AND try.counts)::integer;
	INSERT INTO outbox.consumer_trouble AS c (consumer, topic, partition, "offset", event_id, tries, ends, failing_since,
		sqlstate, error_message, ended)
	VALUES (note_trouble.consumer, note_trouble.topic, note_trouble.partition, note_trouble."offset", note_trouble.event_id,
		earlier + 1, CASE WHEN try.own_end THEN least(earlier, 1) ELSE 0 END, clock_timestamp() - earlier_ms * interval '1 millisecond',
		error_code, outbox.cut_text(note_trouble.error_message, 1024), note_trouble.ended)
	ON CONFLICT (consumer, topic, partition) DO UPDATE
	SET "offset" = excluded."offset", event_id = excluded.event_id, sqlstate = excluded.sqlstate,
		error_message = excluded.error_message, ended = excluded.ended, tried_at = excluded.tried_at,
		tries = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.tries + more ELSE excluded.tries END,
		ends = CASE WHEN (c."offset", c.event_id) <> (excluded."offset", excluded.event_id) THEN excluded.ends
			WHEN more = 0 THEN c.ends WHEN try.own_end THEN c.ends + 1 ELSE 0 END,
		failing_since = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.failing_since ELSE excluded.failing_since END
	RETURNING * INTO noted;
	tries := noted.tries - 1;
	ends := noted.ends;
	failing_ms := round(extract(epoch FROM clock_timestamp() - noted.failing_since) * 1000);
	IF tries >= 5 THEN
		alike := outbox.others_fail(note_trouble.consumer, note_trouble.topic, note_trouble.partition, error_code, NULL);
		works := outbox.others_work(note_trouble.consumer, clock_timestamp() - tried_ms * interval '1 millisecond');
	END IF;
END $$;
COMMENT ON FUNCTION outbox.note_trouble(text, text, integer, bigint, uuid, integer, bigint, text, text, boolean, boolean, bigint) IS
	'notes a record that may end the session';

/* The record of the partition that was tried alone last and is not done, if any. */
CREATE FUNCTION outbox.partition_trouble(consumer text, topic text, partition integer)
RETURNS TABLE ("offset" bigint, event_id uuid, sqlstate text, error_message text, ended boolean, tries integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('partition_trouble', ARRAY['consumer', consumer, 'topic', topic, 'partition', partition::text]);
	RETURN QUERY SELECT c."offset", c.event_id, c.sqlstate, c.error_message, c.ended, c.tries
	FROM outbox.consumer_trouble c
	WHERE c.consumer = partition_trouble.consumer AND c.topic = partition_trouble.topic
		AND c.partition = partition_trouble.partition;
END $$;
COMMENT ON FUNCTION outbox.partition_trouble(text, text, integer) IS 'the record that is tried alone';

/* The record is done. */
CREATE FUNCTION outbox.end_trouble(consumer text, topic text, partition integer, "offset" bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('end_trouble', ARRAY['consumer', consumer, 'topic', topic, 'partition', partition::text, 'offset', "offset"::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	DELETE FROM outbox.consumer_trouble c
	WHERE c.consumer = end_trouble.consumer AND c.topic = end_trouble.topic
		AND c.partition = end_trouble.partition AND c."offset" = end_trouble."offset";
END $$;
COMMENT ON FUNCTION outbox.end_trouble(text, text, integer, bigint) IS 'takes the note of a record in trouble back';

/*
 * The same of a dead letter that is tried again: the try, taken by outbox.dead_letter_next_run, has failed with what is
 * waited for otherwise; ended: and its session with it.
 */
CREATE FUNCTION outbox.dead_letter_troubled(dead_letter bigint, error_code text, error_message text, ended boolean, tried_ms bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	try record;
BEGIN
	PERFORM outbox.need('dead_letter_troubled', ARRAY['dead_letter', dead_letter::text, 'error_message', dead_letter_troubled.error_message,
		'ended', dead_letter_troubled.ended::text]);
	SELECT * INTO try FROM outbox.judge_try(error_code, dead_letter_troubled.ended, tried_ms);
	IF NOT try.counts THEN
		RETURN;
	END IF;
	PERFORM set_config('synchronous_commit', 'local', true);
	UPDATE outbox.dead_letter d
	SET troubles = d.troubles + 1, ends = CASE WHEN try.own_end THEN d.ends + 1 ELSE 0 END,
		troubled_since = coalesce(d.troubled_since, clock_timestamp()),
		last_failed_at = clock_timestamp(), error_class = 'infrastructure', sqlstate = error_code,
		error_message = outbox.cut_text(dead_letter_troubled.error_message, 1024)
	WHERE d.id = dead_letter_troubled.dead_letter AND d.state = 'retrying';
END $$;
COMMENT ON FUNCTION outbox.dead_letter_troubled(bigint, text, text, boolean, bigint) IS 'notes a retry that failed for itself alone';

/* ------------------------------------------------- many letters of one key
 *
 * What is held behind a letter that is tried again follows in the same transaction.
 */

/*
 * What outbox.dead_letter_next tells, and when it is due and has neither been tried before nor been in hand when a process
 * ended, the letters held behind it in their order, together at most `most` and 4 MB.  troubles, ends, trouble_ms,
 * troubled_ms: how often the first has failed as outbox.dead_letter_troubled notes, the last so many with their session, since
 * when, and when last; alike: another record or letter is failing the same way, and nobody's has been done since.
 */
CREATE FUNCTION outbox.dead_letter_next_run(consumer text, topics text[], most integer)
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint, troubles integer, ends integer, trouble_ms bigint, troubled_ms bigint, alike boolean,
	sqlstate text, error_message text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
	first record;
	letter outbox.dead_letter;
	hash bytea;
BEGIN
	PERFORM outbox.need('dead_letter_next_run', ARRAY['consumer', dead_letter_next_run.consumer, 'most', most::text]);
	SELECT * INTO first FROM outbox.dead_letter_next(dead_letter_next_run.consumer, topics);
	IF first.id IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = first.id;
	hash := sha256(letter.key);
	RETURN QUERY SELECT first.id, first.attempts, first.topic, first.partition, first."offset", first.key, first.value,
		first.headers, first.wait_ms, first.record_ms, first.crashes, first.failing_ms, letter.troubles, letter.ends,
		round(extract(epoch FROM clock_timestamp() - letter.troubled_since) * 1000)::bigint,
		round(extract(epoch FROM clock_timestamp() - letter.last_failed_at) * 1000)::bigint,
		letter.troubles > 0 AND outbox.others_fail(letter.consumer, letter.topic, letter.partition, letter.sqlstate, letter.id)
			AND NOT outbox.others_work(letter.consumer, letter.last_failed_at),
		letter.sqlstate, letter.error_message;
	IF first.wait_ms > 0 OR first.attempts > 0 OR first.crashes > 0 OR letter.troubles > 0 OR most < 2 THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT h.id, h.attempts, h.topic, h.partition, h."offset", h.key, h.value, h.headers, 0::bigint,
		round(extract(epoch FROM h.record_time) * 1000)::bigint, 0,
		round(extract(epoch FROM clock_timestamp() - h.first_failed_at) * 1000)::bigint, 0, 0, NULL::bigint, NULL::bigint, false,
		NULL::text, NULL::text
	FROM (SELECT d.*, sum(coalesce(octet_length(d.value), 0) + coalesce(octet_length(d.headers), 0)) OVER (ORDER BY d.place, d.id) AS bytes
			FROM (SELECT w.*, sha256(w.key) AS place FROM outbox.dead_letter w
				WHERE w.consumer = dead_letter_next_run.consumer AND w.topic = letter.topic
					AND sha256(w.key) BETWEEN hash AND hash AND w.state = 'held'
				ORDER BY sha256(w.key), w.id LIMIT most - 1) d) h
	WHERE h.bytes <= 4194304
	ORDER BY h.place, h.id;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next_run(text, text[], integer) IS 'the dead letters of a key to be tried next';

/*
 * Locks letters for a try and claims their events.  ids: as outbox.dead_letter_next_run told them, the first with its
 * attempts; claim_ids: as in outbox.dead_letter_begin.  Returns a letter for each, n new, d processed before, up to the
 * first that somebody else has or has done with, or that another one of its key has come before; '': none.
 */
CREATE FUNCTION outbox.dead_letter_begin_run(ids bigint[], attempts integer, claim_ids uuid[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	letter outbox.dead_letter;
	behind record;
	place integer := 1;
	claims uuid[];
	blocking bigint;
BEGIN
	PERFORM outbox.need('dead_letter_begin_run', ARRAY['ids', ids::text, 'attempts', attempts::text, 'claim_ids', claim_ids::text]);
	SELECT * INTO letter FROM outbox.dead_letter d
	WHERE d.id = ids[1] AND d.state = 'retrying' AND d.attempts = dead_letter_begin_run.attempts
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN '';
	END IF;
	claims[1] := coalesce(CASE WHEN letter.replay_of IS NULL THEN claim_ids[1] END, letter.event_id);
	IF cardinality(ids) > 1 THEN
		SELECT min(b.id) INTO blocking
		FROM outbox.dead_letter_blocking(letter.consumer, letter.topic, letter.key) b (id) WHERE b.id <> letter.id;
		FOR behind IN
			SELECT d.id, d.event_id, d.replay_of, d.state = 'held' AND d.key = letter.key AND d.topic = letter.topic
				AND d.consumer = letter.consumer AS follows
			FROM outbox.dead_letter d WHERE d.id = ANY (ids[2:]) ORDER BY d.id FOR UPDATE SKIP LOCKED
		LOOP
			place := place + 1;
			EXIT WHEN behind.id <> ids[place] OR behind.id > blocking OR NOT behind.follows;
			claims[place] := coalesce(CASE WHEN behind.replay_of IS NULL THEN claim_ids[place] END, behind.event_id);
		END LOOP;
	END IF;
	RETURN (SELECT string_agg(CASE WHEN c.claimed THEN 'n' ELSE 'd' END, '' ORDER BY c.place)
		FROM unnest(outbox.claim_many(letter.consumer, claims)) WITH ORDINALITY c (claimed, place));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin_run(bigint[], integer, uuid[]) IS 'first statement of a retry of several';

/* Their tries have succeeded; the next held one of the key is due.  ids: as outbox.dead_letter_begin_run has locked them. */
CREATE FUNCTION outbox.dead_letter_resolve_run(ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_resolve_run', ARRAY['ids', ids::text]);
	WITH done AS (UPDATE outbox.dead_letter d
	SET state = 'resolved', attempts = d.attempts + greatest(d.unended, 1), unended = 0, next_attempt_at = NULL,
		blocked_by = NULL, troubles = 0, ends = 0, troubled_since = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = 'retry succeeded'
	WHERE d.id = ANY (ids) AND d.state = CASE WHEN d.id = ids[1] THEN 'retrying' ELSE 'held' END
	RETURNING *)
	SELECT * INTO letter FROM done WHERE done.id = ids[1];
	IF FOUND THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve_run(bigint[]) IS 'last statement of a retry of several that succeeded';
