/* SPDX-License-Identifier: PostgreSQL
 *
 * simulation.h
 *	  A seeded simulation of tables, broker and relay around the relay's pure parts.
 *
 * Process: test program.  tables.c is a database as the replay of a write-ahead log that a crash, a
 * failover or a recovery to a point in time cuts off; broker.c is Kafka with transactions that may
 * end unanswered, late or torn, and topics that have no leader or are refused; relay.c is the
 * relay's loop around snapshot.c, start_rules.c and state.c, hold.c its topic holds around
 * hold_rules.c and release_plan.c, ring.c its retention around retention_plan.c; oracle.c judges a
 * schedule by sets of event ids.
 */
#ifndef OUTBOX_SIMULATION_H
#define OUTBOX_SIMULATION_H

#include "postgres.h"

#include "bgworker/events/retention_plan.h"
#include "bgworker/relay/hold_rules.h"
#include "bgworker/relay/start_rules.h"
#include "bgworker/relay/state.h"

#define MOST_TRANSACTIONS 512
#define MOST_EVENTS		  512
#define MOST_RECORDS	  2048
#define MOST_BATCHES	  512
#define MOST_LOGGED		  4096
#define MOST_RUNNING	  64 /* members of a snapshot's list */
#define MOST_WAYPOINTS	  4
#define MOST_HOLDS		  48
#define MOST_SHARES		  256
#define MOST_COPIES		  256
#define MOST_REFUSED	  16 /* transactions of copies in one batch */
#define KEYS			  5
#define TOPICS			  3
#define FIRST_TXID		  3

/* Defences a mutant goes without; 0 = the product. */
typedef enum Mutant
{
	MUTANT_NONE,
	MUTANT_NO_FENCE,		   /* the batch row is not flushed before it is sent */
	MUTANT_NO_COMPARISON,	   /* Kafka's cursor is taken as it is */
	MUTANT_NO_WATCH,		   /* a torn commit is not followed by a fence */
	MUTANT_ROTATION_UNCHECKED, /* a leaf is emptied by age alone */
	MUTANT_LATE_EXCLUSION,	   /* the exclusion row is not flushed before the batch is sent again */
	MUTANT_CURSOR_FIRST,	   /* the offset is committed before the events */
	MUTANT_NO_STANDBY_WAIT,	   /* the batch row is not replicated before it is sent */
	MUTANT_LATE_HOLD,		   /* the hold's row is not flushed before the batch is sent again */
	MUTANT_LEFT_OUT_BLIND,	   /* the cursor does not count what holds left out */
	MUTANT_END_APART,		   /* the hold's end is committed before its last copies */
	MUTANT_END_UNRANKED,	   /* the last copies are not first in their window */
	MUTANT_RELEASE_PASSES,	   /* new events pass while the topic is released */
	MUTANT_COPIES_HELD,		   /* a hold leaves its own copies out */
	MUTANT_REFUSED_SENT,	   /* a refused copy is sent, too */
	MUTANT_ADOPT_KEEPS,		   /* adopt keeps what holds left out of batches that come again */
	MUTANT_HELD_EMPTIED,	   /* a leaf is emptied though a hold has events there */
	MUTANTS
} Mutant;

/* ---------------------------------------------------------------- chance */

extern void seed_chance(uint64 seed);
extern uint32 pick(uint32 below); /* 0 .. below - 1 */
extern bool happens(int percent);

/* ---------------------------------------------------------------- tables */

typedef struct SimEvent
{
	uint64 txid;
	int64  seq;
	int	   id;	/* its identity, never reissued */
	int	   key; /* its topic is topic_of(key) */
	int	   leaf;
	int64  created_at;
	bool   poison;	/* Kafka refuses it */
	bool   emptied; /* its leaf was emptied */
	bool   copy;	/* of an event with this id, made by a release */
} SimEvent;

typedef enum TxState
{
	TX_NONE,
	TX_RUNNING,
	TX_PREPARED,
	TX_COMMITTED,
	TX_ABORTED
} TxState;

typedef struct SimTransaction
{
	TxState state;
	int64	commit_time;
	int		commit_record; /* place in the log: commit order */
} SimTransaction;

typedef struct SimSnapshot
{
	OutboxSnapshot snapshot;
	uint64		   xip[MOST_RUNNING];
} SimSnapshot;

/* A row of outbox.topic_hold_batch: what a hold left out of a batch. */
typedef struct SimShare
{
	int	  hold; /* place in tables.holds */
	int64 batch_no;
	int	  events;
} SimShare;

typedef struct SimBatch
{
	OutboxBatchRow row;
	uint64		   lower[MOST_RUNNING];
	uint64		   upper[MOST_RUNNING];
	/* with the row: what holds left out, refused copies, and from where on batches come again */
	int			   nshares;
	SimShare	   shares[TOPICS];
	int			   nrefused;
	uint64		   refused[MOST_REFUSED];
	int64		   forgets_from; /* 0 = none do */
} SimBatch;

typedef struct SimExclusion
{
	int64  batch_no;
	uint64 txid;
	int64  seq;
} SimExclusion;

typedef enum SimHoldState
{
	HOLD_HELD,
	HOLD_RELEASING,
	HOLD_ENDED,
	HOLD_GONE, /* ended, and its other rows deleted */
} SimHoldState;

/* A row of outbox.topic_hold. */
typedef struct SimHold
{
	int				topic;
	OutboxHoldCause cause;
	SimHoldState	state;
	uint64			ended_txid; /* 0 = has not ended */
} SimHold;

/* A row of outbox.topic_hold_copy. */
typedef struct SimCopy
{
	int	   hold;
	uint64 txid;
	int64  last_batch;
	int	   copies;
	int64  refused_batch; /* 0 = none */
} SimCopy;

