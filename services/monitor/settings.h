/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.h
 *	  The settings of outbox-monitor.
 */
#ifndef OUTBOX_MONITOR_SETTINGS_H
#define OUTBOX_MONITOR_SETTINGS_H

#include "services/lib/config.h"

/* Written by the main thread before the others start; read by any. */
typedef struct OutboxMonitorSettings
{
	const char *bootstrap_servers;
	const char *kafka_properties;
	const char *cluster_name;
	const char *ignore_groups;	/* one pattern a line */
	const char *lag_thresholds; /* one pattern=seconds a line */
	const char *databases;		/* one connection string a line */
	const char *webhook_url;	/* "": not configured, as of the URLs and files below */
	const char *pagerduty_url;
	const char *pagerduty_routing_key_file;
	const char *alertmanager_url;
	const char *state_file;
	const char *auth_file;
	int			kafka_timeout_ms;
	int			poll_seconds;
	int			lag_threshold_seconds;
	int			members_grace_seconds;
	int			dead_letter_threshold;
	int			topic_held_threshold_seconds;
	int			alertmanager_repeat_seconds;
	int			log_level; /* OutboxLogLevel */
} OutboxMonitorSettings;

extern OutboxMonitorSettings outbox_monitor;

/* For outbox_config_add; ended by a NULL name. */
extern const OutboxOption outbox_monitor_options[];

#endif /* OUTBOX_MONITOR_SETTINGS_H */
