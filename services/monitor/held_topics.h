/* SPDX-License-Identifier: PostgreSQL
 *
 * held_topics.h
 *	  Topics of a database that are held apart: their alerts, answers and metrics.
 *
 * Asked by the thread of the databases (databases.h).
 */
#ifndef OUTBOX_HELD_TOPICS_H
#define OUTBOX_HELD_TOPICS_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "database_list.h"

/* A row of outbox.topic_holds that has not ended. */
typedef struct OutboxHeldTopic
{
	char   *topic;
	char   *cause;
	char   *state;
	char   *reason;
	long	partition; /* -1: none is named */
	int64_t events;	   /* left out and not copied yet, as are bytes */
	int64_t bytes;
	double	held_seconds;
	double	oldest_seconds; /* of the oldest event; 0: none */
} OutboxHeldTopic;

struct OutboxHeldSubject;

/* Of one database; zeroed at first. */
typedef struct OutboxHeldTopics
{
	struct OutboxHeldSubject *subjects; /* thread of the databases */
	OutboxHeldTopic			 *topics;	/* guarded by its lock, as is all below; written by it */
	size_t					  count;
} OutboxHeldTopics;

/* What a database is asked. */
extern const char outbox_held_topics_sql[];

/* Under the lock: an answer takes the place of the one before. */
extern void outbox_held_topics_take(OutboxHeldTopics *held, const PGresult *result);

/* Thread of the databases: begins and ends alerts, as the last answer says. */
extern void outbox_held_topics_judge(OutboxHeldTopics *held, const OutboxDatabaseName *database);

/* The same, at its start: an alert of an earlier life of this program is judged from now on. */
extern bool outbox_held_topics_know(OutboxHeldTopics *held, json_t *labels);

/* Under the lock: the last answer as an array; the caller releases it. */
extern json_t *outbox_held_topics_json(const OutboxHeldTopics *held);

/* Under the lock: a series of `name` for each topic, or their number. */
extern void outbox_held_topics_write_count(FILE *out, const char *name,
										   const OutboxHeldTopics	*held,
										   const OutboxDatabaseName *database);
extern void outbox_held_topics_write_events(FILE *out, const char *name,
											const OutboxHeldTopics	 *held,
											const OutboxDatabaseName *database);
extern void outbox_held_topics_write_bytes(FILE *out, const char *name,
										   const OutboxHeldTopics	*held,
										   const OutboxDatabaseName *database);
extern void outbox_held_topics_write_seconds(FILE *out, const char *name,
											 const OutboxHeldTopics	  *held,
											 const OutboxDatabaseName *database);
extern void outbox_held_topics_write_ages(FILE *out, const char *name, const OutboxHeldTopics *held,
										  const OutboxDatabaseName *database);

#endif /* OUTBOX_HELD_TOPICS_H */
