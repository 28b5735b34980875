/* SPDX-License-Identifier: PostgreSQL
 *
 * http_connection.c
 *	  The table of connections and the timer that looks after them.
 *
 * Event threads and the timer's.  A socket is shut, never closed here: the library finds its end
 * and closes it, after the connection has left the table under table_lock.
 */
#define _GNU_SOURCE
#include "http_connection.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "clock.h"

#define TICK_MS		100
#define STOP_MAX_MS 2000

/* All guarded by table_lock, but for what is written before the connection is in the table. */
struct OutboxHttpConnection
{
	int					  socket;
	struct in6_addr		  address; /* IPv4 as mapped; zero: a Unix socket */
	bool				  health;
	bool				  crowded; /* event thread */
	bool				  shut;
	OutboxHttpPhase		  phase;
	int64_t				  since; /* outbox_clock_ms */
	OutboxHttpExchange	 *exchange;
	OutboxHttpConnection *next;
	OutboxHttpConnection *previous;
};

static pthread_mutex_t		 table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t		 timer_wake;
static OutboxHttpConnection *first; /* guarded by table_lock, as stopping */
static bool					 stopping;
static pthread_t			 timer;
static OutboxHttpLimits		 limits; /* written before the threads start */

static int
longest_ms(OutboxHttpPhase phase)
{
	const int ms[OUTBOX_HTTP_PHASES] = {limits.idle_ms, limits.head_ms, limits.body_ms,
										limits.request_ms, limits.answer_ms};

	return ms[phase];
}

static void
shut_locked(OutboxHttpConnection *connection)
{
	if (!connection->shut)
		shutdown(connection->socket, SHUT_RDWR);
	connection->shut = true;
}

/* The handler may go on; nobody waits for it any more. */
static void
answer_for_handler(OutboxHttpExchange *exchange, const char *why)
{
	OutboxHttpAnswer answer = outbox_http_answer_initial;

	outbox_http_busy(&answer, why);
	answer.close = true;
	outbox_http_exchange_finish(exchange, &answer);
}

static void
look_after_locked(OutboxHttpConnection *connection, int64_t now)
{
	if (now - connection->since < longest_ms(connection->phase))
		return;
	if (connection->phase != OUTBOX_HTTP_WORK)
		shut_locked(connection);
	else
	{
		answer_for_handler(connection->exchange, "the request takes too long");
		connection->phase = OUTBOX_HTTP_ANSWER;
		connection->since = now;
	}
}

static void *
run_timer(void *arg)
{
	struct timespec until;

	pthread_mutex_lock(&table_lock);
	while (!stopping)
	{
		int64_t now = outbox_clock_ms();

		for (OutboxHttpConnection *each = first; each != NULL; each = each->next)
			look_after_locked(each, now);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&timer_wake, &table_lock, &until);
	}
	pthread_mutex_unlock(&table_lock);
	return arg;
}

bool
outbox_http_connections_start(const OutboxHttpLimits *wanted)
{
	pthread_condattr_t monotonic;

	limits = *wanted;
	stopping = false;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&timer_wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return pthread_create(&timer, NULL, run_timer, NULL) == 0;
}

/* Is a request or its answer on the way? */
static bool
answer_all(void)
{
	bool any = false;

	pthread_mutex_lock(&table_lock);
	for (OutboxHttpConnection *each = first; each != NULL; each = each->next)
	{
		if (each->exchange == NULL)
			continue;
		/* Also of a shut one: the library must not end with it suspended. */
		if (each->phase == OUTBOX_HTTP_WORK)
			answer_for_handler(each->exchange, "the program ends");
		if (!each->shut && (each->phase == OUTBOX_HTTP_WORK || each->phase == OUTBOX_HTTP_ANSWER))
			any = true;
	}
	pthread_mutex_unlock(&table_lock);
	return any;
}

void
outbox_http_connections_stop(void)
{
	const struct timespec moment = {0, 10000000};
	int64_t				  until = outbox_clock_ms() + STOP_MAX_MS;

	while (answer_all() && outbox_clock_ms() < until)
		nanosleep(&moment, NULL);
	pthread_mutex_lock(&table_lock);
	stopping = true;
	pthread_cond_signal(&timer_wake);
	pthread_mutex_unlock(&table_lock);
	pthread_join(timer, NULL);
	pthread_cond_destroy(&timer_wake);
}

