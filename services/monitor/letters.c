/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.c
 *	  Depth of the dead letters: asked, judged, shown.
 *
 * Runs in outbox-monitor, a thread of its own; HTTP threads read under the lock.
 * A database that does not answer keeps its alerts as they are.
 */
#define _GNU_SOURCE
#include "letters.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alert_key.h"
#include "alerts.h"
#include "database_list.h"
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

/* Letters that wait for a person or a retry, of one consumer (or the relay), topic and state. */
typedef struct Depth
{
	char  *consumer; /* "" for the relay's own */
	char  *topic;
	char  *state;
	long   letters;
	double oldest_seconds;
} Depth;

/* The alert of one consumer and topic. */
typedef struct Subject
{
	struct Subject	*next;
	char			*consumer;
	char			*topic;
	long			 open; /* of the last answer */
	OutboxAlertState alert;
} Subject;

/* Thread of the letters, but for what letters_lock guards. */
typedef struct LetterDatabase
{
	char	 name[64];	  /* written before the thread starts, as server is */
	char	 server[256]; /* host:port */
	OutboxDb db;
	Subject *subjects;
	Depth	*depths; /* guarded by letters_lock, as all below is */
	size_t	 depth_count;
	bool	 up;
	int64_t	 measured_ms;
	char	 error[256];
} LetterDatabase;

static const char depth_sql[] =
	"SELECT coalesce(d.consumer, ''), d.topic, d.state, d.number, d.oldest_seconds "
	"FROM outbox.dead_letter_depth d ORDER BY 1, 2, 3";

static pthread_mutex_t letters_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  letters_wake = PTHREAD_COND_INITIALIZER;
static bool			   stopping; /* guarded by letters_lock */

/* written before the thread starts */
static LetterDatabase databases[OUTBOX_DATABASES_MAX];
static size_t		  database_count;
static pthread_t	  letters_thread;
static bool			  started;

static bool
add_database(const char *conninfo)
{
	LetterDatabase	 *database = &databases[database_count];
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
			outbox_text_copy(database->name, sizeof(database->name), options->val);
		else if (strcmp(options->keyword, "host") == 0)
			host = options->val;
		else if (strcmp(options->keyword, "port") == 0)
			port = options->val;
	}
	snprintf(database->server, sizeof(database->server), "%s:%s", host, port);
	outbox_text_mend(database->server, sizeof(database->server));
	snprintf(database->error, sizeof(database->error), "not asked yet");
	database_count++;
	PQconninfoFree(all);
	if (!outbox_db_open(&database->db, conninfo, STATEMENT_MS))
		return false;
	database->db.reads = true;
	return true;
}

static Subject *
find_subject(LetterDatabase *database, const char *consumer, const char *topic)
{
	Subject *subject = database->subjects;

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
	subject->next = database->subjects;
	database->subjects = subject;
	return subject;
}

static void
format_key(const LetterDatabase *database, const Subject *subject, char key[OUTBOX_ALERT_KEY])
{
	outbox_alert_key(key, "dead-letters/%s/%s/%s/%s/%s", outbox_monitor.cluster_name,
					 database->server, database->name, subject->consumer, subject->topic);
}

static void
send_change(const LetterDatabase *database, const Subject *subject, OutboxAlertChange change)
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

static void
judge_database(LetterDatabase *database)
{
	char key[OUTBOX_ALERT_KEY];

	for (Subject *subject = database->subjects; subject != NULL; subject = subject->next)
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

static void
free_depths(Depth *depths, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		free(depths[i].consumer);
		free(depths[i].topic);
		free(depths[i].state);
	}
	free(depths);
}

