/* SPDX-License-Identifier: PostgreSQL
 *
 * test_http.c
 *	  What the HTTP server judges and counts without a socket: headers as they came, names of
 *	  hosts, escapes, routes, addresses, the pool, and the memory of who was admitted.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "services/lib/auth_cache.h"
#include "services/lib/http_guard.h"
#include "services/lib/http_listen.h"
#include "services/lib/http_pairs.h"
#include "services/lib/http_pool.h"
#include "services/lib/http_route.h"

/* Headers as "Name:value" by turns, ended by NULL. */
static const char *
guard(const char *version, const char *const *lines)
{
	OutboxHttpPairs headers = {0};
	const char	   *wrong;

	for (; *lines != NULL; lines++)
	{
		char *name = strdup(*lines);
		char *value = strchr(name, ':');

		*value++ = '\0';
		outbox_http_pairs_add(&headers, name, value);
		free(name);
	}
	wrong = outbox_http_guard(&headers, version);
	outbox_http_pairs_free(&headers);
	return wrong;
}

#define GUARD(...) guard("HTTP/1.1", (const char *const[]) {__VA_ARGS__, NULL})

static bool
says(const char *wrong, const char *expected)
{
	return wrong != NULL && strcmp(wrong, expected) == 0;
}

static void
test_guard(void)
{
	static const char length[] = "Content-Length is no number";
	static const char coding[] = "a Transfer-Encoding other than chunked";
	static const char name[] =
		"a header's name has a blank or another character that is none of a name";
	static const char host[] = "Host is no name of a host";

	CHECK(GUARD("Host:a", "Content-Length:0", "X:") == NULL, "a length");
	CHECK(GUARD("hOST:[::1]:80 ", "tRANSFER-eNCODING:CHUNKED") == NULL, "chunked, in any case");
	CHECK(GUARD("Host:a", "Content-Length:12 \t") == NULL, "blanks behind a value");
	CHECK(says(GUARD("Host:a", "Content-Length:3", "content-length:3"),
			   "more than one Content-Length"),
		  "two lengths");
	CHECK(says(GUARD("Host:a", "Content-Length:"), length), "empty length");
	CHECK(says(GUARD("Host:a", "Content-Length: 3"), length), "a blank before a length");
	CHECK(says(GUARD("Host:a", "Content-Length:-1"), length), "a sign");
	CHECK(says(GUARD("Host:a", "Content-Length:1 2"), length), "a blank in a length");
	CHECK(says(GUARD("Host:a", "Content-Length:1,1"), length), "a list of lengths");
	CHECK(says(GUARD("Host:a", "Content-Length:1\xC2\xB2"), length), "a digit that is none");
	CHECK(says(GUARD("Host:a", "Content-Length:9999999999999999999"), length), "too long a length");
	CHECK(says(GUARD("Host:a", "Transfer-Encoding:chunked", "Content-Length:3"),
			   "Content-Length and Transfer-Encoding"),
		  "length and coding");
	CHECK(says(GUARD("Host:a", "Transfer-Encoding:chunked", "Transfer-Encoding:chunked"), coding),
		  "two codings");
	CHECK(says(GUARD("Host:a", "Transfer-Encoding:gzip, chunked"), coding), "a list of codings");
	CHECK(says(GUARD("Host:a", "Transfer-Encoding:xchunked"), coding), "another coding");
	CHECK(says(GUARD("Host:a", "Transfer-Encoding:chunked "), coding),
		  "a blank that the library takes for a part of the coding");
	CHECK(says(GUARD("Host:a", "X :1"), name) && says(GUARD("Host:a", "X\t:1"), name) &&
			  says(GUARD("Host:a", " X:1"), name) && says(GUARD("Host:a", ":1"), name) &&
			  says(GUARD("Host:a", "X\xC3\xA4:1"), name),
		  "names");
	CHECK(says(GUARD("Host:a", "Content-Length2:1"),
			   "a length or coding that goes on in the next line") &&
			  says(GUARD("Host:a", "transfer-encodingx:chunked"),
				   "a length or coding that goes on in the next line"),
		  "a continued line, as 0.9.75 gives it");
	CHECK(says(GUARD("Host:a", "X:a\rb"), "a header's value has a control character") &&
			  GUARD("Host:a", "X:a\tb\xC3\xA4") == NULL,
		  "control characters");
	CHECK(says(GUARD("X:1"), "no Host") && says(GUARD("Host:a", "host:a"), "more than one Host"),
		  "none and two hosts");
	CHECK(says(GUARD("Host:a b"), host) && says(GUARD("Host:a,b"), host) &&
			  says(GUARD("Host:u@a"), host) && says(GUARD("Host:a/b"), host),
		  "what is no host");
	CHECK(guard("HTTP/1.0", (const char *const[]) {"X:1", NULL}) == NULL, "HTTP/1.0 has no Host");
	CHECK(says(guard("HTTP/1.0", (const char *const[]) {"Transfer-Encoding:chunked", NULL}),
			   coding),
		  "HTTP/1.0 has no coding");
}

