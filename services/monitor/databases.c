/* SPDX-License-Identifier: PostgreSQL
 *
 * databases.c
 *	  The databases are asked, one after another, and what they answer is kept.
 *
 * Runs in outbox-monitor, a thread of its own; HTTP threads read under the lock.
 * A database that does not answer keeps its alerts as they are.
 */
#define _GNU_SOURCE
#include "databases.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alerts.h"
#include "database_list.h"
#include "held_topics.h"
#include "letters.h"
#include "settings.h"
#include "services/lib/config.h"
#include "services/lib/db.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"
#include "services/lib/metrics.h"
#include "services/lib/text.h"
#include "services/lib/wall_time.h"
#include "src/common/setting_text.h"

#define STATEMENT_MS 5000
#define ANSWER_MS	 (STATEMENT_MS + 1000) /* a server that does not even end the statement */

/* This thread, but for what databases_lock guards. */
typedef struct WatchedDatabase
{
	OutboxDatabaseName name;
	OutboxDb		   db;
	OutboxLetters	   letters; /* guarded by databases_lock, as all below is */
	OutboxHeldTopics   held;
	bool			   up;
	int64_t			   measured_ms;
	char			   error[256];
} WatchedDatabase;

/* A family of metrics. */
typedef struct Family
{
	const char *name;
	const char *help;
	void (*write_letters)(FILE *out, const char *name, const OutboxLetters *letters,
						  const OutboxDatabaseName *database);
	void (*write_held)(FILE *out, const char *name, const OutboxHeldTopics *held,
					   const OutboxDatabaseName *database);
} Family;

static const Family families[] = {
	{"outbox_dead_letters", "Dead letters not done with; consumer is empty for the relay's own.",
	 outbox_letters_write_numbers, NULL},
	{"outbox_dead_letter_oldest_seconds", "Since the first failure of the oldest one.",
	 outbox_letters_write_ages, NULL},
	{"outbox_topics_held", "Topics held apart.", NULL, outbox_held_topics_write_count},
	{"outbox_topic_held_events", "Events of a held topic, left out and not copied yet.", NULL,
	 outbox_held_topics_write_events},
	{"outbox_topic_held_bytes", "Bytes of them.", NULL, outbox_held_topics_write_bytes},
	{"outbox_topic_held_seconds", "Since the topic is held.", NULL,
	 outbox_held_topics_write_seconds},
	{"outbox_topic_held_oldest_seconds", "Since the oldest of its events was emitted; 0: none.",
	 NULL, outbox_held_topics_write_ages},
};

static pthread_mutex_t databases_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  databases_wake = PTHREAD_COND_INITIALIZER;
static bool			   stopping; /* guarded by databases_lock */

/* written before the thread starts */
static WatchedDatabase databases[OUTBOX_DATABASES_MAX];
static size_t		   database_count;
static pthread_t	   databases_thread;
static bool			   started;

static bool
add_database(const char *conninfo)
{
	WatchedDatabase	 *database = &databases[database_count];
	PQconninfoOption *all = PQconninfoParse(conninfo, NULL);
	const char		 *host = "local";
	const char		 *port = "5432";

	if (all == NULL)
		return false; /* no memory: it was checked */
	for (const PQconninfoOption *options = all; options->keyword != NULL; options++)
	{
		if (options->val == NULL)
			continue;
		if (strcmp(options->keyword, "dbname") == 0)
			outbox_text_copy(database->name.name, sizeof(database->name.name), options->val);
		else if (strcmp(options->keyword, "host") == 0)
			host = options->val;
		else if (strcmp(options->keyword, "port") == 0)
			port = options->val;
	}
	snprintf(database->name.server, sizeof(database->name.server), "%s:%s", host, port);
	outbox_text_mend(database->name.server, sizeof(database->name.server));
	snprintf(database->error, sizeof(database->error), "not asked yet");
	database_count++;
	PQconninfoFree(all);
	if (!outbox_db_open(&database->db, conninfo, STATEMENT_MS))
		return false;
	database->db.reads = true;
	return true;
}

static void
take_answers(WatchedDatabase *database, const PGresult *letters, const PGresult *held)
{
	pthread_mutex_lock(&databases_lock);
	outbox_letters_take(&database->letters, letters);
	outbox_held_topics_take(&database->held, held);
	database->measured_ms = outbox_wall_ms();
	if (!database->up)
		outbox_log(OUTBOX_LOG_INFO, "database_up", "%s on %s", database->name.name,
				   database->name.server);
	database->up = true;
	pthread_mutex_unlock(&databases_lock);
	outbox_letters_judge(&database->letters, &database->name);
	outbox_held_topics_judge(&database->held, &database->name);
}

static void
note_silence(WatchedDatabase *database)
{
	const char *message = database->db.error.message;

	pthread_mutex_lock(&databases_lock);
	if (database->up || strcmp(database->error, message) != 0)
		outbox_log(OUTBOX_LOG_WARNING, "database_down", "%s on %s: %s", database->name.name,
				   database->name.server, message);
	database->up = false;
	outbox_text_copy(database->error, sizeof(database->error), message);
	pthread_mutex_unlock(&databases_lock);
}

static void
ask_database(WatchedDatabase *database)
{
	PGresult *held = NULL;
	PGresult *letters = NULL;

	if (outbox_db_connect(&database->db))
		held = outbox_db_query_within(&database->db, outbox_held_topics_sql, 0, NULL, ANSWER_MS);
	if (held != NULL)
		letters = outbox_db_query_within(&database->db, outbox_letters_sql, 0, NULL, ANSWER_MS);
	if (letters != NULL)
		take_answers(database, letters, held);
	else
		note_silence(database);
	PQclear(held);
	PQclear(letters);
}

