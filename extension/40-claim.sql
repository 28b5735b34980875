/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------------- claims
 *
 * outbox.idempotency: which events a consumer has processed; how an event is claimed, and how
 * claims that are too old are forgotten.
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

/*
 * The leaves of events emitted since then, until the next of three days begins; others are not in
 * use.
 */
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

/*
 * Leaves 0 to 31 and, as -1, the one of ids without a time.  The keys are primary ones, so that a
 * subscriber finds rows without reading the leaf.
 */
DO $$
DECLARE
	leaf text;
BEGIN
	FOR n IN -1 .. 31 LOOP
		leaf := 'idempotency_' || CASE n WHEN -1 THEN 'timeless' ELSE n::text END;
		EXECUTE pg_catalog.format('CREATE TABLE outbox.%1$s PARTITION OF outbox.idempotency
			(CONSTRAINT %1$s_event PRIMARY KEY (event_id, consumer))
			FOR VALUES IN (%2$s)', leaf, n);
		EXECUTE pg_catalog.format('CREATE INDEX %1$s_age ON outbox.%1$s USING %2$s (processed_at)',
			leaf, CASE n WHEN -1 THEN 'btree' ELSE 'brin' END);
	END LOOP;
END
$$;

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
 * Forgets claims older than outbox.idempotency_retention; the consumer runtime calls it once an
 * hour.  A leaf whose events are too old is emptied, its younger rows (old events claimed late) are
 * put back, unless they are above 10,000 or somebody uses it: then it is for a later call.  Of ids
 * without a time at most that many rows are deleted.  Returns the leaves emptied and the rows
 * deleted: as many as asked for, and it is to be called again.  Waits for no lock.
 */
CREATE FUNCTION outbox.idempotency_maintain(at_most integer DEFAULT 5000, OUT emptied integer,
	OUT deleted integer)
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
COMMENT ON FUNCTION outbox.idempotency_maintain(integer) IS
	'forgets claims older than outbox.idempotency_retention';

/*
 * Empties a leaf but for the rows younger than cutoff.  false: nothing is older, too much is
 * younger, it is in use.
 */
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
	EXECUTE format('SELECT jsonb_agg(y)
		FROM (SELECT * FROM %s WHERE processed_at >= $1 LIMIT $2 + 1) y', leaf)
	INTO kept USING cutoff, most;
	IF jsonb_array_length(kept) > most THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE %s', leaf);
	EXECUTE format('INSERT INTO %1$s SELECT * FROM jsonb_populate_recordset(NULL::%1$s, $1)', leaf)
		USING coalesce(kept, '[]');
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;
END $$;
