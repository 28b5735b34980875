/* SPDX-License-Identifier: PostgreSQL
 *
 * poller.c
 *	  Every poll_seconds: measure, judge, alert, publish.
 *
 * Runs in outbox-monitor, a thread of its own.  While Kafka does not answer no
 * alert begins or ends, and the windows stand still.
 */
#define _GNU_SOURCE
#include "poller.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alert_key.h"
#include "alerts.h"
#include "kafka_client.h"
#include "kafka_lag.h"
#include "lag_published.h"
#include "wall_time.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"
#include "src/common/setting_text.h"

/* The poller's thread is dead when a poll takes longer than all its waits together could. */
#define LIVE_POLLS 10

#define THRESHOLD_MAX_S 31536000L /* as lag_threshold_seconds */

static pthread_mutex_t poller_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  poller_wake = PTHREAD_COND_INITIALIZER;
static bool			   stopping;  /* guarded by poller_lock */
static _Atomic int64_t turned_at; /* poller; outbox_clock_ms */
static atomic_bool	   answered;  /* poller: did Kafka answer the last poll? */

static OutboxKafkaLag *kafka; /* poller */

/* written before the thread starts */
static const char *bootstrap_servers;
static const char *kafka_properties;
static const char *cluster_name;
static const char *ignored;
static const char *thresholds;
static double	   default_threshold;
static int64_t	   grace_ms;
static long		   interval_seconds;
static long		   timeout_ms;
static pthread_t   poller_thread;

bool
outbox_poller_check_patterns(const char *value, char *error, size_t size)
{
	char	   *copy = strdup(value);
	char	   *rest = copy;
	char	   *line;
	const char *flaw = NULL;

	if (copy == NULL)
		abort();
	for (int number = 1; flaw == NULL && (line = strsep(&rest, "\n")) != NULL; number++)
	{
		line = outbox_setting_trim(line);
		if (*line == '\0' || *line == '#')
			continue;
		flaw = strchr(line, ';') != NULL ? "has \";\" in it: each pattern has a line of its own, "
										   "and ? stands for a group's \";\"" :
										   outbox_setting_decorated(line);
		if (flaw != NULL)
			snprintf(error, size, "line %d %s", number, flaw);
	}
	free(copy);
	return flaw == NULL;
}

/* Is there another threshold before the last one, as in "a=1;b=2"? */
static bool
holds_threshold(const char *line)
{
	for (const char *equals = strchr(line, '='); equals != NULL; equals = strchr(equals + 1, '='))
	{
		const char *end = equals + 1 + strspn(equals + 1, " 0123456789");

		if (*end == ';')
			return true;
	}
	return false;
}

bool
outbox_poller_check_thresholds(const char *value, char *error, size_t size)
{
	char *copy = strdup(value);
	char *rest = copy;
	char *line;
	bool  good = copy != NULL;

	for (int number_of_line = 1; good && (line = strsep(&rest, "\n")) != NULL; number_of_line++)
	{
		char *number = strrchr(line, '=');
		char *end = NULL;
		long  seconds;

		line = outbox_setting_trim(line);
		if (*line == '\0' || *line == '#')
			continue;
		seconds = number != NULL ? strtol(number + 1, &end, 10) : 0;
		good = seconds >= 1 && seconds <= THRESHOLD_MAX_S && *end == '\0';
		if (good && holds_threshold(line))
		{
			good = false;
			snprintf(error, size,
					 "line %d has another threshold behind a \";\": each has a line of its own",
					 number_of_line);
		}
		else if (!good)
			snprintf(error, size, "line %d: not of the form group=seconds, with 1 to %ld seconds",
					 number_of_line, THRESHOLD_MAX_S);
	}
	free(copy);
	return good;
}

/*
 * The first line of a list whose pattern the group matches, as a pointer to what follows the
 * pattern: the line's end, or the last separator in it ('\0': none); NULL: no line.
 */
