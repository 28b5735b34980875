/* SPDX-License-Identifier: PostgreSQL
 *
 * shmem.c
 *	  The one struct of the extension in shared memory.
 *
 * Runs in the postmaster (request, start-up) and in every process that emits or relays.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "encoding.h"
#include "shmem.h"
#include "src/common/text.h"

#define SHMEM_NAME "outbox"

OutboxShared *outbox_shared = NULL;

static OutboxSlot			  *own_slot = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(OutboxShared)));
	RequestNamedLWLockTranche(SHMEM_NAME, 1);
}

static void
clear_slot(OutboxSlot *slot)
{
	slot->database = InvalidOid;
	pg_atomic_write_u32(&slot->leaf, 0);
	pg_atomic_write_u32(&slot->relay_proc, OUTBOX_NO_PROC);
	pg_atomic_write_u64(&slot->waiting_since, 0);
	pg_atomic_write_u64(&slot->backlog, 0);
	pg_atomic_write_u32(&slot->held_topics, 0);
	pg_atomic_write_u64(&slot->held_others, 0);
	for (int i = 0; i < OUTBOX_HELD_TOPICS; i++)
	{
		pg_atomic_write_u64(&slot->held[i].topic, 0);
		pg_atomic_write_u64(&slot->held[i].bytes, 0);
	}
	pg_atomic_write_u32(&slot->replays, 0);
	slot->measured = false;
	slot->used = false;
	memset(slot->workers, 0, sizeof(slot->workers)); /* ABSENT */
	slot->suspended = 0;
	slot->suspender_pid = 0;
	slot->adopt = OUTBOX_ADOPT_NONE;
	memset(&slot->status, 0, sizeof(slot->status));
	slot->status.delivered_batch = -1;
}

/* Once, before any process looks. */
static void
make_slot(OutboxSlot *slot)
{
	pg_atomic_init_u32(&slot->leaf, 0);
	pg_atomic_init_u32(&slot->relay_proc, OUTBOX_NO_PROC);
	pg_atomic_init_u64(&slot->waiting_since, 0);
	pg_atomic_init_u64(&slot->backlog, 0);
	pg_atomic_init_u32(&slot->held_topics, 0);
	pg_atomic_init_u64(&slot->held_others, 0);
	for (int i = 0; i < OUTBOX_HELD_TOPICS; i++)
	{
		pg_atomic_init_u64(&slot->held[i].topic, 0);
		pg_atomic_init_u64(&slot->held[i].bytes, 0);
	}
	pg_atomic_init_u32(&slot->replays, 0);
	SpinLockInit(&slot->mutex);
	clear_slot(slot);
}

