/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer runtime
 *
 * What the runtime of services/ calls; grant_consume gives the rights.
 */
CREATE FUNCTION outbox.consumer_offsets(consumer text)
RETURNS TABLE (topic text, partition integer, next_offset bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT o.topic, o.partition, o.next_offset
	FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_offsets.consumer;
END $$;
COMMENT ON FUNCTION outbox.consumer_offsets(text) IS 'how far a consumer has come in each partition';

/* expected NULL: no row yet.  false: another member has moved the watermark; roll back. */
CREATE FUNCTION outbox.advance_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF expected IS NULL THEN
		INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset)
		VALUES (advance_offset.consumer, advance_offset.topic, advance_offset.partition,
			advance_offset.next)
		ON CONFLICT DO NOTHING;
	ELSE
		UPDATE outbox.consumer_offset o
		SET next_offset = greatest(o.next_offset, advance_offset.next),
			updated_at = clock_timestamp()
		WHERE o.consumer = advance_offset.consumer AND o.topic = advance_offset.topic
			AND o.partition = advance_offset.partition AND o.next_offset = expected;
	END IF;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION outbox.advance_offset(text, text, integer, bigint, bigint) IS
	'moves a watermark by compare-and-set';

/*
 * Opens a batch: moves the watermarks of its partitions and claims its events.
 * part_* describe the partitions; part_of says, counted from 1, which one a record is of;
 * wanted is false for records that are not to be claimed; claim_ids, where not NULL, are claimed
 * instead of event_ids (re-processing).  A record without a key is never held.  Returns a letter for each
 * record, or NULL when a watermark had moved:
 *	n	new
 *	d	duplicate: processed before, or in outbox.dead_letter already
 *	h	held: an earlier record of its key is being retried
 */
CREATE FUNCTION outbox.begin_batch(consumer text, part_topics text[], part_numbers integer[],
	part_expected bigint[], part_next bigint[],
	part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[], wanted boolean[],
	claim_ids uuid[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letters text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	places integer[];
	claimed boolean[];
	place integer;
BEGIN
	FOR i IN 1 .. cardinality(part_topics) LOOP
		IF NOT outbox.advance_offset(consumer, part_topics[i], part_numbers[i],
				part_expected[i], part_next[i]) THEN
			RETURN NULL;
		END IF;
	END LOOP;

	/* A row locked here cannot be resolved before this batch ends: nothing is held in vain. */
	PERFORM FROM outbox.dead_letter d
	WHERE d.consumer = begin_batch.consumer AND d.state IN ('retrying', 'held')
		AND (d.topic, sha256(d.key)) IN
			(SELECT part_topics[r.part], sha256(r.key) FROM unnest(part_of, keys) r (part, key))
	ORDER BY d.id FOR SHARE;
	IF FOUND THEN
		FOR place IN
			SELECT r.place FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
			WHERE EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND sha256(d.key) = sha256(r.key) AND d.state IN ('retrying', 'held'))
		LOOP
			letters[place] := 'h';
		END LOOP;
	END IF;

	/* Only records below the watermark can have been seen before at their position. */
	FOR place IN
		SELECT r.place FROM unnest(part_of, offsets, event_ids)
			WITH ORDINALITY r (part, "offset", event_id, place)
		WHERE r."offset" < part_expected[r.part]
			AND EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id)
	LOOP
		letters[place] := 'd';
	END LOOP;

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
	bigint[], bytea[], uuid[], boolean[], uuid[]) IS 'first statement of a consumer''s transaction';

