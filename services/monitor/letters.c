/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.c
 *	  Depth of the dead letters of a database: judged, shown.
 *
 * Runs in outbox-monitor, thread of the databases; what only reads also in HTTP threads.
 */
#define _GNU_SOURCE
#include "letters.h"

#include <stdlib.h>
#include <string.h>

#include "alert_key.h"
#include "alerts.h"
#include "settings.h"
#include "services/lib/metrics.h"
#include "services/lib/text.h"

/* The alert of one consumer and topic. */
typedef struct OutboxLetterSubject
{
	struct OutboxLetterSubject *next;
	char					   *consumer;
	char					   *topic;
	long						open; /* of the last answer */
	OutboxAlertState			alert;
} OutboxLetterSubject;

const char outbox_letters_sql[] =
	"SELECT coalesce(d.consumer, ''), d.topic, d.state, d.number, d.oldest_seconds "
	"FROM outbox.dead_letter_depth d ORDER BY 1, 2, 3";

static OutboxLetterSubject *
find_subject(OutboxLetters *letters, const char *consumer, const char *topic)
{
	OutboxLetterSubject *subject = letters->subjects;

	while (subject != NULL &&
		   (strcmp(subject->consumer, consumer) != 0 || strcmp(subject->topic, topic) != 0))
		subject = subject->next;
	if (subject != NULL)
		return subject;
	subject = calloc(1, sizeof(*subject));
	if (subject == NULL)
		abort();
	subject->consumer = outbox_text_keep(consumer);
	subject->topic = outbox_text_keep(topic);
	subject->next = letters->subjects;
	letters->subjects = subject;
	return subject;
}

static void
format_key(const OutboxDatabaseName *database, const OutboxLetterSubject *subject,
		   char key[OUTBOX_ALERT_KEY])
{
	outbox_alert_key(key, "dead-letters/%s/%s/%s/%s/%s", outbox_monitor.cluster_name,
					 database->server, database->name, subject->consumer, subject->topic);
}

static void
send_change(const OutboxDatabaseName *database, const OutboxLetterSubject *subject,
			OutboxAlertChange change)
{
	char	key[OUTBOX_ALERT_KEY];
	json_t *summary;

	format_key(database, subject, key);
	summary = json_sprintf("%ld open dead letters of %s on %s in database %s", subject->open,
						   subject->consumer[0] != '\0' ? subject->consumer : "the relay",
						   subject->topic, database->name);
	outbox_alerts_change(change,
						 json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:o, s:o, s:I, s:I}",
								   "key", key, "kind", "dead_letters", "cluster",
								   outbox_monitor.cluster_name, "labels", "database",
								   database->name, "server", database->server, "consumer",
								   subject->consumer, "topic", subject->topic, "reasons",
								   outbox_alert_reasons(subject->alert.reasons), "summary", summary,
								   "letters", (json_int_t) subject->open, "threshold",
								   (json_int_t) outbox_monitor.dead_letter_threshold));
}

void
outbox_letters_judge(OutboxLetters *letters, const OutboxDatabaseName *database)
{
	char key[OUTBOX_ALERT_KEY];

	for (OutboxLetterSubject *subject = letters->subjects; subject != NULL; subject = subject->next)
	{
		OutboxAlertChange change;

		format_key(database, subject, key);
		subject->alert.firing = outbox_alerts_firing(key, NULL);
		change = outbox_alert_judge_depth(&subject->alert, subject->open,
										  outbox_monitor.dead_letter_threshold);
		if (change != OUTBOX_ALERT_NONE)
			send_change(database, subject, change);
	}
}

bool
outbox_letters_know(OutboxLetters *letters, json_t *labels)
{
	const char *consumer = json_string_value(json_object_get(labels, "consumer"));
	const char *topic = json_string_value(json_object_get(labels, "topic"));

	if (consumer == NULL || topic == NULL)
		return false;
	find_subject(letters, consumer, topic);
	return true;
}

static void
free_depths(OutboxLetterDepth *depths, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		free(depths[i].consumer);
		free(depths[i].topic);
		free(depths[i].state);
	}
	free(depths);
}

void
outbox_letters_take(OutboxLetters *letters, const PGresult *result)
{
	size_t			   count = (size_t) PQntuples(result);
	OutboxLetterDepth *depths = calloc(count + 1, sizeof(*depths));

	if (depths == NULL)
		abort();
	for (OutboxLetterSubject *subject = letters->subjects; subject != NULL; subject = subject->next)
		subject->open = 0;
	for (int row = 0; row < (int) count; row++)
	{
		OutboxLetterDepth *depth = &depths[row];

		depth->consumer = outbox_text_keep(PQgetvalue(result, row, 0));
		depth->topic = outbox_text_keep(PQgetvalue(result, row, 1));
		depth->state = outbox_text_keep(PQgetvalue(result, row, 2));
		depth->letters = atol(PQgetvalue(result, row, 3));
		depth->oldest_seconds = atof(PQgetvalue(result, row, 4));
		if (strcmp(depth->state, "open") == 0)
			find_subject(letters, depth->consumer, depth->topic)->open = depth->letters;
	}
	free_depths(letters->depths, letters->depth_count);
	letters->depths = depths;
	letters->depth_count = count;
}

json_t *
outbox_letters_json(const OutboxLetters *letters)
{
	json_t *list = json_array();

	for (size_t i = 0; i < letters->depth_count; i++)
	{
		const OutboxLetterDepth *depth = &letters->depths[i];
		bool					 relay = depth->consumer[0] == '\0';

		json_array_append_new(list,
							  json_pack("{s:s, s:s?, s:s, s:s, s:I, s:f}", "origin",
										relay ? "relay" : "consumer", "consumer",
										relay ? NULL : depth->consumer, "topic", depth->topic,
										"state", depth->state, "letters",
										(json_int_t) depth->letters, "oldest_seconds",
										depth->oldest_seconds));
	}
	return list;
}

static void
write_series(FILE *out, const char *name, const OutboxDatabaseName *database,
			 const OutboxLetterDepth *depth, double value)
{
	fputs(name, out);
	outbox_metrics_write_label(out, "{", "server", database->server);
	outbox_metrics_write_label(out, ",", "database", database->name);
	outbox_metrics_write_label(out, ",", "consumer", depth->consumer);
	outbox_metrics_write_label(out, ",", "topic", depth->topic);
	outbox_metrics_write_label(out, ",", "state", depth->state);
	fprintf(out, "} %.17g\n", value);
}

void
outbox_letters_write_numbers(FILE *out, const char *name, const OutboxLetters *letters,
							 const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < letters->depth_count; i++)
		write_series(out, name, database, &letters->depths[i], (double) letters->depths[i].letters);
}

void
outbox_letters_write_ages(FILE *out, const char *name, const OutboxLetters *letters,
						  const OutboxDatabaseName *database)
{
	for (size_t i = 0; i < letters->depth_count; i++)
		write_series(out, name, database, &letters->depths[i], letters->depths[i].oldest_seconds);
}
