/* SPDX-License-Identifier: PostgreSQL
 *
 * http_settings.c
 *	  The settings of every program that serves HTTP: one table.
 *
 * Runs at start, main thread.
 */
#include "http_settings.h"

#include "http.h"
#include "http_guard.h"
#include "http_listen.h"

OutboxHttpSettings outbox_http_settings;

/* A row: name, kind and variable, then default, limits and check, then the text. */
/* clang-format off */
const OutboxOption outbox_http_options[] = {
	{.name = "http_address", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_http_settings.address,
		.initial = "127.0.0.1", .check = outbox_http_check_address,
		.text = "where HTTP listens: an IPv4 or IPv6 address, or the path of a socket"},
	{.name = "http_port", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_http_settings.port,
		.min = 1, .max = 65535,
		.text = "port of HTTP"},
	{.name = "http_hosts", .kind = OUTBOX_OPTION_LINES, .variable = &outbox_http_settings.hosts,
		.initial = "", .check = outbox_http_check_hosts,
		.text = "names that a request's Host may have, one a line; `*`: any"},
	{.name = "http_connections_per_address", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_http_settings.connections_per_address,
		.initial = "0", .min = 0, .max = 100000,
		.text = "connections that one client's address may have, 0: any number"},
	{.name = "health_address", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_http_settings.health_address,
		.initial = "", .check = outbox_http_check_health_address,
		.text = "`address:port` or socket that has `/livez` and `/readyz` only"},
	{.name = NULL},
};
/* clang-format on */

bool
outbox_http_settings_check(const OutboxConfig *config, char *error, size_t size)
{
	const OutboxHttpSettings *http = &outbox_http_settings;
	char					  reason[512];

	if (outbox_http_check_places(http->address, http->port, http->health_address, reason,
								 sizeof(reason)))
		return true;
	outbox_config_blame(config, &http->health_address, reason, error, size);
	return false;
}

bool
outbox_http_settings_start(const OutboxHttpSite *site)
{
	const OutboxHttpSettings *http = &outbox_http_settings;
	OutboxHttpServer		  server = {.site = *site,
										.address = http->address,
										.port = http->port,
										.health_address = http->health_address,
										.limits = {.per_address = http->connections_per_address}};

	server.site.hosts = http->hosts;
	return outbox_http_start(&server);
}
