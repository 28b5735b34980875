/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------------- claims
 *
 * outbox.idempotency: which events a consumer has processed; how an event is claimed, and how claims
 * that are too old are forgotten.
 */

/*
 * The leaf of outbox.idempotency that an event id belongs to, by nothing but the id: of version 7
 * the three days of its time, modulo 32; of all others -1.
 */
CREATE FUNCTION outbox.idempotency_leaf(event_id uuid) RETURNS integer
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'outbox_idempotency_leaf';

/* outbox.idempotency_retention. */
CREATE FUNCTION outbox.idempotency_retention() RETURNS interval
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'outbox_idempotency_retention';

/* The leaves of events emitted since then, until the next of three days begins; others are not in use. */
CREATE FUNCTION outbox.idempotency_leaves_since(since timestamptz) RETURNS integer[]
	LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'outbox_idempotency_leaves_since';

/*
 * outbox.idempotency: events a consumer has processed.  A row commits with the
 * consumer's own work.  A ring of leaves by the events' time, each emptied as a whole when its
 * events are too old, and one for ids without a time.  Rows are written by claim() alone.
 */
CREATE TABLE outbox.idempotency (
	event_id uuid NOT NULL,
	consumer text NOT NULL,
	processed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) PARTITION BY LIST (outbox.idempotency_leaf(event_id));
/* At most 255 bytes: no leaf needs a TOAST table. */
ALTER TABLE outbox.idempotency ALTER consumer SET STORAGE PLAIN;
CREATE TABLE outbox.idempotency_0 PARTITION OF outbox.idempotency FOR VALUES IN (0);
CREATE TABLE outbox.idempotency_1 PARTITION OF outbox.idempotency FOR VALUES IN (1);
CREATE TABLE outbox.idempotency_2 PARTITION OF outbox.idempotency FOR VALUES IN (2);
CREATE TABLE outbox.idempotency_3 PARTITION OF outbox.idempotency FOR VALUES IN (3);
CREATE TABLE outbox.idempotency_4 PARTITION OF outbox.idempotency FOR VALUES IN (4);
CREATE TABLE outbox.idempotency_5 PARTITION OF outbox.idempotency FOR VALUES IN (5);
CREATE TABLE outbox.idempotency_6 PARTITION OF outbox.idempotency FOR VALUES IN (6);
CREATE TABLE outbox.idempotency_7 PARTITION OF outbox.idempotency FOR VALUES IN (7);
CREATE TABLE outbox.idempotency_8 PARTITION OF outbox.idempotency FOR VALUES IN (8);
CREATE TABLE outbox.idempotency_9 PARTITION OF outbox.idempotency FOR VALUES IN (9);
CREATE TABLE outbox.idempotency_10 PARTITION OF outbox.idempotency FOR VALUES IN (10);
CREATE TABLE outbox.idempotency_11 PARTITION OF outbox.idempotency FOR VALUES IN (11);
CREATE TABLE outbox.idempotency_12 PARTITION OF outbox.idempotency FOR VALUES IN (12);
CREATE TABLE outbox.idempotency_13 PARTITION OF outbox.idempotency FOR VALUES IN (13);
CREATE TABLE outbox.idempotency_14 PARTITION OF outbox.idempotency FOR VALUES IN (14);
CREATE TABLE outbox.idempotency_15 PARTITION OF outbox.idempotency FOR VALUES IN (15);
CREATE TABLE outbox.idempotency_16 PARTITION OF outbox.idempotency FOR VALUES IN (16);
CREATE TABLE outbox.idempotency_17 PARTITION OF outbox.idempotency FOR VALUES IN (17);
CREATE TABLE outbox.idempotency_18 PARTITION OF outbox.idempotency FOR VALUES IN (18);
CREATE TABLE outbox.idempotency_19 PARTITION OF outbox.idempotency FOR VALUES IN (19);
CREATE TABLE outbox.idempotency_20 PARTITION OF outbox.idempotency FOR VALUES IN (20);
CREATE TABLE outbox.idempotency_21 PARTITION OF outbox.idempotency FOR VALUES IN (21);
CREATE TABLE outbox.idempotency_22 PARTITION OF outbox.idempotency FOR VALUES IN (22);
CREATE TABLE outbox.idempotency_23 PARTITION OF outbox.idempotency FOR VALUES IN (23);
CREATE TABLE outbox.idempotency_24 PARTITION OF outbox.idempotency FOR VALUES IN (24);
CREATE TABLE outbox.idempotency_25 PARTITION OF outbox.idempotency FOR VALUES IN (25);
CREATE TABLE outbox.idempotency_26 PARTITION OF outbox.idempotency FOR VALUES IN (26);
CREATE TABLE outbox.idempotency_27 PARTITION OF outbox.idempotency FOR VALUES IN (27);
CREATE TABLE outbox.idempotency_28 PARTITION OF outbox.idempotency FOR VALUES IN (28);
CREATE TABLE outbox.idempotency_29 PARTITION OF outbox.idempotency FOR VALUES IN (29);
CREATE TABLE outbox.idempotency_30 PARTITION OF outbox.idempotency FOR VALUES IN (30);
CREATE TABLE outbox.idempotency_31 PARTITION OF outbox.idempotency FOR VALUES IN (31);
CREATE TABLE outbox.idempotency_timeless PARTITION OF outbox.idempotency FOR VALUES IN (-1);

