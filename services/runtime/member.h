/* SPDX-License-Identifier: PostgreSQL
 *
 * member.h
 *	  One thread of a service: one member of the consumer group, one connection,
 *	  and the steps of its loop.
 *
 * A member's fields belong to its thread, but for the atomic ones.
 */
#ifndef OUTBOX_MEMBER_H
#define OUTBOX_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "breaker.h"
#include "call_gate.h"
#include "call_pool.h"
#include "consumer.h"
#include "item.h"
#include "service.h"
#include "window.h"

/*
 * Records of a transaction with savepoints: the server remembers 64 of those without searching a
 * table.
 */
#define OUTBOX_CAUTIOUS_MAX 240

#define OUTBOX_SLEEP_MAX_MS 200 /* longest wait for a record: how soon a stop is seen */

/* longest last turn of the loop, longest close: then the process is ended */
#define OUTBOX_END_MAX_MS 15000
#define OUTBOX_ENDED	  INT64_MAX /* end_by of a member that has ended */

/* The process, for all its members; service and handlers are written before the threads start. */
typedef struct OutboxRuntime
{
	const OutboxService *service;
	const OutboxHandler *handlers;			/* ended by a NULL topic */
	atomic_bool			 stopping;			/* any thread; set once */
	atomic_bool			 retention_checked; /* the first member that is assigned; set once */
	atomic_bool			 failed;			/* any thread; set once: exit code 1 */
	OutboxBreaker		 breaker;			/* has a lock of its own */
	OutboxCallGate		 gate;				/* has a lock of its own */
	OutboxCallPool		*pool;				/* NULL: no handler calls out */
	_Atomic int64_t		 last_record_at;	/* members; outbox_clock_ms */
	/* members; when old claims are forgotten next, outbox_clock_ms */
	_Atomic int64_t		 maintain_at;
} OutboxRuntime;

/* A handler's SQL as it is sent (context.h). */
typedef struct OutboxStatement
{
	const char *sql;   /* the handler's, by address */
	int			count; /* its values */
	char	   *text;  /* malloc'ed, as long as the member */
} OutboxStatement;

typedef struct OutboxMember
{
	OutboxRuntime		   *runtime;
	char					instance_id[256]; /* of the group's static member; "": dynamic */
	OutboxConsumer		   *consumer;
	char				   *topics; /* of the handlers, as an array's text */
	OutboxDb				db;
	OutboxStatement			statements[OUTBOX_DB_STATEMENTS];
	int						statement_count;
	OutboxItem			   *items; /* batch_max of them */
	int						item_count;
	OutboxItem			  **in_hand; /* what is worked off now, so many */
	int						in_hand_count;
	OutboxWindow		   *window;		 /* NULL: no handler calls out */
	OutboxCallQueue			answers;	 /* of calls that have ended */
	int64_t					woken_at;	 /* the client, in a rebalance; outbox_clock_ms */
	bool					full;		 /* the window: nothing is read for it */
	struct OutboxRetryCall *retry_calls; /* rows of outbox.dead_letter whose calls are under way */
	int						retry_call_count;
	OutboxCallQueue			retry_answers; /* of those that have ended */
	int		 cautious;		 /* so many records more are run with savepoints between them */
	int64_t	 retry_at;		 /* when outbox.dead_letter is looked at next, outbox_clock_ms */
	unsigned retry_failures; /* in a row, for the back-off */
	int		 run_limit;		 /* dead letters of a key in one transaction; 0: not chosen yet */
	int		 run_singly;	 /* so many next ones are tried one by one */
	/* when anchors are kept and logs watched again after the database was away, outbox_clock_ms */
	int64_t	 watch_at;
	unsigned watch_failures;		  /* in a row, for the back-off */
	unsigned random_state;			  /* of rand_r(3) */
	char	 owner[OUTBOX_UUID_TEXT]; /* this member in outbox.consumer_attempt */
	/* of outbox.dead_letter: its id as long as it is not put back; "": none */
	char	 taken_row[24];

	atomic_bool		ready;			 /* member writes */
	atomic_int		halted;			 /* member writes: partitions that are halted */
	atomic_int		calls_under_way; /* member writes: calls that have not ended */
	atomic_int		calls_waiting;	 /* member writes: other records of the window, not done */
	atomic_bool		window_full;	 /* member writes: nothing is read for the window */
	atomic_int		paused; /* member writes: partitions it has and does not read at present */
	/* member writes: when its end is overdue, outbox_clock_ms; 0: it has not left its loop */
	_Atomic int64_t end_by;
	_Atomic int64_t turned_at; /* member writes: last turn of the loop, outbox_clock_ms */
} OutboxMember;

#endif /* OUTBOX_MEMBER_H */
