/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.h
 *	  How many dead letters wait in a database: their alerts, answers and metrics.
 *
 * Asked by the thread of the databases (databases.h).
 */
#ifndef OUTBOX_LETTERS_H
#define OUTBOX_LETTERS_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stddef.h>
#include <stdio.h>

#include "database_list.h"

/* Letters that wait for a person or a retry, of one consumer (or the relay), topic and state. */
typedef struct OutboxLetterDepth
{
	char  *consumer; /* "" for the relay's own */
	char  *topic;
	char  *state;
	long   letters;
	double oldest_seconds;
} OutboxLetterDepth;

struct OutboxLetterSubject;

/* Of one database; zeroed at first. */
typedef struct OutboxLetters
{
	struct OutboxLetterSubject *subjects; /* thread of the databases */
	OutboxLetterDepth		   *depths;	  /* guarded by its lock, as is all below */
	size_t						depth_count;
} OutboxLetters;

/* What a database is asked. */
extern const char outbox_letters_sql[];

/* Under the lock: an answer takes the place of the one before. */
extern void outbox_letters_take(OutboxLetters *letters, const PGresult *result);

/* Thread of the databases: begins and ends alerts, as the last answer says. */
extern void outbox_letters_judge(OutboxLetters *letters, const OutboxDatabaseName *database);

/* The same, at its start: an alert of an earlier life of this program is judged from now on. */
extern bool outbox_letters_know(OutboxLetters *letters, json_t *labels);

/* Under the lock: the last answer as an array; the caller releases it. */
extern json_t *outbox_letters_json(const OutboxLetters *letters);

/* Under the lock: a series of `name` for each number of the last answer. */
extern void outbox_letters_write_numbers(FILE *out, const char *name, const OutboxLetters *letters,
										 const OutboxDatabaseName *database);
extern void outbox_letters_write_ages(FILE *out, const char *name, const OutboxLetters *letters,
									  const OutboxDatabaseName *database);

#endif /* OUTBOX_LETTERS_H */
