/* SPDX-License-Identifier: PostgreSQL
 *
 * take_snapshot.c
 *	  Snapshots of PostgreSQL as sets of transactions, and their text.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "take_snapshot.h"

void
outbox_snapshot_take(MemoryContext context, OutboxSnapshot *snapshot)
{
	Snapshot		  active = GetActiveSnapshot();
	FullTransactionId next = ReadNextFullTransactionId();
	uint64			  epoch_base = U64FromFullTransactionId(next) & ~UINT64CONST(0xFFFFFFFF);

	snapshot->xip = MemoryContextAlloc(context, sizeof(uint64) * Max(active->xcnt, 1));
	snapshot->xmax = epoch_base | active->xmax;
	if (snapshot->xmax > U64FromFullTransactionId(next))
		snapshot->xmax -= UINT64CONST(1) << 32;
	for (uint32 i = 0; i < active->xcnt; i++)
	{
		snapshot->xip[i] = epoch_base | active->xip[i];
		if (snapshot->xip[i] > U64FromFullTransactionId(next))
			snapshot->xip[i] -= UINT64CONST(1) << 32;
	}
	/* during PREPARE an xid stands twice in the raw list */
	snapshot->nxip = outbox_snapshot_sort(snapshot->xip, active->xcnt);
}

void
outbox_snapshot_copy(MemoryContext context, OutboxSnapshot *to, const OutboxSnapshot *from)
{
	to->xmax = from->xmax;
	to->nxip = from->nxip;
	to->xip = MemoryContextAlloc(context, sizeof(uint64) * Max(from->nxip, 1));
	memcpy(to->xip, from->xip, sizeof(uint64) * from->nxip);
}

char *
outbox_snapshot_format(const OutboxSnapshot *snapshot)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", outbox_snapshot_xmin(snapshot),
					 snapshot->xmax);
	for (uint32 i = 0; i < snapshot->nxip; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", snapshot->xip[i]);
	return text.data;
}

void
outbox_snapshot_parse(const char *text, MemoryContext context, OutboxSnapshot *snapshot)
{
	uint32 room = 1;
	char  *pos;

	for (const char *p = text; *p; p++)
		room += *p == ',';
	snapshot->xip = MemoryContextAlloc(context, sizeof(uint64) * room);
	snapshot->nxip = 0;

	strtoull(text, &pos, 10); /* xmin follows from the rest */
	if (*pos == ':')
		snapshot->xmax = strtoull(pos + 1, &pos, 10);
	if (*pos != ':')
		elog(ERROR, "unreadable snapshot \"%s\"", text);
	while (pos[0] == ',' || (pos[0] == ':' && pos[1] != '\0'))
		snapshot->xip[snapshot->nxip++] = strtoull(pos + 1, &pos, 10);
}

uint64
outbox_snapshot_select_beyond(const char *query, const OutboxSnapshot *lower)
{
	Oid	   types[] = {XID8OID, XID8ARRAYOID};
	Datum  values[2];
	Datum *xip = palloc(sizeof(Datum) * (lower->nxip + 1));

	for (uint32 i = 0; i < lower->nxip; i++)
		xip[i] = FullTransactionIdGetDatum(FullTransactionIdFromU64(lower->xip[i]));
	values[0] = FullTransactionIdGetDatum(FullTransactionIdFromU64(lower->xmax));
	values[1] = PointerGetDatum(construct_array(xip, (int) lower->nxip, XID8OID, 8, FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	if (SPI_execute_with_args(query, 2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run: %s", query);
	return SPI_processed;
}
