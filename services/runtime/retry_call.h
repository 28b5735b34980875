/* SPDX-License-Identifier: PostgreSQL
 *
 * retry_call.h
 *	  Rows of outbox.dead_letter whose handlers call out: taken, called for beside the member's
 * turns, and then tried.
 *
 * While the call is under way no transaction is open; the row is the member's by the lock of its
 * session.  Member's thread.
 */
#ifndef OUTBOX_RETRY_CALL_H
#define OUTBOX_RETRY_CALL_H

#include "call_pool.h"
#include "member.h"
#include "retry_run.h"

/* A row whose call is under way; the call's thread has the first row's item meanwhile. */
typedef struct OutboxRetryCall
{
	OutboxCallJob			job; /* first */
	DueRun					run;
	char				   *told; /* malloc'ed; what ask answered, NULL: nothing */
	bool					alone;
	struct OutboxRetryCall *next; /* of the member's, in no order */
} OutboxRetryCall;

typedef enum OutboxRetryBegun
{
	OUTBOX_RETRY_BEGUN,	   /* the run is the call's */
	OUTBOX_RETRY_ANSWERED, /* no call is needed, or none can be made: item.verdict */
	OUTBOX_RETRY_LATER,	   /* not now */
	OUTBOX_RETRY_AWAY,	   /* *error: what is needed is away */
} OutboxRetryBegun;

/* Does the run's first row need a call, and is it a CALL so far? */
extern bool outbox_retry_calls_out(const DueRun *run);

/* May another one begin? */
extern bool outbox_retry_has_room(const OutboxMember *member);

/* Begins the call of the run's first row, which is decoded. */
extern OutboxRetryBegun outbox_retry_call_begin(OutboxMember *member, DueRun *run,
												OutboxError *error);

/*
 * A call that has ended, or NULL; the caller goes on with its run, and frees it by
 * outbox_retry_call_free.
 */
extern OutboxRetryCall *outbox_retry_call_take(OutboxMember *member);
extern void outbox_retry_call_free(OutboxRetryCall *call);

/* The ids of rows whose calls are under way, as an array's text; malloc'ed. */
extern char *outbox_retry_calls_list(const OutboxMember *member);

#endif /* OUTBOX_RETRY_CALL_H */