static void
test_hosts(void)
{
	char error[256];

	CHECK(outbox_http_host_fits("10.1.2.3:80", "") && outbox_http_host_fits("[fe80::1]:80", "") &&
			  outbox_http_host_fits("LocalHost:1", "") && outbox_http_host_fits("localhost.", "") &&
			  outbox_http_host_fits(NULL, ""),
		  "addresses and localhost fit");
	CHECK(!outbox_http_host_fits("evil.example", "") &&
			  !outbox_http_host_fits("127.0.0.1.example", "") &&
			  !outbox_http_host_fits("localhost.example", "") && !outbox_http_host_fits("", ""),
		  "names do not");
	CHECK(outbox_http_host_fits("A.example:8", "\n  # ours\n  b\n  a.example") &&
			  !outbox_http_host_fits("c.a.example", "a.example") &&
			  outbox_http_host_fits("any", "a\n*"),
		  "but those of the list");
	CHECK(outbox_http_check_hosts("a.example\nb_1\n*", error, sizeof(error)) &&
			  outbox_http_check_hosts("", error, sizeof(error)) &&
			  !outbox_http_check_hosts("a:80", error, sizeof(error)) &&
			  !outbox_http_check_hosts("a b", error, sizeof(error)) &&
			  !outbox_http_check_hosts("*.example", error, sizeof(error)),
		  "what the list may have");
}

static bool
unescapes(const char *text, bool plus, const char *expected)
{
	char copy[64];

	strcpy(copy, text);
	return outbox_http_unescape(copy, plus) && strcmp(copy, expected) == 0;
}

static void
test_escapes(void)
{
	OutboxHttpPairs pairs = {0};
	char			zero[] = "a%00";
	char			overlong[] = "%C0%80";
	char			surrogate[] = "%ED%A0%80";
	char			many[300] = "";

	CHECK(unescapes("/a%2fb+%E6%97%a5", false, "/a/b+\xE6\x97\xA5") &&
			  unescapes("a+b", true, "a b"),
		  "escapes and plus signs");
	CHECK(unescapes("100%", false, "100%") && unescapes("%4", false, "%4") &&
			  unescapes("%zz%2541", false, "%zz%41"),
		  "what is no escape stays, and nothing is unescaped twice");
	CHECK(!outbox_http_unescape(zero, false) && !outbox_http_unescape(overlong, false) &&
			  !outbox_http_unescape(surrogate, false),
		  "zero bytes and what is no UTF-8");
	CHECK(outbox_http_pairs_parse(&pairs, "a=1&&b&a=2&c%3D=%26&=e") && pairs.count == 5 &&
			  strcmp(outbox_http_pairs_find(&pairs, "a", false), "1") == 0 &&
			  strcmp(outbox_http_pairs_find(&pairs, "b", false), "") == 0 &&
			  strcmp(outbox_http_pairs_find(&pairs, "c=", false), "&") == 0 &&
			  outbox_http_pairs_find(&pairs, "A", false) == NULL &&
			  outbox_http_pairs_find(&pairs, "A", true) != NULL,
		  "pairs");
	outbox_http_pairs_free(&pairs);
	CHECK(!outbox_http_pairs_parse(&pairs, "a=%FF"), "a value that is no UTF-8");
	outbox_http_pairs_free(&pairs);
	for (int i = 0; i < 101; i++)
		strcat(many, "a&");
	CHECK(!outbox_http_pairs_parse(&pairs, many) && pairs.count == 100, "at most 100");
	outbox_http_pairs_free(&pairs);
}

