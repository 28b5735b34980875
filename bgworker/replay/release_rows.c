/* SPDX-License-Identifier: PostgreSQL
 *
 * release_rows.c
 *	  The rows of a release: its hold, and the transactions of its copies.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/xid8.h"

#include "release_rows.h"
#include "bgworker/session.h"
#include "src/backlog.h"

/* ------------------------------------------------------------- in memory */

static bool
is_batched(uint64 txid, const OutboxRange *last)
{
	return txid == last->upper_at.txid || outbox_snapshot_sees(&last->upper, txid);
}

int64
outbox_copies_unsent(OutboxCopiesList *list, const OutboxReplayTurn *turn)
{
	int64 unsent = 0;
	int	  kept = 0;

	for (int i = 0; i < list->count; i++)
	{
		if (is_batched(list->txids[i], turn->last))
			continue;
		list->txids[kept] = list->txids[i];
		list->copies[kept++] = list->copies[i];
		unsent += list->copies[i];
	}
	list->count = kept;
	return unsent;
}

void
outbox_copies_add(OutboxCopiesList *list, const OutboxCopiesRow *row)
{
	if (list->count == OUTBOX_MOST_UNSENT_COPIES)
		elog(ERROR, "too many transactions of copies wait for a batch");
	list->txids[list->count] = row->txid;
	list->copies[list->count++] = row->copies;
}

bool
outbox_txid_delivered(uint64 txid, const OutboxReplayTurn *turn)
{
	if (txid == 0 || outbox_snapshot_sees(&turn->last->lower, txid))
		return true;
	return turn->all_delivered && outbox_snapshot_sees(&turn->last->upper, txid);
}

/* ------------------------------------------------------------- in tables */

/* Runs a statement whose plan is kept. */
static void
run_kept(SPIPlanPtr *plan, const char *command, int expected, int count, Oid *types, Datum *values)
{
	if (*plan == NULL)
	{
		*plan = SPI_prepare(command, count, types);
		if (*plan == NULL)
			elog(ERROR, "could not prepare \"%s\"", command);
		SPI_keepplan(*plan);
	}
	if (SPI_execute_plan(*plan, values, NULL, false, 0) != expected)
		elog(ERROR, "could not run \"%s\"", command);
}

/* Runs a statement about one hold; `most` is its second argument. */
static void
run(const char *command, int expected, int64 hold, int64 most)
{
	Oid	  types[] = {INT8OID, INT8OID};
	Datum values[] = {Int64GetDatum(hold), Int64GetDatum(most)};

	if (SPI_execute_with_args(command, 2, types, values, NULL, false, 0) != expected)
		elog(ERROR, "could not run \"%s\"", command);
}

static Datum
get_field(uint64 row, int column)
{
	bool isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
}

static uint64
get_txid(uint64 row, int column)
{
	return outbox_session_txid(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

bool
outbox_release_find(OutboxReleaseRow *row, int64 last)
{
	run("SELECT h.id, h.topic, h.cause = 'refused' FROM outbox.topic_hold h "
		"WHERE h.state = 'releasing' ORDER BY h.id = $1, h.released_at, h.id LIMIT $2 "
		"FOR UPDATE SKIP LOCKED",
		SPI_OK_SELECT, last, 1);
	if (SPI_processed == 0)
		return false;
	memset(row, 0, sizeof(*row));
	row->hold = DatumGetInt64(get_field(0, 1));
	strlcpy(row->topic, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2),
			sizeof(row->topic));
	row->refused = DatumGetBool(get_field(0, 3));
	return true;
}

#define COPIES_OF "FROM outbox.topic_hold_copy c WHERE c.hold = $1 AND c.refused_batch IS "

void
outbox_release_read(OutboxReleaseRow *row, OutboxCopiesList *list)
{
	uint64 refused;

	run("SELECT c.txid " COPIES_OF "NOT NULL ORDER BY c.txid DESC LIMIT $2", SPI_OK_SELECT,
		row->hold, 1);
	refused = SPI_processed > 0 ? get_txid(0, 1) : 0;
	row->refused |= refused > 0;
	run("SELECT c.txid, c.copies::bigint " COPIES_OF "NULL ORDER BY c.txid DESC LIMIT $2",
		SPI_OK_SELECT, row->hold, OUTBOX_MOST_UNSENT_COPIES);
	row->newest = SPI_processed > 0 ? get_txid(0, 1) : 0;
	row->steps = 0;
	list->count = 0;
	for (int64 i = (int64) SPI_processed - 1; i >= 0; i--)
	{
		list->txids[list->count] = get_txid(i, 1);
		list->copies[list->count++] = DatumGetInt64(get_field(i, 2));
		row->steps += get_txid(i, 1) > refused;
	}
}

bool
outbox_release_lock(int64 hold, uint64 *newest)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {INT8OID};
	Datum			  values[] = {Int64GetDatum(hold)};

	run_kept(&plan,
			 "SELECT (SELECT c.txid " COPIES_OF "NULL ORDER BY c.txid DESC LIMIT 1) "
			 "FROM outbox.topic_hold h WHERE h.id = $1 AND h.state = 'releasing' "
			 "FOR UPDATE OF h SKIP LOCKED",
			 SPI_OK_SELECT, 1, types, values);
	*newest = SPI_processed > 0 ? get_txid(0, 1) : 0;
	return SPI_processed > 0;
}

