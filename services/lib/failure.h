/* SPDX-License-Identifier: PostgreSQL
 *
 * failure.h
 *	  What has gone wrong, and what it asks for.
 */
#ifndef OUTBOX_FAILURE_H
#define OUTBOX_FAILURE_H

#include <stdbool.h>

/* What a failure asks for; by SQLSTATE. */
typedef enum OutboxDbFailure
{
	OUTBOX_FAILURE_NONE = 0,
	/* wait, try again for ever, count nothing; for one record alone: trouble.h */
	OUTBOX_FAILURE_INFRASTRUCTURE,
	OUTBOX_FAILURE_RECORD, /* this record: a number of tries, then dead letter */
	OUTBOX_FAILURE_DECODE, /* this record is not what its topic should hold: dead letter at once */
	OUTBOX_FAILURE_PERMANENT, /* this record, by its handler's OBX01: dead letter at once */
	/* this record has ended the process or its session too often: dead letter at once */
	OUTBOX_FAILURE_CRASH,
	OUTBOX_FAILURE_DEPLOY, /* the program or the schema: halt and say so */
} OutboxDbFailure;

typedef struct OutboxError
{
	OutboxDbFailure failure;
	bool			ended;		 /* the session ended with it */
	char			sqlstate[6]; /* "" when there is none */
	char			message[1024];
} OutboxError;

extern const char *outbox_failure_name(OutboxDbFailure failure);
extern OutboxDbFailure outbox_failure_classify(const char *sqlstate);

/* Is a session that has answered so of no further use? */
extern bool outbox_failure_ends_session(const char *sqlstate);
extern void outbox_error_set(OutboxError *error, OutboxDbFailure failure, const char *sqlstate,
							 const char *message);

#endif /* OUTBOX_FAILURE_H */
