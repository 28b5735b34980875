/* SPDX-License-Identifier: PostgreSQL */
/* outbox--1.0.sql: objects of the extension.  Frozen once released.
 *
 * Sections: guard, schema, types, event ring, batch log, topics and rights,
 * emit, consumers, dead letters, relay, views, configuration tables, rights.
 */

\echo Use "CREATE EXTENSION outbox" to load this file. \quit

CREATE SCHEMA outbox;

/* ---------------------------------------------------------------- types */

/* One record header: name not NULL, value NULL allowed. */
CREATE TYPE outbox.header AS (name text, value bytea);

/* ----------------------------------------------------------- event ring
 *
 * outbox.event: committed events, insert-only; a ring of eight leaves.  Space
 * comes back by emptying a whole leaf.  Only emit() writes here.
 *
 *	txid			top-level transaction (never the tuple's xmin)
 *	seq				order inside a transaction; not an identity (reissued after a failover)
 *	segment			leaf
 *	id				UUID version 7, the event's identity
 *	topic, key		Kafka topic and record key; key NULL allowed
 *	type			ce_type
 *	payload			record value, verbatim; NULL = tombstone
 *	content_type	content-type header; NULL = none
 *	headers			the event's own headers in Kafka's encoding; NULL = none
 *	created_at		clock when emitted, ce_time
 */
CREATE SEQUENCE outbox.event_seq CACHE 1;

CREATE TABLE outbox.event (
	txid xid8 NOT NULL,
	seq bigint NOT NULL,
	segment smallint NOT NULL,
	id uuid NOT NULL,
	topic text NOT NULL,
	key bytea,
	type text NOT NULL,
	payload bytea,
	content_type text,
	headers bytea,
	created_at timestamptz NOT NULL
) PARTITION BY LIST (segment);

CREATE TABLE outbox.event_0 PARTITION OF outbox.event FOR VALUES IN (0);
CREATE TABLE outbox.event_1 PARTITION OF outbox.event FOR VALUES IN (1);
CREATE TABLE outbox.event_2 PARTITION OF outbox.event FOR VALUES IN (2);
CREATE TABLE outbox.event_3 PARTITION OF outbox.event FOR VALUES IN (3);
CREATE TABLE outbox.event_4 PARTITION OF outbox.event FOR VALUES IN (4);
CREATE TABLE outbox.event_5 PARTITION OF outbox.event FOR VALUES IN (5);
CREATE TABLE outbox.event_6 PARTITION OF outbox.event FOR VALUES IN (6);
CREATE TABLE outbox.event_7 PARTITION OF outbox.event FOR VALUES IN (7);

CREATE INDEX event_txid ON outbox.event (txid);

/* ------------------------------------------------------------ batch log
 *
 * outbox.batch: one row a batch, insert-only, in a ring of two leaves; written
 * by the relay at top level only.
 *
 *	batch_no		1, 2, ...; 0 is the genesis row written by start_relay()
 *	leaf			leaf of the ring
 *	nonce			random; says which history of batch_no this is
 *	lower, upper	the batch is what upper sees and lower does not
 *	lower_txid, lower_seq	of this transaction, events up to seq are already
 *					in earlier batches; NULL = none
 *	upper_txid, upper_seq	of this transaction, events up to seq are in this
 *					batch though upper does not see it; NULL = none
 *	events			their number
 *	digest			sum of a hash over the event ids
 *	txid			the transaction that wrote the row; equals its xmin unless the row
 *					was restored from a dump
 *	timeline, system_id, database	where it was written
 *	prepared_at		clock
 */
CREATE TABLE outbox.batch (
	batch_no bigint NOT NULL,
	leaf smallint NOT NULL,
	nonce uuid NOT NULL,
	lower pg_snapshot NOT NULL,
	upper pg_snapshot NOT NULL,
	lower_txid xid8,
	lower_seq bigint,
	upper_txid xid8,
	upper_seq bigint,
	events integer NOT NULL,
	digest bigint NOT NULL,
	txid xid8 NOT NULL,
	timeline integer NOT NULL,
	system_id bigint NOT NULL,
	database oid NOT NULL,
	prepared_at timestamptz NOT NULL
) PARTITION BY LIST (leaf);

CREATE TABLE outbox.batch_0 PARTITION OF outbox.batch FOR VALUES IN (0);
CREATE TABLE outbox.batch_1 PARTITION OF outbox.batch FOR VALUES IN (1);

