/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer.h
 *	  One member of a Kafka consumer group.  Everything of it belongs to the
 *	  member's thread.
 *
 * A partition just assigned, or one whose records could not be done, is
 * suspended: paused in Kafka's client, its records dropped.  Only
 * outbox_consumer_start puts it to work, at an offset the caller has found.
 */
#ifndef OUTBOX_CONSUMER_H
#define OUTBOX_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "anchor.h"
#include "trouble_plan.h"
#include "services/kafka/record.h"
#include "services/lib/clock.h"

struct OutboxLogQuestion;

typedef struct OutboxConsumer OutboxConsumer;

typedef struct OutboxPartition
{
	char		 *topic;
	int32_t		  partition;
	bool		  owned;  /* assigned to this member */
	bool		  active; /* owned and not suspended */
	/* program or schema are wrong; until a record is done or none is left */
	bool		  halted;
	bool		  store_due;  /* its position should be stored */
	int64_t		  next;		  /* first offset that is not done; -1: not known */
	int64_t		  watermark;  /* consumer_offset.next_offset; -1: no row */
	int			  log_no;	  /* consumer_offset.log_no, when watermark was read */
	int64_t		  old_ids_to; /* consumer_offset.old_ids_to, when watermark was read */
	int64_t		  stored;	  /* offset last stored; -1: none */
	int64_t		  committed;  /* by the group when last read; -1: none */
	int64_t		  resume_at;  /* suspended: when to start again, outbox_clock_ms */
	unsigned	  failures;	  /* in a row, for the back-off */
	bool		  noted;	  /* its row of outbox.consumer_attempt is this member's */
	bool		  drained;	  /* the log's end was seen and no record since */
	/* as many next records are run one by one: one may end the process */
	int			  alone;
	bool		  calls_out;  /* its topic has handlers that call out: records go to the window */
	unsigned	  reading;	  /* raised when what was read before counts no more */
	int			  unfinished; /* records in the window that are not done */
	int			  in_window;  /* records in the window */
	bool		  held_back;  /* not read for now: the window is full */
	int64_t		 *suspects;	  /* offsets of calls that are run alone: one may end the process */
	int			  suspect_count; /* malloc'ed so many */
	OutboxTrouble trouble;		 /* the record that is tried alone, in new sessions */
	bool		  taken;		 /* assigned, and no record done since */
	/* last move of the watermark by any member, outbox_clock_ms; -1: none */
	int64_t		  progress_at;
	/* of outbox.consumer_anchor, the newest first */
	OutboxAnchor  anchors[OUTBOX_ANCHORS];
	int			  anchor_count;
	/* the record done last, of this log; offset -1: none is known */
	OutboxAnchor  newest;
	OutboxAnchor  begun; /* the last record of the batch begun last */
	/* the first record in the window; offset -1: none is */
	OutboxAnchor  waiting;
	struct OutboxLogQuestion *question; /* to log_check.c; NULL: nothing is asked */
	/* the record done last when a doubt arose that no check has ended; offset -1: none */
	OutboxAnchor			  suspect;
	/* a doubt arose after the question was asked: its answer may be of before */
	bool					  overtaken;
	/* the record asked first: suspect, or newest when it was asked */
	OutboxAnchor			  candidate;
	int64_t					  check_at; /* when the log is checked next, outbox_clock_ms */
	/*
	 * there was proof of another log: the next one is believed at once; without an answer it is
	 * read
	 */
	bool					  doubtful;
	bool					  unproven; /* it was said that no anchor is left */
	bool					  broken; /* the client has given it up: only a new assignment helps */
	bool					  went_back; /* Kafka's committed offset must go back with it */
	/* it went back: not known yet whether the commit came through */
	bool					  verify;
	/* its log was checked, but the client could not start it yet: again from `start` */
	bool					  refused;
	int64_t					  start;		 /* of a refused start */
	int						  seeks_refused; /* in a row */
} OutboxPartition;

