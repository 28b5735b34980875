/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------------- batches of a consumer
 *
 * How the runtime of services/ processes records in one transaction: begin_batch moves the
 * watermarks and says of each record whether it is new, a duplicate or held; trim_batch takes the
 * end back.
 */

/*
 * Which records of a batch wait behind a row of their key that is retrying or open: their places,
 * counted from 1.  part_of, keys: as in begin_batch.  Those rows are locked until the transaction
 * ends: none of them is done with before what is held behind it can be seen.
 * OFFSET 0: each key is looked up, however few rows the planner expects.
 */
CREATE FUNCTION outbox.dead_letter_blocked(consumer text, part_topics text[], part_of integer[],
	keys bytea[])
RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	locked bigint[] := '{}';
	blocking bigint[];
BEGIN
	IF NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = dead_letter_blocked.consumer
				AND d.state IN ('retrying', 'open')) THEN
		RETURN '{}';
	END IF;
	/* A row waited for may have made the next of its key due: until all that block are locked. */
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
			WHERE d.id = ANY (blocking) AND d.state IN ('retrying', 'open')
			ORDER BY d.id FOR SHARE);
	END LOOP;
	IF locked = '{}' THEN
		RETURN '{}';
	END IF;
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
		WHERE EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.id = ANY (locked) AND d.topic = part_topics[r.part]
				AND sha256(d.key) = sha256(r.key))
		ORDER BY r.place);
END $$;

/*
 * Which of the events the consumer has processed; NULL: none.  Planned with its values, so that the
 * leaves of other days are neither locked nor looked into.
 */
