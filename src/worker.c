/* SPDX-License-Identifier: PostgreSQL
 *
 * worker.c
 *	  The background workers of a database: their kinds, and all that moves their states.
 *
 * Runs in the launcher, in the workers and in backends that execute commands, which all
 * move states by the same rules (launch_rules.c) under one lock: either a worker sees a
 * suspension, or the suspension sees the worker.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"

#include "fault.h"
#include "worker.h"

const OutboxWorkerKind outbox_worker_kinds[OUTBOX_KINDS] = {
	[OUTBOX_KIND_RELAY] =
		{
			.name = "relay",
			.entry = "outbox_relay_main",
			.switch_name = "outbox.relay",
			.shards = 1,
		},
};

/* A step that was taken, told when the lock is free: the log may wait for a client. */
typedef struct Move
{
	int				  kind;
	int				  shard;
	OutboxWorkerState from;
	OutboxLaunchEvent event;
	OutboxLaunchStep  step;
} Move;

static Move moves[OUTBOX_KINDS * OUTBOX_MOST_SHARDS];
static int	move_count = 0;

/* True: the slot is the database's; it is locked either way. */
static bool
lock_slot(OutboxSlot *slot, Oid database)
{
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	return slot->database == database;
}

/*
 * A line of the log takes interrupts; none may come between a step and what its caller does
 * next, which is to wake the launcher.
 */
static void
unlock_slot(Oid database)
{
	HOLD_INTERRUPTS();
	LWLockRelease(outbox_shared->lock);
	OUTBOX_FAULT_WHEN(move_count > 0, "worker-moved");
	for (int i = 0; i < move_count; i++)
	{
		const Move *move = &moves[i];

		elog(move->step.happens ? DEBUG2 : LOG, "outbox %s %d of database %u: %s, %s -> %s",
			 outbox_worker_kinds[move->kind].name, move->shard, database,
			 outbox_launch_event_name(move->event), outbox_launch_state_name(move->from),
			 move->step.happens ? outbox_launch_state_name(move->step.next) : "does not happen");
	}
	move_count = 0;
	RESUME_INTERRUPTS();
}

/* The one place that sets a worker's state; the slot is locked. */
static void
set_state(OutboxSlot *slot, int kind, int shard, OutboxLaunchEvent event)
{
	OutboxWorker	*worker = &slot->workers[kind][shard];
	OutboxLaunchStep step = outbox_launch_step(worker->state, event);

	Assert(step.happens);
	if (!step.happens || step.next != worker->state)
		moves[move_count++] = (Move) {kind, shard, worker->state, event, step};
	if (!step.happens)
		return;
	worker->state = step.next;
	/* an attached process lives */
	if (step.terminate && worker->pid != 0)
		kill(worker->pid, SIGTERM);
}

static OutboxWorker *
worker_at(const OutboxWorkerPlace *place)
{
	return &place->slot->workers[place->kind][place->shard];
}

static void
set_state_at(const OutboxWorkerPlace *place, OutboxLaunchEvent event)
{
	set_state(place->slot, place->kind, place->shard, event);
}

bool
outbox_worker_is_switch(const char *setting)
{
	for (int kind = 0; kind < OUTBOX_KINDS; kind++)
		if (pg_strcasecmp(setting, outbox_worker_kinds[kind].switch_name) == 0)
			return true;
	return false;
}

/* ------------------------------------------------------------- backends */

static void
ask_worker(OutboxSlot *slot, int kind, int shard, bool missing)
{
	OutboxWorker *worker = &slot->workers[kind][shard];

	if (missing && worker->pid != 0)
		return;
	if (!missing)
		worker->failures = 0;
	set_state(slot, kind, shard, OUTBOX_LAUNCH_ASK);
}

/*
 * All workers of the database, or those that are not there.  The slot may be given back by
 * another session before it is locked, and is then made anew.
 */
static bool
ask_workers(Oid database, bool missing)
{
	OutboxSlot *slot;
	bool		ours;

	do
	{
		slot = outbox_shmem_slot_of(database, true);
		if (slot == NULL)
			return false;
		OUTBOX_FAULT("worker-ask");
		ours = lock_slot(slot, database);
		if (ours)
			OUTBOX_EACH_WORKER(kind, shard)
				ask_worker(slot, kind, shard, missing);
		unlock_slot(database);
	} while (!ours);
	return true;
}

bool
outbox_worker_ask(Oid database)
{
	return ask_workers(database, false);
}

static void
suspend_worker(OutboxSlot *slot, int kind, int shard, OutboxWorkersKept *kept)
{
	OutboxWorker *worker = &slot->workers[kind][shard];

	set_state(slot, kind, shard, OUTBOX_LAUNCH_SUSPEND);
	kept->asked |= worker->state == OUTBOX_WORKER_SUSPENDED;
	if (worker->pid != 0)
		kept->pids[kept->count++] = worker->pid;
}