static const char *
find_pattern(const char *list, const char *group, char separator)
{
	while (*list != '\0')
	{
		size_t		len = strcspn(list, "\n");
		const char *end = separator != '\0' ? memrchr(list, separator, len) : list + len;
		char		line[256];
		char	   *pattern;

		snprintf(line, sizeof(line), "%.*s", end != NULL ? (int) (end - list) : 0, list);
		pattern = outbox_setting_trim(line);
		if (*pattern != '\0' && *pattern != '#' && fnmatch(pattern, group, 0) == 0)
			return end;
		list += len + (list[len] == '\n');
	}
	return NULL;
}

static bool
is_wanted(const char *group)
{
	return find_pattern(ignored, group, '\0') == NULL;
}

static double
find_threshold(const char *group)
{
	const char *found = find_pattern(thresholds, group, '=');

	return found != NULL ? (double) strtol(found + 1, NULL, 10) : default_threshold;
}

static json_t *
make_alert(const OutboxLagGroup *group, const char *key, double seconds, OutboxAlertChange change)
{
	json_t *behind = seconds >= 0 ? json_real(seconds) : json_null();
	json_t *total =
		group->total_lag != OUTBOX_LAG_NULL ? json_integer(group->total_lag) : json_null();
	json_t *summary;

	if (change == OUTBOX_ALERT_RESOLVE)
		summary = json_sprintf("consumer group %s has caught up", group->name);
	else if (seconds >= 0)
		summary = json_sprintf("consumer group %s is %.0f s behind (%lld records, %s, %ld members)",
							   group->name, seconds, (long long) group->total_lag,
							   outbox_lag_status_name(group->status), group->members);
	else
		summary = json_sprintf("consumer group %s is %lld records behind (%s, %ld members)",
							   group->name, (long long) group->total_lag,
							   outbox_lag_status_name(group->status), group->members);
	return json_pack("{s:s, s:s, s:s, s:{s:s}, s:o, s:o, s:s, s:o, s:o, s:f}", "key", key, "kind",
					 "lag", "cluster", cluster_name, "labels", "group", group->name, "reasons",
					 outbox_alert_reasons(group->alert.reasons), "summary", summary, "status",
					 outbox_lag_status_name(group->status), "total_lag", total, "seconds_behind",
					 behind, "threshold_seconds", group->threshold);
}

/*
 * The partition furthest above its log's end, else the one that has lost most; NULL: none is
 * either.
 */
static const OutboxLagPartition *
find_outside(const OutboxLagGroup *group)
{
	const OutboxLagPartition *worst = NULL;

	for (size_t i = 0; i < group->partition_count; i++)
	{
		const OutboxLagPartition *partition = &group->partitions[i];

		if ((partition->beyond > 0 || partition->lost > 0) &&
			(worst == NULL || partition->beyond > worst->beyond ||
			 (worst->beyond == 0 && partition->lost > worst->lost)))
			worst = partition;
	}
	return worst;
}

static json_t *
make_range_summary(const OutboxLagGroup *group, const OutboxLagPartition *partition)
{
	if (partition == NULL)
		return json_sprintf("the committed offsets of consumer group %s lie in their logs again",
							group->name);
	if (partition->missing)
		return json_sprintf("consumer group %s has committed offset %lld of %s [%d], which is not "
							"there: was the topic made"
							" anew with fewer partitions?",
							group->name, (long long) partition->committed, partition->topic,
							(int) partition->partition);
	if (partition->beyond > 0)
		return json_sprintf("consumer group %s has committed offset %lld of %s [%d], whose log "
							"ends at %lld: was the topic"
							" made anew?",
							group->name, (long long) partition->committed, partition->topic,
							(int) partition->partition, (long long) partition->end);
	return json_sprintf("consumer group %s has lost up to %lld records of %s [%d]: it stands at "
						"offset %lld, the log begins at"
						" %lld",
						group->name, (long long) partition->lost, partition->topic,
						(int) partition->partition, (long long) partition->committed,
						(long long) partition->start);
}

