/* SPDX-License-Identifier: PostgreSQL
 *
 * http.c
 *	  HTTP on libmicrohttpd: its event threads, of which none ever waits.
 *
 * One event thread for http_address, one for health_address.  They read requests, answer health
 * and send answers; handlers run in the pool while the connection is suspended.
 */
#define _GNU_SOURCE
#include "http.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "http_listen.h"
#include "http_pool.h"
#include "log.h"

#define WORKERS		8
#define WAITING		64
#define CONNECTIONS 512

/* Main thread; what the event threads read of it is written before they start. */
static struct
{
	OutboxHttpServer   server;
	OutboxHttpPool	  *pool;
	struct MHD_Daemon *daemon;
	struct MHD_Daemon *health_daemon;
} http;
static atomic_bool stopping;

/* A thread of the pool. */
static void
work(void *job)
{
	OutboxHttpExchange	   *exchange = job;
	struct OutboxHttpParts *parts = outbox_http_exchange_parts(exchange);
	OutboxHttpAnswer		answer = outbox_http_answer_initial;

	if (outbox_http_exchange_is_awaited(exchange)) /* else it got 503 before its turn */
		outbox_http_dispatch(parts, &answer);
	if (outbox_http_exchange_is_parked(exchange))
		outbox_http_answer_free(&answer);
	else
	{
		outbox_http_answer_match(&answer, outbox_http_request_of(parts));
		outbox_http_exchange_finish(exchange, &answer);
	}
	outbox_http_exchange_release(exchange);
}

static bool
is_awaited(const void *job)
{
	return outbox_http_exchange_is_awaited(job);
}

static void
drop(void *job)
{
	outbox_http_exchange_release(job);
}

static const OutboxHttpJobs jobs = {.run = work, .is_wanted = is_awaited, .drop = drop};

static OutboxHttpConnection *
connection_of(struct MHD_Connection *mhd)
{
	return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void
on_connection(void *arg, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*context = outbox_http_connection_opened(
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
			arg != NULL);
	else if (*context != NULL)
	{
		outbox_http_connection_closed(*context);
		*context = NULL;
	}
}

/* The request line is there; the target is as it came. */
static void *
on_target(void *arg, const char *target, struct MHD_Connection *mhd)
{
	OutboxHttpExchange	 *exchange = outbox_http_exchange_new(mhd, target != NULL ? target : "");
	OutboxHttpConnection *connection = connection_of(mhd);

	(void) arg;
	if (connection != NULL)
		outbox_http_connection_enter(connection, OUTBOX_HTTP_HEAD, exchange);
	return exchange;
}

static enum MHD_Result
send_answer(struct MHD_Connection *mhd, OutboxHttpExchange *exchange, OutboxHttpAnswer *answer)
{
	outbox_http_connection_enter(connection_of(mhd), OUTBOX_HTTP_ANSWER, exchange);
	return outbox_http_answer_send(answer, mhd) ? MHD_YES : MHD_NO;
}

/* The headers are there: judged before a byte of the body is read. */
static enum MHD_Result
begin_request(struct MHD_Connection *mhd, OutboxHttpExchange *exchange, const char *method,
			  const char *version)
{
	OutboxHttpConnection   *connection = connection_of(mhd);
	struct OutboxHttpParts *parts = outbox_http_exchange_parts(exchange);
	OutboxHttpAnswer		answer = outbox_http_answer_initial;
	const char			   *wrong = outbox_http_request_begin(parts, mhd, method, version);

	if (wrong != NULL)
		outbox_http_error(&answer, MHD_HTTP_BAD_REQUEST, "%s", wrong);
	else if (!outbox_http_connection_is_crowded(connection))
	{
		outbox_http_connection_enter(connection, OUTBOX_HTTP_BODY, exchange);
		return MHD_YES;
	}
	else if (!outbox_http_dispatch_health(outbox_http_request_of(parts), &answer))
		outbox_http_busy(&answer, "too many connections");
	answer.close = true;
	return send_answer(mhd, exchange, &answer);
}

/* Fills the answer of a whole request that no handler is needed for. */
static bool
answer_at_once(OutboxHttpConnection *connection, struct OutboxHttpParts *parts,
			   OutboxHttpAnswer *answer)
{
	const OutboxHttpRequest *request = outbox_http_request_of(parts);

	if (outbox_http_dispatch_health(request, answer))
		return true;
	if (outbox_http_connection_is_health(connection))
		outbox_http_error(answer, MHD_HTTP_NOT_FOUND, "no such resource");
	else if (outbox_http_request_refusal(parts) == MHD_HTTP_CONTENT_TOO_LARGE)
		outbox_http_error(answer, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than 1 MiB");
	else if (outbox_http_request_refusal(parts) != 0)
		outbox_http_busy(answer, "too many bodies at once");
	else if (stopping)
	{
		outbox_http_busy(answer, "the program ends");
		answer->close = true;
	}
	else
		return false;
	return true;
}

static enum MHD_Result
end_request(struct MHD_Connection *mhd, OutboxHttpExchange *exchange)
{
	OutboxHttpConnection *connection = connection_of(mhd);
	OutboxHttpAnswer	  answer = outbox_http_answer_initial;

	if (outbox_http_exchange_take(exchange, &answer) ||
		answer_at_once(connection, outbox_http_exchange_parts(exchange), &answer))
		return send_answer(mhd, exchange, &answer);
	outbox_http_connection_enter(connection, OUTBOX_HTTP_WORK, exchange);
	outbox_http_exchange_suspend(exchange);
	if (outbox_http_pool_push(http.pool, exchange))
		return MHD_YES;
	outbox_http_busy(&answer, "too many requests at once");
	outbox_http_exchange_finish(exchange, &answer);
	outbox_http_exchange_release(exchange);
	return MHD_YES;
}

/* Called when the headers are there, for each part of the body, at its end, and when resumed. */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *mhd, const char *target, const char *method,
		   const char *version, const char *data, size_t *size, void **state)
{
	OutboxHttpExchange	   *exchange = *state;
	struct OutboxHttpParts *parts;

	(void) arg;
	(void) target;
	if (exchange == NULL || connection_of(mhd) == NULL)
		return MHD_NO; /* out of memory: closed */
	parts = outbox_http_exchange_parts(exchange);
	if (outbox_http_request_of(parts)->method == NULL)
		return begin_request(mhd, exchange, method, version);
	if (*size == 0)
		return end_request(mhd, exchange);
	outbox_http_request_add_body(parts, data, *size);
	*size = 0;
	return MHD_YES;
}

static void
on_completed(void *arg, struct MHD_Connection *mhd, void **state,
			 enum MHD_RequestTerminationCode code)
{
	OutboxHttpConnection *connection = connection_of(mhd);

	(void) arg;
	(void) code;
	if (connection != NULL)
		outbox_http_connection_enter(connection, OUTBOX_HTTP_IDLE, NULL);
	if (*state != NULL)
		outbox_http_exchange_forget(*state);
	*state = NULL;
}

static void
fill_limits(OutboxHttpLimits *limits)
{
	static const OutboxHttpLimits defaults = {.connections = CONNECTIONS,
											  .idle_ms = 30000,
											  .head_ms = 10000,
											  .body_ms = 30000,
											  .request_ms = 60000,
											  .answer_ms = 30000};
	struct rlimit				  files;

	if (limits->connections == 0)
		limits->connections = defaults.connections;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY &&
		(rlim_t) limits->connections > files.rlim_cur / 2)
		limits->connections = (int) (files.rlim_cur / 2);
	if (limits->idle_ms == 0)
		limits->idle_ms = defaults.idle_ms;
	if (limits->head_ms == 0)
		limits->head_ms = defaults.head_ms;
	if (limits->body_ms == 0)
		limits->body_ms = defaults.body_ms;
	if (limits->request_ms == 0)
		limits->request_ms = defaults.request_ms;
	if (limits->answer_ms == 0)
		limits->answer_ms = defaults.answer_ms;
}