/* Takes an answer: the depths for the readers, the open ones for the alerts. */
static void
take_answer(LetterDatabase *database, const PGresult *result)
{
	size_t count = (size_t) PQntuples(result);
	Depth *depths = calloc(count + 1, sizeof(Depth));
	Depth *old = database->depths;
	size_t old_count = database->depth_count;

	if (depths == NULL)
		abort();
	for (Subject *subject = database->subjects; subject != NULL; subject = subject->next)
		subject->open = 0;
	for (int row = 0; row < (int) count; row++)
	{
		Depth *depth = &depths[row];

		depth->consumer = outbox_text_keep(PQgetvalue(result, row, 0));
		depth->topic = outbox_text_keep(PQgetvalue(result, row, 1));
		depth->state = outbox_text_keep(PQgetvalue(result, row, 2));
		depth->letters = atol(PQgetvalue(result, row, 3));
		depth->oldest_seconds = atof(PQgetvalue(result, row, 4));
		if (strcmp(depth->state, "open") == 0)
			find_subject(database, depth->consumer, depth->topic)->open = depth->letters;
	}
	pthread_mutex_lock(&letters_lock);
	database->depths = depths;
	database->depth_count = count;
	database->measured_ms = outbox_wall_ms();
	if (!database->up)
		outbox_log(OUTBOX_LOG_INFO, "database_up", "%s on %s", database->name, database->server);
	database->up = true;
	pthread_mutex_unlock(&letters_lock);
	free_depths(old, old_count);
}

static void
ask_database(LetterDatabase *database)
{
	PGresult *result = NULL;

	if (outbox_db_connect(&database->db))
		result = outbox_db_query_within(&database->db, depth_sql, 0, NULL, ANSWER_MS);
	if (result != NULL)
	{
		take_answer(database, result);
		PQclear(result);
		judge_database(database);
		return;
	}
	pthread_mutex_lock(&letters_lock);
	if (database->up || strcmp(database->error, database->db.error.message) != 0)
		outbox_log(OUTBOX_LOG_WARNING, "database_down", "%s on %s: %s", database->name,
				   database->server, database->db.error.message);
	database->up = false;
	outbox_text_copy(database->error, sizeof(database->error), database->db.error.message);
	pthread_mutex_unlock(&letters_lock);
}

static bool
is_watched(json_t *alert)
{
	json_t	   *labels = json_object_get(alert, "labels");
	const char *cluster = json_string_value(json_object_get(alert, "cluster"));
	const char *name = json_string_value(json_object_get(labels, "database"));
	const char *server = json_string_value(json_object_get(labels, "server"));
	const char *consumer = json_string_value(json_object_get(labels, "consumer"));
	const char *topic = json_string_value(json_object_get(labels, "topic"));

	if (name == NULL || server == NULL || consumer == NULL || topic == NULL ||
		strcmp(cluster, outbox_monitor.cluster_name) != 0)
		return false;
	for (size_t i = 0; i < database_count; i++)
	{
		if (strcmp(databases[i].name, name) != 0 || strcmp(databases[i].server, server) != 0)
			continue;
		/* An alert of an earlier life of this program is judged from now on. */
		find_subject(&databases[i], consumer, topic);
		return true;
	}
	return false;
}

