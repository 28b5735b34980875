/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ retries of dead letters
 *
 * How a consumer tries a letter again: outbox.dead_letter_next takes it, begin opens the
 * transaction, resolve ends it; a try that failed is noted by failed or troubled, one that did
 * neither by put_back.  What is held behind the letter follows in the same transaction: next_run,
 * begin_run, resolve_run.
 */

/*
 * The lock of who tries a row, the session's until it gives it up or ends; no role can take it with
 * pg_advisory_lock().
 */
CREATE FUNCTION outbox.dead_letter_lock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_lock';
CREATE FUNCTION outbox.dead_letter_unlock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_unlock';

/*
 * The row of the topics (NULL: of any) to be tried next, and in how many ms it is due; rows of one
 * key in their order; in_hand: but for these, which the caller has already.  0: now; then the
 * caller has it, others pass it by, until the caller's outbox.dead_letter_put_back or the end of
 * its connection; crashes: how often a process has ended while it tried the row; failing_ms: since
 * it failed first.  A transaction of its own, not waited for: what it writes need not survive the
 * server.
 */
CREATE FUNCTION outbox.dead_letter_next(consumer text, topics text[] DEFAULT NULL,
	in_hand bigint[] DEFAULT '{}')
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
	known integer := 0;
BEGIN
	PERFORM outbox.need('dead_letter_next', ARRAY['consumer', consumer,
		'in_hand', in_hand::text]);
	/* The clock was set back: what failed by its old time waits as long as it was to, no longer. */
	IF (SELECT max(d.last_failed_at) > clock_timestamp() FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying')
	THEN
		UPDATE outbox.dead_letter d
		SET next_attempt_at = clock_timestamp() + (d.next_attempt_at - d.last_failed_at),
			last_failed_at = clock_timestamp()
		WHERE d.id IN (SELECT w.id FROM outbox.dead_letter w
			WHERE w.consumer = dead_letter_next.consumer AND w.state = 'retrying'
				AND w.last_failed_at > clock_timestamp()
			ORDER BY w.next_attempt_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
	END IF;
	FOR letter IN
		SELECT * FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying'
			AND (topics IS NULL OR d.topic = ANY (topics)) AND d.id <> ALL (in_hand)
		ORDER BY d.next_attempt_at
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM outbox.dead_letter b
			WHERE b.consumer = dead_letter_next.consumer AND b.topic = letter.topic
				AND sha256(b.key) = sha256(letter.key) AND b.state = 'retrying'
				AND b.id < letter.id);
		IF letter.next_attempt_at <= clock_timestamp() THEN
			CONTINUE WHEN NOT outbox.dead_letter_lock(letter.id);
			PERFORM set_config('synchronous_commit', 'off', true);
			UPDATE outbox.dead_letter d SET unended = d.unended + 1
			WHERE d.id = (SELECT w.id FROM outbox.dead_letter w
				WHERE w.id = letter.id AND w.state = 'retrying' AND w.attempts = letter.attempts
					AND w.next_attempt_at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
			RETURNING d.unended - 1 INTO known;
			IF NOT FOUND THEN
				PERFORM outbox.dead_letter_unlock(letter.id);
				CONTINUE;
			END IF;
		END IF;
		RETURN QUERY SELECT letter.id, letter.attempts, letter.topic, letter.partition,
			letter."offset", letter.key, letter.value, letter.headers,
			CASE WHEN letter.next_attempt_at <= clock_timestamp() THEN 0
				ELSE ceil(extract(epoch FROM letter.next_attempt_at - clock_timestamp()) * 1000)
				END::bigint,
			round(extract(epoch FROM letter.record_time) * 1000)::bigint, known,
			round(extract(epoch FROM clock_timestamp() - letter.first_failed_at) * 1000)::bigint;
		RETURN;
	END LOOP;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next(text, text[], bigint[]) IS
	'the dead letter to be tried next';

/*
 * What outbox.dead_letter_next tells, and when it is due and has neither been tried before nor been
 * in hand when a process ended, the letters held behind it in their order, together at most `most`
 * and 4 MB.  troubles, ends, trouble_ms, troubled_ms: how often the first has failed as
 * outbox.dead_letter_troubled notes, the last so many with their session, since when, and when
 * last; alike: another record or letter is failing the same way, and nobody's has been done since.
 */
CREATE FUNCTION outbox.dead_letter_next_run(consumer text, topics text[], most integer,
	in_hand bigint[] DEFAULT '{}')
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint, troubles integer, ends integer, trouble_ms bigint, troubled_ms bigint,
	alike boolean, sqlstate text, error_message text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
	first record;
	letter outbox.dead_letter;
	hash bytea;
BEGIN
	PERFORM outbox.need('dead_letter_next_run', ARRAY['consumer', dead_letter_next_run.consumer,
		'most', most::text, 'in_hand', in_hand::text]);
	SELECT * INTO first
	FROM outbox.dead_letter_next(dead_letter_next_run.consumer, topics, in_hand);
	IF first.id IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = first.id;
	hash := sha256(letter.key);
	RETURN QUERY SELECT first.id, first.attempts, first.topic, first.partition, first."offset",
		first.key, first.value, first.headers, first.wait_ms, first.record_ms, first.crashes,
		first.failing_ms, letter.troubles, letter.ends,
		round(extract(epoch FROM clock_timestamp() - letter.troubled_since) * 1000)::bigint,
		round(extract(epoch FROM clock_timestamp() - letter.last_failed_at) * 1000)::bigint,
		letter.troubles > 0
			AND outbox.others_fail(letter.consumer, letter.topic, letter.partition,
				letter.sqlstate, letter.id)
			AND NOT outbox.others_work(letter.consumer, letter.last_failed_at),
		letter.sqlstate, letter.error_message;
	IF first.wait_ms > 0 OR first.attempts > 0 OR first.crashes > 0 OR letter.troubles > 0
		OR most < 2 THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT h.id, h.attempts, h.topic, h.partition, h."offset", h.key, h.value,
		h.headers, 0::bigint, round(extract(epoch FROM h.record_time) * 1000)::bigint, 0,
		round(extract(epoch FROM clock_timestamp() - h.first_failed_at) * 1000)::bigint, 0, 0,
		NULL::bigint, NULL::bigint, false, NULL::text, NULL::text
	FROM (SELECT d.*, sum(coalesce(octet_length(d.value), 0) + coalesce(octet_length(d.headers), 0))
				OVER (ORDER BY d.place, d.id) AS bytes
			FROM (SELECT w.*, sha256(w.key) AS place FROM outbox.dead_letter w
				WHERE w.consumer = dead_letter_next_run.consumer AND w.topic = letter.topic
					AND sha256(w.key) BETWEEN hash AND hash AND w.state = 'held'
				ORDER BY sha256(w.key), w.id LIMIT most - 1) d) h
	WHERE h.bytes <= 4194304
	ORDER BY h.place, h.id;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next_run(text, text[], integer, bigint[]) IS
	'the dead letters of a key to be tried next';

/*
 * The caller of outbox.dead_letter_next is done with the row; a try that has neither succeeded nor
 * failed is not counted, and not repeated within later_ms.
 */
CREATE FUNCTION outbox.dead_letter_put_back(dead_letter bigint, later_ms integer DEFAULT 0)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_put_back', ARRAY['dead_letter', dead_letter::text,
		'later_ms', later_ms::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.dead_letter d SET unended = d.unended - 1,
		next_attempt_at = CASE WHEN d.state = 'retrying' AND later_ms > 0
			THEN greatest(d.next_attempt_at,
				clock_timestamp() + later_ms * interval '1 millisecond')
			ELSE d.next_attempt_at END
	WHERE d.id = dead_letter_put_back.dead_letter AND d.unended > 0;
	PERFORM outbox.dead_letter_unlock(dead_letter);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_put_back(bigint, integer) IS
	'ends what dead_letter_next began';

/*
 * Locks the row for a try and claims its event: n new, d processed before, NULL when somebody else
 * has the row or has tried it since.  An edited copy is the event that its row says, whatever id
 * the record has within its value.
 */
CREATE FUNCTION outbox.dead_letter_begin(dead_letter bigint, attempts integer,
	claim_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_begin', ARRAY['dead_letter', dead_letter::text,
		'attempts', attempts::text]);
	RETURN nullif(outbox.dead_letter_begin_run(ARRAY[dead_letter], attempts, ARRAY[claim_id]), '');
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin(bigint, integer, uuid) IS 'first statement of a retry';

/*
 * Locks letters for a try and claims their events.  ids: as outbox.dead_letter_next_run told them,
 * the first with its attempts; claim_ids: as in outbox.dead_letter_begin.  Returns a character for
 * each, n new, d processed before, up to the first that somebody else has or has done with, or that
 * another one of its key has come before; '': none.
 */
CREATE FUNCTION outbox.dead_letter_begin_run(ids bigint[], attempts integer, claim_ids uuid[])
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off AS $$
DECLARE
	letter outbox.dead_letter;
	behind record;
	place integer := 1;
	asked uuid[];
	blocking bigint;
BEGIN
	PERFORM outbox.need('dead_letter_begin_run', ARRAY['ids', ids::text, 'attempts', attempts::text,
		'claim_ids', claim_ids::text]);
	SELECT * INTO letter FROM outbox.dead_letter d
	WHERE d.id = ids[1] AND d.state = 'retrying' AND d.attempts = dead_letter_begin_run.attempts
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN '';
	END IF;
	asked[1] := coalesce(CASE WHEN letter.replay_of IS NULL THEN claim_ids[1] END, letter.event_id);
	IF cardinality(ids) > 1 THEN
		SELECT min(b.id) INTO blocking
		FROM outbox.dead_letter_blocking(letter.consumer, letter.topic, letter.key) b (id)
		WHERE b.id <> letter.id;
		FOR behind IN
			SELECT d.id, d.event_id, d.replay_of, d.state = 'held' AND d.key = letter.key
				AND d.topic = letter.topic AND d.consumer = letter.consumer AS follows
			FROM outbox.dead_letter d WHERE d.id = ANY (ids[2:])
			ORDER BY d.id FOR UPDATE SKIP LOCKED
		LOOP
			place := place + 1;
			EXIT WHEN behind.id <> ids[place] OR behind.id > blocking OR NOT behind.follows;
			asked[place] := coalesce(CASE WHEN behind.replay_of IS NULL THEN claim_ids[place] END,
				behind.event_id);
		END LOOP;
	END IF;
	RETURN (SELECT string_agg(CASE WHEN c.claimed THEN 'n' ELSE 'd' END, '' ORDER BY c.place)
		FROM unnest(outbox.claim_many(letter.consumer, asked)) WITH ORDINALITY c (claimed, place));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin_run(bigint[], integer, uuid[]) IS
	'first statement of a retry of several';

/* The try has succeeded. */
CREATE FUNCTION outbox.dead_letter_resolve(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_resolve', ARRAY['dead_letter', dead_letter::text]);
	PERFORM outbox.dead_letter_resolve_run(ARRAY[dead_letter]);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve(bigint) IS
	'last statement of a retry that succeeded';

/*
 * Their tries have succeeded; the next held one of the key is due.  ids: as
 * outbox.dead_letter_begin_run has locked them.
 */
CREATE FUNCTION outbox.dead_letter_resolve_run(ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_resolve_run', ARRAY['ids', ids::text]);
	WITH done AS (UPDATE outbox.dead_letter d
	SET state = 'resolved', attempts = d.attempts + greatest(d.unended, 1), unended = 0,
		next_attempt_at = NULL, blocked_by = NULL, troubles = 0, ends = 0, troubled_since = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = 'retry succeeded'
	WHERE d.id = ANY (ids) AND d.state = CASE WHEN d.id = ids[1] THEN 'retrying' ELSE 'held' END
	RETURNING *)
	SELECT * INTO letter FROM done WHERE done.id = ids[1];
	IF FOUND THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve_run(bigint[]) IS
	'last statement of a retry of several that succeeded';

/*
 * The try has failed, in a transaction of its own; error_class crash: it was not made, for the
 * process did not survive those before it.  Returns the row's new state, retrying (due after
 * backoff_ms) or open (then it is published; spring: with Spring's headers too), or NULL when
 * somebody else has dealt with it.
 */
CREATE FUNCTION outbox.dead_letter_failed(dead_letter bigint, attempts integer, permanent boolean,
	retry_max integer, backoff_ms integer,
	error_class text, error_code text, error_message text, spring boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	final boolean := permanent OR dead_letter_failed.attempts >= retry_max;
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_failed', ARRAY['dead_letter', dead_letter::text,
		'attempts', attempts::text, 'permanent', permanent::text, 'retry_max', retry_max::text,
		'backoff_ms', backoff_ms::text, 'error_class', error_class,
		'error_message', error_message]);
	UPDATE outbox.dead_letter d
	SET attempts = d.attempts + CASE WHEN dead_letter_failed.error_class = 'crash'
			THEN greatest(d.unended - 1, d.troubles, 1) ELSE greatest(d.unended, 1) END,
		unended = 0, troubles = 0, ends = 0, troubled_since = NULL,
		last_failed_at = clock_timestamp(),
		state = CASE WHEN final THEN 'open' ELSE 'retrying' END,
		next_attempt_at = CASE WHEN NOT final
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		error_class = dead_letter_failed.error_class, sqlstate = error_code,
		error_message = outbox.cut_text(dead_letter_failed.error_message, 1024)
	WHERE d.id = dead_letter_failed.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_failed.attempts
	RETURNING * INTO letter;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF final THEN
		PERFORM outbox.dead_letter_publish(letter.id, spring);
	END IF;
	RETURN letter.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_failed(bigint, integer, boolean, integer, integer,
	text, text, text, boolean) IS 'notes a retry that failed';

/*
 * The try, taken by outbox.dead_letter_next_run, has failed with what is waited for otherwise: the
 * letter is to be tried alone, as a record is that outbox.note_trouble notes; ended: its session
 * has ended with it.  tried_ms: since the try began, NULL: not known.
 */
CREATE FUNCTION outbox.dead_letter_troubled(dead_letter bigint, error_code text, error_message text,
	ended boolean, tried_ms bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	try record;
BEGIN
	PERFORM outbox.need('dead_letter_troubled', ARRAY['dead_letter', dead_letter::text,
		'error_message', dead_letter_troubled.error_message,
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
COMMENT ON FUNCTION outbox.dead_letter_troubled(bigint, text, text, boolean, bigint) IS
	'notes a retry that failed for itself alone';