static void
run_nothing(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	(void) answer;
}

static void
test_routes(void)
{
	static const OutboxRoute routes[] = {
		{"GET", "/a", run_nothing, OUTBOX_RIGHT_READ},
		{"GET", "/a/", run_nothing, OUTBOX_RIGHT_NONE},
		{"PUT", "/a/", run_nothing, OUTBOX_RIGHT_OPERATE},
		{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
	};
	OutboxHttpRequest request = {.method = "HEAD", .path = "/a/b/c"};
	char			  methods[64] = "";

	CHECK(outbox_http_route_find(routes, &request) == &routes[1] &&
			  strcmp(request.rest, "b/c") == 0,
		  "HEAD of what begins with a path");
	request.method = "POST";
	CHECK(outbox_http_route_find(routes, &request) == NULL, "no such method");
	request.path = "/ab";
	request.method = "GET";
	CHECK(outbox_http_route_find(routes, &request) == NULL &&
			  outbox_http_route_find(NULL, &request) == NULL,
		  "no such path");
	outbox_http_route_methods(routes, "/a/", methods, sizeof(methods));
	CHECK(strcmp(methods, "GET, HEAD, PUT") == 0, "methods of a path");
}

static void
test_addresses(void)
{
	static const char *const good[] = {"", "127.0.0.1:1", "[::1]:65535", "/run/x"};
	static const char *const bad[] = {"127.0.0.1",		 "127.0.0.1:", "127.0.0.1:0",
									  "127.0.0.1:65536", "::1:80",	   "[::1]",
									  "[127.0.0.1]:80",	 "[]:80",	   "a:80",
									  "127.0.0.1:80x",	 ":80",		   "run/x"};
	char					 error[256];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(outbox_http_check_health_address(good[i], error, sizeof(error)), good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!outbox_http_check_health_address(bad[i], error, sizeof(error)), bad[i]);
	CHECK(outbox_http_check_address("::", error, sizeof(error)) &&
			  outbox_http_check_address("/x", error, sizeof(error)) &&
			  !outbox_http_check_address("localhost", error, sizeof(error)) &&
			  !outbox_http_check_address("", error, sizeof(error)),
		  "addresses without a port");
	CHECK(outbox_http_is_local("127.9.9.9") && outbox_http_is_local("::1") &&
			  outbox_http_is_local("/x") && !outbox_http_is_local("::") &&
			  outbox_http_is_local("::ffff:127.0.0.1") &&
			  !outbox_http_is_local("::ffff:10.0.0.1") && !outbox_http_is_local("128.0.0.1") &&
			  !outbox_http_is_local("0.0.0.0"),
		  "who is local");
	CHECK(!outbox_http_check_places("127.0.0.1", 80, "127.0.0.1:80", error, sizeof(error)) &&
			  !outbox_http_check_places("::1", 80, "[0::1]:80", error, sizeof(error)) &&
			  !outbox_http_check_places("/x", 80, "/x", error, sizeof(error)) &&
			  outbox_http_check_places("127.0.0.1", 80, "127.0.0.1:81", error, sizeof(error)) &&
			  outbox_http_check_places("127.0.0.1", 80, "", error, sizeof(error)),
		  "the same place twice");
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int			   done;

static bool
is_wanted(const void *job)
{
	return *(const int *) job != 0;
}

static void
drop(void *job)
{
	*(int *) job = -1;
}

static void
pass_gate(void *job)
{
	pthread_mutex_lock(&gate);
	done += *(int *) job;
	pthread_mutex_unlock(&gate);
}

static void
test_pool(void)
{
	const OutboxHttpJobs jobs = {.run = pass_gate, .is_wanted = is_wanted, .drop = drop};
	OutboxHttpPool		*pool = outbox_http_pool_start(2, 3, &jobs);
	int					 one = 1;
	int					 given_up = 1;
	int					 taken = 0;

	pthread_mutex_lock(&gate);
	for (int i = 0; i < 20; i++)
		taken += outbox_http_pool_push(pool, &one);
	CHECK(taken == 5, "two under way and three waiting are taken, however fast they come");
	pthread_mutex_unlock(&gate);
	outbox_http_pool_stop(pool);
	CHECK(done == 5, "what was taken is done at the end");
	outbox_http_pool_free(pool);

	pool = outbox_http_pool_start(1, 2, &jobs);
	pthread_mutex_lock(&gate);
	taken = outbox_http_pool_push(pool, &one);
	taken += outbox_http_pool_push(pool, &one);
	taken += outbox_http_pool_push(pool, &given_up);
	CHECK(taken == 3 && !outbox_http_pool_push(pool, &one), "the room is full");
	given_up = 0;
	CHECK(outbox_http_pool_push(pool, &one) && given_up == -1,
		  "a waiting job that nobody wants any more makes room");
	CHECK(!outbox_http_pool_push(pool, &one), "the others keep theirs");
	pthread_mutex_unlock(&gate);
	outbox_http_pool_stop(pool);
	CHECK(done == 8, "what was taken is done at the end, but for what was dropped");
	CHECK(!outbox_http_pool_push(pool, &one), "nothing is taken after it");
	outbox_http_pool_free(pool);
}

/* Is the text, given with every byte turned over, in writable memory of this process? */
static bool
is_in_memory(const char *turned, size_t len)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int	  memory = open("/proc/self/mem", O_RDONLY);
	char  line[512];
	bool  found = false;

	while (fgets(line, sizeof(line), maps) != NULL)
	{
		unsigned long from;
		unsigned long to;
		char		  rights[5];
		char		 *bytes;
		ssize_t		  got;

		if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) != 3 || rights[1] != 'w' ||
			strstr(line, "[v") != NULL || (bytes = malloc(to - from)) == NULL)
			continue;
		got = pread(memory, bytes, to - from, (off_t) from);
		for (ssize_t i = 0; i + (ssize_t) len <= got && !found; i++)
		{
			size_t same = 0;

			while (same < len && (char) ~bytes[i + (ssize_t) same] == turned[same])
				same++;
			found = same == len;
		}
		if (got > 0)
			explicit_bzero(bytes, (size_t) got);
		free(bytes);
	}
	fclose(maps);
	close(memory);
	return found;
}

