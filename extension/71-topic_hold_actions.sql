/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ topics held: actions
 *
 * What persons do with holds (grant_operate gives the right), noted in outbox.audit.  They only
 * change outbox.topic_hold; the relay sees it between two batches.
 */

/*
 * Locks the topic until the transaction ends, against whoever begins or changes a hold of it.
 * patient false (the relay): false when somebody has it locked.
 */
CREATE FUNCTION outbox.topic_hold_lock(topic text, patient boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	names CONSTANT text[] := ARRAY[topic,
		CASE WHEN right(topic, 4) = '.DLT' THEN left(topic, -4) END];
	locked integer;
BEGIN
	IF patient THEN
		PERFORM FROM outbox.topic t WHERE t.name = ANY (names) ORDER BY t.name FOR UPDATE;
		PERFORM FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended' FOR UPDATE;
		RETURN true;
	END IF;
	SELECT count(*) INTO locked FROM (SELECT FROM outbox.topic t WHERE t.name = ANY (names)
		FOR UPDATE SKIP LOCKED) l;
	IF locked < (SELECT count(*) FROM outbox.topic t WHERE t.name = ANY (names)) THEN
		RETURN false;
	END IF;
	SELECT count(*) INTO locked FROM (SELECT FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended' FOR UPDATE SKIP LOCKED) l;
	RETURN locked = (SELECT count(*) FROM outbox.topic_hold h
		WHERE h.topic = topic_hold_lock.topic AND h.state <> 'ended');
END
$$;

/*
 * Holds the topic: its events are left out of the batches from the next one on and wait, in their
 * order, until topic_release().  A hold that the relay began becomes a person's, which does not end
 * by itself; one that is being released is held again.  SQLSTATE 22004: no topic or reason; 42704:
 * it is neither declared nor held.
 */
CREATE FUNCTION outbox.topic_hold(topic text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hold outbox.topic_hold;
	number bigint;
BEGIN
	PERFORM outbox.need('topic_hold', ARRAY['topic', topic]);
	PERFORM outbox.dead_letter_need_reason(reason, 'to hold a topic');
	PERFORM outbox.topic_hold_lock(topic, true);
	SELECT * INTO hold FROM outbox.topic_hold h
	WHERE h.topic = topic_hold.topic AND h.state <> 'ended';
	IF hold.id IS NULL AND NOT EXISTS (SELECT FROM outbox.topic t
			WHERE t.name = topic_hold.topic OR t.name || '.DLT' = topic_hold.topic) THEN
		RAISE undefined_object USING
			MESSAGE = format('topic "%s" is not declared', topic),
			HINT = 'outbox.topic lists the declared ones.';
	END IF;
	IF hold.cause = 'operator' AND hold.state = 'held' THEN
		RAISE NOTICE 'topic "%" is held already, by % since %', topic, hold.held_by, hold.held_at;
		RETURN;
	END IF;
	IF hold.id IS NULL THEN
		INSERT INTO outbox.topic_hold (topic, cause, reason)
		VALUES (topic_hold.topic, 'operator', topic_hold.reason) RETURNING id INTO number;
	ELSE
		number := hold.id;
		UPDATE outbox.topic_hold h
		SET state = 'held', cause = 'operator', partition = NULL, reason = topic_hold.reason,
			held_by = session_user, released_at = NULL, released_by = NULL
		WHERE h.id = number;
	END IF;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('topic_hold', format('topic %s', topic), topic_hold.reason,
		jsonb_strip_nulls(jsonb_build_object('hold', number, 'cause', hold.cause,
			'state', hold.state)));
	PERFORM outbox.ask_relay();
END
$$;
COMMENT ON FUNCTION outbox.topic_hold(text, text) IS
	'leaves a topic''s events out of the batches until topic_release()';

/*
 * Ends a hold, whoever began it: what it left out is sent in its order, and only then what was
 * emitted meanwhile and later.  A partition that still has no leader, and a topic that Kafka
 * refuses with dead_letter_policy hold_topic, is held again.  SQLSTATE 22004: no topic; 55000: it
 * is not held.
 */
CREATE FUNCTION outbox.topic_release(topic text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hold outbox.topic_hold;
BEGIN
	PERFORM outbox.need('topic_release', ARRAY['topic', topic]);
	PERFORM outbox.topic_hold_lock(topic, true);
	SELECT * INTO hold FROM outbox.topic_hold h
	WHERE h.topic = topic_release.topic AND h.state <> 'ended';
	IF hold.id IS NULL THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('topic "%s" is not held', topic),
			HINT = 'outbox.topic_holds lists the holds.';
	ELSIF hold.state = 'releasing' THEN
		RAISE NOTICE 'topic "%" is being released already', topic;
		RETURN;
	END IF;
	UPDATE outbox.topic_hold h
	SET state = 'releasing', released_at = clock_timestamp(), released_by = session_user
	WHERE h.id = hold.id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('topic_release', format('topic %s', topic), topic_release.reason,
		jsonb_build_object('hold', hold.id, 'cause', hold.cause));
	PERFORM outbox.ask_relay();
END
$$;
COMMENT ON FUNCTION outbox.topic_release(text, text) IS
	'sends what a hold of the topic left out, in its order, and ends the hold';
