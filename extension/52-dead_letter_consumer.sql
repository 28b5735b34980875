/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- dead letters of consumers
 *
 * How a record that is not done becomes a letter, what releases those held behind it, and how many
 * there are.
 */

/* The rows of the key that are retrying or open, in their order. */
CREATE FUNCTION outbox.dead_letter_blocking(consumer text, topic text, key bytea)
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	hash bytea := sha256(key);
BEGIN
	RETURN QUERY SELECT d.id FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_blocking.consumer AND d.topic = dead_letter_blocking.topic
		AND sha256(d.key) BETWEEN hash AND hash AND d.state IN ('retrying', 'open')
	ORDER BY sha256(d.key), d.id;
END $$;

/*
 * Writes a record that is not done.  state: retrying (due after backoff_ms), held (behind the rows
 * of its key that are retrying or open) or open (published at once; spring: with Spring's headers
 * too).  tries: those made so far, none when held.
 */
CREATE FUNCTION outbox.dead_letter_add(consumer text, topic text, partition integer,
	"offset" bigint, key bytea, value bytea, headers bytea, record_time timestamptz, event_id uuid,
	event_type text, correlation_id text, state text, error_class text, error_code text,
	error_message text, backoff_ms integer, tries integer DEFAULT 1, spring boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held boolean := dead_letter_add.state = 'held';
	added bigint;
BEGIN
	PERFORM outbox.need('dead_letter_add', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'offset', "offset"::text, 'event_id', event_id::text,
		'state', state, 'error_class', error_class, 'error_message', error_message,
		'tries', tries::text]);
	INSERT INTO outbox.dead_letter (origin, consumer, topic, partition, "offset", key, value,
		headers, record_time, event_id, event_type, correlation_id, error_class, sqlstate,
		error_message, attempts, next_attempt_at, state, blocked_by)
	VALUES ('consumer', dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.partition,
		dead_letter_add."offset", dead_letter_add.key, dead_letter_add.value,
		dead_letter_add.headers, dead_letter_add.record_time, dead_letter_add.event_id,
		dead_letter_add.event_type, dead_letter_add.correlation_id, dead_letter_add.error_class,
		dead_letter_add.error_code, outbox.cut_text(dead_letter_add.error_message, 1024),
		CASE WHEN held THEN 0 ELSE tries END,
		CASE WHEN dead_letter_add.state = 'retrying'
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		dead_letter_add.state,
		CASE WHEN held THEN (SELECT max(b.id)
			FROM outbox.dead_letter_blocking(dead_letter_add.consumer, dead_letter_add.topic,
				dead_letter_add.key) b (id)) END)
	ON CONFLICT (consumer, topic, partition, "offset", event_id)
		WHERE consumer IS NOT NULL DO NOTHING
	RETURNING id INTO added;
	IF added IS NOT NULL AND dead_letter_add.state = 'open' THEN
		PERFORM outbox.dead_letter_publish(added, spring);
	END IF;
	RETURN added;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_add(text, text, integer, bigint, bytea, bytea, bytea,
	timestamptz, uuid, text, text, text, text, text, text, integer, integer, boolean) IS
	'a record that could not be processed';

/*
 * The key's first held row is due now unless an earlier row of the key is retrying or open.  To be
 * called in the transaction that changes such a row, after the change; not when a held row is
 * changed.  The held row is locked first, so that of two callers the later one sees what the other
 * has done; what another transaction discards meanwhile, the next one replaces.
 */
CREATE FUNCTION outbox.dead_letter_release(consumer text, topic text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off AS $$
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
		FROM outbox.dead_letter_blocking(dead_letter_release.consumer, dead_letter_release.topic,
			dead_letter_release.key) b (id)
		WHERE b.id < first_held);
END $$;

/*
 * Rows not done with, for the metrics; unpublished: of the open ones, those that are not on
 * <topic>.DLT.
 */
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
COMMENT ON FUNCTION outbox.dead_letter_counts(text) IS
	'dead letters not done with, by topic and state';
