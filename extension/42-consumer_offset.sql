/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ watermarks of consumers
 *
 * How far each consumer has come in each partition, and how that is moved.
 */

/*
 * outbox.consumer_offset: how far a consumer has come, written in the same
 * transaction as the effects.
 *
 *	next_offset	records below it are done or lie in outbox.dead_letter
 *	log_no	raised when the partition's log is found to be another one; a member that has an earlier
 *		number is refused
 *	went_back_from	records below it may have been seen though next_offset is not above them: it
 *		went back from there, or they were done before an earlier one was; NULL: there are none
 *	old_ids_to	records below it may be known by an event id without time stamp and digest; NULL: an
 *		older version wrote the row, all below next_offset may
 *	seen_to	the highest next_offset there ever was
 *	called_at	when a handler was called last, and its effects committed with the row
 *	last_offset, last_ms, last_digest	the last record read of this log, as in
 *		outbox.consumer_anchor; NULL: not known
 */
CREATE TABLE outbox.consumer_offset (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	next_offset bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	log_no integer NOT NULL DEFAULT 0,
	went_back_from bigint,
	old_ids_to bigint,
	seen_to bigint GENERATED ALWAYS AS (greatest(next_offset, went_back_from)) STORED,
	last_offset bigint,
	last_ms bigint,
	last_digest bigint,
	called_at timestamptz,
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/* idle_seconds: since the watermark moved last. */
CREATE FUNCTION outbox.consumer_offsets(consumer text)
RETURNS TABLE (topic text, partition integer, next_offset bigint, idle_seconds double precision,
	log_no integer, seen_to bigint, old_ids_to bigint, last_offset bigint, last_ms bigint,
	last_digest bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_offsets', ARRAY['consumer', consumer]);
	RETURN QUERY SELECT o.topic, o.partition, o.next_offset,
		extract(epoch FROM clock_timestamp() - o.updated_at)::double precision,
		o.log_no, o.seen_to, coalesce(o.old_ids_to, o.next_offset), o.last_offset, o.last_ms,
		o.last_digest
	FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_offsets.consumer;
END $$;
COMMENT ON FUNCTION outbox.consumer_offsets(text) IS
	'how far a consumer has come in each partition';

/*
 * Moves a watermark by compare-and-set.  expected NULL: no row yet; log_no NULL: of any log, for a
 * caller that knows records without id by their old event ids alone, so these count up to next;
 * record_ms, digest: of the record before next, NULL: not known; calls: a handler is called in the
 * transaction; done_to: records before it are done in the transaction, above next, NULL: none is.
 * moved is false when another member was here; seen_to, old_ids_to: as before, but seen_to includes
 * done_to, NULL when there was no row.
 */
CREATE FUNCTION outbox.move_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint, log_no integer, record_ms bigint, digest bigint, calls boolean,
	done_to bigint, OUT moved boolean, OUT seen_to bigint, OUT old_ids_to bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	newer boolean := digest IS NOT NULL AND (expected IS NULL OR move_offset.next > expected);
BEGIN
	IF expected IS NULL THEN
		INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset, old_ids_to,
			last_offset, last_ms, last_digest, called_at, went_back_from)
		VALUES (move_offset.consumer, move_offset.topic, move_offset.partition, move_offset.next,
			CASE WHEN move_offset.log_no IS NULL THEN move_offset.next ELSE 0 END,
			CASE WHEN digest IS NOT NULL THEN move_offset.next - 1 END, record_ms, digest,
			CASE WHEN calls THEN clock_timestamp() END, done_to)
		ON CONFLICT DO NOTHING;
		moved := FOUND;
		RETURN;
	END IF;
	UPDATE outbox.consumer_offset o
	SET next_offset = greatest(o.next_offset, move_offset.next),
		old_ids_to = CASE WHEN move_offset.log_no IS NULL
			THEN greatest(coalesce(o.old_ids_to, o.next_offset), move_offset.next)
			ELSE coalesce(o.old_ids_to, o.next_offset) END,
		last_offset = CASE WHEN newer THEN move_offset.next - 1 ELSE o.last_offset END,
		last_ms = CASE WHEN newer THEN move_offset.record_ms ELSE o.last_ms END,
		last_digest = CASE WHEN newer THEN move_offset.digest ELSE o.last_digest END,
		updated_at = clock_timestamp(),
		called_at = CASE WHEN calls THEN clock_timestamp() ELSE o.called_at END,
		went_back_from = greatest(o.went_back_from, done_to)
	WHERE o.consumer = move_offset.consumer AND o.topic = move_offset.topic
		AND o.partition = move_offset.partition AND o.next_offset = expected
		AND (move_offset.log_no IS NULL OR o.log_no = move_offset.log_no)
	RETURNING greatest(expected, o.went_back_from), o.old_ids_to INTO seen_to, old_ids_to;
	moved := FOUND;
END $$;

/* expected NULL: no row yet.  false: another member has moved the watermark; roll back. */
CREATE FUNCTION outbox.advance_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF consumer IS NULL OR topic IS NULL OR partition IS NULL OR next IS NULL THEN
		PERFORM outbox.need('advance_offset', ARRAY['consumer', consumer, 'topic', topic,
			'partition', partition::text, 'next', next::text]);
	END IF;
	RETURN (outbox.move_offset(consumer, topic, partition, expected, next, NULL, NULL, NULL,
		false, NULL)).moved;
END $$;
COMMENT ON FUNCTION outbox.advance_offset(text, text, integer, bigint, bigint) IS
	'moves a watermark by compare-and-set';

/*
 * The topics, of those given, in which others have come somewhere and this consumer has never been:
 * was it renamed, it reads what they have processed again.  others: who, and when their watermark
 * moved last (UTC).
 */
CREATE FUNCTION outbox.consumer_is_new(consumer text, topics text[])
RETURNS TABLE (topic text, others text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_is_new', ARRAY['consumer', consumer, 'topics', topics::text]);
	RETURN QUERY
	SELECT l.topic, string_agg(format('%s (moved last at %s)', l.consumer,
			to_char(l.moved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
		', ' ORDER BY l.moved_at DESC, l.consumer)
	FROM (SELECT o.topic, o.consumer, max(o.updated_at) AS moved_at FROM outbox.consumer_offset o
			WHERE o.topic = ANY (topics) GROUP BY o.topic, o.consumer) l
	GROUP BY l.topic
	HAVING NOT bool_or(l.consumer = consumer_is_new.consumer)
	ORDER BY l.topic;
END $$;
COMMENT ON FUNCTION outbox.consumer_is_new(text, text[]) IS
	'topics that other consumers have read and this one has not';