bool
outbox_release_lock_topic(const char *topic)
{
	Oid	  types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(topic)};

	if (SPI_execute_with_args("SELECT outbox.topic_hold_lock($1, false)", 1, types, values, NULL,
							  false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not lock a row of outbox.topic");
	return DatumGetBool(get_field(0, 1));
}

void
outbox_release_store(int64 hold, OutboxCopiesRow *row)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {INT8OID, XID8OID, INT8OID, XID8OID, INT8OID, INT4OID, INT8OID};
	Datum			  values[] = {
		Int64GetDatum(hold),
		FullTransactionIdGetDatum(GetTopFullTransactionId()),
		Int64GetDatum(row->last_batch),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(row->last.txid)),
		Int64GetDatum(row->last.seq),
		Int32GetDatum((int32) row->copies),
		Int64GetDatum(row->bytes),
	};

	row->txid = U64FromFullTransactionId(GetTopFullTransactionId());
	run_kept(&plan,
			 "INSERT INTO outbox.topic_hold_copy (hold, txid, last_batch, last_txid, last_seq, "
			 "copies, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			 SPI_OK_INSERT, lengthof(types), types, values);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger of outbox.topic_hold_copy keeps the relay's row from being "
						"written"),
				 errhint("Drop the trigger.")));
}

void
outbox_release_store_end(int64 hold)
{
	run("UPDATE outbox.topic_hold SET state = 'ended', ended_at = clock_timestamp(), "
		"ended_txid = pg_current_xact_id(), "
		"copied = (SELECT coalesce(sum(c.copies), 0) " COPIES_OF "NULL) "
		"WHERE id = $1 AND $2 = 0",
		SPI_OK_UPDATE, hold, 0);
	if (SPI_processed != 1)
		elog(ERROR, "could not end a row of outbox.topic_hold");
}

void
outbox_release_sum_held(OutboxSlot *slot)
{
	outbox_backlog_unhold_all(slot);
	run("SELECT h.topic, (SELECT coalesce(sum(b.bytes), 0) FROM outbox.topic_hold_batch b "
		"WHERE b.hold = h.id)::bigint - (SELECT coalesce(sum(c.bytes), 0) "
		"FROM outbox.topic_hold_copy c WHERE c.hold = h.id AND c.refused_batch IS NULL)::bigint "
		"FROM outbox.topic_hold h WHERE h.state <> 'ended'",
		SPI_OK_SELECT, 0, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		const char *topic = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		outbox_backlog_hold(slot, topic, strlen(topic), DatumGetInt64(get_field(i, 2)));
	}
}

int64
outbox_release_find_ended(uint64 *ended)
{
	run("SELECT h.id, h.ended_txid FROM outbox.topic_hold h WHERE h.state = 'ended' AND "
		"(EXISTS (SELECT FROM outbox.topic_hold_batch b WHERE b.hold = h.id) OR "
		"EXISTS (SELECT FROM outbox.topic_hold_copy c WHERE c.hold = h.id)) "
		"ORDER BY h.id LIMIT 1",
		SPI_OK_SELECT, 0, 0);
	*ended = SPI_processed > 0 ? get_txid(0, 2) : 0;
	return SPI_processed > 0 ? DatumGetInt64(get_field(0, 1)) : 0;
}

bool
outbox_release_delete(int64 hold, int most)
{
	uint64 deleted;

	run("DELETE FROM outbox.topic_hold_batch WHERE hold = $1 AND batch_no = ANY (ARRAY("
		"SELECT b.batch_no FROM outbox.topic_hold_batch b WHERE b.hold = $1 "
		"ORDER BY b.batch_no LIMIT $2))",
		SPI_OK_DELETE, hold, most);
	deleted = SPI_processed;
	run("DELETE FROM outbox.topic_hold_copy WHERE hold = $1 AND txid = ANY (ARRAY("
		"SELECT c.txid FROM outbox.topic_hold_copy c WHERE c.hold = $1 LIMIT $2))",
		SPI_OK_DELETE, hold, most);
	return deleted + SPI_processed > 0;
}