static void
test_cache(void)
{
	char	 turned[20];
	char	 password[21] = "";
	char	 user[16];
	unsigned rights = 0;
	int		 kept = 0;

	CHECK(!outbox_auth_cache_find("ana", "x", 1000, &rights), "nobody at first");
	outbox_auth_cache_add("ana", "x", 1000, 5);
	CHECK(outbox_auth_cache_find("ana", "x", 1000 + OUTBOX_AUTH_CACHE_MS - 1, &rights) &&
			  rights == 5,
		  "who was added, with the rights");
	CHECK(!outbox_auth_cache_find("ana", "x", 1000 + OUTBOX_AUTH_CACHE_MS, &rights),
		  "not after its time");
	CHECK(!outbox_auth_cache_find("ana", "y", 1000, &rights) &&
			  !outbox_auth_cache_find("an", "ax", 1000, &rights) &&
			  !outbox_auth_cache_find("anax", "", 1000, &rights),
		  "another password, or the same bytes cut elsewhere");
	outbox_auth_cache_forget();
	CHECK(!outbox_auth_cache_find("ana", "x", 1000, &rights), "forgotten");
	for (int i = 0; i < 200; i++)
	{
		snprintf(user, sizeof(user), "user%d", i);
		outbox_auth_cache_add(user, "x", 1000 + i, 1);
	}
	for (int i = 0; i < 200; i++)
	{
		snprintf(user, sizeof(user), "user%d", i);
		kept += outbox_auth_cache_find(user, "x", 1200, &rights);
	}
	CHECK(kept == OUTBOX_AUTH_CACHE_ENTRIES, "so many, the latest");
	for (size_t i = 0; i < sizeof(turned); i++)
	{
		turned[i] = (char) ~('a' + (getpid() + (int) (i * i)) % 26);
		password[i] = (char) ~turned[i];
	}
	CHECK(is_in_memory(turned, sizeof(turned)), "a password is found where it is");
	outbox_auth_cache_add("ana", password, 1000, 1);
	explicit_bzero(password, sizeof(password));
	CHECK(!is_in_memory(turned, sizeof(turned)), "and nowhere after it was remembered");
}

int
main(void)
{
	test_guard();
	test_hosts();
	test_escapes();
	test_routes();
	test_addresses();
	test_pool();
	test_cache();
	return finish_tests();
}