CREATE UNIQUE INDEX idempotency_0_event ON outbox.idempotency_0 (event_id, consumer);
CREATE INDEX idempotency_0_age ON outbox.idempotency_0 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_1_event ON outbox.idempotency_1 (event_id, consumer);
CREATE INDEX idempotency_1_age ON outbox.idempotency_1 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_2_event ON outbox.idempotency_2 (event_id, consumer);
CREATE INDEX idempotency_2_age ON outbox.idempotency_2 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_3_event ON outbox.idempotency_3 (event_id, consumer);
CREATE INDEX idempotency_3_age ON outbox.idempotency_3 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_4_event ON outbox.idempotency_4 (event_id, consumer);
CREATE INDEX idempotency_4_age ON outbox.idempotency_4 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_5_event ON outbox.idempotency_5 (event_id, consumer);
CREATE INDEX idempotency_5_age ON outbox.idempotency_5 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_6_event ON outbox.idempotency_6 (event_id, consumer);
CREATE INDEX idempotency_6_age ON outbox.idempotency_6 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_7_event ON outbox.idempotency_7 (event_id, consumer);
CREATE INDEX idempotency_7_age ON outbox.idempotency_7 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_8_event ON outbox.idempotency_8 (event_id, consumer);
CREATE INDEX idempotency_8_age ON outbox.idempotency_8 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_9_event ON outbox.idempotency_9 (event_id, consumer);
CREATE INDEX idempotency_9_age ON outbox.idempotency_9 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_10_event ON outbox.idempotency_10 (event_id, consumer);
CREATE INDEX idempotency_10_age ON outbox.idempotency_10 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_11_event ON outbox.idempotency_11 (event_id, consumer);
CREATE INDEX idempotency_11_age ON outbox.idempotency_11 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_12_event ON outbox.idempotency_12 (event_id, consumer);
CREATE INDEX idempotency_12_age ON outbox.idempotency_12 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_13_event ON outbox.idempotency_13 (event_id, consumer);
CREATE INDEX idempotency_13_age ON outbox.idempotency_13 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_14_event ON outbox.idempotency_14 (event_id, consumer);
CREATE INDEX idempotency_14_age ON outbox.idempotency_14 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_15_event ON outbox.idempotency_15 (event_id, consumer);
CREATE INDEX idempotency_15_age ON outbox.idempotency_15 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_16_event ON outbox.idempotency_16 (event_id, consumer);
CREATE INDEX idempotency_16_age ON outbox.idempotency_16 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_17_event ON outbox.idempotency_17 (event_id, consumer);
CREATE INDEX idempotency_17_age ON outbox.idempotency_17 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_18_event ON outbox.idempotency_18 (event_id, consumer);
CREATE INDEX idempotency_18_age ON outbox.idempotency_18 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_19_event ON outbox.idempotency_19 (event_id, consumer);
CREATE INDEX idempotency_19_age ON outbox.idempotency_19 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_20_event ON outbox.idempotency_20 (event_id, consumer);
CREATE INDEX idempotency_20_age ON outbox.idempotency_20 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_21_event ON outbox.idempotency_21 (event_id, consumer);
CREATE INDEX idempotency_21_age ON outbox.idempotency_21 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_22_event ON outbox.idempotency_22 (event_id, consumer);
CREATE INDEX idempotency_22_age ON outbox.idempotency_22 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_23_event ON outbox.idempotency_23 (event_id, consumer);
CREATE INDEX idempotency_23_age ON outbox.idempotency_23 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_24_event ON outbox.idempotency_24 (event_id, consumer);
CREATE INDEX idempotency_24_age ON outbox.idempotency_24 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_25_event ON outbox.idempotency_25 (event_id, consumer);
CREATE INDEX idempotency_25_age ON outbox.idempotency_25 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_26_event ON outbox.idempotency_26 (event_id, consumer);
CREATE INDEX idempotency_26_age ON outbox.idempotency_26 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_27_event ON outbox.idempotency_27 (event_id, consumer);
CREATE INDEX idempotency_27_age ON outbox.idempotency_27 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_28_event ON outbox.idempotency_28 (event_id, consumer);
CREATE INDEX idempotency_28_age ON outbox.idempotency_28 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_29_event ON outbox.idempotency_29 (event_id, consumer);
CREATE INDEX idempotency_29_age ON outbox.idempotency_29 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_30_event ON outbox.idempotency_30 (event_id, consumer);
CREATE INDEX idempotency_30_age ON outbox.idempotency_30 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_31_event ON outbox.idempotency_31 (event_id, consumer);
CREATE INDEX idempotency_31_age ON outbox.idempotency_31 USING brin (processed_at);
CREATE UNIQUE INDEX idempotency_timeless_event ON outbox.idempotency_timeless (event_id, consumer);
CREATE INDEX idempotency_timeless_age ON outbox.idempotency_timeless (processed_at);

