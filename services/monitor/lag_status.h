/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_status.h
 *	  How a consumer stands on a partition, judged from the last polls as Burrow
 *	  judges commits: a lag of any size is good while it is being worked off.
 *
 * Pure: no clock, no memory, no I/O.
 */
#ifndef OUTBOX_LAG_STATUS_H
#define OUTBOX_LAG_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_LAG_WINDOW	10	/* polls that are judged together */
#define OUTBOX_LAG_NULL		(-1)	/* an offset, a lag or a time that is not known */

/* Rising: the worse of two is the greater. */
typedef enum OutboxLagStatus
{
	OUTBOX_LAG_UNKNOWN,			/* nothing committed, or too few polls */
	OUTBOX_LAG_OK,
	OUTBOX_LAG_WARN,			/* works, but the lag never falls */
	OUTBOX_LAG_REWIND,			/* the committed offset went back */
	OUTBOX_LAG_STALL,			/* owned by a member, but the committed offset stands */
	OUTBOX_LAG_STOP,			/* the committed offset stands and nobody owns the partition */
} OutboxLagStatus;

typedef struct OutboxLagPoint
{
	int64_t		committed;		/* never OUTBOX_LAG_NULL */
	int64_t		lag;			/* never OUTBOX_LAG_NULL */
} OutboxLagPoint;

/* The last polls in which committed offset and lag were known, oldest first. */
typedef struct OutboxLagWindow
{
	OutboxLagPoint points[OUTBOX_LAG_WINDOW];
	int			count;
} OutboxLagWindow;

extern void outbox_lag_window_add(OutboxLagWindow *window, int64_t committed, int64_t lag);

/* owned: a member of the group has the partition now. */
extern OutboxLagStatus outbox_lag_judge(const OutboxLagWindow *window, bool owned);

/* "OK", "WARN", "STOP", "STALL", "REWIND", "UNKNOWN" */
extern const char *outbox_lag_status_name(OutboxLagStatus status);

#endif							/* OUTBOX_LAG_STATUS_H */
