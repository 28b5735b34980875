/* SPDX-License-Identifier: PostgreSQL
 *
 * probe.c
 *	  A relay worker takes over its slot and looks at its database's switch.
 *
 * Runs in the relay.  Attaching and the utility hook's suspension use the same
 * lock: either the worker sees the suspension, or the hook sees the worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "src/guc.h"

#include "launcher.h"

/* A process that has attached is alive as long as worker_pid names it. */
static void
detach_worker(int code, Datum arg)
{
	OutboxSlot *slot = (OutboxSlot *) DatumGetPointer(arg);

	pg_atomic_write_u32(&slot->relay_proc, OUTBOX_NO_PROC);
	SpinLockAcquire(&slot->mutex);
	slot->adopt = OUTBOX_ADOPT_NONE;
	slot->status.state = OUTBOX_RELAY_STOPPED;
	slot->status.pid = 0;
	slot->status.sender_pid = 0;
	slot->status.hold_reason[0] = '\0';
	SpinLockRelease(&slot->mutex);

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->worker_pid = 0;
	LWLockRelease(outbox_shared->lock);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

static bool
attach_worker(OutboxSlot *slot)
{
	bool		attached;

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	attached = slot->database == MyDatabaseId && slot->suspended == 0 &&
		slot->worker_pid == 0;
	if (attached)
		slot->worker_pid = MyProcPid;
	LWLockRelease(outbox_shared->lock);
	if (attached)
		before_shmem_exit(detach_worker, PointerGetDatum(slot));
	return attached;
}

bool
outbox_relay_probe(OutboxSlot *slot)
{
	bool		wanted = false;

	if (slot == NULL || !attach_worker(slot))
		return false;

	if (outbox_guc_relay)
	{
		StartTransactionCommand();
		wanted = OidIsValid(get_extension_oid("outbox", true));
		CommitTransactionCommand();
	}

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->answered = true;
	slot->wanted = wanted;
	LWLockRelease(outbox_shared->lock);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
	return wanted;
}

void
outbox_relay_progressed(OutboxSlot *slot)
{
	/* Only this process resets it while it lives; a stale read comes again. */
	if (slot->failures == 0)
		return;
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->failures = 0;
	LWLockRelease(outbox_shared->lock);
}
