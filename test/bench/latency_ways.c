/* SPDX-License-Identifier: PostgreSQL
 *
 * latency_ways.c
 *	  The ways of latency.c to Kafka.
 *
 *	outbox		emit() in a transaction of its own; born when COMMIT has returned
 *	produce		rd_kafka_produce; born just before
 *	transaction	handed to a thread that puts what has come into one Kafka
 *				transaction with an offset; born when handed over
 *
 * Each runs in the threads of latency.c that make events, and in one of its own.
 */
#include "latency.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#define GROUP			"bench-latency"
#define INIT_TIMEOUT_MS 30000
#define POLL_MS			10

/* --------------------------------------------------------------- outbox */

static PGconn *connections[LATENCY_THREADS];

static void
require(PGconn *connection, PGresult *result, ExecStatusType expected)
{
	if (PQresultStatus(result) != expected)
		bench_die("%s", PQerrorMessage(connection));
	PQclear(result);
}

static void
open_outbox(LatencyRun *run, int argc, char **argv, int first)
{
	(void) run;
	(void) argc;
	for (int i = 0; i < LATENCY_THREADS; i++)
	{
		connections[i] = PQconnectdb(argv[first]);
		if (PQstatus(connections[i]) != CONNECTION_OK)
			bench_die("%s", PQerrorMessage(connections[i]));
		require(connections[i],
				PQprepare(connections[i], "emit",
						  "select outbox.emit_json($1, $2, 'LatencyMeasured', $3)", 0, NULL),
				PGRES_COMMAND_OK);
	}
}

/* The statement is a transaction: its answer comes after the commit. */
static void
send_outbox(LatencyRun *run, int thread, int64_t number, const char *key, const char *payload)
{
	const char *values[] = {run->topic, key, payload};

	require(connections[thread],
			PQexecPrepared(connections[thread], "emit", 3, values, NULL, NULL, 0), PGRES_TUPLES_OK);
	atomic_store(&run->sent_ns[number], bench_clock_ns());
}

static void
close_outbox(void)
{
	for (int i = 0; i < LATENCY_THREADS; i++)
		PQfinish(connections[i]);
}

const LatencyWay latency_outbox = {"outbox", open_outbox, send_outbox, close_outbox};

/* -------------------------------------------------------------- produce */

static rd_kafka_t		*producer;
static rd_kafka_topic_t *topic;
static pthread_t		 worker;
static atomic_bool		 ends;

static void
produce(const char *key, const char *payload, size_t len)
{
	if (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *) payload, len,
						 key, strlen(key), NULL) != 0)
		bench_die("producing: %s", rd_kafka_err2str(rd_kafka_last_error()));
}

static void *
serve_reports(void *argument)
{
	(void) argument;
	while (!atomic_load(&ends))
		rd_kafka_poll(producer, POLL_MS);
	return NULL;
}

static void
start_worker(void *(*work)(void *), LatencyRun *run)
{
	if (pthread_create(&worker, NULL, work, run) != 0)
		bench_die("no thread");
}

static void
open_produce(LatencyRun *run, int argc, char **argv, int first)
{
	producer = bench_producer(bench_conf(argc, argv, first));
	topic = bench_topic(producer, run->topic, NULL);
	start_worker(serve_reports, run);
}

static void
send_produce(LatencyRun *run, int thread, int64_t number, const char *key, const char *payload)
{
	(void) thread;
	atomic_store(&run->sent_ns[number], bench_clock_ns());
	produce(key, payload, LATENCY_PAYLOAD);
}

static void
close_produce(void)
{
	atomic_store(&ends, true);
	pthread_join(worker, NULL);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
}

const LatencyWay latency_produce = {"produce", open_produce, send_produce, close_produce};

/* ---------------------------------------------------------- transaction */

/* One event handed over; lock: queue_lock until taken. */
typedef struct Handed
{
	char key[32];
	char payload[LATENCY_PAYLOAD + 1];
} Handed;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  queue_filled = PTHREAD_COND_INITIALIZER;
static Handed		  *queue;	   /* room for every event; lock: queue_lock */
static int64_t		   handed;	   /* lock: queue_lock */
static bool			   queue_ends; /* lock: queue_lock */

/* Waits for events after the first `sent`; false when there will be none. */
static bool
await_events(int64_t sent, int64_t *end)
{
	pthread_mutex_lock(&queue_lock);
	while (handed == sent && !queue_ends)
		pthread_cond_wait(&queue_filled, &queue_lock);
	*end = handed;
	pthread_mutex_unlock(&queue_lock);
	return *end > sent;
}

static void *
run_transactions(void *argument)
{
	int64_t sent = 0;
	int64_t end;
	int64_t offset = 0;

	(void) argument;
	while (await_events(sent, &end))
	{
		bench_check(rd_kafka_begin_transaction(producer), "beginning a transaction");
		for (; sent < end; sent++)
			produce(queue[sent].key, queue[sent].payload, LATENCY_PAYLOAD);
		bench_commit(producer, GROUP, ++offset);
	}
	return NULL;
}

static void
open_transaction(LatencyRun *run, int argc, char **argv, int first)
{
	queue = malloc((size_t) run->total * sizeof(Handed));
	if (queue == NULL)
		bench_die("no memory");
	producer = bench_producer(bench_conf(argc, argv, first));
	bench_check(rd_kafka_init_transactions(producer, INIT_TIMEOUT_MS), "fencing");
	topic = bench_topic(producer, run->topic, NULL);
	start_worker(run_transactions, run);
}

static void
send_transaction(LatencyRun *run, int thread, int64_t number, const char *key, const char *payload)
{
	(void) thread;
	pthread_mutex_lock(&queue_lock);
	strcpy(queue[handed].key, key);
	strcpy(queue[handed].payload, payload);
	handed++;
	atomic_store(&run->sent_ns[number], bench_clock_ns());
	pthread_cond_signal(&queue_filled);
	pthread_mutex_unlock(&queue_lock);
}

static void
close_transaction(void)
{
	pthread_mutex_lock(&queue_lock);
	queue_ends = true;
	pthread_cond_signal(&queue_filled);
	pthread_mutex_unlock(&queue_lock);
	pthread_join(worker, NULL);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
}

const LatencyWay latency_transaction = {
	"transaction",
	open_transaction,
	send_transaction,
	close_transaction,
};
