/* SPDX-License-Identifier: PostgreSQL
 *
 * wake.c
 *	  Wakes the relay when a transaction that emitted has committed.
 *
 * Runs in application backends.  The callback is registered once per process.  It
 * runs after ProcArrayEndTransaction (xact.c, CommitTransaction), so the relay's
 * next snapshot sees the transaction.  COMMIT PREPARED may run in a process that never emitted: the relay's
 * one-second look finds those.
 */
#include "postgres.h"

#include "access/xact.h"

#include "shmem.h"
#include "wake.h"

static bool callback_registered = false;
static bool wake_relay = false;
static bool wake_launcher = false;

/* The switch has changed for every other process: let the launcher look. */
static void
request_probe(OutboxSlot *slot)
{
	if (slot == NULL)
		return;
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->probe = true;
	slot->failures = 0;
	LWLockRelease(outbox_shared->lock);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

static void
wake_after_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && wake_launcher)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has started or stopped the relay")));
	if (event == XACT_EVENT_COMMIT && (wake_relay || wake_launcher))
	{
		OutboxSlot *slot = outbox_shmem_slot();

		if (slot != NULL && wake_relay)
			outbox_shmem_wake(&slot->relay_proc);
		if (wake_launcher)
			request_probe(slot);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		wake_relay = wake_launcher = false;
}

static void
register_callback(void)
{
	if (!callback_registered)
	{
		RegisterXactCallback(wake_after_commit, NULL);
		callback_registered = true;
	}
}

void
outbox_wake_at_commit(void)
{
	register_callback();
	wake_relay = true;
}

void
outbox_wake_launcher_at_commit(void)
{
	register_callback();
	wake_launcher = true;
}
