/* SPDX-License-Identifier: PostgreSQL
 *
 * fault.c
 *	  Fault points and mutants of test builds, in processes of the server.
 *
 * Runs in application backends and in the relay.
 */
#include "postgres.h"

#include "fault.h"

#ifdef OUTBOX_FAULTS

#include "access/sysattr.h"
#include "access/transam.h"
#include "miscadmin.h"

#define WAIT_US 5000

void
outbox_fault_pass_in_server(const char *name, unsigned *passages)
{
	OutboxFaultAction action = outbox_fault_claim(name, passages);

	if (action == OUTBOX_FAULT_ERROR)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("fault point %s", name)));
	while (action == OUTBOX_FAULT_WAIT && !outbox_fault_is_released(name))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(WAIT_US);
	}
}

uint64
outbox_fault_tuple_xmin(TupleTableSlot *slot)
{
	bool   isnull;
	Datum  xmin = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull);
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return (next & ~UINT64CONST(0xFFFFFFFF)) | DatumGetTransactionId(xmin);
}

#endif