CREATE FUNCTION outbox.processed_ids(consumer text, ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	processed uuid[];
BEGIN
	EXECUTE 'SELECT array_agg(i.event_id) FROM outbox.idempotency i
		WHERE i.consumer = $1 AND i.event_id = ANY ($2)
			AND outbox.idempotency_leaf(i.event_id) = ANY ($3)'
	INTO processed
	USING processed_ids.consumer, ids,
		ARRAY(SELECT DISTINCT outbox.idempotency_leaf(id) FROM unnest(ids) a (id));
	RETURN processed;
END $$;

/*
 * Which of the records asked for have been processed before: their places, counted from 1.
 * part_seen: each partition's seen_to, only below it anything has; the others as in begin_batch,
 * ids: what is claimed.
 */
CREATE FUNCTION outbox.seen_and_processed(consumer text, asked boolean[], part_seen bigint[],
	part_of integer[], offsets bigint[], ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	places integer[];
	seen uuid[];
	processed uuid[];
BEGIN
	SELECT array_agg(r.place), array_agg(r.id) INTO places, seen
	FROM unnest(asked, part_of, offsets, ids) WITH ORDINALITY r (asked, part, "offset", id, place)
	WHERE r.asked AND r."offset" < part_seen[r.part];
	IF places IS NULL THEN
		RETURN '{}';
	END IF;
	processed := outbox.processed_ids(consumer, seen);
	RETURN ARRAY(SELECT s.place FROM unnest(places, seen) s (place, id)
		WHERE s.id = ANY (processed));
END $$;

/*
 * Which records have been processed, or have a dead letter, by an event id without time stamp and
 * digest: their places, counted from 1.  part_old: each partition's old_ids_to; the others as in
 * begin_batch.
 */
CREATE FUNCTION outbox.known_by_old_id(consumer text, part_topics text[], part_numbers integer[],
	part_old bigint[], part_of integer[], offsets bigint[], old_ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	asked uuid[] := ARRAY(SELECT r.old_id
		FROM unnest(part_of, offsets, old_ids) r (part, "offset", old_id)
		WHERE r.old_id IS NOT NULL AND r."offset" < part_old[r.part]);
	processed uuid[];
BEGIN
	IF asked = '{}' THEN
		RETURN '{}';
	END IF;
	processed := outbox.processed_ids(consumer, asked);
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
 * Opens a batch: moves the watermarks of its partitions and claims its events.  part_* describe the
 * partitions; part_of says, counted from 1, which one a record is of; wanted is false for records
 * that are not to be claimed; claim_ids, where not NULL, are claimed instead of event_ids
 * (re-processing); hold: does a record wait behind a dead letter of its key? One without a key
 * never does.  part_logs: the log_no a partition was read with, NULL: of any; old_ids: event ids
 * without time stamp and digest, NULL where a record never had another one; part_times,
 * part_digests: of the record before part_next, as in outbox.consumer_anchor; part_done_to: records
 * of the batch lie above part_next, up to there, for earlier ones are not done; NULL: none does.
 * Returns how each record is claimed, in one character, or NULL when a watermark had moved:
 *	n	new
 *	d	duplicate: processed before, or in outbox.dead_letter already
 *	h	held: an earlier record of its key is retrying or open
 */
CREATE FUNCTION outbox.begin_batch(consumer text, part_topics text[], part_numbers integer[],
	part_expected bigint[], part_next bigint[],
	part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[], wanted boolean[],
	claim_ids uuid[] DEFAULT NULL, hold boolean DEFAULT true, part_logs integer[] DEFAULT NULL,
	old_ids uuid[] DEFAULT NULL, part_times bigint[] DEFAULT NULL,
	part_digests bigint[] DEFAULT NULL, part_done_to bigint[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	claims text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	places integer[];
	claimed boolean[];
	place integer;
	part record;
	part_seen bigint[];
	part_old bigint[];
	above boolean := false;
BEGIN
	IF consumer IS NULL OR wanted IS NULL OR hold IS NULL THEN
		PERFORM outbox.need('begin_batch', ARRAY['consumer', consumer, 'wanted', wanted::text,
			'hold', hold::text]);
	END IF;
	FOR i IN 1 .. cardinality(part_topics) LOOP
		part := outbox.move_offset(consumer, part_topics[i], part_numbers[i],
			part_expected[i], part_next[i], part_logs[i], part_times[i], part_digests[i],
			true = ANY (wanted), part_done_to[i]);
		IF NOT part.moved THEN
			RETURN NULL;
		END IF;
		part_seen[i] := part.seen_to;
		part_old[i] := part.old_ids_to;
		above := above OR coalesce(part.seen_to > part_expected[i], false);
	END LOOP;

	IF hold THEN
		FOREACH place IN ARRAY outbox.dead_letter_blocked(consumer, part_topics, part_of, keys) LOOP
			claims[place] := 'h';
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
		claims[place] := 'd';
	END LOOP;
	/* Another member may have been above this one's watermark: what it has done is no letter. */
	above := above AND false = ANY (wanted);
	IF 'h' = ANY (claims) OR above THEN
		FOREACH place IN ARRAY outbox.seen_and_processed(consumer,
			ARRAY(SELECT r.claim = 'h' OR (above AND r.claim = 'n' AND NOT r.wanted)
				FROM unnest(claims, wanted) WITH ORDINALITY r (claim, wanted, place)
				ORDER BY r.place),
			part_seen, part_of, offsets, ARRAY(SELECT coalesce(r.claim_id, r.event_id)
				FROM unnest(claim_ids, event_ids) WITH ORDINALITY r (claim_id, event_id, place)
				ORDER BY r.place))
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;
	IF old_ids IS NOT NULL THEN
		FOREACH place IN ARRAY outbox.known_by_old_id(consumer, part_topics, part_numbers, part_old,
			part_of, offsets, old_ids)
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;

	places := ARRAY(SELECT r.place::integer
		FROM unnest(claims, wanted) WITH ORDINALITY r (claim, wanted, place)
		WHERE r.claim = 'n' AND r.wanted ORDER BY r.place);
	IF cardinality(places) > 0 THEN
		claimed := outbox.claim_many(consumer,
			ARRAY(SELECT coalesce(claim_ids[r.place], event_ids[r.place])
				FROM unnest(places) WITH ORDINALITY r (place, n) ORDER BY r.n));
		FOR i IN 1 .. cardinality(places) LOOP
			IF NOT claimed[i] THEN
				claims[places[i]] := 'd';
			END IF;
		END LOOP;
	END IF;
	RETURN array_to_string(claims, '');
END $$;
COMMENT ON FUNCTION outbox.begin_batch(text, text[], integer[], bigint[], bigint[], integer[],
	bigint[], bytea[], uuid[], boolean[], uuid[], boolean, integer[], uuid[], bigint[], bigint[],
	bigint[]) IS
	'first statement of a consumer''s transaction';

/*
 * Takes back what begin_batch has done in this transaction for the records from a failed one on, so
 * that those before it can be committed.  part_next: where the watermarks belong, NULL: there was
 * none; claim_ids: what was claimed in vain.  What other transactions have written stays as it is.
 */
CREATE FUNCTION outbox.trim_batch(consumer text, part_topics text[], part_numbers integer[],
	part_next bigint[], claim_ids uuid[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own xid := pg_current_xact_id()::xid;
BEGIN
	PERFORM outbox.need('trim_batch', ARRAY['consumer', consumer, 'part_topics', part_topics::text,
		'part_numbers', part_numbers::text, 'part_next', part_next::text,
		'claim_ids', claim_ids::text]);
	/* Planned with its values: leaves of other days are neither locked nor looked into. */
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
