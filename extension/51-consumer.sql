/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer runtime
 *
 * What the runtime of services/ calls; grant_consume gives the rights.
 */
/*
 * What the transaction emits from here on belongs to this flow and this trace; NULL or empty: to none.
 * Always true: it stands in a WHERE clause, which comes before the select list that emits.  Errors: 22023.
 */
CREATE FUNCTION outbox.set_context(correlation_id text, traceparent text, tracestate text) RETURNS boolean
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_set_context';
COMMENT ON FUNCTION outbox.set_context(text, text, text) IS 'flow and trace of what the transaction emits';

/*
 * A text of a record, UTF-8, as this database can hold it: bytes that are no UTF-8 and characters it has not become
 * % and two hex digits a byte, so that two values stay two; at most so many bytes, here and in UTF-8, cut between characters.
 */
CREATE FUNCTION outbox.wire_text(value bytea, most integer) RETURNS text
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_wire_text';
COMMENT ON FUNCTION outbox.wire_text(bytea, integer) IS 'a text of a record as the database can hold it';

/* idle_seconds: since the watermark moved last. */
CREATE FUNCTION outbox.consumer_offsets(consumer text)
RETURNS TABLE (topic text, partition integer, next_offset bigint, idle_seconds double precision,
	log_no integer, seen_to bigint, old_ids_to bigint, last_offset bigint, last_ms bigint, last_digest bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_offsets', ARRAY['consumer', consumer]);
	RETURN QUERY SELECT o.topic, o.partition, o.next_offset,
		extract(epoch FROM clock_timestamp() - o.updated_at)::double precision,
		o.log_no, o.seen_to, coalesce(o.old_ids_to, o.next_offset), o.last_offset, o.last_ms, o.last_digest
	FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_offsets.consumer;
END $$;
COMMENT ON FUNCTION outbox.consumer_offsets(text) IS 'how far a consumer has come in each partition';

/*
 * Moves a watermark by compare-and-set.  expected NULL: no row yet; log_no NULL: of any log, for a caller that
 * knows records without id by their old event ids alone, so these count up to next; record_ms,
 * digest: of the record before next, NULL: not known; calls: a handler is called in the transaction.  moved is false when another member was here; seen_to,
 * old_ids_to: as before, NULL when there was no row.
 */
CREATE FUNCTION outbox.move_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint, log_no integer, record_ms bigint, digest bigint, calls boolean,
	OUT moved boolean, OUT seen_to bigint, OUT old_ids_to bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	newer boolean := digest IS NOT NULL AND (expected IS NULL OR move_offset.next > expected);
BEGIN
	IF expected IS NULL THEN
		INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset, old_ids_to,
			last_offset, last_ms, last_digest, called_at)
		VALUES (move_offset.consumer, move_offset.topic, move_offset.partition, move_offset.next,
			CASE WHEN move_offset.log_no IS NULL THEN move_offset.next ELSE 0 END,
			CASE WHEN digest IS NOT NULL THEN move_offset.next - 1 END, record_ms, digest,
			CASE WHEN calls THEN clock_timestamp() END)
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
		called_at = CASE WHEN calls THEN clock_timestamp() ELSE o.called_at END
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
		PERFORM outbox.need('advance_offset', ARRAY['consumer', consumer, 'topic', topic, 'partition', partition::text, 'next', next::text]);
	END IF;
	RETURN (outbox.move_offset(consumer, topic, partition, expected, next, NULL, NULL, NULL, false)).moved;
END $$;
COMMENT ON FUNCTION outbox.advance_offset(text, text, integer, bigint, bigint) IS
	'moves a watermark by compare-and-set';

/*
 * Which records of a batch wait behind a row of their key that is retrying or open: their places,
 * counted from 1.  part_of, keys: as in begin_batch.  Those rows are locked until the transaction
 * ends: none of them is done with before what is held behind it can be seen.
 * OFFSET 0: each key is looked up, however few rows the planner expects.
 */
CREATE FUNCTION outbox.dead_letter_blocked(consumer text, part_topics text[], part_of integer[], keys bytea[])
RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	locked bigint[] := '{}';
	blocking bigint[];