/* The headers of a dead letter's event: the record's own, reserved names renamed, and why it is here. */
CREATE FUNCTION outbox.dead_letter_headers(letter outbox.dead_letter, own outbox.header[])
RETURNS outbox.header[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kept outbox.header[];
	added outbox.header[];
BEGIN
	kept := ARRAY(
		SELECT ROW(CASE WHEN lower(h.name) LIKE 'ce\_%' OR lower(h.name) = 'content-type'
				OR lower(h.name) LIKE 'outbox-replay-%'
			THEN 'dlt-original-' || h.name ELSE h.name END, h.value)::outbox.header
		FROM unnest(own) WITH ORDINALITY h (name, value, n)
		WHERE lower(h.name) NOT IN ('content-type', 'traceparent', 'correlationid')
			AND lower(h.name) NOT LIKE 'dlt-%'
		ORDER BY h.n);
	added := ARRAY(
		SELECT ROW(h.name, convert_to(h.value, 'UTF8'))::outbox.header
		FROM (VALUES
			(1, 'dlt-original-topic', letter.topic),
			(2, 'dlt-original-partition', letter.partition::text),
			(3, 'dlt-original-offset', letter."offset"::text),
			(4, 'dlt-original-timestamp', round(extract(epoch FROM letter.record_time) * 1000)::bigint::text),
			(5, 'dlt-consumer-group', letter.consumer),
			(6, 'dlt-error-class', letter.error_class),
			(7, 'dlt-sqlstate', letter.sqlstate),
			(8, 'dlt-error-message', left(letter.error_message, 1024)),
			(9, 'dlt-attempts', letter.attempts::text),
			(10, 'dlt-first-failed-at', to_char(letter.first_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(11, 'dlt-failed-at', to_char(letter.last_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(12, 'dlt-id', letter.id::text)) h (n, name, value)
		WHERE h.value IS NOT NULL
		ORDER BY h.n);
	RETURN kept || added;
END $$;

/*
 * Emits the dead letter to <topic>.DLT: key and value as they were.  The suffix is fixed:
 * who may write dead letters must not choose the topic they are emitted to.  The SET
 * clauses give the caller its own trace back.
 */
CREATE FUNCTION outbox.dead_letter_publish(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET outbox.correlation_id = '' SET outbox.traceparent = '' SET outbox.tracestate = '' AS $$
DECLARE
	letter outbox.dead_letter;
	own outbox.header[];
	content_type text;
	trace text;
BEGIN
	SELECT * INTO STRICT letter FROM outbox.dead_letter d WHERE d.id = dead_letter_publish.dead_letter;
	BEGIN
		own := ARRAY(SELECT ROW(h.name, h.value)::outbox.header
			FROM outbox.headers_decode(letter.headers) WITH ORDINALITY h (name, value, n) ORDER BY h.n);
		SELECT convert_from(h.value, 'UTF8') INTO content_type
		FROM unnest(own) h WHERE lower(h.name) = 'content-type' LIMIT 1;
		SELECT convert_from(h.value, 'UTF8') INTO trace
		FROM unnest(own) h WHERE lower(h.name) = 'traceparent' LIMIT 1;
		PERFORM set_config('outbox.correlation_id', coalesce(letter.correlation_id, ''), true),
			set_config('outbox.traceparent', coalesce(trace, ''), true);
		PERFORM outbox.emit_bytes(letter.topic || '.DLT', letter.key,
			coalesce(nullif(letter.event_type, ''), 'DeadLetter'), letter.value, content_type,
			outbox.dead_letter_headers(letter, own));
	EXCEPTION WHEN OTHERS THEN
		/* What may pass is waited for; else the row alone must do. */
		IF SQLSTATE LIKE '08%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57P%' OR SQLSTATE LIKE '40%'
			OR SQLSTATE IN ('55P03', '25006') THEN
			RAISE;
		END IF;
		UPDATE outbox.dead_letter d SET reason = 'not published: ' || SQLERRM WHERE d.id = letter.id;
	END;
END $$;

/*
 * The key's next record, if one is held, is due now.  It is locked, and judged again when another
 * transaction has changed it meanwhile; what that discards, the next one replaces.
 */
CREATE FUNCTION outbox.dead_letter_release(consumer text, topic text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	first_held bigint;
BEGIN
	SELECT d.id INTO first_held FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_release.consumer AND d.topic = dead_letter_release.topic
		AND sha256(d.key) = sha256(dead_letter_release.key) AND d.state = 'held'
	ORDER BY d.id LIMIT 1 FOR UPDATE;
	UPDATE outbox.dead_letter d
	SET state = 'retrying', next_attempt_at = clock_timestamp(), blocked_by = NULL
	WHERE d.id = first_held;
END $$;

/*
 * Writes a record that is not done.  state: retrying (due after backoff_ms),
 * held (behind the last record of its key) or open (published at once).
 */
CREATE FUNCTION outbox.dead_letter_add(consumer text, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, record_time timestamptz, event_id uuid, event_type text,
	correlation_id text, state text, error_class text, error_code text, error_message text,
	backoff_ms integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held boolean := dead_letter_add.state = 'held';
	added bigint;
BEGIN
	/* The same position with another event: an earlier topic of that name. */
	UPDATE outbox.dead_letter d SET "offset" = -d.id
	WHERE d.consumer = dead_letter_add.consumer AND d.topic = dead_letter_add.topic
		AND d.partition = dead_letter_add.partition AND d."offset" = dead_letter_add."offset"
		AND d.event_id <> dead_letter_add.event_id;
	INSERT INTO outbox.dead_letter (origin, consumer, topic, partition, "offset", key, value, headers,
		record_time, event_id, event_type, correlation_id, error_class, sqlstate, error_message,
		attempts, next_attempt_at, state, blocked_by)
	VALUES ('consumer', dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.partition,
		dead_letter_add."offset", dead_letter_add.key, dead_letter_add.value, dead_letter_add.headers,
		dead_letter_add.record_time, dead_letter_add.event_id, dead_letter_add.event_type,
		dead_letter_add.correlation_id, dead_letter_add.error_class, dead_letter_add.error_code,
		left(dead_letter_add.error_message, 1024),
		CASE WHEN held THEN 0 ELSE 1 END,
		CASE WHEN dead_letter_add.state = 'retrying'
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		dead_letter_add.state,
		CASE WHEN held THEN (SELECT max(b.id) FROM outbox.dead_letter b
			WHERE b.consumer = dead_letter_add.consumer AND b.topic = dead_letter_add.topic
				AND sha256(b.key) = sha256(dead_letter_add.key) AND b.state IN ('retrying', 'held')) END)
	ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
	RETURNING id INTO added;
	IF added IS NOT NULL AND dead_letter_add.state = 'open' THEN
		PERFORM outbox.dead_letter_publish(added);
	END IF;
	RETURN added;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_add(text, text, integer, bigint, bytea, bytea, bytea, timestamptz,
	uuid, text, text, text, text, text, text, integer) IS 'a record that could not be processed';

/* The row to be tried next, and in how many ms it is due (0: now); rows in work elsewhere are skipped. */
CREATE FUNCTION outbox.dead_letter_next(consumer text)
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT d.id, d.attempts, d.topic, d.partition, d."offset", d.key, d.value, d.headers,
		greatest(0, ceil(extract(epoch FROM d.next_attempt_at - clock_timestamp()) * 1000))::bigint,
		round(extract(epoch FROM d.record_time) * 1000)::bigint
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying'
	ORDER BY d.next_attempt_at
	LIMIT 1 FOR UPDATE SKIP LOCKED;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next(text) IS 'the dead letter to be tried next';

/*
 * Locks the row for a try and claims its event: n new, d processed before, NULL
 * when somebody else has the row or has tried it since.
 */
CREATE FUNCTION outbox.dead_letter_begin(dead_letter bigint, attempts integer,
	claim_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO letter FROM outbox.dead_letter d
	WHERE d.id = dead_letter_begin.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_begin.attempts
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN CASE WHEN outbox.claim(letter.consumer, coalesce(claim_id, letter.event_id)) THEN 'n' ELSE 'd' END;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin(bigint, integer, uuid) IS 'first statement of a retry';

/* The try has succeeded. */
CREATE FUNCTION outbox.dead_letter_resolve(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'resolved', attempts = d.attempts + 1, next_attempt_at = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = 'retry succeeded'
	WHERE d.id = dead_letter_resolve.dead_letter AND d.state = 'retrying'
	RETURNING * INTO letter;
	IF FOUND THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve(bigint) IS 'last statement of a retry that succeeded';

/*
 * The try has failed, in a transaction of its own.  Returns the row's new state,
 * retrying or open (then it is published), or NULL when somebody else has dealt with it.
 */
CREATE FUNCTION outbox.dead_letter_failed(dead_letter bigint, attempts integer, permanent boolean,
	retry_max integer, backoff_ms integer,
	error_class text, error_code text, error_message text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	final boolean := permanent OR dead_letter_failed.attempts >= retry_max;
	letter outbox.dead_letter;
BEGIN
	UPDATE outbox.dead_letter d
	SET attempts = d.attempts + 1, last_failed_at = clock_timestamp(),
		state = CASE WHEN final THEN 'open' ELSE 'retrying' END,
		next_attempt_at = CASE WHEN NOT final
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		error_class = dead_letter_failed.error_class, sqlstate = error_code,
		error_message = left(dead_letter_failed.error_message, 1024)
	WHERE d.id = dead_letter_failed.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_failed.attempts
	RETURNING * INTO letter;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF final THEN
		PERFORM outbox.dead_letter_publish(letter.id);
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
	RETURN letter.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_failed(bigint, integer, boolean, integer, integer,
	text, text, text) IS 'notes a retry that failed';

/* Rows not done with, for the metrics. */
CREATE FUNCTION outbox.dead_letter_counts(consumer text)
RETURNS TABLE (topic text, state text, number bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT d.topic, d.state, count(*)
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_counts.consumer AND d.state IN ('retrying', 'held', 'open')
	GROUP BY d.topic, d.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_counts(text) IS 'dead letters not done with, by topic and state';
