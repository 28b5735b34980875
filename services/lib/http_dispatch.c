/* SPDX-License-Identifier: PostgreSQL
 *
 * http_dispatch.c
 *	  /livez, /readyz, /metrics and the service's own routes.
 *
 * Health runs on the event threads, all else on those of the pool.
 */
#define _GNU_SOURCE
#include "http_dispatch.h"

#include <jansson.h>
#include <microhttpd.h>
#include <string.h>

#include "http_guard.h"
#include "metrics.h"

static const OutboxHttpSite *site; /* written before the threads start */

static void
answer_health(OutboxHttpAnswer *answer, const char *problem)
{
	json_t *body = json_pack("{s:s*,s:b}", "reason", problem, "ok", problem == NULL);

	answer->status = problem == NULL ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
	answer->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
}

static void
run_livez(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer_health(answer, site->alive());
}

static void
run_readyz(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer_health(answer, site->ready());
}

static void
run_metrics(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
	answer->body = outbox_metrics_text();
	answer->status = answer->body != NULL ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static const OutboxRoute health_routes[] = {
	{"GET", "/livez", run_livez, OUTBOX_RIGHT_NONE},
	{"GET", "/readyz", run_readyz, OUTBOX_RIGHT_NONE},
	{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
};

static const OutboxRoute metrics_routes[] = {
	{"GET", "/metrics", run_metrics, OUTBOX_RIGHT_READ},
	{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
};

void
outbox_http_dispatch_setup(const OutboxHttpSite *given)
{
	site = given;
}

static void
refuse_method(const char *methods, OutboxHttpAnswer *answer)
{
	outbox_http_error(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
	(void) outbox_http_add_header(answer, "Allow", methods);
}

bool
outbox_http_dispatch_health(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	OutboxHttpRequest  copy = *request;
	const OutboxRoute *route = outbox_http_route_find(health_routes, &copy);
	char			   methods[64] = "";

	if (route != NULL)
	{
		route->run(request, answer);
		return true;
	}
	outbox_http_route_methods(health_routes, request->path, methods, sizeof(methods));
	if (methods[0] == '\0')
		return false;
	refuse_method(methods, answer);
	return true;
}

/* The rights of who asks, or an answer that refuses. */
static bool
find_rights(struct OutboxHttpParts *parts, unsigned *rights, OutboxHttpAnswer *answer)
{
	char *user;
	char *password;
	bool  admitted;

	*rights = ~0u;
	if (site->admits == NULL)
		return true;
	admitted = outbox_http_request_take_password(parts, &user, &password) &&
		site->admits(user, password, rights);
	outbox_http_request_wipe(user);
	outbox_http_request_wipe(password);
	if (admitted)
		return true;
	outbox_http_error(answer, MHD_HTTP_UNAUTHORIZED, "a user and a password are needed");
	(void) outbox_http_add_header(answer, "WWW-Authenticate", "Basic realm=\"outbox\"");
	return false;
}

static void
run_route(OutboxHttpRequest *request, unsigned rights, OutboxHttpAnswer *answer)
{
	const OutboxRoute *route = outbox_http_route_find(metrics_routes, request);
	char			   methods[128] = "";

	if (route == NULL)
		route = outbox_http_route_find(site->routes, request);
	if (route != NULL && (route->right & ~rights) != 0)
		outbox_http_error(answer, MHD_HTTP_FORBIDDEN, "the user may not do this");
	else if (route != NULL)
		route->run(request, answer);
	else
	{
		outbox_http_route_methods(metrics_routes, request->path, methods, sizeof(methods));
		outbox_http_route_methods(site->routes, request->path, methods, sizeof(methods));
		if (methods[0] != '\0')
			refuse_method(methods, answer);
		else
			outbox_http_error(answer, MHD_HTTP_NOT_FOUND, "no such resource");
	}
}

void
outbox_http_dispatch(struct OutboxHttpParts *parts, OutboxHttpAnswer *answer)
{
	OutboxHttpRequest *request = outbox_http_request_of(parts);
	unsigned		   rights;

	if (site->hosts != NULL &&
		!outbox_http_host_fits(outbox_http_header(request, "Host"), site->hosts))
		outbox_http_error(answer, MHD_HTTP_MISDIRECTED_REQUEST,
						  "Host is a name that http_hosts does not have");
	else if (find_rights(parts, &rights, answer))
		run_route(request, rights, answer);
}
