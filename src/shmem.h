/* SPDX-License-Identifier: PostgreSQL
 *
 * shmem.h
 *	  The one struct of the extension in shared memory.
 *
 * Exists only when the library was loaded by shared_preload_libraries.  A slot belongs to a
 * database from its first emit(), start_relay() or look at its switch until the database is
 * dropped; a process looks its slot up once (outbox_shmem_slot) and keeps the pointer.  Nothing
 * here outlives the server; every field can be found again from the tables.
 *
 * Locks: OutboxShared.lock (LWLock) guards the allocation of slots and their workers;
 * OutboxSlot.mutex (spinlock) guards OutboxRelayStatus.  Atomics stand alone.  Lock order: lock
 * before mutex.
 */
#ifndef OUTBOX_SHMEM_H
#define OUTBOX_SHMEM_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "launch_rules.h"

#define OUTBOX_LEAVES		 8 /* leaves of the event ring */
#define OUTBOX_MAX_DATABASES 64
#define OUTBOX_NO_PROC		 PG_UINT32_MAX
#define OUTBOX_TEXT_SIZE	 1024 /* errors and property texts in status */
#define OUTBOX_HELD_TOPICS	 1024 /* with bytes of their own; a power of two */

typedef enum OutboxRelayState
{
	OUTBOX_RELAY_STOPPED,	  /* no worker, not wanted or not looked yet */
	OUTBOX_RELAY_STARTING,	  /* worker runs, tables not read yet */
	OUTBOX_RELAY_CONNECTING,  /* sender starts, Kafka is asked for the cursor */
	OUTBOX_RELAY_FENCING,	  /* new producer, authoritative cursor */
	OUTBOX_RELAY_IDLE,		  /* everything visible is delivered */
	OUTBOX_RELAY_PREPARING,	  /* a batch is read and its row committed */
	OUTBOX_RELAY_REPLICATING, /* the batch row waits for a synchronous standby */
	OUTBOX_RELAY_SENDING,	  /* the batch is with the sender */
	OUTBOX_RELAY_BACKOFF,	  /* something failed, the next try has a time */
	OUTBOX_RELAY_HOLD,		  /* divergence: a person must decide */
} OutboxRelayState;

/* A person's answer to a hold. */
typedef enum OutboxAdoption
{
	OUTBOX_ADOPT_NONE,
	OUTBOX_ADOPT_RESEND, /* send what is not known to be delivered */
	OUTBOX_ADOPT_SKIP,	 /* take everything so far as delivered */
} OutboxAdoption;

/* What an error is about: its end shows there. */
typedef enum OutboxErrorSubject
{
	OUTBOX_ERROR_OF_RELAY,	  /* over with the next commit, or when nothing is left to send */
	OUTBOX_ERROR_OF_SETTINGS, /* over when they are read well */
	OUTBOX_ERROR_OF_TOPICS,	  /* over when no row of outbox.topic is wrong */
	OUTBOX_ERROR_OF_LETTERS,  /* over when no dead letter and no topic is kept back */
	OUTBOX_ERROR_OF_HOLDS,	  /* over when no topic is held apart */
	OUTBOX_ERROR_OF_RELEASE,  /* over when a step of a release is made */
	OUTBOX_ERROR_SUBJECTS	  /* their number */
} OutboxErrorSubject;

/* The last error of a subject.  Part of OutboxRelayStatus. */
typedef struct OutboxLastError
{
	TimestampTz at;			  /* 0 = never */
	TimestampTz recovered_at; /* when it was over; 0 = it is not, or there was none */
	char		text[OUTBOX_TEXT_SIZE];
} OutboxLastError;

/*
 * Writer: the relay of the database; while it has none, the launcher.  Lock: OutboxSlot.mutex.
 * Texts are UTF-8, for databases of any encoding read them.
 */
typedef struct OutboxRelayStatus
{
	OutboxRelayState state;
	int				 pid;			  /* worker, 0 = none */
	int				 sender_pid;	  /* child, 0 = none */
	int64			 delivered_batch; /* last batch known delivered, -1 = unknown */
	int64			 events_sent;	  /* since the worker's slot was made */
	int64			 bytes_sent;	  /* keys and payloads */
	int64			 batches_sent;
	int64			 events_refused;	   /* by Kafka, now dead letters */
	int64			 refusal_rounds;	   /* batches that came again for refused events */
	int64			 recoveries;		   /* I6 taken after a failure */
	int64			 suspect_transactions; /* torn-transaction watch fired */
	int64			 possibly_doubled;	   /* events sent again that Kafka may have had */
	int64			 rotations;
	int64			 rotations_refused; /* a leaf could not be locked */
	TimestampTz		 started_at;		/* 0 = not started */
	TimestampTz		 delivered_at;		/* 0 = never */
	int				 delivery;			/* OutboxDelivery in use */
	/* HOLD until objects belong to the extension's owner: not adopt()'s */
	bool			 held_by_owner;
	bool			 commit_order; /* true: commit time; false: seq (setting off) */
	OutboxLastError	 errors[OUTBOX_ERROR_SUBJECTS];
	/* "" unless state is HOLD, or STARTING without a batch row */
	char			 hold_reason[OUTBOX_TEXT_SIZE];
	char			 kafka[OUTBOX_TEXT_SIZE]; /* librdkafka version, effective properties */
} OutboxRelayStatus;

/* Kinds of workers; their table is outbox_worker_kinds (worker.c). */
enum
{
	OUTBOX_KIND_RELAY,
	OUTBOX_KINDS /* their number */
};

#define OUTBOX_MOST_SHARDS 1 /* workers of one kind in a database */