CREATE UNIQUE INDEX batch_0_no ON outbox.batch_0 (batch_no);
CREATE UNIQUE INDEX batch_1_no ON outbox.batch_1 (batch_no);

/* The installation's name in Kafka: group outbox-relay.<id> and transactional.id. */
CREATE TABLE outbox.installation (
	id uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO outbox.installation (id) VALUES (pg_catalog.gen_random_uuid());

/* ------------------------------------------------------ topics and rights
 *
 * outbox.topic: declared topics; the relay creates them in Kafka before it
 * first sends to them and never shrinks or deletes one.
 *
 *	partitions			number when created
 *	replication_factor	NULL = broker's default
 *	retention_ms		-1 = for ever, NULL = broker's default
 *	cleanup_policy		delete | compact | compact,delete; NULL = broker's default
 */
CREATE TABLE outbox.topic (
	name text PRIMARY KEY,
	partitions integer NOT NULL,
	replication_factor smallint,
	retention_ms bigint,
	cleanup_policy text,
	declared_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	declared_by name NOT NULL DEFAULT session_user
);

/* Who may emit to which topic; '*' stands for all. */
CREATE TABLE outbox.topic_grant (
	topic text NOT NULL,
	grantee regrole NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (topic, grantee)
);

/* Whatever changes these tables makes every backend read them again. */
CREATE FUNCTION outbox.topics_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_topics_changed';
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
CREATE TRIGGER topics_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.topic_grant
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.topics_changed();
ALTER TABLE outbox.topic ENABLE ALWAYS TRIGGER topics_changed;
ALTER TABLE outbox.topic_grant ENABLE ALWAYS TRIGGER topics_changed;

/* A second call with the same values does nothing; partitions may grow.  The
 * dead-letter topic <name>.DLT counts as declared with its topic. */
CREATE FUNCTION outbox.declare_topic(name text, partitions integer DEFAULT 6,
		replication_factor integer DEFAULT NULL, retention_ms bigint DEFAULT NULL,
		cleanup_policy text DEFAULT NULL) RETURNS void
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_declare_topic';

CREATE FUNCTION outbox.check_grant(topic text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_grant';

/* Lets a role, and the roles that have its privileges, emit to a topic and its
 * dead-letter topic; '*': to every topic. */
CREATE FUNCTION outbox.grant_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_grant(topic);
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', grantee);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes TO %s', grantee);
	EXECUTE format('GRANT INSERT ON outbox.outgoing TO %s', grantee);
	EXECUTE format('GRANT USAGE ON TYPE outbox.header TO %s', grantee);
	INSERT INTO outbox.topic_grant (topic, grantee)
		VALUES (grant_topic.topic, grant_topic.grantee) ON CONFLICT DO NOTHING;
END
$$;

/* With the last topic goes the right to call emit(); the schema stays usable,
 * for the role may also consume or operate. */
CREATE FUNCTION outbox.revoke_topic(topic text, grantee regrole) RETURNS void
	LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM outbox.topic_grant g
		WHERE g.topic = revoke_topic.topic AND g.grantee = revoke_topic.grantee;
	IF NOT FOUND THEN
		RAISE NOTICE 'role % has no grant on topic "%"', grantee, topic;
	END IF;
	IF NOT EXISTS (SELECT FROM outbox.topic_grant g WHERE g.grantee = revoke_topic.grantee) THEN
		EXECUTE format('REVOKE EXECUTE ON FUNCTION outbox.emit, outbox.emit_json, outbox.emit_bytes FROM %s', grantee);
		EXECUTE format('REVOKE INSERT ON outbox.outgoing FROM %s', grantee);
		EXECUTE format('REVOKE USAGE ON TYPE outbox.header FROM %s', grantee);
	END IF;
END
$$;

/* ----------------------------------------------------------------- emit
 *
 * The three functions return the event's id.  NULL payload: tombstone.  They run as
 * the caller, look nothing up through search_path (so no SET, which costs
 * microseconds a call), and check outbox.topic_grant.  Three names:
 * overloads would resolve untyped literals wrongly.
 */

/* Key and payload as UTF-8 text. */
CREATE FUNCTION outbox.emit(topic text, key text, type text, payload jsonb, headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit';

/* The payload's text is kept verbatim. */
CREATE FUNCTION outbox.emit_json(topic text, key text, type text, payload json, headers jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_json';

/* Bytes as given; headers may repeat. */
CREATE FUNCTION outbox.emit_bytes(topic text, key bytea, type text, payload bytea,
	content_type text DEFAULT NULL, headers outbox.header[] DEFAULT NULL)
RETURNS uuid LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'outbox_emit_bytes';

/* For plain INSERTs (ORMs): its trigger is emit() itself. */
CREATE VIEW outbox.outgoing AS
	SELECT NULL::text AS topic, NULL::text AS key, NULL::text AS type,
		NULL::jsonb AS payload, NULL::jsonb AS headers
	WHERE false;

CREATE FUNCTION outbox.capture() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'outbox_capture';

CREATE TRIGGER capture INSTEAD OF INSERT ON outbox.outgoing
	FOR EACH ROW EXECUTE FUNCTION outbox.capture();

/* ------------------------------------------------------------ consumers */

/* outbox.idempotency: events a consumer has processed.  A row commits with the
 * consumer's own work. */
CREATE TABLE outbox.idempotency (
	event_id uuid NOT NULL,
	consumer text NOT NULL,
	processed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (event_id, consumer)
);

/* True the first time.  A concurrent call for the same event waits for the other
 * transaction's end. */
CREATE FUNCTION outbox.claim(consumer text, event_id uuid) RETURNS boolean
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim';

/* The same for a batch, in one statement; answers in the order of event_ids. */
CREATE FUNCTION outbox.claim_many(consumer text, event_ids uuid[]) RETURNS boolean[]
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim_many';

/* outbox.consumer_offset: how far a consumer has come, written in the same
 * transaction as the effects.
 *
 *	next_offset	records below it are done or lie in outbox.dead_letter
 */
CREATE TABLE outbox.consumer_offset (
	consumer text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	next_offset bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

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

/* ----------------------------------------------------- consumer runtime
 *
 * What the runtime of services/ calls; grant_consume gives the rights.
 */
CREATE FUNCTION outbox.consumer_offsets(consumer text)
RETURNS TABLE (topic text, partition integer, next_offset bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT o.topic, o.partition, o.next_offset
	FROM outbox.consumer_offset o
	WHERE o.consumer = consumer_offsets.consumer;
END $$;
COMMENT ON FUNCTION outbox.consumer_offsets(text) IS 'how far a consumer has come in each partition';

/* expected NULL: no row yet.  false: another member has moved the watermark; roll back. */
CREATE FUNCTION outbox.advance_offset(consumer text, topic text, partition integer,
	expected bigint, next bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF expected IS NULL THEN
		INSERT INTO outbox.consumer_offset (consumer, topic, partition, next_offset)
		VALUES (advance_offset.consumer, advance_offset.topic, advance_offset.partition,
			advance_offset.next)
		ON CONFLICT DO NOTHING;
	ELSE
		UPDATE outbox.consumer_offset o
		SET next_offset = greatest(o.next_offset, advance_offset.next),
			updated_at = clock_timestamp()
		WHERE o.consumer = advance_offset.consumer AND o.topic = advance_offset.topic
			AND o.partition = advance_offset.partition AND o.next_offset = expected;
	END IF;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION outbox.advance_offset(text, text, integer, bigint, bigint) IS
	'moves a watermark by compare-and-set';

/*
 * Opens a batch: moves the watermarks of its partitions and claims its events.
 * part_* describe the partitions; part_of says, counted from 1, which one a record is of;
 * wanted is false for records that are not to be claimed.  Returns a letter for each
 * record, or NULL when a watermark had moved:
 *	n	new
 *	d	duplicate: processed before, or in outbox.dead_letter already
 *	h	held: an earlier record of its key is being retried
 */
CREATE FUNCTION outbox.begin_batch(consumer text, part_topics text[], part_numbers integer[],
	part_expected bigint[], part_next bigint[],
	part_of integer[], offsets bigint[], keys bytea[], event_ids uuid[], wanted boolean[])
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letters text[] := array_fill('n'::text, ARRAY[cardinality(offsets)]);
	places integer[];
	claimed boolean[];
	place integer;
BEGIN
	FOR i IN 1 .. cardinality(part_topics) LOOP
		IF NOT outbox.advance_offset(consumer, part_topics[i], part_numbers[i],
				part_expected[i], part_next[i]) THEN
			RETURN NULL;
		END IF;
	END LOOP;

	/* A row locked here cannot be resolved before this batch ends: nothing is held in vain. */
	PERFORM FROM outbox.dead_letter d
	WHERE d.consumer = begin_batch.consumer AND d.state IN ('retrying', 'held')
		AND (d.topic, d.key) IN (SELECT part_topics[r.part], r.key FROM unnest(part_of, keys) r (part, key))
	ORDER BY d.id FOR SHARE;
	IF FOUND THEN
		FOR place IN
			SELECT r.place FROM unnest(part_of, keys) WITH ORDINALITY r (part, key, place)
			WHERE EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND d.key = r.key AND d.state IN ('retrying', 'held'))
		LOOP
			letters[place] := 'h';
		END LOOP;
	END IF;

	/* Only records below the watermark can have been seen before at their position. */
	FOR place IN
		SELECT r.place FROM unnest(part_of, offsets, event_ids)
			WITH ORDINALITY r (part, "offset", event_id, place)
		WHERE r."offset" < part_expected[r.part]
			AND EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.consumer = begin_batch.consumer AND d.topic = part_topics[r.part]
					AND d.partition = part_numbers[r.part] AND d."offset" = r."offset"
					AND d.event_id = r.event_id)
	LOOP
		letters[place] := 'd';
	END LOOP;

	places := ARRAY(SELECT r.place::integer FROM unnest(letters, wanted) WITH ORDINALITY r (letter, wanted, place)
		WHERE r.letter = 'n' AND r.wanted ORDER BY r.place);
	IF cardinality(places) > 0 THEN
		claimed := outbox.claim_many(consumer,
			ARRAY(SELECT event_ids[r.place] FROM unnest(places) WITH ORDINALITY r (place, n) ORDER BY r.n));
		FOR i IN 1 .. cardinality(places) LOOP
			IF NOT claimed[i] THEN
				letters[places[i]] := 'd';
			END IF;
		END LOOP;
	END IF;
	RETURN array_to_string(letters, '');
END $$;
COMMENT ON FUNCTION outbox.begin_batch(text, text[], integer[], bigint[], bigint[], integer[],
	bigint[], bytea[], uuid[], boolean[]) IS 'first statement of a consumer''s transaction';

/* The headers of a dead letter's event: the record's own, reserved names renamed, and why it is here. */
CREATE FUNCTION outbox.dead_letter_headers(letter outbox.dead_letter, own outbox.header[])
RETURNS outbox.header[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kept outbox.header[];
	added outbox.header[];
BEGIN
	kept := ARRAY(
		SELECT ROW(CASE WHEN lower(h.name) LIKE 'ce\_%' OR lower(h.name) = 'content-type'
			THEN 'dlt-original-' || h.name ELSE h.name END, h.value)::outbox.header
		FROM unnest(own) WITH ORDINALITY h (name, value, n)
		WHERE lower(h.name) NOT IN ('content-type', 'traceparent', 'correlationid')
			AND lower(h.name) NOT LIKE 'dlt-%'
		ORDER BY h.n);
	added := ARRAY(
		SELECT ROW(h.name, convert_to(h.value, 'UTF8'))::outbox.header
		FROM (VALUES
			(1, 'dlt-original-topic', letter.topic),
			(2, 'dlt-original-partition', letter.partition::text),
			(3, 'dlt-original-offset', letter."offset"::text),
			(4, 'dlt-original-timestamp', round(extract(epoch FROM letter.record_time) * 1000)::bigint::text),
			(5, 'dlt-consumer-group', letter.consumer),
			(6, 'dlt-error-class', letter.error_class),
			(7, 'dlt-sqlstate', letter.sqlstate),
			(8, 'dlt-error-message', left(letter.error_message, 1024)),
			(9, 'dlt-attempts', letter.attempts::text),
			(10, 'dlt-first-failed-at', to_char(letter.first_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(11, 'dlt-failed-at', to_char(letter.last_failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
			(12, 'dlt-id', letter.id::text)) h (n, name, value)
		WHERE h.value IS NOT NULL
		ORDER BY h.n);
	RETURN kept || added;
END $$;

/*
 * Emits the dead letter to <topic>.DLT: key and value as they were.  The suffix is fixed:
 * who may write dead letters must not choose the topic they are emitted to.  The SET
 * clauses give the caller its own trace back.
 */
CREATE FUNCTION outbox.dead_letter_publish(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET outbox.correlation_id = '' SET outbox.traceparent = '' SET outbox.tracestate = '' AS $$
DECLARE
	letter outbox.dead_letter;
	own outbox.header[];
	content_type text;
	trace text;
BEGIN
	SELECT * INTO STRICT letter FROM outbox.dead_letter d WHERE d.id = dead_letter_publish.dead_letter;
	BEGIN
		own := ARRAY(SELECT ROW(h.name, h.value)::outbox.header
			FROM outbox.headers_decode(letter.headers) WITH ORDINALITY h (name, value, n) ORDER BY h.n);
		SELECT convert_from(h.value, 'UTF8') INTO content_type
		FROM unnest(own) h WHERE lower(h.name) = 'content-type' LIMIT 1;
		SELECT convert_from(h.value, 'UTF8') INTO trace
		FROM unnest(own) h WHERE lower(h.name) = 'traceparent' LIMIT 1;
		PERFORM set_config('outbox.correlation_id', coalesce(letter.correlation_id, ''), true),
			set_config('outbox.traceparent', coalesce(trace, ''), true);
		PERFORM outbox.emit_bytes(letter.topic || '.DLT', letter.key,
			coalesce(nullif(letter.event_type, ''), 'DeadLetter'), letter.value, content_type,
			outbox.dead_letter_headers(letter, own));
	EXCEPTION WHEN OTHERS THEN
		/* What may pass is waited for; else the row alone must do. */
		IF SQLSTATE LIKE '08%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57P%' OR SQLSTATE LIKE '40%'
			OR SQLSTATE IN ('55P03', '25006') THEN
			RAISE;
		END IF;
		UPDATE outbox.dead_letter d SET reason = 'not published: ' || SQLERRM WHERE d.id = letter.id;
	END;
END $$;

/* The key's next record, if one is held, is due now. */
CREATE FUNCTION outbox.dead_letter_release(consumer text, topic text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'retrying', next_attempt_at = clock_timestamp(), blocked_by = NULL
	WHERE d.id = (SELECT min(w.id) FROM outbox.dead_letter w
		WHERE w.consumer = dead_letter_release.consumer AND w.topic = dead_letter_release.topic
			AND w.key = dead_letter_release.key AND w.state = 'held');
END $$;

/*
 * Writes a record that is not done.  state: retrying (due after backoff_ms),
 * held (behind the last record of its key) or open (published at once).
 */
CREATE FUNCTION outbox.dead_letter_add(consumer text, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, record_time timestamptz, event_id uuid, event_type text,
	correlation_id text, state text, error_class text, error_code text, error_message text,
	backoff_ms integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held boolean := dead_letter_add.state = 'held';
	added bigint;
BEGIN
	/* The same position with another event: an earlier topic of that name. */
	UPDATE outbox.dead_letter d SET "offset" = -d.id
	WHERE d.consumer = dead_letter_add.consumer AND d.topic = dead_letter_add.topic
		AND d.partition = dead_letter_add.partition AND d."offset" = dead_letter_add."offset"
		AND d.event_id <> dead_letter_add.event_id;
	INSERT INTO outbox.dead_letter (origin, consumer, topic, partition, "offset", key, value, headers,
		record_time, event_id, event_type, correlation_id, error_class, sqlstate, error_message,
		attempts, next_attempt_at, state, blocked_by)
	VALUES ('consumer', dead_letter_add.consumer, dead_letter_add.topic, dead_letter_add.partition,
		dead_letter_add."offset", dead_letter_add.key, dead_letter_add.value, dead_letter_add.headers,
		dead_letter_add.record_time, dead_letter_add.event_id, dead_letter_add.event_type,
		dead_letter_add.correlation_id, dead_letter_add.error_class, dead_letter_add.error_code,
		left(dead_letter_add.error_message, 1024),
		CASE WHEN held THEN 0 ELSE 1 END,
		CASE WHEN dead_letter_add.state = 'retrying'
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		dead_letter_add.state,
		CASE WHEN held THEN (SELECT max(b.id) FROM outbox.dead_letter b
			WHERE b.consumer = dead_letter_add.consumer AND b.topic = dead_letter_add.topic
				AND b.key = dead_letter_add.key AND b.state IN ('retrying', 'held')) END)
	ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
	RETURNING id INTO added;
	IF added IS NOT NULL AND dead_letter_add.state = 'open' THEN
		PERFORM outbox.dead_letter_publish(added);
	END IF;
	RETURN added;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_add(text, text, integer, bigint, bytea, bytea, bytea, timestamptz,
	uuid, text, text, text, text, text, text, integer) IS 'a record that could not be processed';

/* The row to be tried next, and in how many ms it is due (0: now); rows in work elsewhere are skipped. */
CREATE FUNCTION outbox.dead_letter_next(consumer text)
RETURNS TABLE (id bigint, attempts integer, topic text, partition integer, "offset" bigint,
	key bytea, value bytea, headers bytea, wait_ms bigint, record_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT d.id, d.attempts, d.topic, d.partition, d."offset", d.key, d.value, d.headers,
		greatest(0, ceil(extract(epoch FROM d.next_attempt_at - clock_timestamp()) * 1000))::bigint,
		round(extract(epoch FROM d.record_time) * 1000)::bigint
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_next.consumer AND d.state = 'retrying'
	ORDER BY d.next_attempt_at
	LIMIT 1 FOR UPDATE SKIP LOCKED;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_next(text) IS 'the dead letter to be tried next';

/*
 * Locks the row for a try and claims its event: n new, d processed before, NULL
 * when somebody else has the row or has tried it since.
 */
CREATE FUNCTION outbox.dead_letter_begin(dead_letter bigint, attempts integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	SELECT * INTO letter FROM outbox.dead_letter d
	WHERE d.id = dead_letter_begin.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_begin.attempts
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN CASE WHEN outbox.claim(letter.consumer, letter.event_id) THEN 'n' ELSE 'd' END;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_begin(bigint, integer) IS 'first statement of a retry';

/* The try has succeeded. */
CREATE FUNCTION outbox.dead_letter_resolve(dead_letter bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	letter outbox.dead_letter;
BEGIN
	UPDATE outbox.dead_letter d
	SET state = 'resolved', attempts = d.attempts + 1, next_attempt_at = NULL,
		resolved_at = clock_timestamp(), resolved_by = session_user, reason = 'retry succeeded'
	WHERE d.id = dead_letter_resolve.dead_letter AND d.state = 'retrying'
	RETURNING * INTO letter;
	IF FOUND THEN
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_resolve(bigint) IS 'last statement of a retry that succeeded';

/*
 * The try has failed, in a transaction of its own.  Returns the row's new state,
 * retrying or open (then it is published), or NULL when somebody else has dealt with it.
 */
CREATE FUNCTION outbox.dead_letter_failed(dead_letter bigint, attempts integer, permanent boolean,
	retry_max integer, backoff_ms integer,
	error_class text, error_code text, error_message text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	final boolean := permanent OR dead_letter_failed.attempts >= retry_max;
	letter outbox.dead_letter;
BEGIN
	UPDATE outbox.dead_letter d
	SET attempts = d.attempts + 1, last_failed_at = clock_timestamp(),
		state = CASE WHEN final THEN 'open' ELSE 'retrying' END,
		next_attempt_at = CASE WHEN NOT final
			THEN clock_timestamp() + backoff_ms * interval '1 millisecond' END,
		error_class = dead_letter_failed.error_class, sqlstate = error_code,
		error_message = left(dead_letter_failed.error_message, 1024)
	WHERE d.id = dead_letter_failed.dead_letter AND d.state = 'retrying'
		AND d.attempts = dead_letter_failed.attempts
	RETURNING * INTO letter;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF final THEN
		PERFORM outbox.dead_letter_publish(letter.id);
		PERFORM outbox.dead_letter_release(letter.consumer, letter.topic, letter.key);
	END IF;
	RETURN letter.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_failed(bigint, integer, boolean, integer, integer,
	text, text, text) IS 'notes a retry that failed';

/* Rows not done with, for the metrics. */
CREATE FUNCTION outbox.dead_letter_counts(consumer text)
RETURNS TABLE (topic text, state text, number bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT d.topic, d.state, count(*)
	FROM outbox.dead_letter d
	WHERE d.consumer = dead_letter_counts.consumer AND d.state IN ('retrying', 'held', 'open')
	GROUP BY d.topic, d.state;
END $$;
COMMENT ON FUNCTION outbox.dead_letter_counts(text) IS 'dead letters not done with, by topic and state';

/* ---------------------------------------------------------------- relay */

/* start_relay() and stop_relay() turn the database setting outbox.relay; the
 * functions they call are in src/status.c. */

CREATE FUNCTION outbox.check_start() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_start';
CREATE FUNCTION outbox.ask_launcher() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_ask_launcher';
CREATE FUNCTION outbox.server_identity(
		OUT timeline integer, OUT system_id bigint, OUT database oid)
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_server_identity';

/* The relay's shared status; counters count since the server's start. */
CREATE FUNCTION outbox.relay_slot(
		OUT state text, OUT hold_reason text, OUT pid integer, OUT sender_pid integer,
		OUT delivered_batch bigint, OUT events_sent bigint, OUT bytes_sent bigint,
		OUT batches_sent bigint, OUT events_refused bigint, OUT recoveries bigint,
		OUT suspect_transactions bigint, OUT rotations bigint, OUT rotations_refused bigint,
		OUT started_at timestamptz, OUT delivered_at timestamptz,
		OUT last_error text, OUT last_error_at timestamptz,
		OUT delivery text, OUT order_mode text, OUT kafka text, OUT switched_on boolean)
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_relay_slot';

/* Text when the bytes are UTF-8, else \x and hex digits. */
CREATE FUNCTION outbox.bytes_text(bytea) RETURNS text
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_bytes_text';

/* Headers in Kafka's encoding as rows, in their order. */
CREATE FUNCTION outbox.headers_decode(bytea) RETURNS SETOF outbox.header
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_headers_decode';

CREATE FUNCTION outbox.start_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_start();
	IF NOT EXISTS (SELECT FROM outbox.batch) THEN
		LOCK TABLE outbox.batch IN SHARE ROW EXCLUSIVE MODE;
		INSERT INTO outbox.batch (batch_no, leaf, nonce, lower, upper, events, digest,
								  txid, timeline, system_id, database, prepared_at)
			SELECT 0, 0, gen_random_uuid(), '3:3:', '3:3:', 0, 0,
				   pg_current_xact_id(), i.timeline, i.system_id, i.database, clock_timestamp()
			FROM outbox.server_identity() i
			WHERE NOT EXISTS (SELECT FROM outbox.batch);
	ELSIF (SELECT pid IS NOT NULL FROM outbox.relay_slot()) AND
		EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
				WHERE d.datname = current_database() AND s.setrole = 0 AND
					'outbox.relay=on' = ANY (s.setconfig)) THEN
		RAISE NOTICE 'the relay of database "%" runs already', current_database();
		RETURN;
	END IF;
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = on', current_database());
	PERFORM outbox.ask_launcher();
END
$$;

CREATE FUNCTION outbox.stop_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = off', current_database());
	PERFORM outbox.ask_launcher();
END
$$;

/* Ends a hold.  'resend': what is not known to be delivered is sent; 'skip': it
 * is taken as delivered. */
CREATE FUNCTION outbox.adopt(decision text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_adopt';

/* outbox.event and outbox.batch are insert-only, and rows that logical
 * replication applies are dropped. */
CREATE FUNCTION outbox.refuse_change() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_refuse_change';
CREATE FUNCTION outbox.drop_replicated() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_drop_replicated';

DO $$
DECLARE
	guarded regclass;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['outbox.event', 'outbox.batch'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER drop_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s
			FOR EACH ROW EXECUTE FUNCTION outbox.drop_replicated()', guarded);
	END LOOP;
	FOR guarded IN SELECT p.relid FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.batch']::regclass[]) t(root),
		pg_catalog.pg_partition_tree(t.root) p LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE REPLICA TRIGGER drop_replicated', guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()', guarded);
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER refuse_change', guarded);
	END LOOP;
END
$$;

/* ---------------------------------------------------------------- views */

CREATE VIEW outbox.batches AS
	SELECT b.batch_no, b.events, b.lower, b.upper, b.lower_txid, b.lower_seq,
		   b.upper_txid, b.upper_seq, b.txid, b.timeline, b.prepared_at
	FROM outbox.batch b;

/* The last batch known delivered: the one before the last while it is not known. */
CREATE VIEW outbox.delivered_batch AS
	SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
	FROM outbox.relay_slot() s,
		LATERAL (SELECT max(batch_no) AS batch_no FROM outbox.batch) l,
		LATERAL (SELECT * FROM outbox.batch
				 WHERE batch_no <= coalesce(s.delivered_batch, greatest(l.batch_no - 1, 0))
				 ORDER BY batch_no DESC LIMIT 1) b
	UNION ALL
	SELECT -1, '3:3:', NULL, NULL
	WHERE NOT EXISTS (SELECT FROM outbox.batch);

/* Events not known to be delivered (I1: two index scans). */
CREATE VIEW outbox.unsent AS
	SELECT e.*
	FROM outbox.delivered_batch d
		JOIN outbox.event e ON e.txid >= pg_catalog.pg_snapshot_xmax(d.upper)
	WHERE (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
	UNION ALL
	SELECT e.*
	FROM outbox.delivered_batch d
		CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
		JOIN outbox.event e ON e.txid = x.txid
	WHERE (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE;

CREATE VIEW outbox.backlog AS
	SELECT u.topic, pg_catalog.count(*) AS events,
		   pg_catalog.sum(coalesce(pg_catalog.length(u.key), 0) +
						  coalesce(pg_catalog.length(u.payload), 0))::bigint AS bytes,
		   pg_catalog.min(u.created_at) AS oldest_created_at,
		   pg_catalog.clock_timestamp() - pg_catalog.min(u.created_at) AS oldest_age
	FROM outbox.unsent u
	GROUP BY u.topic;

/* batch_no: the last one.  oldest_unsent_age: of the oldest transaction's first
 * event; NULL = everything visible is delivered. */
CREATE VIEW outbox.relay_status AS
	SELECT pg_catalog.current_database() AS database, s.state, s.hold_reason, s.pid, s.sender_pid,
		   (SELECT pg_catalog.max(batch_no) FROM outbox.batch) AS batch_no,
		   s.delivered_batch, s.events_sent, s.bytes_sent, s.batches_sent, s.events_refused,
		   s.recoveries, s.suspect_transactions, s.rotations, s.rotations_refused,
		   pg_catalog.clock_timestamp() - least(
			(SELECT e.created_at
			 FROM outbox.delivered_batch d
				CROSS JOIN LATERAL (SELECT created_at FROM outbox.event
									WHERE txid >= pg_catalog.pg_snapshot_xmax(d.upper) AND
										(txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
									ORDER BY txid LIMIT 1) e),
			(SELECT pg_catalog.min(e.created_at)
			 FROM outbox.delivered_batch d
				CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
				CROSS JOIN LATERAL (SELECT created_at FROM outbox.event
									WHERE txid = x.txid AND
										(txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
									LIMIT 1) e)) AS oldest_unsent_age,
		   s.started_at, s.delivered_at, s.last_error, s.last_error_at,
		   s.delivery, s.order_mode, s.kafka
	FROM outbox.relay_slot() s;

CREATE VIEW outbox.events AS
	SELECT e.txid, e.seq, e.segment, e.id, e.topic, outbox.bytes_text(e.key) AS key, e.type,
		   outbox.bytes_text(e.payload) AS payload, e.content_type,
		   (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
				'name', h.name, 'value', outbox.bytes_text(h.value)) ORDER BY h.place)
			FROM outbox.headers_decode(e.headers) WITH ORDINALITY h(name, value, place)) AS headers,
		   e.created_at
	FROM outbox.event e;

/* Lets a role start, stop and watch the relay of this database. */
CREATE FUNCTION outbox.grant_operate(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.start_relay(), outbox.stop_relay(),
		outbox.adopt(text), outbox.relay_slot(), outbox.declare_topic,
		outbox.grant_topic, outbox.revoke_topic TO %s', role);
	EXECUTE format('GRANT SELECT ON outbox.relay_status, outbox.backlog, outbox.batches TO %s', role);
END
$$;

/* ------------------------------------------------- configuration tables
 *
 * What pg_dump takes along.  One statement each: two in one SELECT fail with
 * "tuple already updated by self".
 */
SELECT pg_catalog.pg_extension_config_dump('outbox.event', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_2', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_3', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_4', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_5', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_6', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_7', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.topic', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.topic_grant', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.consumer_offset', '');

/*
 * Lets a role consume: claim events, keep offsets and dead letters.  Consumers are not
 * bound to roles: a role with this grant may name any consumer, so it can claim events
 * of another consumer of this database, move its watermarks and write its dead letters,
 * and with them emit to any <topic>.DLT.  Grant it to services that trust each other.
 */
CREATE FUNCTION outbox.grant_consume(role regrole) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.claim, outbox.claim_many,
		outbox.consumer_offsets, outbox.advance_offset, outbox.begin_batch, outbox.dead_letter_add,
		outbox.dead_letter_next, outbox.dead_letter_begin, outbox.dead_letter_resolve,
		outbox.dead_letter_failed, outbox.dead_letter_counts TO %s', role);
END
$$;

/* --------------------------------------------------------------- rights
 *
 * Nothing to PUBLIC.  grant_topic, grant_consume and grant_operate give rights
 * to roles.
 */
REVOKE ALL ON SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON TYPE outbox.header FROM PUBLIC;
