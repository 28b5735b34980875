/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------- dead letters
 *
 * outbox.dead_letter: what could not be sent (origin relay) or processed (origin
 * consumer).
 *
 *	state	retrying	tries are left, next at next_attempt_at
 *			held		waits behind blocked_by, an earlier record of its key
 *			open		tries are spent: a person decides
 *			resolved, discarded	done with
 *	headers	Kafka's encoding
 *	txid, seq, batch_no	origin relay: the event and the batch it was left out of
 */
CREATE TABLE outbox.dead_letter (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	origin text NOT NULL CHECK (origin IN ('relay', 'consumer')),
	consumer text CHECK ((consumer IS NULL) = (origin = 'relay')),
	topic text NOT NULL,
	partition integer,
	"offset" bigint,
	key bytea,
	value bytea,
	headers bytea,
	record_time timestamptz,
	event_id uuid NOT NULL,
	event_type text,
	correlation_id text,
	error_class text NOT NULL,
	sqlstate text,
	error_message text NOT NULL,
	attempts integer NOT NULL DEFAULT 1,
	first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	next_attempt_at timestamptz,
	state text NOT NULL CHECK (state IN ('retrying', 'held', 'open', 'resolved', 'discarded')),
	blocked_by bigint,
	txid xid8,
	seq bigint,
	batch_no bigint,
	resolved_at timestamptz,
	resolved_by name,
	reason text,
	UNIQUE (consumer, topic, partition, "offset")
);
CREATE INDEX dead_letter_waiting ON outbox.dead_letter (consumer, next_attempt_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_key ON outbox.dead_letter (consumer, topic, key, id)
	WHERE state IN ('retrying', 'held', 'open');
CREATE INDEX dead_letter_batch ON outbox.dead_letter (batch_no)
	WHERE origin = 'relay';