/* One worker of a database.  Lock: OutboxShared.lock; written in worker.c alone. */
typedef struct OutboxWorker
{
	OutboxWorkerState state;	/* writers: launcher, worker, backend with a command */
	uint32			  start;	/* the newest of OutboxShared.starts: its process may attach;
								 * writer: launcher */
	int				  pid;		/* attached process, which lives as long as it stands
								 * here; 0 = none; writer: worker */
	bool			  wanted;	/* the switch when a worker last looked; writers: worker,
								 * launcher (off when the database takes no connections) */
	int				  failures; /* ends in a row without progress, for the back-off; writers:
								 * launcher counts, worker and who asks for a look clear it */
} OutboxWorker;

/* Bytes of a topic that are held apart.  Writer: relay. */
typedef struct OutboxHeldTopic
{
	pg_atomic_uint64 topic; /* hash of its name, 0 = free */
	pg_atomic_uint64 bytes; /* int64 */
} OutboxHeldTopic;

typedef struct OutboxSlot
{
	Oid				 database;		/* InvalidOid = free; writer: allocator; lock */
	pg_atomic_uint32 leaf;			/* current leaf + 1, 0 = find it again;
									 * writer: relay, or first emitter by CAS from 0 */
	pg_atomic_uint32 relay_proc;	/* pgprocno to wake; writer: relay */
	pg_atomic_uint64 waiting_since; /* TimestampTz of the oldest event known to wait
									 * without a relay, 0 = none; writers: emitter
									 * and worker by CAS from 0, relay clears */
	pg_atomic_uint64 backlog;		/* int64: bytes committed less bytes delivered, see
									 * backlog.h; writers: emitting backends, relay */
	pg_atomic_uint32 held_topics;	/* entries of `held` in use, 0: emit() looks no further;
									 * writer: relay */
	pg_atomic_uint32 replays;		/* changes of outbox.replay_job and topic_hold by persons;
									 * writers: backends */

	OutboxHeldTopic	 held[OUTBOX_HELD_TOPICS]; /* see backlog.c */
	pg_atomic_uint64 held_others;			   /* int64: bytes of topics that found no entry;
												* writer: relay */

	/* Lock: OutboxShared.lock. */
	bool		 used; /* a process keeps the pointer; writers: outbox_shmem_slot, relay */
	OutboxWorker workers[OUTBOX_KINDS][OUTBOX_MOST_SHARDS];
	int			 suspended;		/* commands that want no worker now: all are SUSPENDED or
								 * BARRED; writer: utility hook */
	int			 suspender_pid; /* who began the newest of them, 0 = it has ended;
								 * writer: utility hook */
	char		 suspender[32]; /* its command, "ALTER DATABASE"; writer: utility hook */
	bool		 measured;		/* all of backlog was found in the tables since the server's
								 * start; writers: attached relay, which reads it without the
								 * lock, and the utility hook when none is */

	/* Lock: mutex. */
	slock_t			  mutex;
	int				  adopt; /* OutboxAdoption; writers: adopt() sets, relay clears */
	OutboxRelayStatus status;
} OutboxSlot;

typedef struct OutboxShared
{
	LWLock			*lock;
	pg_atomic_uint32 launcher_proc; /* pgprocno to wake; writer: launcher */
	/*
	 * int64, us: the wall clock less the one that does not step, 0 = not looked at; writers:
	 * emitting backends, relays by CAS
	 */
	pg_atomic_uint64 clock_distance;
	pg_atomic_uint64 step_txid; /* next transaction id when the wall clock was last set back;
								 * writers: the same by CAS, it only grows */
	uint32			 starts;	/* of workers since the server's start; writer: launcher; lock */
	OutboxSlot		 slots[OUTBOX_MAX_DATABASES];
} OutboxShared;

extern OutboxShared *outbox_shared; /* NULL: not preloaded */

/* _PG_init, under shared_preload_libraries only. */
extern void outbox_shmem_request(void);

/*
 * Slot of this process's database, made if needed, kept until the database is
 * dropped.  NULL when not preloaded or when all OUTBOX_MAX_DATABASES are taken.
 */
extern OutboxSlot *outbox_shmem_slot(void);

/*
 * Slot of any database; made if `make`.  Caller must not hold the lock; may be
 * freed (database changes) once the lock is free.
 */
extern OutboxSlot *outbox_shmem_slot_of(Oid database, bool make);

/* Frees the slot of a dropped database. */
extern void outbox_shmem_forget(Oid database);

/* Frees the slot if no process keeps it and no worker is there, asked for or suspended. */
extern void outbox_shmem_release(OutboxSlot *slot, Oid database);

/* Sets the latch of a process published in one of the atomics, if any. */
extern void outbox_shmem_wake(pg_atomic_uint32 *proc);

/*
 * A text of this process's database for dst, a text of the status: UTF-8, and cut where it is too
 * long.
 */
extern void outbox_shmem_fit(char dst[OUTBOX_TEXT_SIZE], const char *text);

/* Keeps text as the subject's error, with the time; it is not over. */
extern void outbox_shmem_report_error(OutboxSlot *slot, OutboxErrorSubject subject,
									  const char *text);

/* The subject is in order: its error, if there is one, is over from now on, unless it was. */
extern void outbox_shmem_recovered(OutboxSlot *slot, OutboxErrorSubject subject);

/* The error to show of a copy of the status: the newest that is not over, else the newest. */
extern OutboxLastError *outbox_shmem_last_error(OutboxRelayStatus *status);

/* Name of a state for views: "idle", ... */
extern const char *outbox_relay_state_name(OutboxRelayState state);

#endif /* OUTBOX_SHMEM_H */
