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
#include "claim.h"
#include "consumer.h"
#include "service.h"
#include "trace.h"

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
	_Atomic int64_t		 last_record_at;	/* members; outbox_clock_ms */
	/* members; when old claims are forgotten next, outbox_clock_ms */
	_Atomic int64_t		 maintain_at;
} OutboxRuntime;

/* A record in hand and what became of it. */
typedef struct OutboxItem
{
	OutboxRecord		 record;
	const OutboxHandler *handler; /* NULL: no handler takes it */
	OutboxCall			 call;
	OutboxVerdict		 verdict;
	bool				 foreign;  /* a replay for another consumer: stepped over */
	bool				 prepared; /* decode and prepare are done */
	OutboxSpan			 span;	   /* of this try */
	int					 tries;	   /* made so far, this one included */
	OutboxClaim			 claim;
	char				 outcome[64]; /* what the call returned */
	/* why its dead letter is not on <topic>.DLT; "": it is */
	char				 unpublished[256];
} OutboxItem;

/* A handler's SQL as it is sent; context.c. */
typedef struct OutboxStatement
{
	const char *sql;   /* the handler's, by address */
	int			count; /* its values */
	char	   *text;  /* malloc'ed, as long as the member */
} OutboxStatement;

typedef struct OutboxMember
{
	OutboxRuntime  *runtime;
	char			instance_id[256]; /* of the group's static member; "": dynamic */
	OutboxConsumer *consumer;
	char		   *topics; /* of the handlers, as an array's text */
	OutboxDb		db;
	OutboxStatement statements[OUTBOX_DB_STATEMENTS];
	int				statement_count;
	OutboxItem	   *items; /* batch_max of them */
	int				item_count;
	int				gather_limit;	/* fewer than batch_max while preparing is slow */
	int				cautious;		/* so many records more are run with savepoints between them */
	int64_t			retry_at;		/* when outbox.dead_letter is looked at next, outbox_clock_ms */
	unsigned		retry_failures; /* in a row, for the back-off */
	int				run_limit;	/* dead letters of a key in one transaction; 0: not chosen yet */
	int				run_singly; /* so many next ones are tried one by one */
	/* when anchors are kept and logs watched again after the database was away, outbox_clock_ms */
	int64_t			watch_at;
	unsigned		watch_failures;			 /* in a row, for the back-off */
	unsigned		random_state;			 /* of rand_r(3) */
	char			owner[OUTBOX_UUID_TEXT]; /* this member in outbox.consumer_attempt */
	/* of outbox.dead_letter: its id as long as it is not put back; "": none */
	char			taken_row[24];
	bool			all_halted; /* this runtime and the database do not fit */

	atomic_bool		ready;	/* member writes */
	atomic_int		halted; /* member writes: partitions that are halted */
	atomic_int		paused; /* member writes: partitions it has and does not read at present */
	/* member writes: when its end is overdue, outbox_clock_ms; 0: it has not left its loop */
	_Atomic int64_t end_by;
	_Atomic int64_t turned_at; /* member writes: last turn of the loop, outbox_clock_ms */
} OutboxMember;

/* loop.c: thread entry; the argument is the member. */
extern void *outbox_member_run(void *member);

/* position.c: start the suspended partitions that are due. */
extern void outbox_position_start(OutboxMember *member);

/*
 * consumer_log.c: is the log still the one that was read?
 */

/* Fills the partitions' anchors.  false: member->db.error. */
extern bool outbox_log_read_anchors(OutboxMember *member, OutboxPartition *const *partitions,
									size_t count);

/*
 * The record is the last one of its partition in the batch that is begun: fills partition->begun.
 */
extern void outbox_log_note_begun(OutboxPartition *partition, const OutboxRecord *record);

/* The record is done: it may become an anchor. */
extern void outbox_log_note_done(OutboxPartition *partition, const OutboxRecord *record);

/* Has the partition's log checked.  false: there is nothing to know it by. */
extern bool outbox_log_ask(OutboxPartition *partition, bool urgent);

/*
 * What was found, given once; false: nothing yet.  partition->question is not NULL.  Overdue it is
 * UNREAD.
 */
