/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_log.h
 *	  Rows of outbox.batch (I2).
 *
 * Process: the relay.
 */
#ifndef OUTBOX_BATCH_LOG_H
#define OUTBOX_BATCH_LOG_H

#include "access/xlogdefs.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "identity.h"
#include "bgworker/events/snapshot.h"

/* A row of outbox.batch; snapshots live in the context given when it was read. */
typedef struct OutboxBatchRow
{
	int64		batch_no;
	pg_uuid_t	nonce;
	OutboxRange range;
	int32		events;
	int32		left_out; /* of them, by a dead letter or a hold (I7) */
	int64		digest;
	uint64		txid;
	int			timeline;
	uint64		system_id;
	Oid			database;
	TimestampTz prepared_at; /* time stamp of its records */
	bool		restored;	 /* heap xmin is not txid: came from a dump */
} OutboxBatchRow;

/* Own transaction.  The last row (batch_no < 0) or row batch_no; false if absent. */
extern bool outbox_batch_log_load(int64 batch_no, MemoryContext context, OutboxBatchRow *row);

/*
 * Own transaction, committed flushed on this server (I2).  Fills in nonce and
 * txid; returns the end of the commit record.
 */
extern XLogRecPtr outbox_batch_log_store(OutboxBatchRow *row, int leaf,
										 const OutboxIdentity *identity);

/*
 * The same, but only what the batch holds need be flushed on return, not its row;
 * *flushed says whether the row is.
 */
extern XLogRecPtr outbox_batch_log_store_early(OutboxBatchRow *row, int leaf,
											   const OutboxIdentity *identity, bool *flushed);

/* The row inside the caller's transaction (begun by outbox_session_begin), which flushes it. */
extern void outbox_batch_log_insert(OutboxBatchRow *row, int leaf, const OutboxIdentity *identity);

#endif /* OUTBOX_BATCH_LOG_H */
