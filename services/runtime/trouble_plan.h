/* SPDX-License-Identifier: PostgreSQL
 *
 * trouble_plan.h
 *	  A record that fails for itself alone with what is waited for otherwise: its session ends, the
 *	  server runs out of something, an error inside.
 *
 * A partition's trouble belongs to its member's thread.
 */
#ifndef OUTBOX_TROUBLE_PLAN_H
#define OUTBOX_TROUBLE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "services/kafka/event_id.h"
#include "services/lib/failure.h"

#define OUTBOX_TROUBLE_TRIES 5 /* alone, over crash_after_seconds: then it is the record's own */

typedef struct OutboxTrouble
{
	bool		known; /* there is such a record: it is run alone */
	int64_t		offset;
	char		event_id[OUTBOX_UUID_TEXT];
	int			failed; /* tries alone that failed and are not in outbox.consumer_trouble yet */
	int			tries;	/* those in it, the running one included */
	int			ends;	/* of those that failed the last so many ended their session */
	/*
	 * the last one in it has not failed for the record's sake: it runs, has not begun, or nobody
	 * knows
	 */
	bool		noted;
	int64_t		since;	  /* first try alone that failed, outbox_clock_ms */
	int64_t		tried_at; /* last try begun, outbox_clock_ms; 0: not known */
	bool		alike;	  /* others fail alike, in whichever process */
	/* others of the consumer have been done since tried_at, in whichever process */
	bool		works;
	int64_t		proof_from; /* offset from which on other records are asked for proof */
	bool		refuted;	/* one of them has failed with what is waited for */
	bool		unproven;	/* proof was asked for in vain */
	bool		proven;		/* the database has worked for others just before the last try */
	OutboxError error;		/* of the last try */
	/* so many next records are run one by one: a session has ended with them in hand */
	int			singly;
} OutboxTrouble;

/* Is the failure one that can be a record's own?  Somebody else's lock never is. */
extern bool outbox_trouble_counts(const OutboxError *error);

/* The error of a record that is given up, after so many tries and for so long. */
extern void outbox_trouble_error(OutboxError *error, const OutboxError *last, int tries,
								 int64_t failing_ms);

/*
 * Milliseconds until the next try, after so many that failed over failing_ms; backoff_ms: the
 * ordinary pause.  What ends its session may have restarted the server: its tries are spread over
 * the whole time, and by random_number apart from those of others whose sessions ended at the same
 * moment.
 */
extern int64_t outbox_trouble_pause(int tries, int64_t failing_ms, bool ended, int64_t backoff_ms,
									int64_t after_ms, unsigned random_number);

#endif /* OUTBOX_TROUBLE_PLAN_H */
