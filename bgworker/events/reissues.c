/* SPDX-License-Identifier: PostgreSQL
 *
 * reissues.c
 *	  Transactions whose events come first in a window.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "reissues.h"
#include "bgworker/session.h"

static SPIPlanPtr
prepare(void)
{
	Oid		   types[] = {XID8OID, XID8OID};
	SPIPlanPtr plan = SPI_prepare("SELECT reissue_txid FROM outbox.dead_letter "
								  "WHERE reissue_txid BETWEEN $1 AND $2 "
								  "UNION SELECT ended_txid FROM outbox.topic_hold "
								  "WHERE ended_txid BETWEEN $1 AND $2",
								  2, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

OutboxReissues
outbox_reissues_load(MemoryContext context, const OutboxSnapshot *lower,
					 const OutboxSnapshot *upper, uint64 upper_at)
{
	static SPIPlanPtr plan = NULL;
	uint64			  last = upper == NULL ? PG_UINT64_MAX : Max(upper->xmax, upper_at);
	Datum			  values[] = {
		FullTransactionIdGetDatum(FullTransactionIdFromU64(outbox_snapshot_xmin(lower))),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(last)),
	};
	uint64 *txids;

	if (plan == NULL)
		plan = prepare();
	if (SPI_execute_plan(plan, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.dead_letter");
	txids = MemoryContextAllocHuge(context, sizeof(uint64) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		txids[i] = outbox_session_txid(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	qsort(txids, SPI_processed, sizeof(uint64), outbox_txid_compare);
	SPI_freetuptable(SPI_tuptable);
	return (OutboxReissues) {txids, (int) SPI_processed};
}
