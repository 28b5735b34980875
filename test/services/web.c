/* SPDX-License-Identifier: PostgreSQL
 *
 * web.c
 *	  outbox-web: the HTTP server with handlers that wait, park and show what came.
 *
 * Built for test/e2e/test_http.py, never installed.  The gate is a file: who waits, waits until it
 * is there.
 */
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "services/lib/arguments.h"
#include "services/lib/auth.h"
#include "services/lib/http.h"
#include "services/lib/http_guard.h"
#include "services/lib/http_listen.h"
#include "services/lib/log.h"
#include "services/lib/startup.h"

#define PARKED_MAX 100

static OutboxHttpServer server;
static const char	   *auth_file;
static const char	   *gate;

/* guarded by parked_lock */
static pthread_mutex_t	   parked_lock = PTHREAD_MUTEX_INITIALIZER;
static OutboxHttpExchange *parked[PARKED_MAX];
static int				   parked_count;

static void
await_gate(void)
{
	const struct timespec moment = {0, 5000000};

	while (access(gate, F_OK) != 0)
		nanosleep(&moment, NULL);
}

static const char *
is_well(void)
{
	return NULL;
}

static void
run_wait(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	await_gate();
	answer->body = strdup("{\"waited\":true}");
}

static void
run_mark(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	char path[4096];

	(void) request;
	(void) answer;
	snprintf(path, sizeof(path), "%s.mark", gate);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static void
run_park(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) answer;
	pthread_mutex_lock(&parked_lock);
	if (parked_count < PARKED_MAX)
		parked[parked_count++] = outbox_http_park(request);
	pthread_mutex_unlock(&parked_lock);
}

static void *
resume_parked(void *arg)
{
	await_gate();
	pthread_mutex_lock(&parked_lock);
	for (int i = 0; i < parked_count; i++)
	{
		OutboxHttpAnswer answer = outbox_http_answer_initial;

		answer.body = strdup("{\"parked\":true}");
		outbox_http_resume(parked[i], &answer);
	}
	parked_count = 0;
	pthread_mutex_unlock(&parked_lock);
	return arg;
}

static void
run_echo(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	json_t *body =
		json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:I}", "path", request->path, "rest", request->rest,
				  "q", outbox_http_argument(request, "q"), "field", outbox_http_field(request, "q"),
				  "header", outbox_http_header(request, "X-Test"), "length",
				  (json_int_t) request->body_len);

	answer->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
}

/* The body as it came. */
static void
run_bytes(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	answer->content_type = "application/octet-stream";
	answer->body = malloc(request->body_len + 1);
	if (answer->body != NULL)
		memcpy(answer->body, request->body, request->body_len);
	answer->body_len = request->body_len;
}

static void
run_page(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	answer->content_type = "text/html; charset=utf-8";
	answer->body = strdup("<p>page</p>");
	outbox_http_add_header(answer, "Set-Cookie", "a=1; HttpOnly");
	outbox_http_add_header(answer, "Set-Cookie", "b=2");
	outbox_http_add_header(answer, "ETag", "\"v1\"");
	outbox_http_add_header(answer, "Content-Security-Policy", "default-src 'none'");
	outbox_http_add_header(answer, "Location", "/page");
	if (outbox_http_add_header(answer, "X-Split", "a\r\nX-Other: b"))
		abort();
}

static const OutboxRoute routes[] = {
	{"GET", "/wait", run_wait, OUTBOX_RIGHT_READ},
	{"GET", "/park", run_park, OUTBOX_RIGHT_READ},
	{"GET", "/echo/", run_echo, OUTBOX_RIGHT_NONE},
	{"POST", "/echo/", run_echo, OUTBOX_RIGHT_NONE},
	{"POST", "/mark", run_mark, OUTBOX_RIGHT_NONE},
	{"POST", "/bytes", run_bytes, OUTBOX_RIGHT_OPERATE},
	{"GET", "/page", run_page, OUTBOX_RIGHT_READ},
	{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
};

#define INTEGER(option, field) \
	{.name = option, \
	 .kind = OUTBOX_OPTION_INTEGER, \
	 .variable = &field, \
	 .initial = "0", \
	 .min = 0, \
	 .max = 1000000, \
	 .text = "as in http.h"}
#define TEXT(option, field, judge) \
	{.name = option, \
	 .kind = OUTBOX_OPTION_TEXT, \
	 .variable = &field, \
	 .initial = "", \
	 .check = judge, \
	 .text = "as in http.h"}

static const OutboxOption options[] = {
	TEXT("http_address", server.address, outbox_http_check_address),
	TEXT("health_address", server.health_address, outbox_http_check_health_address),
	TEXT("http_hosts", server.site.hosts, outbox_http_check_hosts),
	TEXT("auth_file", auth_file, NULL),
	TEXT("gate", gate, NULL),
	INTEGER("http_port", server.port),
	INTEGER("workers", server.workers),
	INTEGER("waiting", server.waiting),
	INTEGER("connections", server.limits.connections),
	INTEGER("per_address", server.limits.per_address),
	INTEGER("idle_ms", server.limits.idle_ms),
	INTEGER("head_ms", server.limits.head_ms),
	INTEGER("body_ms", server.limits.body_ms),
	INTEGER("request_ms", server.limits.request_ms),
	INTEGER("answer_ms", server.limits.answer_ms),
	{.name = NULL},
};

static int
serve(void)
{
	sigset_t  signals;
	pthread_t resumer;
	char	  error[512];
	int		  got;

	outbox_startup_await_ends(&signals);
	outbox_log_setup("outbox-web", OUTBOX_LOG_INFO);
	server.site.routes = routes;
	server.site.alive = server.site.ready = is_well;
	if (auth_file[0] != '\0')
	{
		if (!outbox_auth_load(auth_file, error, sizeof(error)))
			return EXIT_FAILURE;
		server.site.admits = outbox_auth_admits;
	}
	if (pthread_create(&resumer, NULL, resume_parked, NULL) != 0 || pthread_detach(resumer) != 0 ||
		!outbox_http_start(&server))
		return EXIT_FAILURE;
	sigwait(&signals, &got);
	outbox_http_stop();
	return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
	static OutboxConfig		   config;
	static const OutboxProgram program = {.name = "outbox-web", .summary = "test of HTTP"};
	int						   code;

	outbox_startup();
	outbox_config_add(&config, options);
	code = outbox_arguments_read(argc, argv, &program, &config);
	if (code < 0)
		code = serve();
	outbox_config_free(&config);
	return code;
}
