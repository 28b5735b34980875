/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------------- dead letters
 *
 * outbox.dead_letter: what could not be sent (origin relay) or processed (origin
 * consumer).
 *
 *	state	retrying	origin consumer: tries are left, next at next_attempt_at
 *			held		waits behind an earlier record of its key; blocked_by: which
 *						one that was when the row was written
 *			open		tries are spent: a person decides
 *			releasing	origin relay: the relay emits it again, with what is held behind it
 *			resolved, discarded	done with
 *	headers	Kafka's encoding
 *	content_type	origin relay; a consumer's stands in headers
 *	txid, seq, batch_no	origin relay: the event and the batch it was left out of (I7); an
 *			event with a row is never sent, only its copy is
 *	reissue_txid	origin relay: the transaction that emitted the copy
 *	note	the newest one; outbox.audit has all of them
 *
 * The indexes hold a digest of the key: a key may be longer than an index entry.
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
	content_type text,
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
	state text NOT NULL CHECK (state IN ('retrying', 'held', 'open', 'releasing', 'resolved', 'discarded')),
	blocked_by bigint,
	txid xid8,
	seq bigint,
	batch_no bigint,
	reissue_txid xid8,
	resolved_at timestamptz,
	resolved_by name,
	reason text,
	note text,
	UNIQUE (consumer, topic, partition, "offset")
);
CREATE INDEX dead_letter_waiting ON outbox.dead_letter (consumer, next_attempt_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_key ON outbox.dead_letter (consumer, topic, pg_catalog.sha256(key), id)
	WHERE consumer IS NOT NULL AND state IN ('retrying', 'held', 'open');
CREATE INDEX dead_letter_relay_key ON outbox.dead_letter (state, topic, pg_catalog.sha256(key), id)
	WHERE origin = 'relay' AND state IN ('held', 'open', 'releasing');
CREATE INDEX dead_letter_batch ON outbox.dead_letter (batch_no)
	WHERE origin = 'relay';
CREATE INDEX dead_letter_left_out ON outbox.dead_letter (txid) WHERE origin = 'relay';
CREATE INDEX dead_letter_reissued ON outbox.dead_letter (reissue_txid) WHERE reissue_txid IS NOT NULL;