/* One transaction about a hold. */
typedef struct SimHoldChange
{
	int		 hold; /* the number of holds: it begins */
	SimHold	 now;
	SimShare share; /* events 0 = none */
	int64	 refused_batch;
	int		 nrefused; /* the oldest first; later copies are refused with them */
	uint64	 refused[MOST_REFUSED];
} SimHoldChange;

/* The state a log replays to. */
typedef struct Tables
{
	uint64		   next_txid;
	uint64		   completed; /* highest txid that has ended */
	int64		   next_seq;
	int			   leaf; /* current leaf; in memory only */
	int			   timeline;
	uint64		   key_holder[KEYS]; /* transaction with the key's row lock, 0 = none */
	int			   nevents;
	int			   nbatches;
	int			   nexclusions;
	int			   nholds;
	int			   nshares;
	int			   ncopies;
	SimTransaction transactions[MOST_TRANSACTIONS];
	/* what is beyond their numbers is never read, nor cleared */
	SimEvent	   events[MOST_EVENTS];
	int			   batches[MOST_BATCHES]; /* index into batch_pool */
	SimExclusion   exclusions[MOST_EVENTS];
	SimHold		   holds[MOST_HOLDS];
	SimShare	   shares[MOST_SHARES];
	SimCopy		   copies[MOST_COPIES];
} Tables;

extern Tables	tables;
extern SimBatch batch_pool[MOST_BATCHES * 2];
extern int		records; /* length of the log */
extern int		flushed; /* that survive a crash */
extern int		standby; /* that survive a failover */
extern int64	clock_now;
extern bool		timed; /* commit times are kept */

extern void tables_reset(void);
extern uint64 tables_begin(void);
extern bool tables_emit(uint64 txid, int key, bool poison);
extern void tables_end(uint64 txid, TxState state);
/* In a transaction of the relay, which commits with row (NULL: none) and the hold's end. */
extern void tables_copy(uint64 txid, const SimEvent *original);
extern void tables_end_copies(uint64 txid, const SimCopy *row, int ended_hold);
extern void tables_change_hold(const SimHoldChange *change);
extern void tables_store_batch(SimBatch *batch);
extern void tables_exclude(const SimExclusion *exclusion);
extern void tables_fence(void);
extern void tables_empty_leaf(int leaf);
/* Cuts the log and replays it: what runs is aborted, txids and seqs are reissued. */
extern void tables_cut(int kept, bool new_timeline);
extern void tables_snapshot(SimSnapshot *snapshot);
extern const SimBatch *tables_batch(int64 batch_no); /* -1: the last; NULL: none */
extern int tables_left_out(int64 batch_no);
extern bool tables_excluded(int64 batch_no, uint64 txid, int64 seq);
extern int tables_hold_of(int topic);				 /* that has not ended; -1 = none */
extern const SimCopy *tables_copies_of(uint64 txid); /* NULL: the transaction made none */
extern int topic_of(int key);
extern void copy_snapshot(OutboxSnapshot *to, uint64 *xip, const OutboxSnapshot *from);

/* ---------------------------------------------------------------- broker */

typedef enum SendOutcome
{
	SEND_COMMITTED,
	SEND_TORN,	 /* committed; a late copy of EndTxn is on its way */
	SEND_FAILED, /* no answer, whatever happened */
	SEND_FENCED,
} SendOutcome;

extern OutboxKafkaCursor broker_cursor;
extern int				 logged[MOST_LOGGED]; /* ids as a read_committed reader sees them */
extern int				 nlogged;
extern int				 broker_epoch;
extern bool				 broker_unled[TOPICS];	/* a partition has no leader */
extern bool				 broker_closed[TOPICS]; /* all of it is refused */

extern void broker_reset(void);
extern int broker_fence(void); /* new epoch; ends what is under way */
extern SendOutcome broker_send(int epoch, const int *ids, int count,
							   const OutboxKafkaCursor *cursor);
/* The relay dies with a transaction under way, which may still commit until it is fenced. */
extern void broker_leave(int epoch, const int *ids, int count, const OutboxKafkaCursor *cursor);
/* Is the event in the log, or in a transaction that may still commit? */
extern bool broker_may_have(int id);
extern void broker_tick(void);
extern void broker_forget_cursor(void);

/* ----------------------------------------------------------------- relay */

extern Mutant mutant;
extern bool	  replicated_mode; /* a synchronous standby is named */
extern bool	  healing;		   /* no further faults */
extern int	  holds;

extern void relay_reset(void);
extern void relay_turn(void);
extern void relay_die(void);
extern bool relay_is_done(void); /* idle, and everything is delivered */

/* ------------------------------------------------------------------ ring */

/*
 * One look: the ring moves on, a leaf that delivered sees is emptied, unless holds left events out
 * behind where the oldest of their batches begins.
 */
extern void ring_tend(const OutboxSnapshot *delivered);

/* ---------------------------------------------------------------- oracle */

extern void oracle_reset(void);
/* The log is about to be cut to `kept` records; lossy: below what was durable. */
extern void oracle_cut(int kept, bool lossy);
extern void oracle_adopted(bool resend, const OutboxSnapshot *base, const OutboxPosition *base_at);
/*
 * A batch is taken as delivered whose dead letters and holds may be in the tail that was lost.
 */
extern void oracle_rows_lost(const OutboxRange *range);
extern void oracle_cursor_forgotten(void);
extern void oracle_held(const char *reason);
extern void oracle_fail(const char *format, ...) pg_attribute_printf(1, 2);
/* NULL: the schedule holds; else what is wrong. */
extern const char *oracle_judge(void);

#endif /* OUTBOX_SIMULATION_H */
