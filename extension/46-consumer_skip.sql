/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------- a record that a consumer is stuck at
 *
 * How a person has a consumer step over it.
 */

/*
 * The consumer steps over a record that it cannot do: the event is claimed for it, so its next try
 * finds it processed already, wherever the record is read from.  What follows goes on, the same key
 * too.  Noted in outbox.audit.  topic to event_id as in the log line partition_halted; replay_id,
 * too: NULL unless the line has one, of a copy that is processed anew and claimed by both ids.
 * Waits for the end of a try that is under way.  SQLSTATE 22004: an argument is NULL, or there is
 * no reason; 42704: no consumer of that name has come to the partition; 22023: the record lies
 * before its watermark; 55000: it has processed the event already.
 */
CREATE FUNCTION outbox.consumer_skip(consumer text, topic text, partition integer, "offset" bigint,
	event_id uuid, reason text, replay_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	watermark bigint;
	bits bit(128) := ('x' || translate(event_id::text, '-', ''))::bit(128)
		# ('x' || translate(replay_id::text, '-', ''))::bit(128);
BEGIN
	PERFORM outbox.need('consumer_skip', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text, 'event_id', event_id::text]);
	PERFORM outbox.dead_letter_need_reason(reason, 'to skip a record');
	/* Locked: a try under way may make a dead letter of the record, and claims nothing then. */
	SELECT o.next_offset INTO watermark FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_skip.consumer AND o.topic = consumer_skip.topic
		AND o.partition = consumer_skip.partition FOR SHARE;
	IF watermark IS NULL AND NOT EXISTS (SELECT FROM outbox.consumer_attempt a
			WHERE a.consumer = consumer_skip.consumer AND a.topic = consumer_skip.topic
				AND a.partition = consumer_skip.partition) THEN
		RAISE undefined_object USING
			MESSAGE = format('no consumer "%s" has come to partition %s of topic "%s"',
				consumer, partition, topic),
			HINT = 'Name it as its setting group_id does; at a partition''s first record '
				'it must be running.';
	ELSIF "offset" < watermark THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('consumer "%s" is done with offset %s of partition %s of topic "%s"',
				consumer, "offset", partition, topic),
			DETAIL = format('Its watermark is %s.', watermark);
	ELSIF NOT outbox.claim(consumer, coalesce((lpad(to_hex(bits::bit(64)::bigint), 16, '0') ||
			lpad(to_hex((bits << 64)::bit(64)::bigint), 16, '0'))::uuid, event_id)) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('consumer "%s" has processed event %s already', consumer, event_id),
			HINT = 'Give replay_id, too, if the log line has one.';
	END IF;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('consumer_skip', format('event %s', event_id), reason,
		jsonb_build_object('consumer', consumer, 'topic', topic, 'partition', partition,
			'offset', "offset", 'replay_id', replay_id));
END $$;
COMMENT ON FUNCTION outbox.consumer_skip(text, text, integer, bigint, uuid, text, uuid) IS
	'a consumer steps over a record it is stuck at';