/* True the first time.  A concurrent call for the same event waits for the other
 * transaction's end. */
CREATE FUNCTION outbox.claim(consumer text, event_id uuid) RETURNS boolean
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim';

/* The same for a batch, in one statement; answers in the order of event_ids. */
CREATE FUNCTION outbox.claim_many(consumer text, event_ids uuid[]) RETURNS boolean[]
	LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'outbox_claim_many';

/*
 * Forgets claims older than outbox.idempotency_retention; the consumer runtime calls it once
 * an hour.  A leaf whose events are too old is emptied, its younger rows (old events claimed late) are put
 * back, unless they are above 10,000 or somebody uses it: then it is for a later call.  Of ids without a
 * time at most that many rows are deleted.  Returns the leaves emptied and the rows deleted: as many as
 * asked for, and it is to be called again.  Waits for no lock.
 */
CREATE FUNCTION outbox.idempotency_maintain(at_most integer DEFAULT 5000, OUT emptied integer, OUT deleted integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cutoff timestamptz := clock_timestamp() - outbox.idempotency_retention();
	used integer[] := outbox.idempotency_leaves_since(cutoff);
	leaf regclass;
BEGIN
	PERFORM outbox.need('idempotency_maintain', ARRAY['at_most', at_most::text]);
	emptied := 0;
	FOR leaf IN
		SELECT c.oid FROM generate_series(0, 31) n JOIN pg_class c
			ON c.relnamespace = 'outbox'::regnamespace AND c.relname = 'idempotency_' || n
		WHERE n <> ALL (used) AND pg_relation_size(c.oid) > 0
	LOOP
		emptied := emptied + outbox.idempotency_empty(leaf, cutoff)::integer;
	END LOOP;
	DELETE FROM outbox.idempotency_timeless t WHERE t.ctid = ANY (ARRAY(
		SELECT o.ctid FROM outbox.idempotency_timeless o WHERE o.processed_at < cutoff
		ORDER BY o.processed_at LIMIT at_most FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS deleted = ROW_COUNT;
END $$;
COMMENT ON FUNCTION outbox.idempotency_maintain(integer) IS 'forgets claims older than outbox.idempotency_retention';

/* Empties a leaf but for the rows younger than cutoff.  false: nothing is older, too much is younger, it is in use. */
CREATE FUNCTION outbox.idempotency_empty(leaf regclass, cutoff timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	most constant integer := 10000;
	outdated boolean;
	younger integer;
	kept jsonb;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE processed_at < $1),
			(SELECT count(*) FROM (SELECT FROM %1$s WHERE processed_at >= $1 LIMIT $2 + 1) y)', leaf)
	INTO outdated, younger USING cutoff, most;
	IF NOT outdated OR younger > most THEN
		RETURN false;
	END IF;
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', leaf);
	EXECUTE format('SELECT jsonb_agg(y) FROM (SELECT * FROM %s WHERE processed_at >= $1 LIMIT $2 + 1) y', leaf)
	INTO kept USING cutoff, most;
	IF jsonb_array_length(kept) > most THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE %s', leaf);
	EXECUTE format('INSERT INTO %1$s SELECT * FROM jsonb_populate_recordset(NULL::%1$s, $1)', leaf) USING coalesce(kept, '[]');
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;
END $$;
