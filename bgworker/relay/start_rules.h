/* SPDX-License-Identifier: PostgreSQL
 *
 * start_rules.h
 *	  What Kafka's cursor says about the batch rows (I4, I6): the start rules of docs/design.md.
 *
 * Process: the relay.  Pure, but for outbox_start_compare, which may look up a row.
 */
#ifndef OUTBOX_START_RULES_H
#define OUTBOX_START_RULES_H

#include "batch_log.h"
#include "identity.h"

#define OUTBOX_NOTE_SIZE 2048 /* cursor metadata, below Kafka's 4,096 */

/* Kafka's answer to LOOK or FENCE, its metadata taken apart. */
typedef struct OutboxKafkaCursor
{
	bool	  present;
	int64	  batch_no;
	bool	  readable; /* metadata is ours to read */
	bool	  lags;		/* written in at_least_once: follows the batches */
	bool	  spare;	/* by a producer with the spare transactional id */
	int32	  left_out; /* events of the batch that were not sent, -1 = not said */
	pg_uuid_t nonce;
	uint64	  system_id;
	Oid		  database;
	int		  timeline;
	char	  host[256];
	char	  data_directory[MAXPGPATH];
	char	  directory[OUTBOX_DIRECTORY_SIZE]; /* "" = not said */
} OutboxKafkaCursor;

/* What to do after a cursor was read. */
typedef enum OutboxStartVerdict
{
	OUTBOX_START_GO_ON,		  /* Kafka has B */
	OUTBOX_START_SEND_AGAIN,  /* Kafka has K < B: K+1 .. B are sent again */
	OUTBOX_START_CURSOR_LOST, /* Kafka has no offset: B is sent again, may be doubled */
	OUTBOX_START_DIVERGED,	  /* history lost or a copy: on_divergence decides */
} OutboxStartVerdict;

/* Why DIVERGED: decides what adopt() has to do. */
typedef enum OutboxDivergenceKind
{
	OUTBOX_LOST_HISTORY, /* same installation, other past */
	OUTBOX_COPY,		 /* another database or server is, or may be, the real one */
	OUTBOX_SUPERSEDED,	 /* a server promoted since is the real one */
	OUTBOX_RESTORED,	 /* a dump: transaction ids are of another server */
} OutboxDivergenceKind;

typedef struct OutboxComparison
{
	OutboxStartVerdict	 verdict;
	OutboxDivergenceKind kind;		  /* DIVERGED only */
	int64				 delivered;	  /* last batch known delivered */
	int64				 kafka_batch; /* what Kafka has, -1 = unknown or nothing */
	bool				 takes_over;  /* Kafka's cursor is of an earlier timeline */
	bool				 lagged; /* it was written in at_least_once: it may follow what was sent */
	bool				 written_here; /* by this data directory under this boot of the kernel */
	bool letters_lost; /* DIVERGED: the last batch is delivered but for events without a dead letter
						*/
	bool last_delivered; /* DIVERGED: Kafka has the last batch of this history for certain */
	char reason[OUTBOX_REASON_SIZE]; /* DIVERGED: what and what to do */
} OutboxComparison;

/* Metadata of the cursor of a batch, and back. */
extern void outbox_cursor_write_note(char *note, size_t size, const OutboxBatchRow *row,
									 const OutboxIdentity *identity, bool lags, bool spare);
extern void outbox_cursor_read_note(const char *note, size_t len, OutboxKafkaCursor *cursor);

/* Divergence of the tables alone, before Kafka is asked: verdict GO_ON or DIVERGED. */
extern void outbox_start_check_lineage(const OutboxBatchRow *last, const OutboxIdentity *identity,
									   OutboxComparison *result);

/*
 * The start rules.  Own transaction when it must look up the row Kafka names.  may_lag: the
 * cursor may be more than one batch behind.
 */
extern void outbox_start_compare(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
								 const OutboxIdentity *identity, bool may_lag,
								 OutboxComparison *result);

/*
 * A fence that left one transactional id out, for a transaction of it waits for a leader: is
 * whoever had it shut out all the same?  spare: the producer has the spare id, the first was left
 * out.  The cursor was read after that fence.  Not where another server's newest batch was
 * committed with the id, or without a fence (at_least_once): that server may live, and go on with
 * it once the leader is back.  Every
 * other transaction that waits is an aborted one, and no sender begins another after an abort
 * without a fence.
 */
extern bool outbox_start_may_pass_over(const OutboxKafkaCursor *kafka,
									   const OutboxIdentity *identity, bool spare);

/* Whatever the comparison said, this server is a copy, for this reason. */
extern void outbox_start_call_copy(OutboxComparison *result, const char *reason);

/* Whatever is no text in the encoding, by a cut or from another server, becomes question marks. */
extern void outbox_start_mend_reason(OutboxComparison *result, int encoding);

#endif /* OUTBOX_START_RULES_H */
