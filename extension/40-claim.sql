/* SPDX-License-Identifier: PostgreSQL */
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
