/* SPDX-License-Identifier: PostgreSQL
 *
 * simulation.h
 *	  A seeded simulation of tables, broker and relay around the relay's pure parts.
 *
 * Process: test program.  tables.c is a database as the replay of a write-ahead log that a crash, a
 * failover or a recovery to a point in time cuts off; broker.c is Kafka with transactions that may
 * end unanswered, late or torn; relay.c is the relay's loop around snapshot.c, start_rules.c and
 * state.c, ring.c its retention around retention_plan.c; oracle.c judges a schedule by sets of
 * event ids.
 */
#ifndef OUTBOX_SIMULATION_H
#define OUTBOX_SIMULATION_H

#include "postgres.h"

#include "bgworker/events/retention_plan.h"
#include "bgworker/relay/start_rules.h"
#include "bgworker/relay/state.h"

#define MOST_TRANSACTIONS 512
#define MOST_EVENTS		  512
#define MOST_RECORDS	  2048
#define MOST_BATCHES	  512
#define MOST_LOGGED		  4096
#define MOST_RUNNING	  64 /* members of a snapshot's list */
#define MOST_WAYPOINTS	  4
#define KEYS			  5
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
	int	   id; /* its identity, never reissued */
	int	   key;
	int	   leaf;
	int64  created_at;
	bool   poison;	/* Kafka refuses it */
	bool   emptied; /* its leaf was emptied */
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

typedef struct SimBatch
{
	OutboxBatchRow row;
	uint64		   lower[MOST_RUNNING];
	uint64		   upper[MOST_RUNNING];
} SimBatch;

typedef struct SimExclusion
{
	int64  batch_no;
	uint64 txid;
	int64  seq;
} SimExclusion;

/* The state a log replays to. */
typedef struct Tables
{
	uint64		   next_txid;
	uint64		   completed; /* highest txid that has ended */
	int64		   next_seq;
	int			   leaf; /* current leaf; in memory only */
	int			   timeline;
	SimTransaction transactions[MOST_TRANSACTIONS];
	int			   nevents;
	SimEvent	   events[MOST_EVENTS];
	int			   nbatches;
	int			   batches[MOST_BATCHES]; /* index into batch_pool */
	int			   nexclusions;
	SimExclusion   exclusions[MOST_EVENTS];
	uint64		   key_holder[KEYS]; /* transaction with the key's row lock, 0 = none */
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

/* One look: the ring moves on, a leaf that delivered sees is emptied. */
extern void ring_tend(const OutboxSnapshot *delivered);

/* ---------------------------------------------------------------- oracle */

extern void oracle_reset(void);
/* The log is about to be cut to `kept` records; lossy: below what was durable. */
extern void oracle_cut(int kept, bool lossy);
extern void oracle_adopted(bool resend, const OutboxSnapshot *base, const OutboxPosition *base_at);
/* A batch is taken as delivered whose dead letters may be in the tail that was lost. */
extern void oracle_letters_lost(const OutboxRange *range);
extern void oracle_cursor_forgotten(void);
extern void oracle_held(const char *reason);
extern void oracle_fail(const char *format, ...) pg_attribute_printf(1, 2);
/* NULL: the schedule holds; else what is wrong. */
extern const char *oracle_judge(void);

#endif /* OUTBOX_SIMULATION_H */