static void *
run_letters(void *arg)
{
	struct timespec until;

	(void) arg;
	outbox_alerts_sweep("dead_letters", is_watched);
	pthread_mutex_lock(&letters_lock);
	while (!stopping)
	{
		for (size_t i = 0; i < database_count && !stopping; i++)
		{
			pthread_mutex_unlock(&letters_lock);
			ask_database(&databases[i]);
			pthread_mutex_lock(&letters_lock);
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += outbox_monitor.poll_seconds;
		if (!stopping)
			pthread_cond_clockwait(&letters_wake, &letters_lock, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_unlock(&letters_lock);
	return NULL;
}

bool
outbox_letters_start(void)
{
	char *copy = outbox_text_keep(outbox_monitor.databases);
	char *rest = copy;
	char *conninfo;
	bool  good = true;

	while (good && (conninfo = outbox_config_next_item(&rest)) != NULL)
		good = add_database(conninfo);
	free(copy);
	started = good && pthread_create(&letters_thread, NULL, run_letters, NULL) == 0;
	return started;
}

void
outbox_letters_stop(void)
{
	pthread_mutex_lock(&letters_lock);
	stopping = true;
	pthread_cond_broadcast(&letters_wake);
	pthread_mutex_unlock(&letters_lock);
	if (started)
		pthread_join(letters_thread, NULL);
}

/* Caller holds letters_lock. */
static json_t *
make_database(const LetterDatabase *database)
{
	json_t *letters = json_array();
	char	text[OUTBOX_TIME_TEXT];

	if (!database->up)
	{
		json_decref(letters);
		return json_pack("{s:s, s:s, s:b, s:s}", "database", database->name, "server",
						 database->server, "up", false, "error", database->error);
	}
	for (size_t i = 0; i < database->depth_count; i++)
	{
		const Depth *depth = &database->depths[i];
		bool		 relay = depth->consumer[0] == '\0';

		json_array_append_new(letters,
							  json_pack("{s:s, s:s?, s:s, s:s, s:I, s:f}", "origin",
										relay ? "relay" : "consumer", "consumer",
										relay ? NULL : depth->consumer, "topic", depth->topic,
										"state", depth->state, "letters",
										(json_int_t) depth->letters, "oldest_seconds",
										depth->oldest_seconds));
	}
	outbox_format_time(database->measured_ms, text);
	return json_pack("{s:s, s:s, s:b, s:s, s:o}", "database", database->name, "server",
					 database->server, "up", true, "measured_at", text, "dead_letters", letters);
}

json_t *
outbox_letters_json(void)
{
	json_t *list = json_array();

	pthread_mutex_lock(&letters_lock);
	for (size_t i = 0; i < database_count; i++)
		json_array_append_new(list, make_database(&databases[i]));
	pthread_mutex_unlock(&letters_lock);
	return json_pack("{s:I, s:o}", "threshold", (json_int_t) outbox_monitor.dead_letter_threshold,
					 "databases", list);
}

static void
write_labels(FILE *out, const LetterDatabase *database, const Depth *depth)
{
	outbox_metrics_write_label(out, "{", "server", database->server);
	outbox_metrics_write_label(out, ",", "database", database->name);
	if (depth != NULL)
	{
		outbox_metrics_write_label(out, ",", "consumer", depth->consumer);
		outbox_metrics_write_label(out, ",", "topic", depth->topic);
		outbox_metrics_write_label(out, ",", "state", depth->state);
	}
	fputs("} ", out);
}

void
outbox_letters_write(FILE *out)
{
	pthread_mutex_lock(&letters_lock);
	for (size_t i = 0; i < database_count; i++)
	{
		fputs("outbox_source_up{source=\"database\"", out);
		outbox_metrics_write_label(out, ",", "server", databases[i].server);
		outbox_metrics_write_label(out, ",", "database", databases[i].name);
		fprintf(out, "} %d\n", databases[i].up);
	}
	fputs("# HELP outbox_dead_letters Dead letters not done with; consumer is empty for the "
		  "relay's own.\n"
		  "# TYPE outbox_dead_letters gauge\n",
		  out);
	for (size_t i = 0; i < database_count; i++)
	{
		for (size_t j = 0; databases[i].up && j < databases[i].depth_count; j++)
		{
			fputs("outbox_dead_letters", out);
			write_labels(out, &databases[i], &databases[i].depths[j]);
			fprintf(out, "%ld\n", databases[i].depths[j].letters);
		}
	}
	fputs("# HELP outbox_dead_letter_oldest_seconds Since the first failure of the oldest one.\n"
		  "# TYPE outbox_dead_letter_oldest_seconds gauge\n",
		  out);
	for (size_t i = 0; i < database_count; i++)
	{
		for (size_t j = 0; databases[i].up && j < databases[i].depth_count; j++)
		{
			fputs("outbox_dead_letter_oldest_seconds", out);
			write_labels(out, &databases[i], &databases[i].depths[j]);
			fprintf(out, "%g\n", databases[i].depths[j].oldest_seconds);
		}
	}
	pthread_mutex_unlock(&letters_lock);
}
