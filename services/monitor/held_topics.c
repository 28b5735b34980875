/* SPDX-License-Identifier: PostgreSQL
 *
 * held_topics.c
 *	  Topics of a database that are held apart: judged, shown.
 *
 * Runs in outbox-monitor, thread of the databases; what only reads also in HTTP threads.
 */
#define _GNU_SOURCE
#include "held_topics.h"

#include <stdlib.h>
#include <string.h>

#include "alert_key.h"
#include "alerts.h"
#include "settings.h"
#include "services/lib/metrics.h"
#include "services/lib/text.h"

/* The alert of one topic. */
typedef struct OutboxHeldSubject
{
	struct OutboxHeldSubject *next;
	char					 *topic;
	OutboxAlertState		  alert;
} OutboxHeldSubject;

const char outbox_held_topics_sql[] =
	"SELECT h.topic, h.cause, h.state, h.reason, coalesce(h.partition, -1), h.events, h.bytes,"
	" greatest(0, extract(epoch FROM pg_catalog.clock_timestamp() - h.held_at)),"
	" coalesce(greatest(0, extract(epoch FROM pg_catalog.clock_timestamp() - h.oldest_at)), 0) "
	"FROM outbox.topic_holds h WHERE h.state <> 'ended' ORDER BY 1";

static OutboxHeldSubject *
find_subject(OutboxHeldTopics *held, const char *topic)
{
	OutboxHeldSubject *subject = held->subjects;

	while (subject != NULL && strcmp(subject->topic, topic) != 0)
		subject = subject->next;
	if (subject != NULL)
		return subject;
	subject = calloc(1, sizeof(*subject));
	if (subject == NULL)
		abort();
	subject->topic = outbox_text_keep(topic);
	subject->next = held->subjects;
	held->subjects = subject;
	return subject;
}

/* NULL: the topic is not held. */
static const OutboxHeldTopic *
find_topic(const OutboxHeldTopics *held, const char *topic)
{
	for (size_t i = 0; i < held->count; i++)
	{
		if (strcmp(held->topics[i].topic, topic) == 0)
			return &held->topics[i];
	}
	return NULL;
}

static json_t *
make_summary(const OutboxDatabaseName *database, const char *topic, const OutboxHeldTopic *held)
{
	if (held == NULL)
		return json_sprintf("topic %s of database %s is not held any more", topic, database->name);
	return json_sprintf("topic %s of database %s has been held apart for %.0f s (%s, %s), with "
						"%lld events: %s",
						topic, database->name, held->held_seconds, held->cause, held->state,
						(long long) held->events, held->reason);
}

/* held: NULL when the topic is not. */
static json_t *
make_alert(const OutboxDatabaseName *database, const OutboxHeldSubject *subject,
		   const OutboxHeldTopic *held, const char *key)
{
	json_t *alert =
		json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:o, s:o, s:I}", "key", key, "kind",
				  "topic_held", "cluster", outbox_monitor.cluster_name, "labels", "database",
				  database->name, "server", database->server, "topic", subject->topic, "reasons",
				  outbox_alert_reasons(subject->alert.reasons), "summary",
				  make_summary(database, subject->topic, held), "threshold_seconds",
				  (json_int_t) outbox_monitor.topic_held_threshold_seconds);

	if (held == NULL)
		return alert;
	json_object_set_new(alert, "cause", json_string(held->cause));
	json_object_set_new(alert, "state", json_string(held->state));
	json_object_set_new(alert, "partition",
						held->partition >= 0 ? json_integer(held->partition) : json_null());
	json_object_set_new(alert, "events", json_integer(held->events));
	json_object_set_new(alert, "bytes", json_integer(held->bytes));
	json_object_set_new(alert, "held_seconds", json_real(held->held_seconds));
	return alert;
}

void
outbox_held_topics_judge(OutboxHeldTopics *held, const OutboxDatabaseName *database)
{
	char key[OUTBOX_ALERT_KEY];

	for (OutboxHeldSubject *subject = held->subjects; subject != NULL; subject = subject->next)
	{
		const OutboxHeldTopic *topic = find_topic(held, subject->topic);
		OutboxAlertChange	   change;

		outbox_alert_key(key, "topic-held/%s/%s/%s/%s", outbox_monitor.cluster_name,
						 database->server, database->name, subject->topic);
		subject->alert.firing = outbox_alerts_firing(key, NULL);
		change = outbox_alert_judge_held(&subject->alert, topic != NULL ? topic->held_seconds : -1,
										 outbox_monitor.topic_held_threshold_seconds);
		if (change != OUTBOX_ALERT_NONE)
			outbox_alerts_change(change, make_alert(database, subject, topic, key));
	}
}