extern bool outbox_log_answer(OutboxPartition *partition, OutboxLogCase *log);

/* Sets check_at; made: the log was looked at, or need not be. */
extern void outbox_log_check_later(OutboxMember *member, OutboxPartition *partition, bool made);

/*
 * Leaves an anchor, unless watch_at says that the database is away; for the verdicts SAME and
 * NO_PROOF.
 */
extern void outbox_log_take_good(OutboxMember *member, OutboxPartition *partition,
								 const OutboxLogCase *log);

/*
 * Records [from, low) were deleted before they were read: warns and counts; the watermark goes to
 * low, so that it is told once.
 */
extern void outbox_log_note_lost(OutboxMember *member, OutboxPartition *partition, int64_t from,
								 int64_t low);

/*
 * Verdict OTHER: the watermark goes back; *start: where reading goes on.  false: member->db.error;
 * *fenced: another member has moved the watermark, nothing is changed.
 */
extern bool outbox_log_go_back(OutboxMember *member, OutboxPartition *partition,
							   const OutboxLogCase *log, int64_t *start, bool *fenced);

/* Each turn of the loop: takes answers, asks what is due. */
extern void outbox_log_watch(OutboxMember *member);

/*
 * crash.c: records that end the process
 */

/* Notes that this member works on the partition.  false: member->db.error. */
extern bool outbox_crash_take(OutboxMember *member, OutboxPartition *partition);

/*
 * Before the item, its partition's next to be run alone or one before the watermark, is decoded;
 * condemns it when the process has ended crash_max times with it in hand.  false: member->db.error.
 */
extern bool outbox_crash_note(OutboxMember *member, OutboxItem *item);

/* The error of a record the process has not survived so often. */
extern void outbox_crash_error(OutboxError *error, int crashes);

/* Takes the notes of partitions back that are no longer owned; at the end (closing) of all. */
extern void outbox_crash_leave(OutboxMember *member, bool closing);

/* After a batch: what was to be run alone is done where the log's end was reached. */
extern void outbox_crash_end_alone(OutboxMember *member);

/* How many records may be in hand at once. */
extern int outbox_crash_limit(OutboxMember *member);

/*
 * trouble.c: records that fail for themselves alone with what is waited for
 */

/* Reads what is known of the partition's record in trouble.  false: member->db.error. */
extern bool outbox_trouble_take(OutboxMember *member, OutboxPartition *partition);

/*
 * The transaction of the items has failed with OUTBOX_FAILURE_INFRASTRUCTURE (member->db.error;
 * culprit as of outbox_batch_run): the item that is to be tried alone, which is noted in its
 * partition.  NULL: the database's, or not known which; then each one is run alone.
 */
extern OutboxItem *outbox_trouble_find(OutboxMember *member, OutboxItem **items, int count,
									   int culprit);

/* Milliseconds until the partition's record in trouble is tried again. */
extern int64_t outbox_trouble_wait(OutboxMember *member, const OutboxPartition *partition);

/* Is it its partition's record in trouble? */
extern bool outbox_trouble_is(const OutboxItem *item);

/*
 * Before it is run, alone: a new session, and the try is noted; condemns it when it has failed
 * often and long enough while the database has worked.  false: member->db.error.
 */
extern bool outbox_trouble_note(OutboxMember *member, OutboxItem *item);

/* After a batch: the partition's record in trouble may be done. */
extern void outbox_trouble_done(OutboxMember *member, OutboxPartition *partition);

/*
 * context.c
 */

/* Prepares the call's statement, outside a pipeline.  false: member->db.error. */
extern bool outbox_context_prepare(OutboxMember *member, const OutboxCall *call);

/* Sends the item's call, whose statement is prepared, into the pipeline. */
extern bool outbox_context_send(OutboxMember *member, const OutboxItem *item);

/* batch.c */

/* Finds the handler, decodes and prepares; fills verdict, call and span. */
extern void outbox_item_prepare(OutboxMember *member, OutboxItem *item);