BEGIN
	IF NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = dead_letter_blocked.consumer AND d.state IN ('retrying', 'open')) THEN
		RETURN '{}';
	END IF;
	/* A row waited for may have made the next one of its key due: again, until all that block are locked. */
	LOOP
		blocking := ARRAY(SELECT b.id
			FROM (SELECT DISTINCT part_topics[r.part] AS topic, sha256(r.key) AS hash
					FROM unnest(part_of, keys) r (part, key) WHERE r.key IS NOT NULL) k
				CROSS JOIN LATERAL (SELECT d.id FROM outbox.dead_letter d
					WHERE d.consumer = dead_letter_blocked.consumer AND d.topic = k.topic
						AND sha256(d.key) = k.hash AND d.state IN ('retrying', 'open') OFFSET 0) b
			ORDER BY b.id);
		EXIT WHEN blocking = locked;
		locked := ARRAY(SELECT d.id FROM outbox.dead_letter d
			WHERE d.id = ANY (blocking) AND d.state IN ('retrying', 'open') ORDER BY d.id FOR SHARE);
	END LOOP;
	IF locked = '{}' THEN
		RETURN '{}';
	END IF;
	RETURN ARRAY(SELECT r.place::integer FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
		WHERE EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.id = ANY (locked) AND d.topic = part_topics[r.part] AND sha256(d.key) = sha256(r.key))
		ORDER BY r.place);
END $$;

/*
 * Which of the records to be held have been processed before: their places, counted from 1.  part_seen:
 * each partition's seen_to; the others as in begin_batch, ids: what is claimed.  The look-up is planned with its values, so that the leaves of other
 * days are neither locked nor looked into.
 */
CREATE FUNCTION outbox.held_and_processed(consumer text, letters text[], part_seen bigint[],
	part_of integer[], offsets bigint[], ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	places integer[];
	held uuid[];
	processed uuid[];
BEGIN
	SELECT array_agg(r.place), array_agg(r.id) INTO places, held
	FROM unnest(letters, part_of, offsets, ids) WITH ORDINALITY r (letter, part, "offset", id, place)
	WHERE r.letter = 'h' AND r."offset" < part_seen[r.part];
	IF places IS NULL THEN
		RETURN '{}';
	END IF;
	EXECUTE 'SELECT array_agg(i.event_id) FROM outbox.idempotency i WHERE i.consumer = $1 AND i.event_id = ANY ($2)
		AND outbox.idempotency_leaf(i.event_id) = ANY ($3)'
	INTO processed
	USING held_and_processed.consumer, held, ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(held) h (id));
	RETURN ARRAY(SELECT h.place FROM unnest(places, held) h (place, id) WHERE h.id = ANY (processed));
END $$;

/*
 * Which records have been processed, or have a dead letter, by an event id without time stamp and digest:
 * their places, counted from 1.  part_old: each partition's old_ids_to; the others as in begin_batch.
 */
CREATE FUNCTION outbox.known_by_old_id(consumer text, part_topics text[], part_numbers integer[],
	part_old bigint[], part_of integer[], offsets bigint[], old_ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	asked uuid[] := ARRAY(SELECT r.old_id FROM unnest(part_of, offsets, old_ids) r (part, "offset", old_id)
		WHERE r.old_id IS NOT NULL AND r."offset" < part_old[r.part]);
	processed uuid[];
BEGIN
	IF asked = '{}' THEN
		RETURN '{}';
	END IF;
	/* Planned with its values, so that the leaves of other days are neither locked nor looked into. */
	EXECUTE 'SELECT array_agg(i.event_id) FROM outbox.idempotency i WHERE i.consumer = $1 AND i.event_id = ANY ($2)
		AND outbox.idempotency_leaf(i.event_id) = ANY ($3)'
	INTO processed
	USING known_by_old_id.consumer, asked, ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(asked) a (id));
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, offsets, old_ids) WITH ORDINALITY r (part, "offset", old_id, place)
		WHERE r.old_id IS NOT NULL AND r."offset" < part_old[r.part]
			AND (r.old_id = ANY (processed)
				OR EXISTS (SELECT FROM outbox.dead_letter d
					WHERE d.consumer = known_by_old_id.consumer AND d.topic = part_topics[r.part]
						AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
						AND d.event_id = r.old_id)));
END $$;

/*
 * Opens a batch: moves the watermarks of its partitions and claims its events.
 * part_* describe the partitions; part_of says, counted from 1, which one a record is of;
 * wanted is false for records that are not to be claimed; claim_ids, where not NULL, are claimed
 * instead of event_ids (re-processing); hold: does a record wait behind a dead letter of its key?
 * One without a key never does.  part_logs: the log_no a partition was read with, NULL: of any; old_ids: event
 * ids without time stamp and digest, NULL where a record never had another one; part_times, part_digests: of the
 * record before part_next, as in outbox.consumer_anchor.  Returns a letter for each record, or NULL when a watermark had moved:
 *	n	new
 *	d	duplicate: processed before, or in outbox.dead_letter already
 *	h	held: an earlier record of its key is retrying or open
 */
