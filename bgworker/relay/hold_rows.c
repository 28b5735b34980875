/* SPDX-License-Identifier: PostgreSQL
 *
 * hold_rows.c
 *	  Writes what holds say.
 *
 * Runs in the relay.  I7: rows of outbox.topic_hold_batch are committed with the batch's row, or
 * before the batch is sent again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "hold_rows.h"
#include "sent_walk.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/take_snapshot.h"

#define SHARE_COLUMNS 11

/* One statement; expected: SPI_OK_... */
static void
execute(const char *query, int count, Oid *types, Datum *values, const char *nulls, int expected)
{
	int result = SPI_execute_with_args(query, count, types, values, nulls, false, 0);

	if (result != expected)
		elog(ERROR, "could not write a hold: %s", SPI_result_code_string(result));
}

static Datum
txid_datum(uint64 txid)
{
	return FullTransactionIdGetDatum(FullTransactionIdFromU64(txid));
}

static Datum
txid_array(const uint64 *txids, int count)
{
	Datum *values = palloc(sizeof(Datum) * (count + 1));

	for (int i = 0; i < count; i++)
		values[i] = txid_datum(txids[i]);
	return PointerGetDatum(construct_array(values, count, XID8OID, 8, FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/* ----------------------------------------------------------- their state */

bool
outbox_hold_lock(const char *topic)
{
	Oid	  types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(topic)};
	bool  isnull;

	execute("SELECT outbox.topic_hold_lock($1, false)", 1, types, values, NULL, SPI_OK_SELECT);
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

int64
outbox_hold_begin(const OutboxHoldWanted *wanted)
{
	Oid	  types[] = {TEXTOID, TEXTOID, INT4OID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(wanted->topic),
					  CStringGetTextDatum(outbox_hold_cause_name(wanted->cause)),
					  Int32GetDatum(wanted->partition), CStringGetTextDatum(wanted->reason)};
	bool  isnull;

	execute("INSERT INTO outbox.topic_hold (topic, cause, partition, reason) "
			"VALUES ($1, $2, nullif($3, -1), $4) "
			"ON CONFLICT (topic) WHERE state <> 'ended' DO NOTHING",
			4, types, values, NULL, SPI_OK_INSERT);
	execute("SELECT id FROM outbox.topic_hold WHERE topic = $1 AND state <> 'ended'", 1, types,
			values, NULL, SPI_OK_SELECT);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger of outbox.topic_hold keeps the relay's row from being written"),
				 errhint("Drop the trigger.")));
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

void
outbox_hold_release(int64 hold)
{
	Oid	  types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(hold)};

	execute("UPDATE outbox.topic_hold SET state = 'releasing', "
			"released_at = pg_catalog.clock_timestamp(), released_by = session_user "
			"WHERE id = $1 AND state = 'held' AND cause = 'leader'",
			1, types, values, NULL, SPI_OK_UPDATE);
}

int64
outbox_hold_put_back(int64 hold, const OutboxHoldWanted *wanted, const uint64 *txids, int count,
					 int64 batch_no)
{
	Oid	  types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID};
	Datum values[] = {Int64GetDatum(hold),
					  CStringGetTextDatum(outbox_hold_cause_name(wanted->cause)),
					  Int32GetDatum(wanted->partition), CStringGetTextDatum(wanted->reason)};
	Oid	  copy_types[] = {INT8OID, XID8ARRAYOID, INT8OID};
	Datum copy_values[] = {Int64GetDatum(hold), txid_array(txids, count), Int64GetDatum(batch_no)};
	bool  isnull;

	execute("UPDATE outbox.topic_hold SET state = 'held', cause = $2, "
			"partition = nullif($3, -1), reason = $4, released_at = NULL, released_by = NULL "
			"WHERE id = $1 AND state = 'releasing'",
			4, types, values, NULL, SPI_OK_UPDATE);
	execute("WITH refused AS (UPDATE outbox.topic_hold_copy SET refused_batch = "
			"CASE WHEN txid = ANY ($2) THEN $3 ELSE -1 END "
			"WHERE hold = $1 AND refused_batch IS NULL AND txid >= $2[1] RETURNING bytes) "
			"SELECT coalesce(sum(bytes), 0)::bigint FROM refused",
			3, copy_types, copy_values, NULL, SPI_OK_SELECT);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* ----------------------------------------------- what batches leave out */

static void
set_position(const OutboxPosition *position, Datum *values, char *nulls, int at)
{
	if (position->txid == 0)
		nulls[at] = nulls[at + 1] = 'n';
	values[at] = txid_datum(position->txid);
	values[at + 1] = Int64GetDatum(position->seq);
}

static void
store_share(const OutboxHoldShare *share, const OutboxBatchRow *row)
{
	Oid	  types[SHARE_COLUMNS] = {INT8OID, INT8OID, TEXTOID, TEXTOID, XID8OID,		 INT8OID,
								  XID8OID, INT8OID, INT4OID, INT8OID, TIMESTAMPTZOID};
	Datum values[SHARE_COLUMNS];
	char  nulls[SHARE_COLUMNS];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(share->hold);
	values[1] = Int64GetDatum(row->batch_no);
	values[2] = CStringGetTextDatum(outbox_snapshot_format(&row->range.lower));
	values[3] = CStringGetTextDatum(outbox_snapshot_format(&row->range.upper));
	set_position(&row->range.lower_at, values, nulls, 4);
	set_position(&row->range.upper_at, values, nulls, 6);
	values[8] = Int32GetDatum(share->events);
	values[9] = Int64GetDatum(share->bytes);
	values[10] = TimestampTzGetDatum(share->oldest_at);
	execute("INSERT INTO outbox.topic_hold_batch AS b VALUES ($1, $2, $3::pg_snapshot, "
			"$4::pg_snapshot, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (hold, batch_no) "
			"DO UPDATE SET events = b.events + EXCLUDED.events, "
			"bytes = b.bytes + EXCLUDED.bytes, "
			"oldest_at = least(b.oldest_at, EXCLUDED.oldest_at)",
			SHARE_COLUMNS, types, values, nulls, SPI_OK_INSERT);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger of outbox.topic_hold_batch keeps the relay's row from being "
						"written"),
				 errhint("Drop the trigger.")));
}

