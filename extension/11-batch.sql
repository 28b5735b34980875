/* SPDX-License-Identifier: PostgreSQL */
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
 *	prepared_at		clock; the time stamp of its records
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
