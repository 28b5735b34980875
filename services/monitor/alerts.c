/* SPDX-License-Identifier: PostgreSQL
 *
 * alerts.c
 *	  The table of firing alerts and the state file.
 *
 * Runs in outbox-monitor, any thread.  The file holds the table and what the
 * sinks have not taken yet; it is replaced as a whole, so a crash leaves the old
 * or the new one.  What a sink took just before a crash may be sent once more.
 */
#define _GNU_SOURCE
#include "alerts.h"

#include <errno.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings.h"
#include "sink_body.h"
#include "sinks.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"
#include "services/lib/wall_time.h"

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static json_t		  *firing;		/* {key: alert}; guarded by table_lock */
static int64_t		   repeated_at; /* outbox_clock_ms; guarded by table_lock */

/* written before the threads start */

json_t *
outbox_alert_reasons(unsigned reasons)
{
	static const char *const names[] = {"lag_seconds", "stop",		 "stall",		 "no_members",
										"depth",	   "beyond_end", "records_lost", "held"};
	json_t					*list = json_array();

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (reasons & (1u << i))
			json_array_append_new(list, json_string(names[i]));
	}
	return list;
}

static bool
write_state(json_t *state)
{
	char *path = NULL;
	char *text = json_dumps(state, JSON_INDENT(1));
	FILE *file = NULL;
	bool  good = text != NULL && asprintf(&path, "%s.new", outbox_monitor.state_file) >= 0;

	if (good)
		file = fopen(path, "w");
	if (file != NULL)
	{
		good = fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
		good = fclose(file) == 0 && good && rename(path, outbox_monitor.state_file) == 0;
	}
	else
		good = false;
	if (!good)
		outbox_log(OUTBOX_LOG_ERROR, "state_not_saved", "cannot write %s: %s",
				   outbox_monitor.state_file, strerror(errno));
	free(path);
	free(text);
	return good;
}

/* Caller holds table_lock. */
static bool
save_locked(void)
{
	json_t *state;
	bool	good;

	if (outbox_monitor.state_file[0] == '\0')
		return true;
	state = json_pack("{s:O, s:o}", "firing", firing, "queues", outbox_sinks_dump());
	good = write_state(state);
	json_decref(state);
	return good;
}

static void
read_state(void)
{
	json_error_t error;
	json_t		*state;
	json_t		*alert;
	const char	*key;

	if (access(outbox_monitor.state_file, F_OK) != 0)
		return;
	state = json_load_file(outbox_monitor.state_file, 0, &error);
	if (state == NULL)
		outbox_log(OUTBOX_LOG_ERROR, "state_not_read", "%s: %s; alerts begin anew",
				   outbox_monitor.state_file, error.text);
	json_object_foreach(json_object_get(state, "firing"), key, alert)
	{
		if (outbox_sink_alert_valid(alert))
			json_object_set(firing, key, alert);
	}
	outbox_sinks_restore(json_object_get(state, "queues"));
	json_decref(state);
}

bool
outbox_alerts_check(char *error, size_t size)
{
	const char *state_file = outbox_monitor.state_file;
	char	   *copy = strdup(state_file);
	struct stat info;
	bool		there = state_file[0] != '\0' && stat(state_file, &info) == 0;

	if (copy == NULL)
		abort();
	errno = 0;
	/* it is replaced by another one beside it */
	if (state_file[0] == '\0')
		error[0] = '\0';
	else if (there && !S_ISREG(info.st_mode))
	{
		errno = EINVAL;
		snprintf(error, size, "not a regular file");
	}
	else if (access(dirname(copy), W_OK | X_OK) != 0 ||
			 (there && access(state_file, R_OK | W_OK) != 0))
		snprintf(error, size, "the file cannot be read and written: %s", strerror(errno));
	free(copy);
	return state_file[0] == '\0' || errno == 0;
}

bool
outbox_alerts_open(void)
{
	bool good;

	pthread_mutex_lock(&table_lock);
	firing = json_object();
	if (outbox_monitor.state_file[0] != '\0')
		read_state();
	good = save_locked();
	pthread_mutex_unlock(&table_lock);
	return good;
}

void
outbox_alerts_save(void)
{
	pthread_mutex_lock(&table_lock);
	save_locked();
	pthread_mutex_unlock(&table_lock);
}

bool
outbox_alerts_firing(const char *key, int64_t *since_ms)
{
	json_t *alert;
	bool	found;

	pthread_mutex_lock(&table_lock);
	alert = json_object_get(firing, key);
	found = alert != NULL;
	if (found && since_ms != NULL)
		*since_ms = json_integer_value(json_object_get(alert, "since_ms"));
	pthread_mutex_unlock(&table_lock);
	return found;
}

/* Caller holds table_lock.  alert stays the caller's. */
static void
resolve_locked(json_t *alert)
{
	const char *key = json_string_value(json_object_get(alert, "key"));
	json_t	   *old = json_object_get(firing, key);
	char		text[OUTBOX_TIME_TEXT];

	outbox_format_time(outbox_wall_ms(), text);
	json_object_set_new(alert, "at", json_string(text));
	if (old != NULL)
	{
		json_object_set(alert, "since", json_object_get(old, "since"));
		json_object_set(alert, "since_ms", json_object_get(old, "since_ms"));
	}
	else
		json_object_set_new(alert, "since", json_string(text));
	outbox_log(OUTBOX_LOG_WARNING, "alert_resolved", "%s", key);
	outbox_sinks_send("resolve", alert);
	json_object_del(firing, key);
}

void
outbox_alerts_change(OutboxAlertChange change, json_t *alert)
{
	int64_t now_ms = outbox_wall_ms();
	char	text[OUTBOX_TIME_TEXT];

	pthread_mutex_lock(&table_lock);
	if (change == OUTBOX_ALERT_TRIGGER)
	{
		outbox_format_time(now_ms, text);
		json_object_set_new(alert, "since", json_string(text));
		json_object_set_new(alert, "since_ms", json_integer(now_ms));
		json_object_set_new(alert, "at", json_string(text));
		outbox_log(OUTBOX_LOG_WARNING, "alert_triggered", "%s",
				   json_string_value(json_object_get(alert, "summary")));
		outbox_sinks_send("trigger", alert);
		json_object_set(firing, json_string_value(json_object_get(alert, "key")), alert);
	}
	else
		resolve_locked(alert);
	save_locked();
	pthread_mutex_unlock(&table_lock);
	json_decref(alert);
}

void
outbox_alerts_sweep(const char *kind, bool (*known)(json_t *alert))
{
	json_t	   *alert;
	const char *key;
	void	   *next;
	bool		changed = false;

	pthread_mutex_lock(&table_lock);
	json_object_foreach_safe(firing, next, key, alert)
	{
		json_t *copy;

		if (strcmp(json_string_value(json_object_get(alert, "kind")), kind) != 0 || known(alert))
			continue;
		copy = json_deep_copy(alert);
		json_object_set_new(copy, "summary", json_sprintf("%s is gone", key));
		resolve_locked(copy);
		json_decref(copy);
		changed = true;
	}
	if (changed)
		save_locked();
	pthread_mutex_unlock(&table_lock);
}

void
outbox_alerts_repeat(void)
{
	pthread_mutex_lock(&table_lock);
	if (outbox_clock_ms() - repeated_at >= 1000 * outbox_monitor.alertmanager_repeat_seconds)
	{
		repeated_at = outbox_clock_ms();
		outbox_sinks_repeat(firing);
	}
	pthread_mutex_unlock(&table_lock);
}
