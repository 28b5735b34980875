/* SPDX-License-Identifier: PostgreSQL
 *
 * release_plan.h
 *	  What a release does next: waits, copies a step of what its hold left out, or ends.
 *
 * Pure: no PostgreSQL, no allocation, no clock, so a simulator can run it.
 */
#ifndef OUTBOX_RELEASE_PLAN_H
#define OUTBOX_RELEASE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_RELEASE_PROBE 100 /* copies of the first step of a hold that Kafka has refused */

/* How much at once. */
typedef struct OutboxReleaseLimits
{
	int64_t step_events; /* of one transaction */
	int64_t step_bytes;
	int64_t unsent_events; /* copies that are in no batch: so long other events may wait for them */
	int64_t last_events;   /* the last transaction holds all that is left, between two windows */
	int64_t last_bytes;
} OutboxReleaseLimits;

/* What is known when a step could be made. */
typedef struct OutboxReleaseFacts
{
	bool	between;	 /* no window is open, and no waypoint is left: the hold may end */
	bool	refused;	 /* its cause, or copies of it were refused */
	int64_t steps;		 /* transactions of copies since then, or at all */
	bool	delivered;	 /* all of them are */
	int64_t unsent;		 /* copies in no batch */
	int64_t left_events; /* held and not copied */
	int64_t left_bytes;
} OutboxReleaseFacts;

typedef enum OutboxReleaseStep
{
	OUTBOX_RELEASE_WAITS,  /* for a batch, or the end of the window */
	OUTBOX_RELEASE_PROBES, /* a small step, and nothing more until it is delivered */
	OUTBOX_RELEASE_COPIES,
	OUTBOX_RELEASE_ENDS, /* copies all that is left and ends the hold, in one transaction */
} OutboxReleaseStep;

/*
 * What a batch takes by the number of its events, as the newest ones tell: sums over (events, us),
 * older batches counting less and less.  Zeroed before its first use.
 */
typedef struct OutboxReleasePace
{
	double weight;
	double events;
	double us;
	double events_events;
	double events_us;
} OutboxReleasePace;

extern void outbox_release_pace_note(OutboxReleasePace *pace, int64_t events, int64_t us);

/*
 * How many copies may be in no batch: so many that a batch of them takes a little more than twice
 * as long as one of few events, which the others wait for.  `usual` while too little is known;
 * between 2 and 20 steps.
 */
extern int64_t outbox_release_pace_events(const OutboxReleasePace *pace, int64_t step_events,
										  int64_t usual);

extern OutboxReleaseStep outbox_release_choose(const OutboxReleaseFacts	 *facts,
											   const OutboxReleaseLimits *limits);

/*
 * Does the next range of so many held events go into a transaction that has copied some of others?
 * Only as a whole, so that one that ends inside a range holds nothing else: then what was copied
 * of a range can be told from the copies.
 */
extern bool outbox_release_joins(int64_t copied, int64_t copied_bytes, int64_t events,
								 int64_t bytes, const OutboxReleaseLimits *limits);

#endif /* OUTBOX_RELEASE_PLAN_H */
