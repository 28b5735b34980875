/* SPDX-License-Identifier: PostgreSQL
 *
 * latency.c
 *	  Time from an event's birth to its arrival at a consumer, at a steady rate.
 *
 *	  latency WAY BOOTSTRAP TOPIC RATE SECONDS WARM_UP_SECONDS ARGUMENT...
 *
 * WAY is outbox (ARGUMENT: a libpq connection string), produce or transaction (ARGUMENTs:
 * librdkafka properties, name=value).  Events are due at fixed times whatever became of the ones
 * before.  The consumer, in this process, is the same for all ways.  Prints "events=... p50_ms=...
 * p90_ms=... p99_ms=... max_ms=... late=..."; late counts events made more than 2 ms after they
 * were due.
 */
#include "latency.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NUMBER_PREFIX "{\"number\":\""
#define NUMBER_DIGITS 10
#define KEYS		  1000
#define POLL_MS		  100
#define ARRIVAL_NS	  (60 * INT64_C(1000000000)) /* how long the last one may take */
#define LATE_NS		  2000000

static LatencyRun		 run;
static const LatencyWay *way;
static rd_kafka_t		*consumer;
static atomic_bool		 made_all;
static _Atomic int64_t	 late;

static void
sleep_until(int64_t due)
{
	struct timespec when = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0)
		;
}

static void
write_payload(char *payload, int64_t number)
{
	int len =
		sprintf(payload, NUMBER_PREFIX "%0*" PRId64 "\",\"filling\":\"", NUMBER_DIGITS, number);

	for (; len < LATENCY_PAYLOAD - 2; len++)
		payload[len] = (char) ('a' + (number * 31 + len * len) % 26);
	strcpy(payload + len, "\"}");
}

static void *
make_events(void *argument)
{
	int	 thread = (int) (intptr_t) argument;
	char payload[LATENCY_PAYLOAD + 1];
	char key[32];

	for (int64_t number = thread; number < run.total; number += LATENCY_THREADS)
	{
		int64_t due = run.start_ns + number * run.interval_ns;

		sprintf(key, "order-%07" PRId64, number % KEYS);
		write_payload(payload, number);
		sleep_until(due);
		if (bench_clock_ns() - due > LATE_NS)
			atomic_fetch_add(&late, 1);
		way->send(&run, thread, number, key, payload);
	}
	return NULL;
}

static int64_t
read_number(const rd_kafka_message_t *message)
{
	const size_t prefix = strlen(NUMBER_PREFIX);
	char		 digits[NUMBER_DIGITS + 1] = {0};
	int64_t		 number;

	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("reading: %s", rd_kafka_message_errstr(message));
	if (message->len != LATENCY_PAYLOAD)
		bench_die("a record of %zu bytes arrived", message->len);
	memcpy(digits, (const char *) message->payload + prefix, NUMBER_DIGITS);
	number = strtoll(digits, NULL, 10);
	if (number < 0 || number >= run.total)
		bench_die("event %" PRId64 " was never made", number);
	return number;
}

static void *
receive_events(void *argument)
{
	int64_t received = 0;
	int64_t deadline = INT64_MAX;

	(void) argument;
	while (received < run.total)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, POLL_MS);
		int64_t				now = bench_clock_ns();
		int64_t				number;

		if (atomic_load(&made_all) && deadline == INT64_MAX)
			deadline = now + ARRIVAL_NS;
		if (now > deadline)
			bench_die("%" PRId64 " of %" PRId64 " events arrived", received, run.total);
		if (message == NULL)
			continue;
		number = read_number(message);
		rd_kafka_message_destroy(message);
		if (run.received_ns[number] != 0)
			continue; /* at_least_once may send it again */
		run.received_ns[number] = now;
		received++;
	}
	return NULL;
}

static int
compare_times(const void *a, const void *b)
{
	int64_t left = *(const int64_t *) a;
	int64_t right = *(const int64_t *) b;

	return (left > right) - (left < right);
}

static double
percentile_ms(const int64_t *sorted, int64_t count, double fraction)
{
	int64_t place = (int64_t) (fraction * (double) count);

	return (double) sorted[place < count ? place : count - 1] / 1e6;
}

static void
report(int64_t first)
{
	int64_t	 count = run.total - first;
	int64_t *times = malloc((size_t) count * sizeof(int64_t));

	if (times == NULL)
		bench_die("no memory");
	for (int64_t i = 0; i < count; i++)
		times[i] = run.received_ns[first + i] - atomic_load(&run.sent_ns[first + i]);
	qsort(times, (size_t) count, sizeof(int64_t), compare_times);
	printf("events=%" PRId64 " p50_ms=%.3f p90_ms=%.3f p99_ms=%.3f max_ms=%.3f late=%" PRId64 "\n",
		   count, percentile_ms(times, count, 0.5), percentile_ms(times, count, 0.9),
		   percentile_ms(times, count, 0.99), percentile_ms(times, count, 1), atomic_load(&late));
	free(times);
}

static void
run_threads(void)
{
	pthread_t makers[LATENCY_THREADS];
	pthread_t receiver;

	run.start_ns = bench_clock_ns() + 100000000;
	if (pthread_create(&receiver, NULL, receive_events, NULL) != 0)
		bench_die("no thread");
	for (int i = 0; i < LATENCY_THREADS; i++)
		if (pthread_create(&makers[i], NULL, make_events, (void *) (intptr_t) i) != 0)
			bench_die("no thread");
	for (int i = 0; i < LATENCY_THREADS; i++)
		pthread_join(makers[i], NULL);
	atomic_store(&made_all, true);
	pthread_join(receiver, NULL);
}

int
main(int argc, char **argv)
{
	static const LatencyWay *const ways[] = {&latency_outbox, &latency_produce,
											 &latency_transaction};
	char						   bootstrap[256];
	char						  *property = bootstrap;
	int							   partitions;
	double						   rate;

	if (argc < 8)
		bench_die("usage: latency WAY BOOTSTRAP TOPIC RATE SECONDS WARM_UP_SECONDS ARGUMENT...");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i]->name, argv[1]) == 0)
			way = ways[i];
	if (way == NULL)
		bench_die("\"%s\" is no way", argv[1]);
	rate = strtod(argv[4], NULL);
	run.topic = argv[3];
	run.total = (int64_t) (rate * (strtod(argv[5], NULL) + strtod(argv[6], NULL)));
	run.interval_ns = (int64_t) (1e9 / rate);
	run.sent_ns = calloc((size_t) run.total, sizeof(*run.sent_ns));
	run.received_ns = calloc((size_t) run.total, sizeof(*run.received_ns));
	if (run.sent_ns == NULL || run.received_ns == NULL)
		bench_die("no memory");

	snprintf(bootstrap, sizeof(bootstrap), "bootstrap.servers=%s", argv[2]);
	consumer = bench_consumer(bench_conf(1, &property, 0), run.topic, true, &partitions);
	way->open(&run, argc, argv, 7);
	run_threads();
	report((int64_t) (rate * strtod(argv[6], NULL)));
	way->close();
	rd_kafka_destroy(consumer);
	return 0;
}
