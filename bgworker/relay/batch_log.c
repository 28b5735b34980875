/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_log.c
 *	  Rows of outbox.batch.
 *
 * Runs in the relay.  I2: a batch row is flushed here before anything is sent.
 * The interlock that makes a flushed row cover all it sees is the order in
 * RecordTransactionCommit and ProcArrayEndTransaction (access/transam/README,
 * "Interlocking Transaction Begin, Transaction End, and Snapshots"): a transaction
 * seen by the snapshot has its commit record in WAL before the row's.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/xid8.h"

#include "batch_log.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/fault.h"

#define ROW_COLUMNS \
	"batch_no, nonce, lower::text, upper::text, lower_txid, lower_seq, " \
	"upper_txid, upper_seq, events, digest, txid, timeline, system_id, database, " \
	"xmin::text::bigint <> (txid::text::numeric % 4294967296)::bigint, " \
	"(SELECT count(*) FROM outbox.dead_letter d " \
	"WHERE d.origin = 'relay' AND d.batch_no = batch.batch_no) " \
	"+ (SELECT coalesce(sum(h.events), 0)::bigint FROM outbox.topic_hold_batch h " \
	"WHERE h.batch_no = batch.batch_no) " \
	"+ (SELECT coalesce(sum(c.copies), 0)::bigint FROM outbox.topic_hold_copy c " \
	"WHERE c.refused_batch = batch.batch_no), " \
	"prepared_at"

static int64
read_int64(HeapTuple tuple, TupleDesc desc, int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static void
read_row(HeapTuple tuple, TupleDesc desc, MemoryContext context, OutboxBatchRow *row)
{
	bool isnull;

	row->batch_no = read_int64(tuple, desc, 1);
	row->nonce = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));
	outbox_snapshot_parse(SPI_getvalue(tuple, desc, 3), context, &row->range.lower);
	outbox_snapshot_parse(SPI_getvalue(tuple, desc, 4), context, &row->range.upper);
	row->range.lower_at.txid = outbox_session_txid(tuple, desc, 5);
	row->range.lower_at.seq = read_int64(tuple, desc, 6);
	row->range.upper_at.txid = outbox_session_txid(tuple, desc, 7);
	row->range.upper_at.seq = read_int64(tuple, desc, 8);
	row->events = DatumGetInt32(SPI_getbinval(tuple, desc, 9, &isnull));
	row->digest = read_int64(tuple, desc, 10);
	row->txid = outbox_session_txid(tuple, desc, 11);
	row->timeline = DatumGetInt32(SPI_getbinval(tuple, desc, 12, &isnull));
	row->system_id = (uint64) read_int64(tuple, desc, 13);
	row->database = DatumGetObjectId(SPI_getbinval(tuple, desc, 14, &isnull));
	row->restored = DatumGetBool(SPI_getbinval(tuple, desc, 15, &isnull));
	row->left_out = (int32) read_int64(tuple, desc, 16);
	row->prepared_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 17, &isnull));
}

bool
outbox_batch_log_load(int64 batch_no, MemoryContext context, OutboxBatchRow *row)
{
	Oid	  types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(batch_no)};
	bool  found;

	outbox_session_begin();
	if (SPI_execute_with_args("SELECT " ROW_COLUMNS " FROM outbox.batch WHERE "
							  "batch_no = (SELECT CASE WHEN $1 >= 0 THEN $1 ELSE "
							  "(SELECT max(batch_no) FROM outbox.batch) END)",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.batch");
	found = SPI_processed > 0;
	if (found)
		read_row(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, context, row);
	outbox_session_end();
	return found;
}

static void
set_position(const OutboxPosition *position, Datum *values, char *nulls, int at)
{
	if (position->txid == 0)
		nulls[at] = nulls[at + 1] = 'n';
	values[at] = FullTransactionIdGetDatum(FullTransactionIdFromU64(position->txid));
	values[at + 1] = Int64GetDatum(position->seq);
}

void
outbox_batch_log_insert(OutboxBatchRow *row, int leaf, const OutboxIdentity *identity)
{
	static SPIPlanPtr plan = NULL;
	Oid	  types[] = {INT8OID, INT2OID, UUIDOID, TEXTOID, TEXTOID, XID8OID, INT8OID, XID8OID,
					 INT8OID, INT4OID, INT8OID, XID8OID, INT4OID, INT8OID, OIDOID,	TIMESTAMPTZOID};
	Datum values[lengthof(types)];
	char  nulls[lengthof(types)];

	if (!pg_strong_random(row->nonce.data, UUID_LEN))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random nonce")));
	row->timeline = identity->timeline;
	row->system_id = identity->system_id;
	row->database = identity->database;
	row->restored = false;
	row->prepared_at = GetCurrentTimestamp();

	row->txid = U64FromFullTransactionId(GetTopFullTransactionId());
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(row->batch_no);
	values[1] = Int16GetDatum(leaf);
	values[2] = UUIDPGetDatum(&row->nonce);
	values[3] = CStringGetTextDatum(outbox_snapshot_format(&row->range.lower));
	values[4] = CStringGetTextDatum(outbox_snapshot_format(&row->range.upper));
	set_position(&row->range.lower_at, values, nulls, 5);
	set_position(&row->range.upper_at, values, nulls, 7);
	values[9] = Int32GetDatum(row->events);
	values[10] = Int64GetDatum(row->digest);
	values[11] = FullTransactionIdGetDatum(FullTransactionIdFromU64(row->txid));
	values[12] = Int32GetDatum(row->timeline);
	values[13] = Int64GetDatum((int64) row->system_id);
	values[14] = ObjectIdGetDatum(row->database);
	values[15] = TimestampTzGetDatum(row->prepared_at);
	if (plan == NULL)
	{
		plan = SPI_prepare("INSERT INTO outbox.batch VALUES ($1, $2, $3, $4::pg_snapshot, "
						   "$5::pg_snapshot, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
						   lengthof(types), types);
		if (plan == NULL)
			elog(ERROR, "could not prepare the batch row: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
	}
	if (SPI_execute_plan(plan, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write the batch row");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger of outbox.batch keeps the relay's row from being written"),
				 errhint("Drop the trigger.")));
}

XLogRecPtr
outbox_batch_log_store(OutboxBatchRow *row, int leaf, const OutboxIdentity *identity)
{
	outbox_session_begin();
	outbox_batch_log_insert(row, leaf, identity);
	OUTBOX_FAULT("relay-row-uncommitted");
	OUTBOX_MUTATE("no_fence", synchronous_commit = SYNCHRONOUS_COMMIT_OFF);
	outbox_session_end(); /* synchronous_commit = local: flushed here */
	return XactLastCommitEnd;
}

XLogRecPtr
outbox_batch_log_store_early(OutboxBatchRow *row, int leaf, const OutboxIdentity *identity,
							 bool *flushed)
{
	XLogRecPtr before = GetXLogInsertRecPtr();

	outbox_session_begin();
	outbox_batch_log_insert(row, leaf, identity);
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	outbox_session_end();
	synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;

	/* the commit records of all it holds lie before the row's */
	*flushed = GetFlushRecPtr(NULL) < before;
	if (*flushed)
		XLogFlush(XactLastCommitEnd);
	return XactLastCommitEnd;
}