static json_t *
make_range_alert(const OutboxLagGroup *group, const char *key, OutboxAlertChange change)
{
	const OutboxLagPartition *partition =
		change == OUTBOX_ALERT_TRIGGER ? find_outside(group) : NULL;
	json_t *alert;

	alert = json_pack("{s:s, s:s, s:s, s:{s:s}, s:o, s:o, s:s}", "key", key, "kind", "offsets",
					  "cluster", cluster_name, "labels", "group", group->name, "reasons",
					  outbox_alert_reasons(group->range_alert.reasons), "summary",
					  make_range_summary(group, partition), "status",
					  outbox_lag_status_name(group->status));
	if (partition != NULL)
	{
		json_object_set_new(alert, "topic", json_string(partition->topic));
		json_object_set_new(alert, "partition", json_integer(partition->partition));
		json_object_set_new(alert, "committed_offset", json_integer(partition->committed));
		json_object_set_new(alert, "start_offset",
							partition->missing ? json_null() : json_integer(partition->start));
		json_object_set_new(alert, "end_offset",
							partition->missing ? json_null() : json_integer(partition->end));
	}
	return alert;
}

/*
 * Offsets outside their logs: an alert of their own, for a lag may have rung long before records
 * are lost.
 */
static void
judge_ranges(OutboxLagGroup *group, int64_t now_ms)
{
	char			  key[OUTBOX_ALERT_KEY];
	OutboxAlertChange change;

	outbox_alert_key(key, "offsets/%s/%s", cluster_name, group->name);
	group->range_alert.firing = outbox_alerts_firing(key, &group->range_alert_since_ms);
	if (!group->answered)
		return;
	change = outbox_alert_judge_ranges(&group->range_alert, group->beyond, group->lost,
									   group->ranges_known);
	if (change != OUTBOX_ALERT_NONE)
		outbox_alerts_change(change, make_range_alert(group, key, change));
	if (change == OUTBOX_ALERT_TRIGGER)
		group->range_alert_since_ms = now_ms;
}

static void
judge_group(OutboxLagGroup *group, int64_t now_ms)
{
	char			  key[OUTBOX_ALERT_KEY];
	OutboxLagSample	  sample = {0};
	OutboxAlertChange change;

	group->threshold = find_threshold(group->name);
	outbox_alert_key(key, "lag/%s/%s", cluster_name, group->name);
	group->alert.firing = outbox_alerts_firing(key, &group->alert_since_ms);
	if (!group->answered)
		return;
	sample.now_ms = outbox_clock_ms();
	sample.lag = group->total_lag;
	sample.seconds = outbox_group_seconds(group, now_ms);
	sample.threshold = group->threshold;
	sample.status = group->status;
	sample.complete = group->complete;
	sample.deserted = group->empty && !group->simple;
	sample.grace_ms = grace_ms;
	change = outbox_alert_judge_lag(&group->alert, &sample);
	if (change != OUTBOX_ALERT_NONE)
		outbox_alerts_change(change, make_alert(group, key, sample.seconds, change));
	if (change == OUTBOX_ALERT_TRIGGER)
		group->alert_since_ms = now_ms;
}

static bool
is_known(json_t *alert)
{
	const char *name =
		json_string_value(json_object_get(json_object_get(alert, "labels"), "group"));
	const char *cluster = json_string_value(json_object_get(alert, "cluster"));

	return name != NULL && strcmp(cluster, cluster_name) == 0 &&
		outbox_lag_snapshot_find(outbox_lag_published(), name) != NULL;
}

static void
poll_once(void)
{
	OutboxLagSnapshot *snapshot = calloc(1, sizeof(*snapshot));
	char			   error[512] = "";
	int64_t			   began = outbox_clock_ms();

	if (snapshot == NULL)
		abort();
	if (!outbox_kafka_lag_measure(kafka, snapshot, outbox_lag_published(), is_wanted, error,
								  sizeof(error)))
	{
		if ((answered || outbox_lag_published() == NULL) && !outbox_kafka_client_cancelled())
			outbox_log(OUTBOX_LOG_WARNING, "kafka_down", "%s", error);
		answered = false;
		outbox_lag_snapshot_free(snapshot);
		outbox_lag_publish(NULL, error);
		return;
	}
	if (!answered)
		outbox_log(OUTBOX_LOG_INFO, "kafka_up", "%zu groups", snapshot->group_count);
	answered = true;
	outbox_log(OUTBOX_LOG_DEBUG, "polled", "%zu groups in %lld ms", snapshot->group_count,
			   (long long) (outbox_clock_ms() - began));
	outbox_lag_snapshot_judge(snapshot);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		judge_group(&snapshot->groups[i], outbox_wall_ms());
		judge_ranges(&snapshot->groups[i], outbox_wall_ms());
	}
	outbox_lag_publish(snapshot, "");
	outbox_alerts_sweep("lag", is_known);
	outbox_alerts_sweep("offsets", is_known);
}

