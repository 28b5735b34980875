/* SPDX-License-Identifier: PostgreSQL
 *
 * worker.h
 *	  The background workers of a database: their kinds, and all that moves their states.
 *
 * A worker's place is found once and may change hands while nobody holds the lock: each
 * function looks whether the slot is still the database's, and else does nothing.  None
 * is called with OutboxShared.lock held.
 */
#ifndef OUTBOX_WORKER_H
#define OUTBOX_WORKER_H

#include "shmem.h"

typedef struct OutboxWorkerKind
{
	const char *name;		 /* as processes and log lines have it: "relay" */
	const char *entry;		 /* function of the library that the worker runs */
	const char *switch_name; /* setting by which a database wants them */
	int			shards;		 /* workers of a database, at most OUTBOX_MOST_SHARDS */
} OutboxWorkerKind;

extern const OutboxWorkerKind outbox_worker_kinds[OUTBOX_KINDS];

/* A loop over the workers a database may have. */
#define OUTBOX_EACH_WORKER(kind, shard) \
	for (int kind = 0; kind < OUTBOX_KINDS; kind++) \
		for (int shard = 0; shard < outbox_worker_kinds[kind].shards; shard++)

typedef struct OutboxWorkerPlace
{
	OutboxSlot *slot;
	Oid			database;
	int			kind;  /* OUTBOX_KIND_RELAY, ... */
	int			shard; /* from 0 */
	uint32		start; /* which start of it */
} OutboxWorkerPlace;

/* What a suspension finds. */
typedef struct OutboxWorkersKept
{
	bool asked; /* a worker is there or asked for: it will be back */
	int	 pids[OUTBOX_KINDS * OUTBOX_MOST_SHARDS]; /* told to go */
	int	 count;									  /* of pids */
} OutboxWorkersKept;

/* Is it the switch of a kind of workers? */
extern bool outbox_worker_is_switch(const char *setting);

/*
 * Backend: all workers of the database look at their switch, at once; its slot is made if
 * needed.  False: all slots are taken.
 */
extern bool outbox_worker_ask(Oid database);

/*
 * Backend: ends the database's workers and keeps them away until outbox_worker_resume.
 * command: what the views name.  False: the slot has changed hands.
 */
extern bool outbox_worker_suspend(OutboxSlot *slot, Oid database, const char *command,
								  OutboxWorkersKept *kept);

/* Backend: one suspension is over. */
extern void outbox_worker_resume(OutboxSlot *slot, Oid database);

/*
 * Worker, with the place the launcher gave it: its own from here on.  False: it is not
 * looked for any more, or another has been started.
 */
extern bool outbox_worker_attach(const OutboxWorkerPlace *place);

/* Worker: its switch; returns its state: RUNNING, ENDING, or another when it shall go. */
extern OutboxWorkerState outbox_worker_answer(const OutboxWorkerPlace *place, bool on);

/* Worker: its last act; wakes the launcher. */
extern void outbox_worker_detach(const OutboxWorkerPlace *place);

/* Worker: no earlier failure counts any more. */
extern void outbox_worker_progressed(const OutboxWorkerPlace *place);

/* Launcher: a copy.  False: the slot has changed hands. */
extern bool outbox_worker_read(const OutboxWorkerPlace *place, OutboxWorker *copy);

/* Launcher, at its start: the same, but of workers that are not there. */
extern bool outbox_worker_ask_missing(Oid database);

/*
 * Launcher: true: register it for this place, whose start is set; it is LOOKING.  False: it
 * is not asked for, or the one before is still attached.
 */
extern bool outbox_worker_start(OutboxWorkerPlace *place);

/*
 * Launcher: the worker is gone, or there was no room for it; it is not attached.
 * reachable: false: the database takes no connections.  copy: what has become of it.
 * False: the slot has changed hands.
 */
extern bool outbox_worker_gone(const OutboxWorkerPlace *place, bool reachable, OutboxWorker *copy);

/* Launcher: the back-off is over. */
extern void outbox_worker_retry(const OutboxWorkerPlace *place);

#endif /* OUTBOX_WORKER_H */
