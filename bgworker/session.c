/* SPDX-License-Identifier: PostgreSQL
 *
 * session.c
 *	  Short transactions of the relay (I5).
 *
 * Runs in the relay.  Every statement runs in a transaction that begins here, as the
 * extension's owner (owner.h).
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "owner.h"
#include "session.h"

static const char *const settings[][2] = {
	{"role", "none"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"synchronous_commit", "local"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"session_replication_role", "origin"},
	{"search_path", "pg_catalog, pg_temp"},
	{"row_security", "off"},
	{"jit", "off"},
	{"temp_file_limit", "-1"},
	{"client_min_messages", "warning"},
	{"DateStyle", "ISO"},
};

void
outbox_session_prepare(void)
{
	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static MemoryContext outside;

void
outbox_session_begin(void)
{
	Oid	  owner;
	char *foreign;

	outside = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	owner = outbox_owner_lock();
	foreign = outbox_owner_is_stale() ? outbox_owner_find_foreign(owner) : NULL;
	if (foreign != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_internal("%s", foreign)));
	outbox_owner_enter(owner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
outbox_session_end(void)
{
	PopActiveSnapshot();
	SPI_finish();
	outbox_owner_take_back();
	CommitTransactionCommand();
	outbox_owner_leave();
	MemoryContextSwitchTo(outside);
}

ErrorData *
outbox_session_recover(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	HOLD_INTERRUPTS();
	AbortCurrentTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(context);
	return error;
}

uint64
outbox_session_txid(HeapTuple tuple, TupleDesc desc, int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? 0 : U64FromFullTransactionId(DatumGetFullTransactionId(value));
}
