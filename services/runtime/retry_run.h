/* SPDX-License-Identifier: PostgreSQL
 *
 * retry_run.h
 *	  Rows of outbox.dead_letter that are tried again: the first one that is due and what is held
 *	  behind it.
 */
#ifndef OUTBOX_RETRY_RUN_H
#define OUTBOX_RETRY_RUN_H

#include "member.h"

#define OUTBOX_RUN_MAX 256 /* rows of one transaction */

typedef struct DueRow
{
	char	   id[24];
	OutboxItem item;
	int64_t	   failing_ms; /* since it failed first */
	char	  *topic;
	uint8_t	  *key;
	uint8_t	  *value;
} DueRow;

/* What is due, one key's; what is said without `rows` is of the first row. */
typedef struct DueRun
{
	DueRow	   *rows; /* malloc'ed, count of them */
	int			count;
	char		attempts[16];
	int			crashes; /* ends of the process while it tried this row */
	/* failures with what is waited for, in a row; this try's included once it is noted */
	int			troubles;
	int			ends;		 /* of these the last so many ended their session */
	int64_t		trouble_ms;	 /* since the first of these */
	int64_t		troubled_ms; /* since the last */
	bool		alike;		 /* others of the consumer fail the same way */
	OutboxError last;		 /* what it has failed with */
	int64_t		later_ms;	 /* to be put back for so long; 0: dealt with */
} DueRun;

/*
 * Fetches what is due, `most` rows at most, but for those in hand (ids, an array's text); *wait_ms:
 * until something is.  false: nothing is due, or the database failed (*error).
 */
extern bool outbox_run_fetch(OutboxMember *member, int most, const char *in_hand, DueRun *run,
							 int64_t *wait_ms, bool *error);
extern void outbox_run_free(DueRun *run);

/*
 * Works off the first `count` rows, which are prepared calls, in one transaction.  true: *done of
 * them are committed, the others somebody else has; an item's claim says NEW or DUPLICATE, NONE:
 * not tried.  false: nothing is committed; member->db.error says why and *culprit which row's call
 * has failed, -1: none, or not known; *begun: calls were sent.
 */
extern bool outbox_run_try(OutboxMember *member, DueRun *run, int count, int *done, int *culprit,
						   bool *begun);

#endif /* OUTBOX_RETRY_RUN_H */
