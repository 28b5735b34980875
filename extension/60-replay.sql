/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------------- replay
 *
 * outbox.replay_job: replays; the relay carries them out one after the other, the oldest first
 * (bgworker/replay/replay.c), and notes here in the transaction of the copies how far it is.
 *
 *	created_from, created_to	the events' created_at, end excluded
 *	topic, type, key	filters; NULL = all
 *	target_topic	NULL = the events' own
 *	consumer		the one it is for (header outbox-replay-group); NULL = all
 *	reprocess		consumers that had the event run it again
 *	rate			events a second, at most
 *	installation	whose transaction ids these are: a dump restored elsewhere does not go on
 *	snapshot, txid	events that snapshot sees, without those of the transaction that asked
 *	held, held_topics	events left out, for their topic is held apart and they were not sent
 *	timed_from		the oldest transaction whose commit time was kept when it began
 *	done_*			place of the last event copied, in the order of copying; NULL = none
 */
CREATE TABLE outbox.replay_job (
	id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	created_from timestamptz NOT NULL,
	created_to timestamptz NOT NULL,
	topic text,
	type text,
	key bytea,
	target_topic text,
	consumer text,
	reprocess boolean NOT NULL,
	rate integer NOT NULL,
	reason text,
	state text NOT NULL DEFAULT 'running'
		CHECK (state IN ('running', 'paused', 'done', 'cancelled', 'failed')),
	total bigint NOT NULL,
	replayed bigint NOT NULL DEFAULT 0,
	held bigint NOT NULL DEFAULT 0,
	held_topics text[] NOT NULL DEFAULT '{}',
	installation uuid NOT NULL,
	snapshot pg_snapshot NOT NULL,
	txid xid8 NOT NULL,
	timed_from xid8,
	done_rank smallint,
	done_order bigint,
	done_txid xid8,
	done_seq bigint,
	created_by name NOT NULL DEFAULT session_user,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started_at timestamptz,
	finished_at timestamptz,
	last_error text
);
CREATE INDEX replay_job_running ON outbox.replay_job (created_at, id) WHERE state = 'running';

/* At commit the relay looks at outbox.replay_job and outbox.topic_hold. */
CREATE FUNCTION outbox.ask_relay() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_ask_relay';

