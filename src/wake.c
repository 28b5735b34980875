/* SPDX-License-Identifier: PostgreSQL
 *
 * wake.c
 *	  Wakes the relay when a transaction that emitted has committed; where none
 *	  runs, notes since when events wait.
 *
 * Runs in application backends.  The callback is registered once per process.  It
 * runs after ProcArrayEndTransaction (xact.c, CommitTransaction), so the relay's
 * next snapshot sees the transaction.  COMMIT PREPARED may run in a process that never emitted: the relay's
 * one-second look finds those.
 */
#include "postgres.h"

#include "access/xact.h"

#include "backlog.h"
#include "fault.h"
#include "shmem.h"
#include "wake.h"

static bool callback_registered = false;
static bool wake_relay = false;

static void
note_waiting(OutboxSlot *slot)
{
	uint64		none = 0;

	if (pg_atomic_read_u64(&slot->waiting_since) == 0)
		(void) pg_atomic_compare_exchange_u64(&slot->waiting_since, &none,
											  (uint64) GetCurrentTransactionStopTimestamp());
}

static void
wake_after_commit(XactEvent event, void *arg)
{
	/* before the relay is woken, which takes it off again */
	if (wake_relay && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE ||
					   event == XACT_EVENT_ABORT))
		outbox_backlog_end(outbox_shmem_slot(), event != XACT_EVENT_ABORT);
	if (event == XACT_EVENT_COMMIT && wake_relay)
	{
		OutboxSlot *slot = outbox_shmem_slot();

		OUTBOX_FAULT("emit-committed");
		if (slot != NULL && pg_atomic_read_u32(&slot->relay_proc) == OUTBOX_NO_PROC)
			note_waiting(slot);
		else if (slot != NULL)
			outbox_shmem_wake(&slot->relay_proc);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		wake_relay = false;
}

void
outbox_wake_at_commit(void)
{
	if (!callback_registered)
		RegisterXactCallback(wake_after_commit, NULL);
	callback_registered = true;
	wake_relay = true;
}
