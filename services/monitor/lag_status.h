/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_status.h
 *	  How a consumer stands on a partition, judged from the last polls as Burrow
 *	  judges commits: a lag of any size is good while it is being worked off; and
 *	  whether its offset lies in the log at all.
 *
 * Pure: no clock, no memory, no I/O.
 */
#ifndef OUTBOX_LAG_STATUS_H
#define OUTBOX_LAG_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_LAG_WINDOW 10   /* polls that are judged together */
#define OUTBOX_LAG_NULL	  (-1) /* an offset, a lag or a time that is not known */

/* Rising: the worse of two is the greater. */
typedef enum OutboxLagStatus
{
	OUTBOX_LAG_UNKNOWN, /* nothing committed, or too few polls */
	OUTBOX_LAG_OK,
	OUTBOX_LAG_WARN,   /* works, but the lag never falls */
	OUTBOX_LAG_REWIND, /* the committed offset went back */
	OUTBOX_LAG_STALL,  /* owned by a member, but the committed offset stands */
	OUTBOX_LAG_STOP,   /* the committed offset stands and nobody owns the partition */
	/* the log begins behind the committed offset: records are gone that nobody has read */
	OUTBOX_LAG_LOST,
	/* the committed offset is above the log's end, or the partition is not there: another log */
	OUTBOX_LAG_BEYOND,
} OutboxLagStatus;

typedef struct OutboxLagPoint
{
	int64_t committed; /* never OUTBOX_LAG_NULL */
	int64_t lag;	   /* never OUTBOX_LAG_NULL */
} OutboxLagPoint;

/* The last polls in which committed offset and lag were known, oldest first. */
typedef struct OutboxLagWindow
{
	OutboxLagPoint points[OUTBOX_LAG_WINDOW];
	int			   count;
} OutboxLagWindow;

extern void outbox_lag_window_add(OutboxLagWindow *window, int64_t committed, int64_t lag);

/* owned: a member of the group has the partition now. */
extern OutboxLagStatus outbox_lag_judge(const OutboxLagWindow *window, bool owned);

/*
 * Where a committed offset lies outside its log.  A start or end may be OUTBOX_LAG_NULL, not known:
 * it proves nothing.
 */
typedef struct OutboxLogRange
{
	int64_t committed;	  /* OUTBOX_LAG_NULL: nothing is */
	int64_t start_before; /* the log's first offset, read before committed */
	int64_t start;		  /* the same, read after it */
	int64_t end;		  /* high watermark, read after committed */
	int64_t clear_to;	  /* from committed to here no record could be read */
	bool	record_seen;  /* the first record at or after committed was read once */
	bool	missing;	  /* the topic has no such partition */
} OutboxLogRange;

/* How far above the log's end; 0: it is not.  Of a partition that is not there all of it. */
extern int64_t outbox_lag_beyond(const OutboxLogRange *range);

/*
 * How many offsets the log has lost at its beginning that were not read; 0: none.  Both reads of
 * its first offset must say so: who deletes what he has read moves it behind the commit seen, and a
 * log made anew begins at 0.  One offset before an empty log, of which nothing else is known, may
 * have been a transaction's marker: 0.
 */
extern int64_t outbox_lag_lost(const OutboxLogRange *range);

/* "OK", "WARN", "STOP", "STALL", "REWIND", "LOST", "BEYOND", "UNKNOWN" */
extern const char *outbox_lag_status_name(OutboxLagStatus status);

#endif /* OUTBOX_LAG_STATUS_H */
