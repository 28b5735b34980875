/* SPDX-License-Identifier: PostgreSQL
 *
 * cursor.h
 *	  Where the relay stands: snapshots, batch rows, and what Kafka's cursor says
 *	  about them (I2, I4).
 *
 * Process: the relay.  Functions marked "own transaction" start and commit one.
 */
#ifndef OUTBOX_CURSOR_H
#define OUTBOX_CURSOR_H

#include "access/xlogdefs.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "alive.h"
#include "bgworker/events/snapshot.h"
#include "bgworker/launcher/marker.h"

#define OUTBOX_REASON_SIZE 512
#define OUTBOX_NOTE_SIZE   2048 /* cursor metadata, below Kafka's 4,096 */

/* Who writes: identity of this server and database. */
typedef struct OutboxIdentity
{
	pg_uuid_t			installation;
	uint64				system_id;
	Oid					database;
	int					timeline;
	char				host[256];
	char				data_directory[MAXPGPATH];
	OutboxDirectory		directory;
	OutboxMarkerVerdict marker_verdict; /* does the database belong to this data directory? */
	bool				has_marker;		/* the directory has a marker, marker_id */
	pg_uuid_t			marker_id;
	char				held[OUTBOX_REASON_SIZE]; /* why it holds as a copy, "" = it does not */
	bool				held_delivered; /* the same: Kafka has the last batch for certain */
} OutboxIdentity;

/* A row of outbox.batch; snapshots live in the context given when it was read. */
typedef struct OutboxBatchRow
{
	int64		batch_no;
	pg_uuid_t	nonce;
	OutboxRange range;
	int32		events;
	int32		left_out; /* of them, by a dead letter (I7) */
	int64		digest;
	uint64		txid;
	int			timeline;
	uint64		system_id;
	Oid			database;
	TimestampTz prepared_at; /* time stamp of its records */
	bool		restored;	 /* heap xmin is not txid: came from a dump */
} OutboxBatchRow;

/* Kafka's answer to LOOK or FENCE, its metadata taken apart. */
typedef struct OutboxKafkaCursor
{
	bool	  present;
	int64	  batch_no;
	bool	  readable; /* metadata is ours to read */
	bool	  lags;		/* written in at_least_once: follows the batches */
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
typedef enum OutboxVerdict
{
	OUTBOX_VERDICT_GO_ON,		/* Kafka has B */
	OUTBOX_VERDICT_SEND_AGAIN,	/* Kafka has K < B: K+1 .. B are sent again */
	OUTBOX_VERDICT_CURSOR_LOST, /* Kafka has no offset: B is sent again, may be doubled */
	OUTBOX_VERDICT_DIVERGED,	/* history lost or a copy: on_divergence decides */
} OutboxVerdict;

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
	OutboxVerdict		 verdict;
	OutboxDivergenceKind kind;		  /* DIVERGED only */
	int64				 delivered;	  /* last batch known delivered */
	int64				 kafka_batch; /* what Kafka has, -1 = unknown or nothing */
	bool				 takes_over;  /* Kafka's cursor is of an earlier timeline */
	bool				 lagged; /* it was written in at_least_once: it may follow what was sent */
	bool				 written_here; /* by this data directory under this boot of the kernel */
	/* DIVERGED: the last batch is delivered but for events without a dead letter */
	bool				 letters_lost;
	/* DIVERGED: Kafka has the last batch of this history for certain */
	bool				 last_delivered;
	char				 reason[OUTBOX_REASON_SIZE]; /* DIVERGED: what and what to do */
} OutboxComparison;

/* Own transaction.  Identity of this installation; ERROR if its row is gone. */
extern void outbox_cursor_identify(OutboxIdentity *identity);

/* Own transaction.  From now on the database belongs to this data directory on this timeline. */
extern void outbox_cursor_accept_marker(OutboxIdentity *identity);

/* Inside the caller's transaction: the same after adopt(), which also ends a kept hold. */
extern void outbox_cursor_settle_copy(const OutboxIdentity *identity, bool rename);

/* Own transaction.  Keeps a hold as a copy, which neither a restart nor another look ends. */
extern void outbox_cursor_keep_hold(const OutboxComparison *comparison);

/* Own transaction.  The last row (batch_no < 0) or row batch_no; false if absent. */
extern bool outbox_cursor_load(int64 batch_no, MemoryContext context, OutboxBatchRow *row);

/*
 * Own transaction, committed flushed on this server (I2).  Fills in nonce and
 * txid; returns the end of the commit record.
 */
extern XLogRecPtr outbox_cursor_store(OutboxBatchRow *row, int leaf,
									  const OutboxIdentity *identity);

/*
 * The same, but only what the batch holds need be flushed on return, not its row;
 * *flushed says whether the row is.
 */
extern XLogRecPtr outbox_cursor_store_early(OutboxBatchRow *row, int leaf,
											const OutboxIdentity *identity, bool *flushed);

/* Are there synchronous standbys, or may there be? */
extern bool outbox_cursor_has_standbys(void);

/* The same inside the caller's transaction (begun by outbox_session_begin). */
extern void outbox_cursor_insert(OutboxBatchRow *row, int leaf, const OutboxIdentity *identity);

/*
 * A record in WAL behind everything visible now, flushed: what a restarted relay
 * waits for on the standbys before it sends an old batch again (I2).
 */
extern XLogRecPtr outbox_cursor_fence(void);

/* Have the synchronous standbys flushed up to lsn?  true when there are none. */
extern bool outbox_cursor_replicated(XLogRecPtr lsn);

/* Metadata of the cursor, and back. */
extern void outbox_cursor_write_note(char *note, size_t size, const OutboxBatchRow *row,
									 const OutboxIdentity *identity, bool lags);
extern void outbox_cursor_read_note(const char *note, size_t len, OutboxKafkaCursor *cursor);

/*
 * The start rules (design section 3, "Start").  Own transaction when it must look up the row Kafka
 * names.  may_lag: the cursor may be more than one batch behind.
 */
extern void outbox_cursor_compare(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
								  const OutboxIdentity *identity, bool may_lag,
								  OutboxComparison *result);

/* Whatever the comparison said, this server is a copy, for this reason. */
extern void outbox_cursor_call_copy(OutboxComparison *result, const char *reason);

/*
 * Pure.  Whatever is no text in the encoding, by a cut or from another server, becomes question
 * marks.
 */
extern void outbox_cursor_mend_reason(OutboxComparison *result, int encoding);

/* Divergence of the tables alone, before Kafka is asked: verdict GO_ON or DIVERGED. */
extern void outbox_cursor_check_lineage(const OutboxBatchRow *last, const OutboxIdentity *identity,
										OutboxComparison *result);

#endif /* OUTBOX_CURSOR_H */