static void
start_shmem(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	outbox_shared = ShmemInitStruct(SHMEM_NAME, sizeof(OutboxShared), &found);
	if (!found)
	{
		memset(outbox_shared, 0, sizeof(OutboxShared));
		outbox_shared->lock = &(GetNamedLWLockTranche(SHMEM_NAME))->lock;
		pg_atomic_init_u32(&outbox_shared->launcher_proc, OUTBOX_NO_PROC);
		pg_atomic_init_u64(&outbox_shared->clock_distance, 0);
		pg_atomic_init_u64(&outbox_shared->step_txid, 0);
		for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
			make_slot(&outbox_shared->slots[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
outbox_shmem_request(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shmem;
}

/* Caller holds the lock, exclusively if `make`. */
static OutboxSlot *
find_slot(Oid database, bool make)
{
	OutboxSlot *unused = NULL;

	for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
	{
		OutboxSlot *slot = &outbox_shared->slots[i];

		if (slot->database == database)
			return slot;
		if (slot->database == InvalidOid && unused == NULL)
			unused = slot;
	}
	if (!make || unused == NULL)
		return NULL;
	clear_slot(unused);
	unused->database = database;
	return unused;
}

OutboxSlot *
outbox_shmem_slot_of(Oid database, bool make)
{
	OutboxSlot *slot;

	if (outbox_shared == NULL)
		return NULL;

	LWLockAcquire(outbox_shared->lock, make ? LW_EXCLUSIVE : LW_SHARED);
	slot = find_slot(database, make);
	LWLockRelease(outbox_shared->lock);
	return slot;
}

OutboxSlot *
outbox_shmem_slot(void)
{
	if (own_slot != NULL || outbox_shared == NULL)
		return own_slot;

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	own_slot = find_slot(MyDatabaseId, true);
	if (own_slot != NULL)
		own_slot->used = true;
	LWLockRelease(outbox_shared->lock);
	return own_slot;
}

void
outbox_shmem_forget(Oid database)
{
	OutboxSlot *slot = outbox_shmem_slot_of(database, false);

	if (slot == NULL)
		return;
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database)
		clear_slot(slot);
	LWLockRelease(outbox_shared->lock);
}

static bool
are_workers_absent(const OutboxSlot *slot)
{
	for (int kind = 0; kind < OUTBOX_KINDS; kind++)
		for (int shard = 0; shard < OUTBOX_MOST_SHARDS; shard++)
			if (slot->workers[kind][shard].state != OUTBOX_WORKER_ABSENT)
				return false;
	return true;
}

void
outbox_shmem_release(OutboxSlot *slot, Oid database)
{
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database && !slot->used && are_workers_absent(slot) &&
		pg_atomic_read_u64(&slot->backlog) == 0)
		clear_slot(slot);
	LWLockRelease(outbox_shared->lock);
}

void
outbox_shmem_wake(pg_atomic_uint32 *proc)
{
	uint32 procno = pg_atomic_read_u32(proc);

	if (procno != OUTBOX_NO_PROC && procno < ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

void
outbox_shmem_fit(char dst[OUTBOX_TEXT_SIZE], const char *text)
{
	int len = (int) strlen(text);

	outbox_text_fit(dst, OUTBOX_TEXT_SIZE, outbox_encoding_utf8_shown(text, &len));
}

void
outbox_shmem_report_error(OutboxSlot *slot, OutboxErrorSubject subject, const char *text)
{
	TimestampTz now = GetCurrentTimestamp();
	char		fitting[OUTBOX_TEXT_SIZE];

	outbox_shmem_fit(fitting, text);
	SpinLockAcquire(&slot->mutex);
	memcpy(slot->status.errors[subject].text, fitting, sizeof(fitting));
	slot->status.errors[subject].at = now;
	slot->status.errors[subject].recovered_at = 0;
	SpinLockRelease(&slot->mutex);
}

void
outbox_shmem_recovered(OutboxSlot *slot, OutboxErrorSubject subject)
{
	OutboxLastError *error = &slot->status.errors[subject];
	TimestampTz		 now;

	/* written by few, and one that comes just now is not over */
	if (error->at == 0 || error->recovered_at != 0)
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&slot->mutex);
	if (error->at != 0 && error->recovered_at == 0)
		error->recovered_at = now;
	SpinLockRelease(&slot->mutex);
}

OutboxLastError *
outbox_shmem_last_error(OutboxRelayStatus *status)
{
	OutboxLastError *shown = &status->errors[0];

	for (int i = 1; i < OUTBOX_ERROR_SUBJECTS; i++)
	{
		OutboxLastError *error = &status->errors[i];
		bool			 lasts = error->at != 0 && error->recovered_at == 0;
		bool			 shown_lasts = shown->at != 0 && shown->recovered_at == 0;

		if (lasts != shown_lasts ? lasts : error->at > shown->at)
			shown = error;
	}
	return shown;
}

const char *
outbox_relay_state_name(OutboxRelayState state)
{
	switch (state)
	{
		case OUTBOX_RELAY_STOPPED:
			return "stopped";
		case OUTBOX_RELAY_STARTING:
			return "starting";
		case OUTBOX_RELAY_CONNECTING:
			return "connecting";
		case OUTBOX_RELAY_FENCING:
			return "fencing";
		case OUTBOX_RELAY_IDLE:
			return "idle";
		case OUTBOX_RELAY_PREPARING:
			return "preparing";
		case OUTBOX_RELAY_REPLICATING:
			return "replicating";
		case OUTBOX_RELAY_SENDING:
			return "sending";
		case OUTBOX_RELAY_BACKOFF:
			return "backoff";
		case OUTBOX_RELAY_HOLD:
			return "hold";
	}
	return "unknown";
}
