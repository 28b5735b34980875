/* SPDX-License-Identifier: PostgreSQL
 *
 * http.c
 *	  HTTP on libmicrohttpd: liveness, readiness, metrics, the service's routes.
 *
 * Runs in the services on libmicrohttpd's threads.
 */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "metrics.h"
#include "text.h"

#define BODY_MAX	 (1024 * 1024)
#define HTTP_THREADS 4

/* What is collected of a request until it is whole. */
typedef struct PendingRequest
{
	char  *body;
	size_t len;
	bool   too_large;
} PendingRequest;

/* written before the daemon starts */
static struct MHD_Daemon *http_daemon;
static const OutboxRoute *service_routes;
static const char *(*service_alive)(void);
static const char *(*service_ready)(void);
static bool (*service_admits)(const char *user, const char *password); /* NULL: everybody */

const char *
outbox_http_header(const OutboxHttpRequest *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

void
outbox_http_error(OutboxHttpAnswer *answer, int status, const char *format, ...)
{
	char	text[1024];
	va_list arguments;
	json_t *body;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	outbox_text_mend(text, sizeof(text));
	body = json_pack("{s:s}", "error", text);
	answer->status = status;
	answer->body = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
}

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
	answer_health(answer, service_alive());
}

static void
run_readyz(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer_health(answer, service_ready());
}