/* The database that an alert tells of, if it is still asked. */
static WatchedDatabase *
find_database(json_t *alert)
{
	json_t	   *labels = json_object_get(alert, "labels");
	const char *cluster = json_string_value(json_object_get(alert, "cluster"));
	const char *name = json_string_value(json_object_get(labels, "database"));
	const char *server = json_string_value(json_object_get(labels, "server"));

	if (name == NULL || server == NULL || strcmp(cluster, outbox_monitor.cluster_name) != 0)
		return NULL;
	for (size_t i = 0; i < database_count; i++)
	{
		if (strcmp(databases[i].name.name, name) == 0 &&
			strcmp(databases[i].name.server, server) == 0)
			return &databases[i];
	}
	return NULL;
}

static bool
is_letter_known(json_t *alert)
{
	WatchedDatabase *database = find_database(alert);

	return database != NULL &&
		outbox_letters_know(&database->letters, json_object_get(alert, "labels"));
}

static bool
is_topic_known(json_t *alert)
{
	WatchedDatabase *database = find_database(alert);

	return database != NULL &&
		outbox_held_topics_know(&database->held, json_object_get(alert, "labels"));
}

static void *
run_databases(void *arg)
{
	struct timespec until;

	(void) arg;
	outbox_alerts_sweep("dead_letters", is_letter_known);
	outbox_alerts_sweep("topic_held", is_topic_known);
	pthread_mutex_lock(&databases_lock);
	while (!stopping)
	{
		for (size_t i = 0; i < database_count && !stopping; i++)
		{
			pthread_mutex_unlock(&databases_lock);
			ask_database(&databases[i]);
			pthread_mutex_lock(&databases_lock);
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += outbox_monitor.poll_seconds;
		if (!stopping)
			pthread_cond_clockwait(&databases_wake, &databases_lock, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_unlock(&databases_lock);
	return NULL;
}

bool
outbox_databases_start(void)
{
	char *copy = outbox_text_keep(outbox_monitor.databases);
	char *rest = copy;
	char *conninfo;
	bool  good = true;

	while (good && (conninfo = outbox_config_next_item(&rest)) != NULL)
		good = add_database(conninfo);
	free(copy);
	started = good && pthread_create(&databases_thread, NULL, run_databases, NULL) == 0;
	return started;
}

void
outbox_databases_stop(void)
{
	pthread_mutex_lock(&databases_lock);
	stopping = true;
	pthread_cond_broadcast(&databases_wake);
	pthread_mutex_unlock(&databases_lock);
	if (started)
		pthread_join(databases_thread, NULL);
}

/* Caller holds databases_lock.  found: an array, taken over; under this key. */
static json_t *
make_database(const WatchedDatabase *database, const char *key, json_t *found)
{
	char text[OUTBOX_TIME_TEXT];

	if (!database->up)
	{
		json_decref(found);
		return json_pack("{s:s, s:s, s:b, s:s}", "database", database->name.name, "server",
						 database->name.server, "up", false, "error", database->error);
	}
	outbox_format_time(database->measured_ms, text);
	return json_pack("{s:s, s:s, s:b, s:s, s:o}", "database", database->name.name, "server",
					 database->name.server, "up", true, "measured_at", text, key, found);
}

json_t *
outbox_databases_letters_json(void)
{
	json_t *list = json_array();

	pthread_mutex_lock(&databases_lock);
	for (size_t i = 0; i < database_count; i++)
		json_array_append_new(list,
							  make_database(&databases[i], "dead_letters",
											outbox_letters_json(&databases[i].letters)));
	pthread_mutex_unlock(&databases_lock);
	return json_pack("{s:I, s:o}", "threshold", (json_int_t) outbox_monitor.dead_letter_threshold,
					 "databases", list);
}

json_t *
outbox_databases_holds_json(void)
{
	json_t *list = json_array();

	pthread_mutex_lock(&databases_lock);
	for (size_t i = 0; i < database_count; i++)
		json_array_append_new(list,
							  make_database(&databases[i], "topic_holds",
											outbox_held_topics_json(&databases[i].held)));
	pthread_mutex_unlock(&databases_lock);
	return json_pack("{s:I, s:o}", "threshold_seconds",
					 (json_int_t) outbox_monitor.topic_held_threshold_seconds, "databases", list);
}

static void
write_family(FILE *out, const Family *family)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", family->name, family->help, family->name);
	for (size_t i = 0; i < database_count; i++)
	{
		const WatchedDatabase *database = &databases[i];

		if (!database->up)
			continue;
		if (family->write_letters != NULL)
			family->write_letters(out, family->name, &database->letters, &database->name);
		else
			family->write_held(out, family->name, &database->held, &database->name);
	}
}

void
outbox_databases_write(FILE *out)
{
	pthread_mutex_lock(&databases_lock);
	for (size_t i = 0; i < database_count; i++)
	{
		fputs("outbox_source_up{source=\"database\"", out);
		outbox_metrics_write_label(out, ",", "server", databases[i].name.server);
		outbox_metrics_write_label(out, ",", "database", databases[i].name.name);
		fprintf(out, "} %d\n", databases[i].up);
	}
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		write_family(out, &families[i]);
	pthread_mutex_unlock(&databases_lock);
}
