/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------- calls to other systems
 *
 * What a consumer asks before its handlers call out: which records a call may be made for.  Nothing
 * is decided here: begin_batch judges each record again when its answer has come.
 */

/*
 * Which records have been processed, or have a dead letter at their place: their places, counted
 * from 1.  ids: what is claimed; the others as in begin_batch.
 */
CREATE FUNCTION outbox.known_records(consumer text, part_topics text[], part_numbers integer[],
	part_of integer[], offsets bigint[], event_ids uuid[], ids uuid[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	processed uuid[] := outbox.processed_ids(consumer, ids);
BEGIN
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, offsets, event_ids, ids)
			WITH ORDINALITY r (part, "offset", event_id, id, place)
		WHERE r.id = ANY (processed)
			OR EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = known_records.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id));
END $$;

/* As outbox.dead_letter_blocked, without a lock. */
CREATE FUNCTION outbox.blocked_records(consumer text, part_topics text[], part_of integer[],
	keys bytea[])
RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = blocked_records.consumer AND d.state IN ('retrying', 'open')) THEN
		RETURN '{}';
	END IF;
	RETURN ARRAY(SELECT r.place::integer
		FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
		WHERE EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.consumer = blocked_records.consumer AND d.topic = part_topics[r.part]
				AND sha256(d.key) = sha256(r.key) AND d.state IN ('retrying', 'open')));
END $$;

/*
 * May the handlers of these records call out?  Returns a character for each: n yes; d processed
 * before, or in outbox.dead_letter; h held behind a dead letter of its key.  Arguments as in
 * outbox.begin_batch, ids: what is claimed.  Notes for owner which calls of the partitions may be
 * under way from now on, these records' and those at noted_of and noted, so that the next owner
 * runs them one by one if the process ends; that need not survive the server, it is not waited for.
 */
CREATE FUNCTION outbox.begin_calls(consumer text, owner text, part_topics text[],
	part_numbers integer[], part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[],
	ids uuid[], hold boolean, old_ids uuid[], noted_of integer[], noted bigint[])
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	claims text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	part_old bigint[];
	place integer;
BEGIN
	PERFORM outbox.need('begin_calls', ARRAY['consumer', begin_calls.consumer,
		'owner', begin_calls.owner, 'hold', hold::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.consumer_attempt a SET calls = n.offsets
	FROM (SELECT part_topics[u.part] AS topic, part_numbers[u.part] AS partition,
			array_agg(DISTINCT u."offset") AS offsets
		FROM unnest(part_of || noted_of, begin_calls.offsets || noted) u (part, "offset")
		GROUP BY u.part) n
	WHERE a.consumer = begin_calls.consumer AND a.topic = n.topic AND a.partition = n.partition
		AND a.owner = begin_calls.owner;

	IF hold THEN
		FOREACH place IN ARRAY outbox.blocked_records(begin_calls.consumer, part_topics, part_of,
			keys)
		LOOP
			claims[place] := 'h';
		END LOOP;
	END IF;
	FOREACH place IN ARRAY outbox.known_records(begin_calls.consumer, part_topics, part_numbers,
		part_of, begin_calls.offsets, event_ids, ids)
	LOOP
		claims[place] := 'd';
	END LOOP;
	IF old_ids IS NOT NULL THEN
		part_old := ARRAY(SELECT coalesce(o.old_ids_to, o.next_offset)
			FROM unnest(part_topics, part_numbers) WITH ORDINALITY p (topic, partition, part)
				LEFT JOIN outbox.consumer_offset o ON o.consumer = begin_calls.consumer
					AND o.topic = p.topic AND o.partition = p.partition
			ORDER BY p.part);
		FOREACH place IN ARRAY outbox.known_by_old_id(begin_calls.consumer, part_topics,
			part_numbers, part_old, part_of, begin_calls.offsets, old_ids)
		LOOP
			claims[place] := 'd';
		END LOOP;
	END IF;
	RETURN array_to_string(claims, '');
END $$;
COMMENT ON FUNCTION outbox.begin_calls(text, text, text[], integer[], integer[], bigint[], bytea[],
	uuid[], uuid[], boolean, uuid[], integer[], bigint[]) IS
	'for which records a consumer''s handlers may call out';

/*
 * The records of a partition whose calls may have been under way when its last owner's process
 * ended, for who has taken it; NULL: none was.
 */
CREATE FUNCTION outbox.attempt_calls(consumer text, topic text, partition integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('attempt_calls', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text]);
	RETURN (SELECT a.calls FROM outbox.consumer_attempt a
		WHERE a.consumer = attempt_calls.consumer AND a.topic = attempt_calls.topic
			AND a.partition = attempt_calls.partition);
END $$;
COMMENT ON FUNCTION outbox.attempt_calls(text, text, integer) IS
	'which calls may have been under way when a process ended';

/*
 * Has a letter's event been processed meanwhile?  Then its handler need not call out.  claim_id: as
 * in outbox.dead_letter_begin.
 */
CREATE FUNCTION outbox.dead_letter_claimed(dead_letter bigint, claim_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	PERFORM outbox.need('dead_letter_claimed', ARRAY['dead_letter', dead_letter::text]);
	SELECT * INTO letter FROM outbox.dead_letter d WHERE d.id = dead_letter_claimed.dead_letter;
	RETURN outbox.processed_ids(letter.consumer, ARRAY[coalesce(
		CASE WHEN letter.replay_of IS NULL THEN claim_id END, letter.event_id)]) IS NOT NULL;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_claimed(bigint, uuid) IS
	'has a dead letter''s event been processed meanwhile';