CREATE FUNCTION outbox.begin_batch(consumer text, part_topics text[], part_numbers integer[],
	part_expected bigint[], part_next bigint[],
	part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[], wanted boolean[],
	claim_ids uuid[] DEFAULT NULL, hold boolean DEFAULT true, part_logs integer[] DEFAULT NULL,
	old_ids uuid[] DEFAULT NULL, part_times bigint[] DEFAULT NULL, part_digests bigint[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letters text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	places integer[];
	claimed boolean[];
	place integer;
	part record;
	part_seen bigint[];
	part_old bigint[];
BEGIN
	IF consumer IS NULL OR wanted IS NULL OR hold IS NULL THEN
		PERFORM outbox.need('begin_batch', ARRAY['consumer', consumer, 'wanted', wanted::text, 'hold', hold::text]);
	END IF;
	FOR i IN 1 .. cardinality(part_topics) LOOP
		part := outbox.move_offset(consumer, part_topics[i], part_numbers[i],
			part_expected[i], part_next[i], part_logs[i], part_times[i], part_digests[i], true = ANY (wanted));
		IF NOT part.moved THEN
			RETURN NULL;
		END IF;
		part_seen[i] := part.seen_to;
		part_old[i] := part.old_ids_to;
	END LOOP;

	IF hold THEN
		FOREACH place IN ARRAY outbox.dead_letter_blocked(consumer, part_topics, part_of, keys) LOOP
			letters[place] := 'h';
		END LOOP;
	END IF;

	/* Only records below seen_to can have been seen before: at their position, or processed. */
	FOR place IN
		SELECT r.place FROM unnest(part_of, offsets, event_ids)
			WITH ORDINALITY r (part, "offset", event_id, place)
		WHERE r."offset" < part_seen[r.part]
			AND (EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id))
	LOOP
		letters[place] := 'd';
	END LOOP;
	IF 'h' = ANY (letters) THEN
		FOREACH place IN ARRAY outbox.held_and_processed(consumer, letters, part_seen, part_of, offsets,
			ARRAY(SELECT coalesce(r.claim_id, r.event_id) FROM unnest(claim_ids, event_ids)
				WITH ORDINALITY r (claim_id, event_id, place) ORDER BY r.place))
		LOOP
			letters[place] := 'd';
		END LOOP;
	END IF;
	IF old_ids IS NOT NULL THEN
		FOREACH place IN ARRAY outbox.known_by_old_id(consumer, part_topics, part_numbers, part_old, part_of,
			offsets, old_ids)
		LOOP
			letters[place] := 'd';
		END LOOP;
	END IF;

	places := ARRAY(SELECT r.place::integer FROM unnest(letters, wanted) WITH ORDINALITY r (letter, wanted, place)
		WHERE r.letter = 'n' AND r.wanted ORDER BY r.place);
	IF cardinality(places) > 0 THEN
		claimed := outbox.claim_many(consumer,
			ARRAY(SELECT coalesce(claim_ids[r.place], event_ids[r.place]) FROM unnest(places) WITH ORDINALITY r (place, n) ORDER BY r.n));
		FOR i IN 1 .. cardinality(places) LOOP
			IF NOT claimed[i] THEN
				letters[places[i]] := 'd';
			END IF;
		END LOOP;
	END IF;
	RETURN array_to_string(letters, '');
END $$;
COMMENT ON FUNCTION outbox.begin_batch(text, text[], integer[], bigint[], bigint[], integer[],
	bigint[], bytea[], uuid[], boolean[], uuid[], boolean, integer[], uuid[], bigint[], bigint[]) IS
	'first statement of a consumer''s transaction';

/*
 * Takes back what begin_batch has done in this transaction for the records from a failed one on, so
 * that those before it can be committed.  part_next: where the watermarks belong, NULL: there was none;
 * claim_ids: what was claimed in vain.  What other transactions have written stays as it is.
 */
CREATE FUNCTION outbox.trim_batch(consumer text, part_topics text[], part_numbers integer[],
	part_next bigint[], claim_ids uuid[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own xid := pg_current_xact_id()::xid;
BEGIN
	PERFORM outbox.need('trim_batch', ARRAY['consumer', consumer, 'part_topics', part_topics::text, 'part_numbers', part_numbers::text,
		'part_next', part_next::text, 'claim_ids', claim_ids::text]);
	/* Planned with its values, so that the leaves of other days are neither locked nor looked into. */
	EXECUTE 'DELETE FROM outbox.idempotency i WHERE i.consumer = $1 AND i.event_id = ANY ($2)
		AND i.xmin = $3 AND outbox.idempotency_leaf(i.event_id) = ANY ($4)'
	USING trim_batch.consumer, claim_ids, own,
		ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(claim_ids) c (id));
	UPDATE outbox.consumer_offset o SET next_offset = p.next,
		last_offset = CASE WHEN o.last_offset < p.next THEN o.last_offset END,
		last_ms = CASE WHEN o.last_offset < p.next THEN o.last_ms END,
		last_digest = CASE WHEN o.last_offset < p.next THEN o.last_digest END
	FROM unnest(part_topics, part_numbers, part_next) p (topic, partition, next)
	WHERE o.consumer = trim_batch.consumer AND o.topic = p.topic AND o.partition = p.partition
		AND p.next IS NOT NULL AND o.xmin = own;
	DELETE FROM outbox.consumer_offset o
	USING unnest(part_topics, part_numbers, part_next) p (topic, partition, next)
	WHERE o.consumer = trim_batch.consumer AND o.topic = p.topic AND o.partition = p.partition
		AND p.next IS NULL AND o.xmin = own;
END $$;
COMMENT ON FUNCTION outbox.trim_batch(text, text[], integer[], bigint[], uuid[]) IS
	'takes back the end of a consumer''s batch';

/*
 * The topics, of those given, in which others have come somewhere and this consumer has never been: was it
 * renamed, it reads what they have processed again.  others: who, and when their watermark moved last (UTC).
 */
CREATE FUNCTION outbox.consumer_is_new(consumer text, topics text[])
RETURNS TABLE (topic text, others text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('consumer_is_new', ARRAY['consumer', consumer, 'topics', topics::text]);
	RETURN QUERY
	SELECT l.topic, string_agg(format('%s (moved last at %s)', l.consumer,
			to_char(l.moved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')), ', ' ORDER BY l.moved_at DESC, l.consumer)
	FROM (SELECT o.topic, o.consumer, max(o.updated_at) AS moved_at FROM outbox.consumer_offset o
			WHERE o.topic = ANY (topics) GROUP BY o.topic, o.consumer) l
	GROUP BY l.topic
	HAVING NOT bool_or(l.consumer = consumer_is_new.consumer)
	ORDER BY l.topic;
END $$;
COMMENT ON FUNCTION outbox.consumer_is_new(text, text[]) IS 'topics that other consumers have read and this one has not';

/*
 * What a dead letter's event says beside the record's own headers: why it is here; spring: also as Spring Kafka
 * writes it, numbers big-endian.
 */
CREATE FUNCTION outbox.dead_letter_headers(letter outbox.dead_letter, spring boolean DEFAULT false)
RETURNS outbox.header[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	added outbox.header[];
BEGIN
	added := ARRAY(
		SELECT ROW(h.name, outbox.text_bytes(h.value))::outbox.header
		FROM (VALUES
			(1, 'dlt-original-topic', letter.topic),
			(2, 'dlt-original-partition', letter.partition::text),
			(3, 'dlt-original-offset', letter."offset"::text),
			(4, 'dlt-original-timestamp', round(extract(epoch FROM letter.record_time) * 1000)::bigint::text),
			(5, 'dlt-consumer-group', letter.consumer),
			(6, 'dlt-error-class', letter.error_class),
			(7, 'dlt-sqlstate', letter.sqlstate),
			(8, 'dlt-error-message', outbox.cut_text(letter.error_message, 1024)),
			(9, 'dlt-attempts', letter.attempts::text),
			(10, 'dlt-first-failed-at', to_char(letter.first_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(11, 'dlt-failed-at', to_char(letter.last_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(12, 'dlt-id', letter.id::text),
			(13, 'dlt-fingerprint', letter.fingerprint)) h (n, name, value)
		WHERE h.value IS NOT NULL
		ORDER BY h.n);
	IF spring THEN
		added := added || ARRAY(
			SELECT ROW('kafka_dlt-' || h.name, h.value)::outbox.header
			FROM (VALUES
				(1, 'original-topic', outbox.text_bytes(letter.topic)),
				(2, 'original-partition', int4send(letter.partition)),
				(3, 'original-offset', int8send(letter."offset")),
				(4, 'original-timestamp', int8send(round(extract(epoch FROM letter.record_time) * 1000)::bigint)),
				(5, 'original-timestamp-type', CASE WHEN letter.record_time IS NOT NULL THEN 'CreateTime'::bytea END),
				(6, 'original-consumer-group', outbox.text_bytes(letter.consumer)),
				(7, 'exception-fqcn', outbox.text_bytes(concat_ws('.', 'outbox', letter.error_class, letter.sqlstate))),
				(8, 'exception-message', outbox.text_bytes(letter.error_message))) h (n, name, value)
			WHERE h.value IS NOT NULL
			ORDER BY h.n);
	END IF;
	RETURN added;
END $$;

/*
 * Emits an event with a record's headers, own, byte for byte: those of an event (content-type, ce_...) are renamed
 * dlt-original-... unless the letter's event says the same, those of an earlier letter are left out.
 */
CREATE FUNCTION outbox.dead_letter_event(topic text, key bytea, type text, payload bytea, own bytea,
	correlation_id text, added outbox.header[]) RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_event';

/*
 * Emits the dead letter to <topic>.DLT: key, value and headers as they were.  The suffix is fixed:
 * who may write dead letters must not choose the topic they are emitted to.  The letter is an event of its own, in
 * CloudEvents' binary mode, in the flow and trace of its record.
 */
CREATE FUNCTION outbox.dead_letter_publish(dead_letter bigint, spring boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO STRICT letter FROM outbox.dead_letter d WHERE d.id = dead_letter_publish.dead_letter;
	BEGIN
		PERFORM outbox.dead_letter_event(letter.topic || '.DLT', letter.key, letter.event_type, letter.value,
			letter.headers, letter.correlation_id, outbox.dead_letter_headers(letter, spring));
		UPDATE outbox.dead_letter d SET reason = NULL WHERE d.id = letter.id AND starts_with(letter.reason, 'not published: ');
	EXCEPTION WHEN OTHERS THEN
		/* What may pass is waited for; else the row alone must do. */
		IF SQLSTATE LIKE '08%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57P%' OR SQLSTATE LIKE '40%'
			OR SQLSTATE IN ('55P03', '25006') THEN
			RAISE;
		END IF;
		UPDATE outbox.dead_letter d SET reason = 'not published: ' || SQLERRM WHERE d.id = letter.id;
	END;
END $$;

/* Why an open letter is not on <topic>.DLT; NULL: it is, or there is no such letter. */
CREATE FUNCTION outbox.dead_letter_unpublished(dead_letter bigint) RETURNS text
LANGUAGE plpgsql STRICT VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT pg_catalog.substr(d.reason, 16) FROM outbox.dead_letter d
		WHERE d.id = dead_letter_unpublished.dead_letter AND d.state = 'open' AND starts_with(d.reason, 'not published: '));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_unpublished(bigint) IS 'why a dead letter is not on its topic';

/* The rows of the key that are retrying or open, in their order. */
CREATE FUNCTION outbox.dead_letter_blocking(consumer text, topic text, key bytea) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	hash bytea := sha256(key);
BEGIN
	RETURN QUERY SELECT d.id FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_blocking.consumer AND d.topic = dead_letter_blocking.topic
		AND sha256(d.key) BETWEEN hash AND hash AND d.state IN ('retrying', 'open')
	ORDER BY sha256(d.key), d.id;
END $$;

/*
 * The key's first held row is due now unless an earlier row of the key is retrying or open.  To be called in
 * the transaction that changes such a row, after the change; not when a held row is changed.  The held row
 * is locked first, so that of two callers the later one sees what the other has done; what another
 * transaction discards meanwhile, the next one replaces.
 */
CREATE FUNCTION outbox.dead_letter_release(consumer text, topic text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	hash bytea := sha256(key);
	first_held bigint;
BEGIN
	SELECT d.id INTO first_held FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_release.consumer AND d.topic = dead_letter_release.topic
		AND sha256(d.key) BETWEEN hash AND hash AND d.state = 'held'
	ORDER BY sha256(d.key), d.id LIMIT 1 FOR UPDATE;
	UPDATE outbox.dead_letter d
	SET state = 'retrying', next_attempt_at = clock_timestamp(), blocked_by = NULL
	WHERE d.id = first_held AND NOT EXISTS (SELECT
		FROM outbox.dead_letter_blocking(dead_letter_release.consumer, dead_letter_release.topic, dead_letter_release.key) b (id) WHERE b.id < first_held);
END $$;

/*
 * Writes a record that is not done.  state: retrying (due after backoff_ms), held (behind the rows of
 * its key that are retrying or open) or open (published at once; spring: with Spring's headers too).
 * tries: those made so far, none when held.
 */
CREATE FUNCTION outbox.dead_letter_add(consumer text, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, record_time timestamptz, event_id uuid, event_type text,
	correlation_id text, state text, error_class text, error_code text, error_message text,
	backoff_ms integer, tries integer DEFAULT 1, spring boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held boolean := dead_letter_add.state = 'held';
	added bigint;
BEGIN
	PERFORM outbox.need('dead_letter_add', ARRAY['consumer', consumer, 'topic', topic, 'partition', partition::text,
		'offset', "offset"::text, 'event_id', event_id::text, 'state', state, 'error_class', error_class,
		'error_message', error_message, 'tries', tries::text]);
	INSERT INTO outbox.dead_letter (origin, consumer, topic, partition, "offset", key, value, headers,
		record_time, event_id, event_type, correlation_id, error_class, sqlstate, error_message,
		attempts, next_attempt_at, state, blocked_by)
	VALUES ('consumer', dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.partition,
		dead_letter_add."offset", dead_letter_add.key, dead_letter_add.value, dead_letter_add.headers,
		dead_letter_add.record_time, dead_letter_add.event_id, dead_letter_add.event_type,
		dead_letter_add.correlation_id, dead_letter_add.error_class, dead_letter_add.error_code,
		outbox.cut_text(dead_letter_add.error_message, 1024),
		CASE WHEN held THEN 0 ELSE tries END,
		CASE WHEN dead_letter_add.state = 'retrying'
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		dead_letter_add.state,
		CASE WHEN held THEN (SELECT max(b.id)
			FROM outbox.dead_letter_blocking(dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.key) b (id)) END)
	ON CONFLICT (consumer, topic, partition, "offset", event_id) WHERE consumer IS NOT NULL DO NOTHING
	RETURNING id INTO added;
	IF added IS NOT NULL AND dead_letter_add.state = 'open' THEN
		PERFORM outbox.dead_letter_publish(added, spring);
	END IF;
	RETURN added;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_add(text, text, integer, bigint, bytea, bytea, bytea, timestamptz,
	uuid, text, text, text, text, text, text, integer, integer, boolean) IS 'a record that could not be processed';

/* The lock of who tries a row, the session's until it gives it up or ends; no role can take it with pg_advisory_lock(). */
CREATE FUNCTION outbox.dead_letter_lock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_lock';
CREATE FUNCTION outbox.dead_letter_unlock(dead_letter bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_unlock';

/*
 * The row of the topics (NULL: of any) to be tried next, and in how many ms it is due; rows of one key in their order.  0: now; then the caller has it, others pass it
 * by, until the caller's outbox.dead_letter_put_back or the end of its connection; crashes: how often
 * a process has ended while it tried the row; failing_ms: since it failed first.  A transaction of its own, not waited for: what it
 * writes need not survive the server.
 */
CREATE FUNCTION outbox.dead_letter_next(consumer text, topics text[] DEFAULT NULL)
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint, crashes integer,
	failing_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
	known integer := 0;
BEGIN
	PERFORM outbox.need('dead_letter_next', ARRAY['consumer', consumer]);
	/* The clock was set back: what failed by the time it had waits as long as it was to, and no longer. */
	IF (SELECT max(d.last_failed_at) > clock_timestamp() FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying')
	THEN
		UPDATE outbox.dead_letter d
		SET next_attempt_at = clock_timestamp() + (d.next_attempt_at - d.last_failed_at), last_failed_at = clock_timestamp()
		WHERE d.id IN (SELECT w.id FROM outbox.dead_letter w
			WHERE w.consumer = dead_letter_next.consumer AND w.state = 'retrying' AND w.last_failed_at > clock_timestamp()
			ORDER BY w.next_attempt_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
	END IF;
	FOR letter IN
		SELECT * FROM outbox.dead_letter d
		WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying' AND (topics IS NULL OR d.topic = ANY (topics))
		ORDER BY d.next_attempt_at
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM outbox.dead_letter b
			WHERE b.consumer = dead_letter_next.consumer AND b.topic = letter.topic
				AND sha256(b.key) = sha256(letter.key) AND b.state = 'retrying' AND b.id < letter.id);
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
		RETURN QUERY SELECT letter.id, letter.attempts, letter.topic, letter.partition, letter."offset",
			letter.key, letter.value, letter.headers,
			CASE WHEN letter.next_attempt_at <= clock_timestamp() THEN 0
				ELSE ceil(extract(epoch FROM letter.next_attempt_at - clock_timestamp()) * 1000) END::bigint,
			round(extract(epoch FROM letter.record_time) * 1000)::bigint, known,
			round(extract(epoch FROM clock_timestamp() - letter.first_failed_at) * 1000)::bigint;
		RETURN;
	END LOOP;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next(text, text[]) IS 'the dead letter to be tried next';

/*
 * The caller of outbox.dead_letter_next is done with the row; a try that has neither succeeded nor failed is
 * not counted, and not repeated within later_ms.
 */
CREATE FUNCTION outbox.dead_letter_put_back(dead_letter bigint, later_ms integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_put_back', ARRAY['dead_letter', dead_letter::text, 'later_ms', later_ms::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.dead_letter d SET unended = d.unended - 1,
		next_attempt_at = CASE WHEN d.state = 'retrying' AND later_ms > 0
			THEN greatest(d.next_attempt_at, clock_timestamp() + later_ms * interval '1 millisecond')
			ELSE d.next_attempt_at END
	WHERE d.id = dead_letter_put_back.dead_letter AND d.unended > 0;
	PERFORM outbox.dead_letter_unlock(dead_letter);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_put_back(bigint, integer) IS 'ends what dead_letter_next began';

/*
 * Locks the row for a try and claims its event: n new, d processed before, NULL
 * when somebody else has the row or has tried it since.  An edited copy is the event that its row says,
 * whatever id the record has within its value.
 */
CREATE FUNCTION outbox.dead_letter_begin(dead_letter bigint, attempts integer,
	claim_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_begin', ARRAY['dead_letter', dead_letter::text, 'attempts', attempts::text]);
	RETURN nullif(outbox.dead_letter_begin_run(ARRAY[dead_letter], attempts, ARRAY[claim_id]), '');
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin(bigint, integer, uuid) IS 'first statement of a retry';

/* The try has succeeded. */
CREATE FUNCTION outbox.dead_letter_resolve(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_resolve', ARRAY['dead_letter', dead_letter::text]);
	PERFORM outbox.dead_letter_resolve_run(ARRAY[dead_letter]);
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve(bigint) IS 'last statement of a retry that succeeded';

/*
 * The try has failed, in a transaction of its own; error_class crash: it was not made, for the process did
 * not survive those before it.  Returns the row's new state,
 * retrying (due after backoff_ms) or open (then it is published; spring: with Spring's headers too), or
 * NULL when somebody else has dealt with it.
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
	PERFORM outbox.need('dead_letter_failed', ARRAY['dead_letter', dead_letter::text, 'attempts', attempts::text,
		'permanent', permanent::text, 'retry_max', retry_max::text, 'backoff_ms', backoff_ms::text,
		'error_class', error_class, 'error_message', error_message]);
	UPDATE outbox.dead_letter d
	SET attempts = d.attempts + CASE WHEN dead_letter_failed.error_class = 'crash' THEN greatest(d.unended - 1, d.troubles, 1)
			ELSE greatest(d.unended, 1) END,
		unended = 0, troubles = 0, ends = 0, troubled_since = NULL, last_failed_at = clock_timestamp(),
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

/* Rows not done with, for the metrics; unpublished: of the open ones, those that are not on <topic>.DLT. */
CREATE FUNCTION outbox.dead_letter_counts(consumer text)
RETURNS TABLE (topic text, state text, number bigint, unpublished bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('dead_letter_counts', ARRAY['consumer', consumer]);
	RETURN QUERY SELECT d.topic, d.state, count(*),
		count(*) FILTER (WHERE d.state = 'open' AND starts_with(d.reason, 'not published: '))
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_counts.consumer AND d.state IN ('retrying', 'held', 'open')
	GROUP BY d.topic, d.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_counts(text) IS 'dead letters not done with, by topic and state';