/* Raises unless the role that called replay() may emit to the topic; NULL may be. */
CREATE FUNCTION outbox.check_target(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_target';

/* Are the arguments of a replay in range?  SQLSTATE 22004: NULL; 22023: any other. */
CREATE FUNCTION outbox.check_replay("from" timestamptz, "to" timestamptz, consumer text,
	reprocess boolean, rate integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF "from" IS NULL OR "to" IS NULL OR reprocess IS NULL OR rate IS NULL THEN
		RAISE null_value_not_allowed USING
			MESSAGE = 'from, to, reprocess and rate of a replay must not be null',
			HINT = 'Use ''-infinity'' and ''infinity'' for all that is retained.';
	ELSIF "from" >= "to" THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'a replay must begin before it ends',
			DETAIL = format('It would hold events emitted from %s on and before %s.', "from", "to");
	ELSIF rate NOT BETWEEN 1 AND 100000 THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'rate of a replay is out of range',
			DETAIL = 'Allowed: 1 to 100000 events a second.';
	ELSIF octet_length(consumer) NOT BETWEEN 1 AND 255 THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'name of a consumer must have 1 to 255 bytes';
	ELSIF reprocess AND consumer IS NULL THEN
		RAISE invalid_parameter_value USING
			MESSAGE = 'a replay for re-processing must name its consumer',
			DETAIL = 'Every consumer of the topic would repeat its effects.',
			HINT = 'Give consumer => ''group'', or leave reprocess out.';
	END IF;
END
$$;

/*
 * Sends retained events again: copies with the same id, key, type, payload, created_at and headers,
 * and the headers outbox-replay-id, outbox-replay-group (with consumer) and outbox-replay-mode
 * (with reprocess).  "from" <= created_at < "to"; topic, type, key: NULL = all.  Copies are never
 * replayed.  Returns the number of events now; replay_id is NULL for a dry run, which changes
 * nothing.  Another target_topic than the events' own needs the caller's right to emit to it
 * (outbox.grant_topic).  Transactions still open are not part: their events come by themselves.
 */
CREATE FUNCTION outbox.replay("from" timestamptz, "to" timestamptz, topic text DEFAULT NULL,
	type text DEFAULT NULL, key text DEFAULT NULL, target_topic text DEFAULT NULL,
	consumer text DEFAULT NULL, reprocess boolean DEFAULT false, rate integer DEFAULT 1000,
	dry_run boolean DEFAULT false, reason text DEFAULT NULL,
	OUT replay_id uuid, OUT events bigint) RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key_bytes bytea := convert_to(key, 'UTF8');
	seen pg_snapshot;
	oldest timestamptz;
BEGIN
	PERFORM outbox.need('replay', ARRAY['dry_run', dry_run::text]);
	PERFORM outbox.check_replay("from", "to", consumer, reprocess, rate);
	IF target_topic IS DISTINCT FROM replay.topic THEN
		PERFORM outbox.check_target(target_topic);
	END IF;
	WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS now)
	SELECT s.now, c.number, c.first INTO seen, events, oldest
	FROM s, LATERAL (SELECT min(e.created_at) AS first,
			count(*) FILTER (WHERE e.created_at >= "from" AND e.created_at < "to"
				AND (replay.topic IS NULL OR e.topic = replay.topic)
				AND (replay.type IS NULL OR e.type = replay.type)
				AND (key_bytes IS NULL OR e.key = key_bytes)) AS number
		FROM outbox.event e
		WHERE e.copied_at IS NULL AND pg_visible_in_snapshot(e.txid, s.now)
			AND e.txid IS DISTINCT FROM pg_current_xact_id_if_assigned()) c;
	IF oldest IS NULL THEN
		RAISE NOTICE 'no event is retained';
	ELSIF oldest > "from" THEN
		RAISE NOTICE 'events are retained from % on', oldest;
	END IF;
	IF dry_run THEN
		RETURN;
	END IF;
	INSERT INTO outbox.replay_job (created_from, created_to, topic, type, key, target_topic,
		consumer, reprocess, rate, reason, total, installation, snapshot, txid)
	SELECT "from", "to", replay.topic, replay.type, key_bytes, replay.target_topic, replay.consumer,
		replay.reprocess, replay.rate, replay.reason, events, i.id, seen, pg_current_xact_id()
	FROM outbox.installation i
	RETURNING id INTO replay_id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES ('replay', 'replay ' || replay_id, replay.reason, jsonb_strip_nulls(jsonb_build_object(
		'from', "from", 'to', "to", 'topic', replay.topic, 'type', replay.type, 'key', replay.key,
		'target_topic', replay.target_topic, 'consumer', replay.consumer,
		'reprocess', replay.reprocess, 'rate', replay.rate, 'events', events)));
	PERFORM outbox.ask_relay();
END
$$;

/*
 * Gives a replay another state and writes the audit; what replay_pause, _resume and _cancel share.
 */
CREATE FUNCTION outbox.change_replay(replay_id uuid, action text, allowed text[], wanted text,
	reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	job outbox.replay_job;
BEGIN
	IF replay_id IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'replay_id of a replay must not be null',
			HINT = 'See outbox.replays.';
	END IF;
	SELECT * INTO job FROM outbox.replay_job j WHERE j.id = change_replay.replay_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE undefined_object USING
			MESSAGE = format('there is no replay %s', replay_id),
			HINT = 'See outbox.replays.';
	ELSIF job.state <> ALL (allowed) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('replay %s is %s', replay_id, job.state),
			DETAIL = format('It must be %s.', array_to_string(allowed, ' or '));
	ELSIF wanted = 'running' AND NOT EXISTS (SELECT FROM outbox.installation i
		WHERE i.id = job.installation) THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('replay %s belongs to the database this one was restored '
				'or copied from', replay_id),
			HINT = 'Call outbox.replay() again.';
	END IF;
	UPDATE outbox.replay_job j
	SET state = wanted, last_error = CASE WHEN wanted <> 'running' THEN j.last_error END,
		finished_at = CASE WHEN wanted = 'cancelled' THEN clock_timestamp() END
	WHERE j.id = change_replay.replay_id;
	INSERT INTO outbox.audit (action, object, reason, detail)
	VALUES (change_replay.action, 'replay ' || replay_id, change_replay.reason,
		jsonb_build_object('replayed', job.replayed, 'of', job.total));
	PERFORM outbox.ask_relay();
END
$$;

/* The relay stops at once, between two transactions; replay_resume goes on where it was. */
CREATE FUNCTION outbox.replay_pause(replay_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_pause', '{running}', 'paused', reason);
END
$$;

CREATE FUNCTION outbox.replay_resume(replay_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_resume', '{paused,failed}', 'running', reason);
END
$$;

/* For good; what was copied so far is sent. */
CREATE FUNCTION outbox.replay_cancel(replay_id uuid, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.change_replay(replay_id, 'replay_cancel', '{running,paused,failed}', 'cancelled',
		reason);
END
$$;
