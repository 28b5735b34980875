/* SPDX-License-Identifier: PostgreSQL
 *
 * wake.c
 *	  Wakes the relay when a transaction that emitted has committed; where none
 *	  runs, notes since when events wait.  Tells the relay of changed replays.
 *
 * Runs in application backends.  The callback is registered once per process.  It runs after
 * ProcArrayEndTransaction (xact.c, CommitTransaction), so the relay's next snapshot sees the
 * transaction.  COMMIT PREPARED may run in a process that never emitted: the relay's one-second
 * look finds those.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "backlog.h"
#include "clock_step.h"
#include "fault.h"
#include "shmem.h"
#include "wake.h"

static bool callback_registered = false;
static bool wake_relay = false;
static bool replay_changed = false;

static void
note_waiting(OutboxSlot *slot)
{
	uint64 none = 0;

	if (pg_atomic_read_u64(&slot->waiting_since) == 0)
		(void) pg_atomic_compare_exchange_u64(&slot->waiting_since, &none,
											  (uint64) GetCurrentTransactionStopTimestamp());
}

static void
wake_after_commit(XactEvent event, void *arg)
{
	/* before the relay is woken, which takes it off again */
	if (wake_relay &&
		(event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_ABORT))
		outbox_backlog_end(outbox_shmem_slot(), event != XACT_EVENT_ABORT);
	if (event == XACT_EVENT_COMMIT && wake_relay)
	{
		OutboxSlot *slot = outbox_shmem_slot();

		outbox_clock_step_watch(GetCurrentTimestamp());
		OUTBOX_FAULT("emit-committed");
		if (slot != NULL && pg_atomic_read_u32(&slot->relay_proc) == OUTBOX_NO_PROC)
			note_waiting(slot);
		else if (slot != NULL)
			outbox_shmem_wake(&slot->relay_proc);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
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

/* Apart from wake_after_commit: a replay that begins, pauses or ends is no event. */
static void
tell_of_replay(XactEvent event, void *arg)
{
	OutboxSlot *slot;

	if (event == XACT_EVENT_PRE_PREPARE && replay_changed)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed a replay or a topic hold")));
	if (event == XACT_EVENT_COMMIT && replay_changed)
	{
		slot = outbox_shmem_slot();
		if (slot != NULL)
		{
			pg_atomic_fetch_add_u32(&slot->replays, 1);
			outbox_shmem_wake(&slot->relay_proc);
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		replay_changed = false;
}

void
outbox_wake_replay_at_commit(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(tell_of_replay, NULL);
	registered = true;
	replay_changed = true;
}