typedef struct OutboxConsumerConfig
{
	const char		  *bootstrap_servers; /* NULL: none, for a check */
	const char		  *group;			  /* NULL: in no group */
	const char		  *client_id;		  /* unless the properties have one; NULL: librdkafka's */
	const char		  *instance_id; /* static membership: unique in the group; NULL: dynamic */
	const char		  *properties;	/* allow-listed librdkafka properties, "" for none */
	const char *const *topics;
	size_t			   topic_count;
} OutboxConsumerConfig;

/* NULL on failure, logged. */
extern OutboxConsumer *outbox_consumer_open(const OutboxConsumerConfig *config);

/* true: record is filled and must be given back by outbox_consumer_release. */
extern bool outbox_consumer_poll(OutboxConsumer *consumer, int timeout_ms, OutboxRecord *record);
extern void outbox_consumer_release(OutboxRecord *record);

/* Partitions ever assigned; addresses stay valid while the consumer is open. */
extern OutboxPartition *outbox_consumer_partition(OutboxConsumer *consumer, size_t index);

/* Has a first assignment (perhaps an empty one) come? */
extern bool outbox_consumer_assigned(const OutboxConsumer *consumer);

/* Did the client fail for good (logged), e.g. because another member has its instance_id? */
extern bool outbox_consumer_fatal(const OutboxConsumer *consumer);

/* Fills `committed` of the partitions in one request.  false: Kafka did not answer, logged. */
extern bool outbox_consumer_committed(OutboxConsumer *consumer, OutboxPartition *const *partitions,
									  size_t count);

/* How long a topic keeps a record, in ms; -1: for ever.  false: Kafka did not tell, logged. */
extern bool outbox_consumer_retention(OutboxConsumer *consumer, const char *topic, int64_t *ms);

#define OUTBOX_OFFSET_BEGINNING	 (-2)
#define OUTBOX_ASSIGNMENT_MAX_MS 10000 /* longest outbox_consumer_await_assignment */

/*
 * Read on from offset, or the beginning; the partition becomes active.  A partition that went back
 * has its offset committed, too.  false: not possible yet, try again.
 */
extern bool outbox_consumer_start(OutboxConsumer *consumer, OutboxPartition *partition,
								  int64_t offset);

/* What was read of it and is not done counts no more; where to go on is to be found. */
extern void outbox_consumer_forget(OutboxPartition *partition);

/*
 * The active partition is not read for now, or is again from where that ended; in the latter case
 * outbox_consumer_wake is to follow.
 */
extern void outbox_consumer_hold_back(OutboxConsumer *consumer, OutboxPartition *partition,
									  bool held_back);

/*
 * Has the client read the active partitions at once: without a request to their brokers it looks at
 * them after up to 1 s only when any partition was started or given up.  One request for each
 * broker, whose answer is not waited for: it comes after that of the fetch under way.
 */
extern void outbox_consumer_wake(OutboxConsumer *consumer);

/* Was there a rebalance within the last 2 s? */
extern bool outbox_consumer_rebalancing(const OutboxConsumer *consumer);

/* Stop reading; what was read and is not done will be read again from next. */
extern void outbox_consumer_suspend(OutboxConsumer *consumer, OutboxPartition *partition,
									int64_t resume_at);

/*
 * Stores the position of every active partition that is due.  Call only when everything polled from
 * active partitions is committed in the database, or counted in unfinished.
 */
extern void outbox_consumer_store(OutboxConsumer *consumer);

/*
 * Waits for a first assignment, at most OUTBOX_ASSIGNMENT_MAX_MS, for closing earlier can abort.
 * Before outbox_consumer_close; records that come are dropped, to be read by the next member.
 */
extern void outbox_consumer_await_assignment(OutboxConsumer *consumer);

/*
 * Leaves the group (a static member stays in it until its session ends).  Can hang: to be watched.
 */
extern void outbox_consumer_close(OutboxConsumer *consumer);

#endif /* OUTBOX_CONSUMER_H */