/* What outbox.topic_hold_batch does not say of the chunk; true: it was something. */
static bool
store_shares(const OutboxChunk *chunk)
{
	bool stored = false;

	for (int i = 0; i < chunk->holds.count; i++)
	{
		const OutboxHoldShare *share = &chunk->holds.shares[i];

		if (share->noted || share->events == 0)
			continue;
		store_share(share, &chunk->row);
		stored = true;
	}
	return stored;
}

/* The batch that refused copies are left out of, where it is another than they say. */
static bool
store_refused(const OutboxChunk *chunk)
{
	Oid	  types[] = {XID8ARRAYOID, INT8OID};
	Datum values[2];

	if (chunk->holds.nrefused == 0)
		return false;
	values[0] = txid_array(chunk->holds.refused, chunk->holds.nrefused);
	values[1] = Int64GetDatum(chunk->row.batch_no);
	execute("UPDATE outbox.topic_hold_copy SET refused_batch = $2 "
			"WHERE txid = ANY ($1) AND refused_batch <> $2",
			2, types, values, NULL, SPI_OK_UPDATE);
	return SPI_processed > 0;
}

void
outbox_hold_store_chunk(const OutboxChunk *chunk)
{
	(void) store_shares(chunk);
	(void) store_refused(chunk);
}

bool
outbox_hold_store_old(const OutboxChunk *chunk)
{
	bool shares = store_shares(chunk);

	return store_refused(chunk) || shares;
}

void
outbox_hold_forget_batches(int64 oldest)
{
	Oid	  types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(oldest)};

	execute("DELETE FROM outbox.topic_hold_batch WHERE batch_no >= $1", 1, types, values, NULL,
			SPI_OK_DELETE);
	execute("UPDATE outbox.topic_hold_copy c SET refused_batch = -1 FROM outbox.topic_hold h "
			"WHERE h.id = c.hold AND h.state <> 'ended' AND c.last_batch >= $1 "
			"AND c.refused_batch IS NULL",
			1, types, values, NULL, SPI_OK_UPDATE);
}

/* ------------------------------------------------- a topic of the chunk */

static void
note_copy(OutboxHoldTaken *taken, uint64 txid, int *room)
{
	taken->copies++;
	if (taken->ntxids > 0 && taken->txids[taken->ntxids - 1] == txid)
		return;
	if (taken->ntxids == *room)
	{
		*room = Max(16, 2 * *room);
		taken->txids = taken->txids == NULL ? palloc(*room * sizeof(uint64)) :
											  repalloc_huge(taken->txids, *room * sizeof(uint64));
	}
	taken->txids[taken->ntxids++] = txid;
}

/* An event that was sent joins the share. */
static void
note_event(const OutboxChunk *chunk, const OutboxWindow *window, OutboxLeafReader *reader,
		   const OutboxEntry *entry, OutboxHoldTaken *taken)
{
	TupleTableSlot *slot = outbox_leaf_reader_fetch(reader, window->filenodes, entry);

	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("an event table was rewritten while a hold of batch " INT64_FORMAT
						" was written",
						chunk->row.batch_no)));
	outbox_hold_share_add(&taken->share, slot);
}

/* The topic's events of the chunk that were sent: the hold's own copies, and others. */
static void
count_sent(const OutboxChunk *chunk, const OutboxWindow *window, const char *topic,
		   OutboxHoldTaken *taken)
{
	OutboxSentWalk	  walk = outbox_sent_walk_begin(chunk, window);
	size_t			  len = strlen(topic);
	const OutboxHold *hold = outbox_holds_find(chunk->holds.known, topic, len);
	OutboxLeafReader  reader = {0};
	OutboxWireEvent	  event;
	OutboxEntry		  entry;
	int				  room = 0;

	while (outbox_sent_walk_next(&walk, &entry, &event))
	{
		CHECK_FOR_INTERRUPTS();
		if (event.topic_len != len || memcmp(event.topic, topic, len) != 0)
			continue;
		if (hold != NULL && outbox_hold_owns(hold, entry.txid))
			note_copy(taken, entry.txid, &room);
		else
			note_event(chunk, window, &reader, &entry, taken);
	}
	outbox_leaf_reader_close(&reader);
	if (taken->ntxids > 0)
		qsort(taken->txids, taken->ntxids, sizeof(uint64), outbox_txid_compare);
}

void
outbox_hold_chunk_topic(const OutboxChunk *chunk, const OutboxWindow *window,
						const OutboxHoldWanted *wanted, OutboxHoldTaken *taken)
{
	memset(taken, 0, sizeof(*taken));
	count_sent(chunk, window, wanted->topic, taken);
	taken->share.hold = outbox_hold_begin(wanted);
	if (taken->copies > 0)
		taken->copied_bytes = outbox_hold_put_back(taken->share.hold, wanted, taken->txids,
												   taken->ntxids, chunk->row.batch_no);
	if (taken->share.events > 0)
		store_share(&taken->share, &chunk->row);
}
