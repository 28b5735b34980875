/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer anchors
 *
 * What tells a consumer that a partition's log is another one than the one it read: records it has
 * processed, which must be found there unchanged.
 */

/* outbox.consumer_anchor: about eight records of each partition, ever farther apart.
 *
 *	record_ms	the record's time stamp, ms since 1970; -1: none
 *	digest	of key and value, services/kafka/digest.h
 */
CREATE TABLE outbox.consumer_anchor (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	"offset" bigint NOT NULL,
	record_ms bigint NOT NULL,
	digest bigint NOT NULL,
	kept_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (consumer, topic, partition, "offset")
);

/*
 * The anchors of these partitions, the newest of each first; place: of the partition, counted from
 * 1.
 */
CREATE FUNCTION outbox.consumer_anchors(consumer text, part_topics text[], part_numbers integer[])
RETURNS TABLE (place integer, "offset" bigint, record_ms bigint, digest bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_anchors', ARRAY['consumer', consumer,
		'part_topics', part_topics::text, 'part_numbers', part_numbers::text]);
	RETURN QUERY SELECT p.place::integer, a."offset", a.record_ms, a.digest
	FROM unnest(part_topics, part_numbers) WITH ORDINALITY p (topic, partition, place)
		JOIN outbox.consumer_anchor a ON a.consumer = consumer_anchors.consumer
			AND a.topic = p.topic AND a.partition = p.partition
	ORDER BY p.place, a."offset" DESC;
END $$;
COMMENT ON FUNCTION outbox.consumer_anchors(text, text[], integer[]) IS
	'by which records a consumer knows its logs again';

/*
 * Keeps a processed record as an anchor (NULL: none) and forgets those at the offsets `dropped`.
 * false: another member was here, nothing is changed.  Need not survive the server: it is not
 * waited for.
 */
CREATE FUNCTION outbox.keep_anchor(consumer text, topic text, partition integer, log_no integer,
	"offset" bigint, record_ms bigint, digest bigint, dropped bigint[] DEFAULT '{}')
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM outbox.need('keep_anchor', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'log_no', log_no::text, 'dropped', dropped::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	PERFORM FROM outbox.consumer_offset o
	WHERE o.consumer = keep_anchor.consumer AND o.topic = keep_anchor.topic
		AND o.partition = keep_anchor.partition AND o.log_no = keep_anchor.log_no
		AND (keep_anchor."offset" IS NULL OR o.next_offset > keep_anchor."offset") FOR SHARE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	DELETE FROM outbox.consumer_anchor a
	WHERE a.consumer = keep_anchor.consumer AND a.topic = keep_anchor.topic
		AND a.partition = keep_anchor.partition AND a."offset" = ANY (dropped);
	IF keep_anchor."offset" IS NOT NULL THEN
		INSERT INTO outbox.consumer_anchor AS a (consumer, topic, partition, "offset", record_ms,
			digest)
		VALUES (keep_anchor.consumer, keep_anchor.topic, keep_anchor.partition,
			keep_anchor."offset", keep_anchor.record_ms, keep_anchor.digest)
		ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
		SET record_ms = excluded.record_ms, digest = excluded.digest, kept_at = excluded.kept_at;
	END IF;
	RETURN true;
END $$;
COMMENT ON FUNCTION outbox.keep_anchor(text, text, integer, integer, bigint, bigint, bigint,
	bigint[]) IS
	'keeps a processed record to know its log again by';

/*
 * The partition's log is another one from `next` on: the watermark goes back there, by
 * compare-and-set of watermark and log.  seen_to stays; what was known of later records of the old
 * log by their place alone is forgotten.  Returns the log's new number, or NULL when another member
 * was here.  SQLSTATE 22023: next is negative or above expected; 22004: an argument is NULL.
 */
CREATE FUNCTION outbox.rewind_offset(consumer text, topic text, partition integer, expected bigint,
	log_no integer, next bigint)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known integer;
BEGIN
	PERFORM outbox.need('rewind_offset', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'expected', expected::text, 'log_no', log_no::text,
		'next', next::text]);
	IF next < 0 OR next > expected THEN
		RAISE EXCEPTION 'a watermark cannot go back from % to %', expected, next
			USING ERRCODE = '22023', DETAIL = 'Allowed: 0 to where it is.';
	END IF;
	UPDATE outbox.consumer_offset o
	SET next_offset = rewind_offset.next, went_back_from = o.seen_to, log_no = o.log_no + 1,
		old_ids_to = least(coalesce(o.old_ids_to, o.next_offset), rewind_offset.next),
		last_offset = NULL, last_ms = NULL, last_digest = NULL,
		updated_at = clock_timestamp()
	WHERE o.consumer = rewind_offset.consumer AND o.topic = rewind_offset.topic
		AND o.partition = rewind_offset.partition AND o.next_offset = expected
		AND o.log_no = rewind_offset.log_no
	RETURNING o.log_no INTO known;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	DELETE FROM outbox.consumer_anchor a
	WHERE a.consumer = rewind_offset.consumer AND a.topic = rewind_offset.topic
		AND a.partition = rewind_offset.partition AND a."offset" >= rewind_offset.next;
	UPDATE outbox.consumer_attempt a SET "offset" = NULL, crashes = 0, calls = NULL
	WHERE a.consumer = rewind_offset.consumer AND a.topic = rewind_offset.topic
		AND a.partition = rewind_offset.partition;
	RETURN known;
END $$;
COMMENT ON FUNCTION outbox.rewind_offset(text, text, integer, bigint, integer, bigint) IS
	'the watermark goes back, for the log was made anew';