/* Has the socket in any case.  The library has room for more than may be: they get health. */
static struct MHD_Daemon *
start_daemon(int socket, bool health)
{
	unsigned		   room = (unsigned) http.server.limits.connections;
	struct MHD_Daemon *daemon;

	if (socket < 0)
		return NULL;
	daemon =
		MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
						 on_request, NULL, MHD_OPTION_LISTEN_SOCKET, socket,
						 MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL, MHD_OPTION_NOTIFY_COMPLETED,
						 on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
						 health ? (void *) &http : NULL, MHD_OPTION_CONNECTION_LIMIT,
						 room + room / 4 + 4, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_END);
	if (daemon == NULL)
		outbox_log(OUTBOX_LOG_ERROR, "http_failed", "the library does not start");
	return daemon;
}

static bool
start_daemons(void)
{
	const OutboxHttpServer *server = &http.server;

	http.daemon = start_daemon(outbox_http_listen(server->address, server->port), false);
	if (http.daemon == NULL)
		return false;
	if (server->health_address == NULL || server->health_address[0] == '\0')
		return true;
	http.health_daemon = start_daemon(outbox_http_listen_health(server->health_address), true);
	return http.health_daemon != NULL;
}

/* No page of a browser comes to a Unix socket, and one elsewhere has names we do not know. */
static void
setup_site(void)
{
	OutboxHttpServer *server = &http.server;

	if (server->site.hosts != NULL && server->site.hosts[0] == '\0' &&
		(server->address[0] == '/' || !outbox_http_is_local(server->address)))
		server->site.hosts = NULL;
	outbox_http_dispatch_setup(&server->site);
}

bool
outbox_http_start(const OutboxHttpServer *server)
{
	http.server = *server;
	stopping = false;
	fill_limits(&http.server.limits);
	setup_site();
	http.pool = outbox_http_pool_start(server->workers > 0 ? server->workers : WORKERS,
									   server->waiting > 0 ? server->waiting : WAITING, &jobs);
	if (http.pool == NULL || !outbox_http_connections_start(&http.server.limits))
	{
		outbox_log(OUTBOX_LOG_ERROR, "http_failed", "no memory or thread");
		return false;
	}
	if (start_daemons())
		return true;
	outbox_http_stop();
	return false;
}

void
outbox_http_stop(void)
{
	if (http.pool == NULL)
		return;
	stopping = true;
	outbox_http_pool_stop(http.pool);
	outbox_http_connections_stop();
	if (http.daemon != NULL)
		MHD_stop_daemon(http.daemon);
	if (http.health_daemon != NULL)
		MHD_stop_daemon(http.health_daemon);
	if (http.daemon != NULL)
		outbox_http_unlisten(http.server.address);
	if (http.health_daemon != NULL)
		outbox_http_unlisten(http.server.health_address);
	outbox_http_pool_free(http.pool);
	http.daemon = http.health_daemon = NULL;
	http.pool = NULL;
}
