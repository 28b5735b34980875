/* SPDX-License-Identifier: PostgreSQL */
/* -------------------------------------------- dead letters on <topic>.DLT
 *
 * How a consumer's letter that is open becomes an event for whoever reads its topic's dead-letter
 * topic.
 */

/*
 * What a dead letter's event says beside the record's own headers: why it is here; spring: also as
 * Spring Kafka writes it, numbers big-endian.
 */
CREATE FUNCTION outbox.dead_letter_headers(letter outbox.dead_letter, spring boolean DEFAULT false)
RETURNS outbox.header[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	added outbox.header[];
BEGIN
	added := ARRAY(
		SELECT ROW(h.name, outbox.text_bytes(h.value))::outbox.header
		FROM (VALUES
			(1, 'dlt-original-topic', letter.topic),
			(2, 'dlt-original-partition', letter.partition::text),
			(3, 'dlt-original-offset', letter."offset"::text),
			(4, 'dlt-original-timestamp',
				round(extract(epoch FROM letter.record_time) * 1000)::bigint::text),
			(5, 'dlt-consumer-group', letter.consumer),
			(6, 'dlt-error-class', letter.error_class),
			(7, 'dlt-sqlstate', letter.sqlstate),
			(8, 'dlt-error-message', outbox.cut_text(letter.error_message, 1024)),
			(9, 'dlt-attempts', letter.attempts::text),
			(10, 'dlt-first-failed-at', to_char(letter.first_failed_at AT TIME ZONE 'UTC',
				'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(11, 'dlt-failed-at', to_char(letter.last_failed_at AT TIME ZONE 'UTC',
				'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(12, 'dlt-id', letter.id::text),
			(13, 'dlt-fingerprint', letter.fingerprint)) h (n, name, value)
		WHERE h.value IS NOT NULL
		ORDER BY h.n);
	IF spring THEN
		added := added || ARRAY(
			SELECT ROW('kafka_dlt-' || h.name, h.value)::outbox.header
			FROM (VALUES
				(1, 'original-topic', outbox.text_bytes(letter.topic)),
				(2, 'original-partition', int4send(letter.partition)),
				(3, 'original-offset', int8send(letter."offset")),
				(4, 'original-timestamp',
					int8send(round(extract(epoch FROM letter.record_time) * 1000)::bigint)),
				(5, 'original-timestamp-type',
					CASE WHEN letter.record_time IS NOT NULL THEN 'CreateTime'::bytea END),
				(6, 'original-consumer-group', outbox.text_bytes(letter.consumer)),
				(7, 'exception-fqcn', outbox.text_bytes(
					concat_ws('.', 'outbox', letter.error_class, letter.sqlstate))),
				(8, 'exception-message', outbox.text_bytes(letter.error_message)))
				h (n, name, value)
			WHERE h.value IS NOT NULL
			ORDER BY h.n);
	END IF;
	RETURN added;
END $$;

/*
 * Emits an event with a record's headers, own, byte for byte: those of an event (content-type,
 * ce_...) are renamed dlt-original-... unless the letter's event says the same, those of an earlier
 * letter are left out.
 */
CREATE FUNCTION outbox.dead_letter_event(topic text, key bytea, type text, payload bytea, own bytea,
	correlation_id text, added outbox.header[]) RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'outbox_dead_letter_event';

/*
 * Emits the dead letter to <topic>.DLT: key, value and headers as they were.  The suffix is fixed:
 * who may write dead letters must not choose the topic they are emitted to.  The letter is an event
 * of its own, in CloudEvents' binary mode, in the flow and trace of its record.
 */
CREATE FUNCTION outbox.dead_letter_publish(dead_letter bigint, spring boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO STRICT letter FROM outbox.dead_letter d
		WHERE d.id = dead_letter_publish.dead_letter;
	BEGIN
		PERFORM outbox.dead_letter_event(letter.topic || '.DLT', letter.key, letter.event_type,
			letter.value, letter.headers, letter.correlation_id,
			outbox.dead_letter_headers(letter, spring));
		UPDATE outbox.dead_letter d SET reason = NULL
		WHERE d.id = letter.id AND starts_with(letter.reason, 'not published: ');
	EXCEPTION WHEN OTHERS THEN
		/* What may pass is waited for; else the row alone must do. */
		IF SQLSTATE LIKE '08%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57P%' OR SQLSTATE LIKE '40%'
			OR SQLSTATE IN ('55P03', '25006') THEN
			RAISE;
		END IF;
		UPDATE outbox.dead_letter d SET reason = 'not published: ' || SQLERRM
		WHERE d.id = letter.id;
	END;
END $$;

/* Why an open letter is not on <topic>.DLT; NULL: it is, or there is no such letter. */
CREATE FUNCTION outbox.dead_letter_unpublished(dead_letter bigint) RETURNS text
LANGUAGE plpgsql STRICT VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT pg_catalog.substr(d.reason, 16) FROM outbox.dead_letter d
		WHERE d.id = dead_letter_unpublished.dead_letter AND d.state = 'open'
			AND starts_with(d.reason, 'not published: '));
END $$;
COMMENT ON FUNCTION outbox.dead_letter_unpublished(bigint) IS
	'why a dead letter is not on its topic';
