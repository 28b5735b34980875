/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------- records that end their session
 *
 * A record that fails for itself alone with what is waited for otherwise (its session ends, the
 * server runs out of something) is tried alone, in new sessions.  Each try is noted in a
 * transaction of its own before it is made, and flushed: the session, and the server, may not
 * survive it.
 */

/*
 * outbox.consumer_trouble
 *
 *	tries	made alone; those that failed, and the running one
 *	ends	of those that failed the last so many ended their session
 *	failing_since	the first of them
 *	tried_at	the running one
 *	sqlstate, error_message, ended	what the try before the last one failed with; ended: its session
 *		did
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
 * Has anything else of the consumer, or of another one with the same SQLSTATE, failed lately and is
 * not done?  The record at a place, or a letter (letter: its id), does not count itself.
 */
CREATE FUNCTION outbox.others_fail(consumer text, topic text, partition integer, error_code text,
	letter bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_trouble c
			WHERE (c.consumer = others_fail.consumer OR c.sqlstate = error_code)
				AND c.tried_at > clock_timestamp() - interval '5 min'
				AND (letter IS NOT NULL OR (c.consumer, c.topic, c.partition)
					<> (others_fail.consumer, others_fail.topic, others_fail.partition)))
		OR EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.state = 'retrying' AND d.troubles > 0
				AND (d.consumer = others_fail.consumer OR d.sqlstate = error_code)
				AND d.last_failed_at > clock_timestamp() - interval '5 min'
				AND d.id IS DISTINCT FROM letter)
$$;

/* Has a handler's call of the consumer been made since, and committed? */
CREATE FUNCTION outbox.others_work(consumer text, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM outbox.consumer_offset o
		WHERE o.consumer = others_work.consumer AND o.called_at > since)
$$;

/*
 * A try that began so long ago has failed.  Does it count?  Not when somebody has stopped the
 * server meanwhile (57P01; a crash leaves another SQLSTATE).  Has its own session ended, and not
 * with the whole server, or because another process has crashed?
 */
CREATE FUNCTION outbox.judge_try(error_code text, ended boolean, tried_ms bigint,
	OUT counts boolean, OUT own_end boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT NOT (s.restarted AND error_code IS NOT DISTINCT FROM '57P01'),
		ended AND NOT s.restarted AND error_code IS DISTINCT FROM '57P02'
	FROM (SELECT coalesce(pg_postmaster_start_time()
			> clock_timestamp() - tried_ms * interval '1 millisecond', false) AS restarted) s
$$;

/*
 * The record is going to be tried alone.  earlier: tries that failed before it was noted first,
 * earlier_ms: since the first of them; sqlstate, error_message, ended: of the last try that failed;
 * counts: the try that was noted last has failed for the record's sake; tried_ms: since it began,
 * NULL: not known.  Returns the tries before this one, of them the last so many that ended their
 * session, for how long they have failed; from the fifth on whether others fail alike, and whether
 * others of the consumer have been done since the last.
 */
CREATE FUNCTION outbox.note_trouble(consumer text, topic text, partition integer, "offset" bigint,
	event_id uuid, earlier integer, earlier_ms bigint, error_code text, error_message text,
	ended boolean, counts boolean, tried_ms bigint, OUT tries integer, OUT ends integer,
	OUT failing_ms bigint, OUT alike boolean, OUT works boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	try record;
	more integer;
	noted outbox.consumer_trouble;
BEGIN
	PERFORM outbox.need('note_trouble', ARRAY['consumer', note_trouble.consumer,
		'topic', note_trouble.topic, 'partition', note_trouble.partition::text,
		'offset', note_trouble."offset"::text, 'event_id', note_trouble.event_id::text,
		'earlier', earlier::text, 'earlier_ms', earlier_ms::text,
		'error_message', note_trouble.error_message, 'ended', note_trouble.ended::text,
		'counts', note_trouble.counts::text]);
	PERFORM set_config('synchronous_commit', 'local', true);
	SELECT * INTO try FROM outbox.judge_try(error_code, note_trouble.ended, tried_ms);
	more := (note_trouble.counts AND try.counts)::integer;
	INSERT INTO outbox.consumer_trouble AS c (consumer, topic, partition, "offset", event_id, tries,
		ends, failing_since, sqlstate, error_message, ended)
	VALUES (note_trouble.consumer, note_trouble.topic, note_trouble.partition,
		note_trouble."offset", note_trouble.event_id, earlier + 1,
		CASE WHEN try.own_end THEN least(earlier, 1) ELSE 0 END,
		clock_timestamp() - earlier_ms * interval '1 millisecond', error_code,
		outbox.cut_text(note_trouble.error_message, 1024), note_trouble.ended)
	ON CONFLICT (consumer, topic, partition) DO UPDATE
	SET "offset" = excluded."offset", event_id = excluded.event_id, sqlstate = excluded.sqlstate,
		error_message = excluded.error_message, ended = excluded.ended,
		tried_at = excluded.tried_at,
		tries = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.tries + more ELSE excluded.tries END,
		ends = CASE WHEN (c."offset", c.event_id) <> (excluded."offset", excluded.event_id)
				THEN excluded.ends
			WHEN more = 0 THEN c.ends WHEN try.own_end THEN c.ends + 1 ELSE 0 END,
		failing_since = CASE WHEN (c."offset", c.event_id) = (excluded."offset", excluded.event_id)
			THEN c.failing_since ELSE excluded.failing_since END
	RETURNING * INTO noted;
	tries := noted.tries - 1;
	ends := noted.ends;
	failing_ms := round(extract(epoch FROM clock_timestamp() - noted.failing_since) * 1000);
	IF tries >= 5 THEN
		alike := outbox.others_fail(note_trouble.consumer, note_trouble.topic,
			note_trouble.partition, error_code, NULL);
		works := outbox.others_work(note_trouble.consumer,
			clock_timestamp() - tried_ms * interval '1 millisecond');
	END IF;
END $$;
COMMENT ON FUNCTION outbox.note_trouble(text, text, integer, bigint, uuid, integer, bigint, text,
	text, boolean, boolean, bigint) IS
	'notes a record that may end the session';

/* The record of the partition that was tried alone last and is not done, if any. */
CREATE FUNCTION outbox.partition_trouble(consumer text, topic text, partition integer)
RETURNS TABLE ("offset" bigint, event_id uuid, sqlstate text, error_message text, ended boolean,
	tries integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('partition_trouble', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text]);
	RETURN QUERY SELECT c."offset", c.event_id, c.sqlstate, c.error_message, c.ended, c.tries
	FROM outbox.consumer_trouble c
	WHERE c.consumer = partition_trouble.consumer AND c.topic = partition_trouble.topic
		AND c.partition = partition_trouble.partition;
END $$;
COMMENT ON FUNCTION outbox.partition_trouble(text, text, integer) IS
	'the record that is tried alone';

/* The record is done. */
CREATE FUNCTION outbox.end_trouble(consumer text, topic text, partition integer, "offset" bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('end_trouble', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	DELETE FROM outbox.consumer_trouble c
	WHERE c.consumer = end_trouble.consumer AND c.topic = end_trouble.topic
		AND c.partition = end_trouble.partition AND c."offset" = end_trouble."offset";
END $$;
COMMENT ON FUNCTION outbox.end_trouble(text, text, integer, bigint) IS
	'takes the note of a record in trouble back';