bool
outbox_worker_suspend(OutboxSlot *slot, Oid database, const char *command, OutboxWorkersKept *kept)
{
	bool ours = lock_slot(slot, database);

	memset(kept, 0, sizeof(*kept));
	if (ours)
	{
		slot->suspended++;
		slot->suspender_pid = MyProcPid;
		strlcpy(slot->suspender, command, sizeof(slot->suspender));
		OUTBOX_EACH_WORKER(kind, shard)
			suspend_worker(slot, kind, shard, kept);
	}
	unlock_slot(database);
	return ours;
}

void
outbox_worker_resume(OutboxSlot *slot, Oid database)
{
	/* made anew after a DROP DATABASE it knows of no suspension */
	if (lock_slot(slot, database) && slot->suspended > 0)
	{
		if (slot->suspender_pid == MyProcPid)
			slot->suspender_pid = 0;
		if (--slot->suspended == 0)
			OUTBOX_EACH_WORKER(kind, shard)
				set_state(slot, kind, shard, OUTBOX_LAUNCH_RESUME);
	}
	unlock_slot(database);
}

/* --------------------------------------------------------------- worker */

bool
outbox_worker_attach(const OutboxWorkerPlace *place)
{
	OutboxWorker *worker = worker_at(place);
	bool		  attached;

	attached = lock_slot(place->slot, place->database) && worker->state == OUTBOX_WORKER_LOOKING &&
		worker->start == place->start;
	if (attached)
		worker->pid = MyProcPid;
	unlock_slot(place->database);
	return attached;
}

OutboxWorkerState
outbox_worker_answer(const OutboxWorkerPlace *place, bool on)
{
	OutboxWorker	 *worker = worker_at(place);
	OutboxWorkerState state = OUTBOX_WORKER_ABSENT;

	/* else the database was dropped, or its extension, with us attached */
	if (lock_slot(place->slot, place->database) && worker->pid == MyProcPid)
	{
		worker->wanted = on;
		set_state_at(place, on ? OUTBOX_LAUNCH_ON : OUTBOX_LAUNCH_OFF);
		state = worker->state;
	}
	unlock_slot(place->database);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
	return state;
}

void
outbox_worker_detach(const OutboxWorkerPlace *place)
{
	if (lock_slot(place->slot, place->database) && worker_at(place)->pid == MyProcPid)
		worker_at(place)->pid = 0;
	unlock_slot(place->database);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

void
outbox_worker_progressed(const OutboxWorkerPlace *place)
{
	/* while the worker is attached only it and who asks write; a stale read comes again */
	if (worker_at(place)->failures == 0)
		return;
	if (lock_slot(place->slot, place->database))
		worker_at(place)->failures = 0;
	unlock_slot(place->database);
}

/* ------------------------------------------------------------- launcher */

bool
outbox_worker_read(const OutboxWorkerPlace *place, OutboxWorker *copy)
{
	bool ours;

	LWLockAcquire(outbox_shared->lock, LW_SHARED);
	ours = place->slot->database == place->database;
	*copy = *worker_at(place);
	LWLockRelease(outbox_shared->lock);
	return ours;
}

bool
outbox_worker_ask_missing(Oid database)
{
	return ask_workers(database, true);
}

bool
outbox_worker_start(OutboxWorkerPlace *place)
{
	OutboxWorker *worker = worker_at(place);
	bool		  start;

	start = lock_slot(place->slot, place->database) && worker->state == OUTBOX_WORKER_ASKED &&
		worker->pid == 0;
	if (start)
	{
		set_state_at(place, OUTBOX_LAUNCH_START);
		place->start = worker->start = ++outbox_shared->starts;
	}
	unlock_slot(place->database);
	return start;
}

bool
outbox_worker_gone(const OutboxWorkerPlace *place, bool reachable, OutboxWorker *copy)
{
	OutboxWorker *worker = worker_at(place);
	bool		  ours = lock_slot(place->slot, place->database);

	/* one that an earlier launcher started may have attached meanwhile */
	if (ours && worker->pid == 0)
	{
		set_state_at(place, reachable ? OUTBOX_LAUNCH_GONE : OUTBOX_LAUNCH_UNREACHABLE);
		if (worker->state == OUTBOX_WORKER_BACKOFF)
			worker->failures++;
		if (!reachable)
			worker->wanted = false;
	}
	*copy = *worker;
	unlock_slot(place->database);
	return ours;
}

void
outbox_worker_retry(const OutboxWorkerPlace *place)
{
	if (lock_slot(place->slot, place->database) && worker_at(place)->state == OUTBOX_WORKER_BACKOFF)
		set_state_at(place, OUTBOX_LAUNCH_TIME);
	unlock_slot(place->database);
}
