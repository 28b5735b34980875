/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------- dead letters with another content
 *
 * How a person has a letter processed or sent again with another value or other headers.
 */

/* An error unless outbox.allow_dead_letter_edit is on. */
CREATE FUNCTION outbox.dead_letter_copy_id() RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_copy_id';

/*
 * An error if the bytes are above outbox.max_event_bytes, and above what is known to be possible.
 */
CREATE FUNCTION outbox.dead_letter_check_size(bytes bigint, known bigint) RETURNS void
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_check_size';

/* Kafka's encoding; own: refuses the names that the relay writes itself. */
CREATE FUNCTION outbox.headers_encode(headers outbox.header[], own boolean) RETURNS bytea
	LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'outbox_headers_encode';

/*
 * A consumer's record's headers, byte for byte, with the copy's id as ce_id and without a replay's;
 * NULL: none.
 */
CREATE FUNCTION outbox.dead_letter_copy_own(headers bytea, copy_id text) RETURNS bytea
	LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'outbox_dead_letter_copy_own';

/*
 * The headers of an edited letter; given NULL: those it has.  A consumer's carry the copy's id, as
 * the consumer reads it there, and no replay's.
 */
CREATE FUNCTION outbox.dead_letter_copy_headers(letter outbox.dead_letter, copy_id uuid,
	given outbox.header[])
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF letter.origin = 'relay' THEN
		RETURN CASE WHEN given IS NULL THEN letter.headers
			ELSE outbox.headers_encode(given, true) END;
	ELSIF given IS NULL THEN
		RETURN outbox.dead_letter_copy_own(letter.headers, copy_id::text);
	END IF;
	RETURN outbox.headers_encode(ARRAY[
		ROW('ce_id', convert_to(copy_id::text, 'UTF8'))::outbox.header] || ARRAY(
		SELECT ROW(h.name, h.value)::outbox.header
		FROM unnest(given) WITH ORDINALITY h (name, value, n)
		WHERE coalesce(lower(h.name COLLATE "C"), '') <> 'ce_id'
			AND NOT starts_with(coalesce(lower(h.name COLLATE "C"), ''), 'outbox-replay-')
		ORDER BY h.n), false);
END $$;

/* As outbox.max_event_bytes counts. */
CREATE FUNCTION outbox.dead_letter_bytes(key bytea, value bytea, headers bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(length(key), 0)::bigint + coalesce(length(value), 0)
		+ coalesce(length(headers), 0)
$$;

/*
 * Replays the letter with another content: a new event, with an id of its own.  The letter keeps
 * its id and so its place among those of its key, and becomes the copy; what it was is kept as a
 * resolved letter, whose id is returned, and to which the copy's replay_of points.  A consumer's
 * copy is processed by that consumer alone, the relay's is sent with what is held behind it.
 *
 *	version		of the letter as it was read (outbox.dead_letters)
 *	value		NULL: a tombstone
 *	headers		NULL: those it has; names the relay writes are refused (relay) or replaced
 *				(consumer: ce_id)
 *
 * State: open; of a consumer's also retrying.  SQLSTATE 55000: switched off, or not in such a
 * state; OBX02: another version; 22004: no version or no reason; P0002: no such letter; 42939: a
 * header's name is reserved; 54000: key, value and headers are above outbox.max_event_bytes, and a
 * consumer's also above what they were; 22004, 54000: the relay's topic does not take the copy, as
 * it is declared.
 */
CREATE FUNCTION outbox.dead_letter_edit(id bigint, version integer, value bytea, reason text,
	headers outbox.header[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	copy_id uuid := outbox.dead_letter_copy_id();
	original bigint := nextval('outbox.dead_letter_id_seq');
	letter outbox.dead_letter;
	copy_headers bytea;
BEGIN
	PERFORM outbox.dead_letter_need_reason(reason, 'to edit a dead letter');
	IF version IS NULL THEN
		RAISE null_value_not_allowed
			USING MESSAGE = 'the version of the dead letter is needed to edit it';
	END IF;
	letter := outbox.dead_letter_take(id, 'edited', CASE
		WHEN (SELECT d.origin FROM outbox.dead_letter d
			WHERE d.id = dead_letter_edit.id) = 'consumer'
		THEN '{open,retrying}'::text[] ELSE '{open}' END, version);
	/* 64: a consumer's copy has the header ce_id, which the record may not have had. */
	copy_headers := outbox.dead_letter_copy_headers(letter, copy_id, dead_letter_edit.headers);
	PERFORM outbox.dead_letter_check_size(
		outbox.dead_letter_bytes(letter.key, dead_letter_edit.value, copy_headers),
		CASE letter.origin WHEN 'consumer'
			THEN outbox.dead_letter_bytes(letter.key, letter.value, letter.headers) + 64
			ELSE 0 END);

	IF letter.origin = 'relay' THEN
		PERFORM outbox.dead_letter_check_topic(letter.topic, letter.key, letter.event_type,
			dead_letter_edit.value, letter.content_type, copy_headers);
	END IF;

	/* attempts: a member that read the letter as it was finds that it has changed. */
	UPDATE outbox.dead_letter d
	SET event_id = copy_id, value = dead_letter_edit.value,
		headers = copy_headers,
		state = CASE d.origin WHEN 'relay' THEN 'releasing' ELSE 'retrying' END,
		attempts = d.attempts + CASE d.origin WHEN 'relay' THEN 0 ELSE 1 END, unended = 0,
		troubles = 0, ends = 0, troubled_since = NULL,
		next_attempt_at = CASE d.origin WHEN 'consumer' THEN clock_timestamp() END,
		txid = NULL, seq = NULL, batch_no = NULL,
		resolved_by = session_user, reason = dead_letter_edit.reason, replay_of = original
	WHERE d.id = letter.id;
	/* The event left out of its batch stays left out (I7), a record redelivered is found. */
	INSERT INTO outbox.dead_letter (id, origin, consumer, topic, partition, "offset", key, value,
		content_type, headers, record_time, event_id, event_type, correlation_id, error_class,
		sqlstate, error_message, attempts, first_failed_at, last_failed_at, state, txid, seq,
		batch_no, reissue_txid, resolved_at, resolved_by, reason, note, version, replay_of)
	OVERRIDING SYSTEM VALUE
	VALUES (original, letter.origin, letter.consumer, letter.topic, letter.partition,
		letter."offset", letter.key, letter.value, letter.content_type, letter.headers,
		letter.record_time, letter.event_id, letter.event_type, letter.correlation_id,
		letter.error_class, letter.sqlstate, letter.error_message, letter.attempts,
		letter.first_failed_at, letter.last_failed_at, 'resolved', letter.txid, letter.seq,
		letter.batch_no, letter.reissue_txid, clock_timestamp(), session_user,
		dead_letter_edit.reason,
		format('edited: dead letter %s is the copy, event %s', letter.id, copy_id),
		letter.version + 1, letter.replay_of);
	PERFORM outbox.dead_letter_audit(letter, 'dead_letter_edit', reason,
		jsonb_build_object('version', letter.version, 'original', original,
			'copy_event_id', copy_id));
	RETURN original;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_edit(bigint, integer, bytea, text, outbox.header[]) IS
	'replays a dead letter with another content';
