/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------- dead letters
 *
 * outbox.dead_letter, the one table of what the relay could not send and consumers could not
 * process, and which failures are of one kind.
 */

/* left(), which in SQL_ASCII would cut inside a character of UTF-8. */
CREATE FUNCTION outbox.cut_text(value text, characters integer) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_cut_text';

/*
 * The text's UTF-8; what cannot become any is shown as \x and hex digits, so that no message keeps
 * a letter from its topic.
 */
CREATE FUNCTION outbox.text_bytes(value text) RETURNS bytea
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_text_bytes';

/*
 * Which failures are one and the same: 16 hex digits over consumer (NULL: the relay), class,
 * sqlstate and the message without what differs from record to record: quoted text, uuids, hex,
 * words with digits, numbers, and the values of keys, "(order_id)=(...)".
 */
CREATE FUNCTION outbox.dead_letter_fingerprint(consumer text, error_class text, sqlstate text,
	error_message text)
RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_dead_letter_fingerprint';

/*
 * outbox.dead_letter: what could not be sent (origin relay) or processed (origin
 * consumer).
 *
 *	state	retrying	origin consumer: tries are left, next at next_attempt_at
 *			held		waits behind an earlier record of its key, retrying or open;
 *						blocked_by: which one that was when the row was written
 *			open		tries are spent: a person decides
 *			releasing	origin relay: the relay emits it again, with what is held behind it
 *			resolved, discarded	done with
 *	headers	Kafka's encoding
 *	content_type	origin relay; a consumer's stands in headers
 *	txid, seq, batch_no	origin relay: the event and the batch it was left out of (I7); an
 *			event with a row is never sent, only its copy is
 *	reissue_txid	origin relay: the transaction that emitted the copy
 *	unended	origin consumer: tries begun that have not ended: the running one, and those the process
 *			did not survive
 *	troubles	origin consumer: tries that failed with what is waited for, in a row; the first at
 *		troubled_since
 *	ends	origin consumer: of these the last so many ended their session
 *	fingerprint	the same for failures of one kind
 *	version	raised whenever the state changes, or the content by an edit
 *	replay_of	the letter that keeps what this edited one was before
 *	note	the newest one; outbox.audit has all of them
 *
 * The indexes hold a digest of the key: a key may be longer than an index entry.
 *
 * A key's rows in a state are asked for by sha256(key) BETWEEN hash AND hash, in the order
 * sha256(key), id, with enable_sort off: only one index has that order, so it is read whatever the
 * statistics say.  With sha256(key) = hash the primary key would have it too.  A function with
 * enable_sort off must not call what has to sort: the planner's penalty for that makes the server
 * compile the statement (jit).
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
	unended integer NOT NULL DEFAULT 0,
	troubles integer NOT NULL DEFAULT 0,
	ends integer NOT NULL DEFAULT 0,
	troubled_since timestamptz,
	first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	next_attempt_at timestamptz,
	state text NOT NULL
		CHECK (state IN ('retrying', 'held', 'open', 'releasing', 'resolved', 'discarded')),
	blocked_by bigint,
	txid xid8,
	seq bigint,
	batch_no bigint,
	reissue_txid xid8,
	resolved_at timestamptz,
	resolved_by name,
	reason text,
	note text,
	fingerprint text GENERATED ALWAYS AS
		(outbox.dead_letter_fingerprint(consumer, error_class, sqlstate, error_message)) STORED,
	version integer NOT NULL DEFAULT 1,
	replay_of bigint
);
CREATE UNIQUE INDEX dead_letter_record
	ON outbox.dead_letter (consumer, topic, partition, "offset", event_id)
	WHERE consumer IS NOT NULL;
CREATE INDEX dead_letter_waiting ON outbox.dead_letter (consumer, next_attempt_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_last_failed ON outbox.dead_letter (consumer, last_failed_at)
	WHERE state = 'retrying';
CREATE INDEX dead_letter_key ON outbox.dead_letter (consumer, topic, pg_catalog.sha256(key), id)
	WHERE consumer IS NOT NULL AND state IN ('retrying', 'open');
CREATE INDEX dead_letter_held ON outbox.dead_letter (consumer, topic, pg_catalog.sha256(key), id)
	WHERE consumer IS NOT NULL AND state = 'held';
CREATE INDEX dead_letter_relay_key ON outbox.dead_letter (state, topic, pg_catalog.sha256(key), id)
	WHERE origin = 'relay' AND state IN ('held', 'open', 'releasing');
CREATE INDEX dead_letter_batch ON outbox.dead_letter (batch_no)
	WHERE origin = 'relay';
CREATE INDEX dead_letter_left_out ON outbox.dead_letter (txid) WHERE origin = 'relay';
CREATE INDEX dead_letter_reissued ON outbox.dead_letter (reissue_txid)
	WHERE reissue_txid IS NOT NULL;
CREATE INDEX dead_letter_fingerprint ON outbox.dead_letter (fingerprint, id)
	WHERE state IN ('retrying', 'held', 'open', 'releasing');
CREATE INDEX dead_letter_replay_of ON outbox.dead_letter (replay_of) WHERE replay_of IS NOT NULL;

CREATE FUNCTION outbox.dead_letter_raise_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.version := OLD.version + 1;
	RETURN NEW;
END $$;
CREATE TRIGGER raise_version BEFORE UPDATE OF state, event_id ON outbox.dead_letter
	FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.event_id <> NEW.event_id)
	EXECUTE FUNCTION outbox.dead_letter_raise_version();
ALTER TABLE outbox.dead_letter ENABLE ALWAYS TRIGGER raise_version;