static void
note_address(OutboxHttpConnection *connection, const struct sockaddr *address)
{
	if (address != NULL && address->sa_family == AF_INET6)
		connection->address = ((const struct sockaddr_in6 *) address)->sin6_addr;
	else if (address != NULL && address->sa_family == AF_INET)
	{
		connection->address.s6_addr[10] = connection->address.s6_addr[11] = 0xFF;
		memcpy(&connection->address.s6_addr[12], &((const struct sockaddr_in *) address)->sin_addr,
			   4);
	}
}

static bool
is_of_address(const OutboxHttpConnection *connection, const OutboxHttpConnection *other)
{
	return !connection->health &&
		memcmp(&connection->address, &other->address, sizeof(other->address)) == 0;
}

/* Ends the one that has come no further for longest; like: of that one's address only. */
static bool
end_longest_locked(const OutboxHttpConnection *newest, bool like)
{
	OutboxHttpConnection *longest = NULL;

	for (OutboxHttpConnection *each = first; each != NULL; each = each->next)
	{
		if (each == newest || each->shut || each->health != newest->health ||
			(each->phase != OUTBOX_HTTP_IDLE && each->phase != OUTBOX_HTTP_HEAD) ||
			(like && !is_of_address(each, newest)))
			continue;
		if (longest == NULL || each->since <= longest->since) /* the list is newest first */
			longest = each;
	}
	if (longest != NULL)
		shut_locked(longest);
	return longest != NULL;
}

/* Those that are shut already are no more counted. */
static int
count_like_locked(const OutboxHttpConnection *newest, bool like)
{
	int found = 0;

	for (OutboxHttpConnection *each = first; each != NULL; each = each->next)
		found +=
			!each->shut && each->health == newest->health && (!like || is_of_address(each, newest));
	return found;
}

/* Ends one when there are more than most.  false: there still are. */
static bool
make_room_locked(const OutboxHttpConnection *newest, bool like, int most)
{
	if (count_like_locked(newest, like) <= most)
		return true;
	return end_longest_locked(newest, like) && count_like_locked(newest, like) <= most;
}

OutboxHttpConnection *
outbox_http_connection_opened(int socket, const struct sockaddr *address, bool health)
{
	OutboxHttpConnection *connection = calloc(1, sizeof(OutboxHttpConnection));

	if (connection == NULL)
		return NULL;
	connection->socket = socket;
	connection->health = health;
	connection->phase = OUTBOX_HTTP_HEAD;
	connection->since = outbox_clock_ms();
	note_address(connection, address);
	pthread_mutex_lock(&table_lock);
	connection->next = first;
	if (first != NULL)
		first->previous = connection;
	first = connection;
	if (!health && limits.per_address > 0)
		connection->crowded = !make_room_locked(connection, true, limits.per_address);
	if (!make_room_locked(connection, false, limits.connections))
		connection->crowded = true;
	pthread_mutex_unlock(&table_lock);
	return connection;
}

void
outbox_http_connection_closed(OutboxHttpConnection *connection)
{
	pthread_mutex_lock(&table_lock);
	if (connection->next != NULL)
		connection->next->previous = connection->previous;
	if (connection->previous != NULL)
		connection->previous->next = connection->next;
	else
		first = connection->next;
	pthread_mutex_unlock(&table_lock);
	free(connection);
}

void
outbox_http_connection_enter(OutboxHttpConnection *connection, OutboxHttpPhase phase,
							 OutboxHttpExchange *exchange)
{
	pthread_mutex_lock(&table_lock);
	if (connection->phase != phase)
		connection->since = outbox_clock_ms();
	connection->phase = phase;
	connection->exchange = exchange;
	pthread_mutex_unlock(&table_lock);
}

bool
outbox_http_connection_is_crowded(const OutboxHttpConnection *connection)
{
	return connection->crowded;
}

bool
outbox_http_connection_is_health(const OutboxHttpConnection *connection)
{
	return connection->health;
}
