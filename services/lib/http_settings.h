/* SPDX-License-Identifier: PostgreSQL
 *
 * http_settings.h
 *	  The settings of every program that serves HTTP: one table.
 *
 * Written at start, main thread, before there are others.
 */
#ifndef OUTBOX_HTTP_SETTINGS_H
#define OUTBOX_HTTP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "http_dispatch.h"

/* The variables of outbox_http_options; http.h and docs/http.md say what they mean. */
typedef struct OutboxHttpSettings
{
	const char *address;
	int			port;
	const char *hosts;
	int			connections_per_address;
	const char *health_address; /* "": none */
} OutboxHttpSettings;

extern OutboxHttpSettings outbox_http_settings;
extern const OutboxOption outbox_http_options[]; /* ended by a NULL name; the port has no default */

/* Do they fit together?  False with one sentence in error, as outbox_config_blame writes it. */
extern bool outbox_http_settings_check(const OutboxConfig *config, char *error, size_t size);

/* outbox_http_start with the settings. */
extern bool outbox_http_settings_start(const OutboxHttpSite *site);

#endif /* OUTBOX_HTTP_SETTINGS_H */