/*
 * Runs items as one database transaction.  The first *done of them are committed: on
 * OUTBOX_FAILURE_NONE all.  Else none, or those before the one at fault; member->db.error
 * says why and *culprit is the index of the item at fault, -1 when none is.  *fenced: another
 * member has moved a watermark.
 */
extern OutboxDbFailure outbox_batch_run(OutboxMember *member, OutboxItem **items, int count,
										int *culprit, int *done, bool *fenced);

/* Runs the item's call alone and rolls it back; member->db.error. */
extern OutboxDbFailure outbox_batch_prove(OutboxMember *member, OutboxItem *item);

/* Works off member->items; what cannot be done now is read again later. */
extern void outbox_batch_process(OutboxMember *member);

/* retry.c: one due row of outbox.dead_letter and what is held behind it; sets retry_at. */
extern void outbox_retry_run(OutboxMember *member);

/* maintain.c: once an hour, in one member of the process, forgets claims that are too old. */
extern void outbox_maintain_run(OutboxMember *member);

/* dead_letter.c */

/* The statement that writes an item's dead letter, and its values (free them). */
#define OUTBOX_DEAD_LETTER_VALUES 18
extern const char outbox_dead_letter_sql[];
extern void outbox_dead_letter_values(const OutboxItem *item,
									  char			   *values[OUTBOX_DEAD_LETTER_VALUES]);

/* Milliseconds until the next try, after so many that failed. */
extern long outbox_retry_backoff(int failed);

/* "held", "retrying" or "open": what a record not done becomes. */
extern const char *outbox_dead_letter_state(const OutboxItem *item);

/*
 * After the commit: log line, count, breaker; unpublished: why it is not on <topic>.DLT, "": it is;
 * failing_ms: since the record failed first.
 */
extern void outbox_dead_letter_report(OutboxMember *member, const OutboxRecord *record,
									  const char *state, const OutboxError *error,
									  const char *unpublished, int64_t failing_ms);

/*
 * group_check.c: once a process, warns of topics that are new to this consumer and not to others.
 * The database is connected.
 */
extern void outbox_group_check(OutboxMember *member);

/* retention.c: once, warns of subscribed topics that keep records longer than claims are kept. */
extern void outbox_retention_check(OutboxMember *member);

/*
 * breaker.c
 */

/* After the commit of a dead letter; failing_ms: since the record failed first. */
extern void outbox_breaker_count(OutboxMember *member, const OutboxRecord *record,
								 const OutboxError *error, int64_t failing_ms);

/* After the commit of a record that is done: closes it. */
extern void outbox_breaker_record_done(OutboxMember *member);

/* The record tried while it is open has failed: the next pause begins. */
extern void outbox_breaker_record_failed(OutboxMember *member, const OutboxRecord *record,
										 const OutboxError *error);

/* While it pauses no partition is worked on.  Returns whether it does. */
extern bool outbox_breaker_pause(OutboxMember *member);

/* service_metrics.c: the runtime's metrics */
extern void outbox_count_record(const char *topic, const char *result);
extern void outbox_count_outcome(const OutboxItem *item);
extern void outbox_observe_batch(OutboxItem **items, int count, double seconds);
extern void outbox_count_failure(OutboxDbFailure failure);
extern void outbox_set_breaker(bool open);
extern void outbox_set_idle(double seconds);
extern void outbox_set_paused(int paused, int halted);

/*
 * A partition's log was found to be another one; records deleted before they were read; a check of
 * a log.
 */
extern void outbox_count_log_change(const char *topic);
extern void outbox_count_lost(const char *topic, int64_t records);
extern void outbox_count_log_check(OutboxLogVerdict verdict);

/* At the start: counters that alerts ask for are there before anything is counted. */
extern void outbox_count_nothing(const char *topic);

/* kind: assigned, revoked, lost or failed. */
extern void outbox_count_rebalance(const char *consumer, const char *kind);

/* Fills outbox_dead_letters from the database; false: it did not answer. */
extern bool outbox_refresh_dead_letters(OutboxDb *db);
extern void outbox_set_build_info(void);

#endif /* OUTBOX_MEMBER_H */
