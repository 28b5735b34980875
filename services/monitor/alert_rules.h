/* SPDX-License-Identifier: PostgreSQL
 *
 * alert_rules.h
 *	  When an alert begins and ends.
 *
 * Pure: no clock, no memory, no I/O.
 */
#ifndef OUTBOX_ALERT_RULES_H
#define OUTBOX_ALERT_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "lag_status.h"

#define OUTBOX_ALERT_POLLS 2 /* in a row, before an alert begins */

/* Why; several may hold at once. */
#define OUTBOX_REASON_SECONDS	 0x01 /* seconds behind above the threshold */
#define OUTBOX_REASON_STOP		 0x02 /* status STOP */
#define OUTBOX_REASON_STALL		 0x04 /* status STALL */
#define OUTBOX_REASON_NO_MEMBERS 0x08 /* lag, and nobody in the group */
#define OUTBOX_REASON_DEPTH		 0x10 /* open dead letters above the threshold */
#define OUTBOX_REASON_BEYOND	 0x20 /* a committed offset above its log's end */
#define OUTBOX_REASON_LOST		 0x40 /* records deleted before they were read */
#define OUTBOX_REASON_HELD		 0x80 /* a topic held apart for too long */

typedef enum OutboxAlertChange
{
	OUTBOX_ALERT_NONE,
	OUTBOX_ALERT_TRIGGER,
	OUTBOX_ALERT_RESOLVE,
} OutboxAlertChange;

/* Of one subject; zeroed at first. */
typedef struct OutboxAlertState
{
	bool	 firing;
	int		 polls;		  /* in a row with a reason */
	unsigned reasons;	  /* of the last poll with one */
	int64_t	 deserted_at; /* lag and no members since; 0: not so */
} OutboxAlertState;

typedef struct OutboxLagSample
{
	int64_t			now_ms;	 /* any clock that only rises, above 0 */
	int64_t			lag;	 /* OUTBOX_LAG_NULL: not known */
	double			seconds; /* negative: not known */
	double			threshold;
	OutboxLagStatus status;
	/* every lag and its age is known, and every partition with one is judged */
	bool			complete;
	bool			deserted; /* the group has no members, and had ones */
	int64_t			grace_ms; /* how long a group may be without members */
} OutboxLagSample;

/* One poll of a group.  Ends below half the threshold, when nothing else holds. */
extern OutboxAlertChange outbox_alert_judge_lag(OutboxAlertState	  *state,
												const OutboxLagSample *sample);

/* One poll of where a group's offsets lie.  known: of every one; what is not known ends nothing. */
extern OutboxAlertChange outbox_alert_judge_ranges(OutboxAlertState *state, bool beyond, bool lost,
												   bool known);

/* One poll of a number of open dead letters.  Ends at half the threshold or below. */
extern OutboxAlertChange outbox_alert_judge_depth(OutboxAlertState *state, long depth,
												  long threshold);

/*
 * One poll of a topic that may be held apart.  seconds: since when it is; negative: it is not,
 * which alone ends the alert.
 */
extern OutboxAlertChange outbox_alert_judge_held(OutboxAlertState *state, double seconds,
												 long threshold);

#endif /* OUTBOX_ALERT_RULES_H */
