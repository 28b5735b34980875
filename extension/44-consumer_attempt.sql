/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- consumer attempts
 *
 * How a record that ends the process is found.  A member notes the partitions it takes and
 * deletes the note when it leaves them; who finds a note of another member runs what that one can
 * have had in hand record by record, and notes each before it.  Each call is a transaction of its
 * own, which need not survive the server: it is not waited for.
 */

/*
 * outbox.consumer_attempt
 *
 *	owner	the member that works on the partition; NULL: it left before all was run that it was to
 *		run one by one
 *	"offset"	the record run alone last; NULL: none
 *	crashes	how often a member has ended with it in hand, while it is not done
 *	calls	of a member whose handlers call out: the records whose calls may be under way, as
 *		outbox.begin_calls notes them
 */
CREATE TABLE outbox.consumer_attempt (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	owner text,
	"offset" bigint,
	crashes integer NOT NULL DEFAULT 0,
	calls bigint[],
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

/* owner takes the partition.  true: records are to be run one by one. */
CREATE FUNCTION outbox.take_partition(consumer text, topic text, partition integer, owner text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	earlier outbox.consumer_attempt;
	left_over boolean;
	lost boolean;
BEGIN
	PERFORM outbox.need('take_partition', ARRAY['consumer', take_partition.consumer,
		'topic', take_partition.topic, 'partition', take_partition.partition::text,
		'owner', take_partition.owner]);
	PERFORM set_config('synchronous_commit', 'off', true);
	SELECT * INTO earlier FROM outbox.consumer_attempt a
	WHERE a.consumer = take_partition.consumer AND a.topic = take_partition.topic
		AND a.partition = take_partition.partition FOR UPDATE;
	left_over := FOUND AND earlier.owner IS DISTINCT FROM take_partition.owner;
	lost := left_over AND earlier.owner IS NOT NULL
		AND NOT EXISTS (SELECT FROM outbox.consumer_offset o
			WHERE o.consumer = take_partition.consumer AND o.topic = take_partition.topic
				AND o.partition = take_partition.partition AND o.next_offset > earlier."offset");
	INSERT INTO outbox.consumer_attempt AS a (consumer, topic, partition, owner)
	VALUES (take_partition.consumer, take_partition.topic, take_partition.partition,
		take_partition.owner)
	ON CONFLICT (consumer, topic, partition) DO UPDATE
	SET owner = excluded.owner,
		crashes = CASE WHEN a."offset" IS NULL THEN 0 ELSE a.crashes + lost::integer END;
	RETURN left_over;
END $$;
COMMENT ON FUNCTION outbox.take_partition(text, text, integer, text) IS
	'notes who works on a partition';

/*
 * The record is going to be run alone, or read again.  Returns how often the process has ended with
 * it in hand; the first time that is 1, for it may have been the one in the batch.  Before the
 * watermark nothing is noted: 0, or the attempts of its dead letter of class crash, by which it is
 * known below seen_to, too.
 */
CREATE FUNCTION outbox.note_attempt(consumer text, topic text, partition integer, owner text,
	"offset" bigint, event_id uuid)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known integer;
	done outbox.consumer_offset;
BEGIN
	PERFORM outbox.need('note_attempt', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'owner', owner, 'offset', "offset"::text,
		'event_id', event_id::text]);
	SELECT * INTO done FROM outbox.consumer_offset o
	WHERE o.consumer = note_attempt.consumer AND o.topic = note_attempt.topic
		AND o.partition = note_attempt.partition AND o.seen_to > note_attempt."offset";
	IF FOUND THEN
		SELECT max(d.attempts) INTO known FROM outbox.dead_letter d
		WHERE d.consumer = note_attempt.consumer AND d.topic = note_attempt.topic
			AND d.partition = note_attempt.partition AND d."offset" = note_attempt."offset"
			AND d.event_id = note_attempt.event_id AND d.error_class = 'crash';
		IF known IS NOT NULL OR done.next_offset > note_attempt."offset" THEN
			RETURN coalesce(known, 0);
		END IF;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE outbox.consumer_attempt a
	SET "offset" = note_attempt."offset",
		crashes = CASE WHEN a."offset" = note_attempt."offset" THEN a.crashes ELSE 1 END
	WHERE a.consumer = note_attempt.consumer AND a.topic = note_attempt.topic
		AND a.partition = note_attempt.partition AND a.owner = note_attempt.owner
	RETURNING a.crashes INTO known;
	RETURN coalesce(known, 1);
END $$;
COMMENT ON FUNCTION outbox.note_attempt(text, text, integer, text, bigint, uuid) IS
	'notes a record that may end the process';

/* owner has left the partition.  finished: all was run that it was to run one by one. */
CREATE FUNCTION outbox.leave_partition(consumer text, topic text, partition integer, owner text,
	finished boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.need('leave_partition', ARRAY['consumer', consumer, 'topic', topic,
		'partition', partition::text, 'owner', owner, 'finished', finished::text]);
	PERFORM set_config('synchronous_commit', 'off', true);
	IF finished THEN
		DELETE FROM outbox.consumer_attempt a
		WHERE a.consumer = leave_partition.consumer AND a.topic = leave_partition.topic
			AND a.partition = leave_partition.partition AND a.owner = leave_partition.owner;
	ELSE
		UPDATE outbox.consumer_attempt a SET owner = NULL
		WHERE a.consumer = leave_partition.consumer AND a.topic = leave_partition.topic
			AND a.partition = leave_partition.partition AND a.owner = leave_partition.owner;
	END IF;
END $$;
COMMENT ON FUNCTION outbox.leave_partition(text, text, integer, text, boolean) IS
	'takes the note back';