static void *
close_client(void *arg)
{
	outbox_kafka_lag_close(arg);
	return NULL;
}

/* A client that waits for a coordinator for ever makes room for a new one, and ends beside it. */
static void
replace_client(void)
{
	OutboxKafkaLag *fresh =
		outbox_kafka_lag_open(bootstrap_servers, kafka_properties, (int) timeout_ms);
	pthread_t thread;

	if (fresh == NULL)
		return;
	outbox_log(OUTBOX_LOG_WARNING, "kafka_client_replaced",
			   "a request has had no answer for too long");
	if (pthread_create(&thread, NULL, close_client, kafka) == 0)
		pthread_detach(thread);
	kafka = fresh;
}

static void *
run_poller(void *arg)
{
	struct timespec until;

	(void) arg;
	clock_gettime(CLOCK_MONOTONIC, &until);
	pthread_mutex_lock(&poller_lock);
	while (!stopping)
	{
		struct timespec now;

		pthread_mutex_unlock(&poller_lock);
		turned_at = outbox_clock_ms();
		if (outbox_kafka_lag_worn(kafka))
			replace_client();
		poll_once();
		outbox_alerts_repeat(); /* also while Kafka is away */
		pthread_mutex_lock(&poller_lock);
		clock_gettime(CLOCK_MONOTONIC, &now);
		until.tv_sec += interval_seconds;
		if (until.tv_sec < now.tv_sec)
			until = now; /* a slow poll: no hurry to catch up */
		while (!stopping &&
			   pthread_cond_clockwait(&poller_wake, &poller_lock, CLOCK_MONOTONIC, &until) !=
				   ETIMEDOUT)
		{
			/* woken for nothing */
		}
	}
	pthread_mutex_unlock(&poller_lock);
	return NULL;
}

bool
outbox_poller_start(const OutboxConfig *config)
{
	cluster_name = outbox_config_text(config, "cluster_name");
	ignored = outbox_config_text(config, "ignore_groups");
	thresholds = outbox_config_text(config, "lag_thresholds");
	default_threshold = (double) outbox_config_integer(config, "lag_threshold_seconds");
	grace_ms = 1000 * outbox_config_integer(config, "members_grace_seconds");
	interval_seconds = outbox_config_integer(config, "poll_seconds");
	timeout_ms = outbox_config_integer(config, "kafka_timeout_ms");
	bootstrap_servers = outbox_config_text(config, "bootstrap_servers");
	kafka_properties = outbox_config_text(config, "kafka_properties");
	kafka = outbox_kafka_lag_open(bootstrap_servers, kafka_properties, (int) timeout_ms);
	if (kafka == NULL)
		return false;
	turned_at = outbox_clock_ms();
	if (pthread_create(&poller_thread, NULL, run_poller, NULL) == 0)
		return true;
	outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "%s", strerror(errno));
	return false;
}

bool
outbox_poller_stop(void)
{
	pthread_mutex_lock(&poller_lock);
	stopping = true;
	pthread_cond_broadcast(&poller_wake);
	pthread_mutex_unlock(&poller_lock);
	outbox_kafka_client_cancel();
	pthread_join(poller_thread, NULL);
	if (!outbox_kafka_lag_idle(kafka))
		return false;
	outbox_kafka_lag_close(kafka);
	return true;
}

const char *
outbox_poller_alive(void)
{
	if (outbox_clock_ms() - turned_at > LIVE_POLLS * (timeout_ms + 1000) + 1000 * interval_seconds)
		return "the poll of Kafka does not end";
	return NULL;
}

const char *
outbox_poller_ready(void)
{
	return answered ? outbox_poller_alive() : "Kafka does not answer";
}