static void
run_metrics(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
	answer->body = outbox_metrics_text();
	answer->status = answer->body != NULL ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static const OutboxRoute own_routes[] = {
	{"GET", "/livez", run_livez},
	{"GET", "/readyz", run_readyz},
	{"GET", "/metrics", run_metrics},
	{NULL, NULL, NULL},
};

/* The route for a request; *path_known says that another method would do. */
static const OutboxRoute *
find_route(const OutboxRoute *routes, OutboxHttpRequest *request, bool *path_known)
{
	for (const OutboxRoute *route = routes; route != NULL && route->method != NULL; route++)
	{
		size_t len = strlen(route->path);
		bool   prefix = route->path[len - 1] == '/';

		if (prefix ? strncmp(request->path, route->path, len) != 0 :
					 strcmp(request->path, route->path) != 0)
			continue;
		*path_known = true;
		if (strcmp(request->method, route->method) != 0)
			continue;
		request->rest = request->path + len;
		return route;
	}
	return NULL;
}

void
outbox_http_protect(bool (*admits)(const char *user, const char *password))
{
	service_admits = admits;
}

/* Health is asked by who has no password: it tells nothing but good or bad. */
static bool
is_admitted(const OutboxHttpRequest *request)
{
	char *password = NULL;
	char *user;
	bool  admitted;

	if (service_admits == NULL || strcmp(request->path, "/livez") == 0 ||
		strcmp(request->path, "/readyz") == 0)
		return true;
	user = MHD_basic_auth_get_username_password(request->connection, &password);
	admitted = user != NULL && password != NULL && service_admits(user, password);
	MHD_free(user);
	MHD_free(password);
	return admitted;
}

static void
dispatch(OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	bool			   path_known = false;
	const OutboxRoute *route;

	if (!is_admitted(request))
	{
		outbox_http_error(answer, MHD_HTTP_UNAUTHORIZED, "a user and a password are needed");
		return;
	}
	route = find_route(own_routes, request, &path_known);
	if (route == NULL)
		route = find_route(service_routes, request, &path_known);
	if (route != NULL)
		route->run(request, answer);
	else if (path_known)
		outbox_http_error(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
	else
		outbox_http_error(answer, MHD_HTTP_NOT_FOUND, "no such resource");
}

static enum MHD_Result
send_answer(struct MHD_Connection *connection, OutboxHttpAnswer *answer)
{
	struct MHD_Response *response;
	enum MHD_Result		 result;

	response = MHD_create_response_from_buffer(answer->body != NULL ? strlen(answer->body) : 0,
											   answer->body != NULL ? answer->body : (void *) "",
											   answer->body != NULL ? MHD_RESPMEM_MUST_FREE :
																	  MHD_RESPMEM_PERSISTENT);
	if (response == NULL)
	{
		free(answer->body);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", answer->content_type);
	if (answer->status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, "WWW-Authenticate", "Basic realm=\"outbox\"");
	result = MHD_queue_response(connection, (unsigned) answer->status, response);
	MHD_destroy_response(response);
	return result;
}

static void
collect_body(PendingRequest *pending, const char *data, size_t size)
{
	char *grown;

	if (pending->too_large || pending->len + size > BODY_MAX)
	{
		pending->too_large = true;
		return;
	}
	grown = realloc(pending->body, pending->len + size + 1);
	if (grown == NULL)
	{
		pending->too_large = true;
		return;
	}
	memcpy(grown + pending->len, data, size);
	pending->body = grown;
	pending->len += size;
	pending->body[pending->len] = '\0';
}

static enum MHD_Result
handle_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
			   const char *version, const char *data, size_t *size, void **state)
{
	PendingRequest	 *pending = *state;
	OutboxHttpAnswer  answer = {MHD_HTTP_OK, "application/json", NULL};
	OutboxHttpRequest request = {method, url, "", "", 0, connection};

	(void) arg;
	(void) version;
	if (pending == NULL)
	{
		*state = calloc(1, sizeof(PendingRequest));
		return *state != NULL ? MHD_YES : MHD_NO;
	}
	if (*size > 0)
	{
		collect_body(pending, data, *size);
		*size = 0;
		return MHD_YES;
	}
	if (pending->too_large)
		outbox_http_error(&answer, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than 1 MiB");
	else
	{
		if (pending->body != NULL)
		{
			request.body = pending->body;
			request.body_len = pending->len;
		}
		dispatch(&request, &answer);
	}
	return send_answer(connection, &answer);
}

static void
forget_request(void *arg, struct MHD_Connection *connection, void **state,
			   enum MHD_RequestTerminationCode code)
{
	PendingRequest *pending = *state;

	(void) arg;
	(void) connection;
	(void) code;
	if (pending != NULL)
	{
		free(pending->body);
		free(pending);
	}
	*state = NULL;
}

bool
outbox_http_check_address(const char *value, char *error, size_t size)
{
	struct in_addr address;

	if (inet_pton(AF_INET, value, &address) == 1)
		return true;
	snprintf(error, size, "no IPv4 address, as 127.0.0.1 or 0.0.0.0: a name is not looked up");
	return false;
}

bool
outbox_http_start(const char *address, int port, const OutboxRoute *routes,
				  const char *(*alive)(void), const char *(*ready)(void) )
{
	struct sockaddr_in where = {0};

	where.sin_family = AF_INET;
	where.sin_port = htons((uint16_t) port);
	if (inet_pton(AF_INET, address, &where.sin_addr) != 1)
	{
		outbox_log(OUTBOX_LOG_ERROR, "http_failed", "\"%s\" is not an IPv4 address", address);
		return false;
	}
	service_routes = routes;
	service_alive = alive;
	service_ready = ready;
	http_daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t) port, NULL, NULL,
								   handle_request, NULL, MHD_OPTION_SOCK_ADDR, &where,
								   MHD_OPTION_NOTIFY_COMPLETED, forget_request, NULL,
								   MHD_OPTION_THREAD_POOL_SIZE, (unsigned) HTTP_THREADS,
								   MHD_OPTION_CONNECTION_TIMEOUT, 30u, MHD_OPTION_END);
	if (http_daemon == NULL)
		outbox_log(OUTBOX_LOG_ERROR, "http_failed", "cannot listen on %s:%d: %s", address, port,
				   strerror(errno));
	return http_daemon != NULL;
}

void
outbox_http_stop(void)
{
	if (http_daemon != NULL)
		MHD_stop_daemon(http_daemon);
	http_daemon = NULL;
}