bool
outbox_held_topics_know(OutboxHeldTopics *held, json_t *labels)
{
	const char *topic = json_string_value(json_object_get(labels, "topic"));

	if (topic == NULL)
		return false;
	find_subject(held, topic);
	return true;
}

static void
free_topics(OutboxHeldTopic *topics, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		free(topics[i].topic);
		free(topics[i].cause);
		free(topics[i].state);
		free(topics[i].reason);
	}
	free(topics);
}

void
outbox_held_topics_take(OutboxHeldTopics *held, const PGresult *result)
{
	size_t			 count = (size_t) PQntuples(result);
	OutboxHeldTopic *topics = calloc(count + 1, sizeof(*topics));

	if (topics == NULL)
		abort();
	for (int row = 0; row < (int) count; row++)
	{
		OutboxHeldTopic *topic = &topics[row];

		topic->topic = outbox_text_keep(PQgetvalue(result, row, 0));
		topic->cause = outbox_text_keep(PQgetvalue(result, row, 1));
		topic->state = outbox_text_keep(PQgetvalue(result, row, 2));
		topic->reason = outbox_text_keep(PQgetvalue(result, row, 3));
		topic->partition = atol(PQgetvalue(result, row, 4));
		topic->events = atoll(PQgetvalue(result, row, 5));
		topic->bytes = atoll(PQgetvalue(result, row, 6));
		topic->held_seconds = atof(PQgetvalue(result, row, 7));
		topic->oldest_seconds = atof(PQgetvalue(result, row, 8));
		find_subject(held, topic->topic);
	}
	free_topics(held->topics, held->count);
	held->topics = topics;
	held->count = count;
}

json_t *
outbox_held_topics_json(const OutboxHeldTopics *held)
{
	json_t *list = json_array();

	for (size_t i = 0; i < held->count; i++)
	{
		const OutboxHeldTopic *topic = &held->topics[i];
		json_t *partition = topic->partition >= 0 ? json_integer(topic->partition) : json_null();

		json_array_append_new(list,
							  json_pack("{s:s, s:s, s:o, s:s, s:s, s:I, s:I, s:f, s:f}", "topic",
										topic->topic, "cause", topic->cause, "partition", partition,
										"state", topic->state, "reason", topic->reason, "events",
										(json_int_t) topic->events, "bytes",
										(json_int_t) topic->bytes, "held_seconds",
										topic->held_seconds, "oldest_seconds",
										topic->oldest_seconds));
	}
	return list;
}

static void
write_series(FILE *out, const char *name, const OutboxDatabaseName *database,
			 const OutboxHeldTopic *topic, double value)
{
	fputs(name, out);
	outbox_metrics_write_label(out, "{", "server", database->server);
	outbox_metrics_write_label(out, ",", "database", database->name);
	if (topic != NULL)
	{
		outbox_metrics_write_label(out, ",", "topic", topic->topic);
		outbox_metrics_write_label(out, ",", "cause", topic->cause);
		outbox_metrics_write_label(out, ",", "state", topic->state);
	}
	fprintf(out, "} %.17g\n", value);
}

void
outbox_held_topics_write_count(FILE *out, const char *name, const OutboxHeldTopics *held,
							   const OutboxDatabaseName *database)
{
	write_series(out, name, database, NULL, (double) held->count);
}

void
outbox_held_topics_write_events(FILE *out, const char *name, const OutboxHeldTopics *held,
								const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < held->count; i++)
		write_series(out, name, database, &held->topics[i], (double) held->topics[i].events);
}

void
outbox_held_topics_write_bytes(FILE *out, const char *name, const OutboxHeldTopics *held,
							   const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < held->count; i++)
		write_series(out, name, database, &held->topics[i], (double) held->topics[i].bytes);
}

void
outbox_held_topics_write_seconds(FILE *out, const char *name, const OutboxHeldTopics *held,
								 const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < held->count; i++)
		write_series(out, name, database, &held->topics[i], held->topics[i].held_seconds);
}

void
outbox_held_topics_write_ages(FILE *out, const char *name, const OutboxHeldTopics *held,
							  const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < held->count; i++)
		write_series(out, name, database, &held->topics[i], held->topics[i].oldest_seconds);
}
