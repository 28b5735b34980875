/* SPDX-License-Identifier: PostgreSQL
 *
 * http_route.c
 *	  Tables of routes.
 *
 * Pure.
 */
#include "http_route.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool
has_path(const OutboxRoute *route, const char *path)
{
	size_t len = strlen(route->path);

	return route->path[len - 1] == '/' ? strncmp(path, route->path, len) == 0 :
										 strcmp(path, route->path) == 0;
}

const OutboxRoute *
outbox_http_route_find(const OutboxRoute *routes, OutboxHttpRequest *request)
{
	const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;

	for (const OutboxRoute *route = routes; route != NULL && route->method != NULL; route++)
	{
		if (strcmp(method, route->method) != 0 || !has_path(route, request->path))
			continue;
		request->rest = request->path + strlen(route->path);
		return route;
	}
	return NULL;
}

void
outbox_http_route_methods(const OutboxRoute *routes, const char *path, char *list, size_t size)
{
	for (const OutboxRoute *route = routes; route != NULL && route->method != NULL; route++)
	{
		size_t len = strlen(list);

		if (has_path(route, path))
			snprintf(list + len, size - len, "%s%s%s", len > 0 ? ", " : "", route->method,
					 strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
	}
}
