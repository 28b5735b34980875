/* SPDX-License-Identifier: PostgreSQL
 *
 * leaders.c
 *	  Which partitions have no leader: looked at by a thread with a client of its own, so that no
 *	  batch waits for the answer.
 *
 * Runs in the sender: the thread, and the main thread beside it.  What they share is under
 * leaders_lock, which nobody holds while he waits for Kafka.
 */
#include "leaders.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf.h"
#include "leader_table.h"
#include "output.h"
#include "process.h"
#include "topics.h"

#define LOOK_US			1000000
#define ASK_TIMEOUT_MS	3000
#define CLIENT_IDLE_US	30000000 /* then its connections go */
#define NEVER			INT64_MAX
#define VITAL_MOST		3
#define CONSUMER_LOG	"__consumer_offsets"
#define TRANSACTION_LOG "__transaction_state"

/* A topic that the relay watches. */
typedef struct WatchedTopic
{
	char	name[OUTBOX_TOPIC_NAME_SIZE];
	int64_t led_since_us; /* all its partitions have had leaders at each look since; 0: no */
} WatchedTopic;

/* A partition without which nothing can be sent. */
typedef struct VitalPartition
{
	char		topic[OUTBOX_TOPIC_NAME_SIZE];
	char		holds[300]; /* of whose hash it is the partition */
	const char *what;
	int32_t		partition;
	bool		leaderless;
} VitalPartition;

static pthread_mutex_t	leaders_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t	leaders_changed;
static pthread_t		thread;
static bool				running;	 /* main thread alone */
static rd_kafka_conf_t *client_conf; /* main thread writes while no thread runs */

/* Under leaders_lock. */
static bool				 closing;
static int64_t			 worry_from = NEVER;
static int64_t			 looked_at; /* beginning of the newest look that Kafka answered; 0: none */
static OutboxLeaderTable table;
static WatchedTopic		*watched;
static size_t			 watched_count;
static VitalPartition	 vital[VITAL_MOST];
static int				 vital_count;

/* ----------------------------------------------------------------- looks */

/* String.hashCode of Java, made positive, as Kafka chooses the partition of a group or an id. */
static int32_t
hash_place(const char *text, int partitions)
{
	uint32_t hash = 0;

	for (; *text != '\0'; text++)
		hash = 31 * hash + (unsigned char) *text;
	if (hash == 0x80000000)
		hash = 0;
	else if ((int32_t) hash < 0)
		hash = (uint32_t) -(int32_t) hash;
	return (int32_t) (hash % (uint32_t) partitions);
}

/* The first partition without a leader; -1: none. */
static int32_t
find_leaderless(const rd_kafka_metadata_topic_t *topic)
{
	int32_t first = -1;

	for (int i = 0; i < topic->partition_cnt; i++)
		if (topic->partitions[i].leader < 0 && (first < 0 || topic->partitions[i].id < first))
			first = topic->partitions[i].id;
	return first;
}

static bool
has_leader(const rd_kafka_metadata_topic_t *topic, int32_t partition)
{
	for (int i = 0; i < topic->partition_cnt; i++)
		if (topic->partitions[i].id == partition)
			return topic->partitions[i].leader >= 0;
	return true;
}

/* Under leaders_lock. */
static void
take_vital(const rd_kafka_metadata_topic_t *topic)
{
	for (int i = 0; i < vital_count; i++)
	{
		if (strcmp(vital[i].topic, topic->topic) != 0 || topic->partition_cnt == 0)
			continue;
		vital[i].partition = hash_place(vital[i].holds, topic->partition_cnt);
		vital[i].leaderless = !has_leader(topic, vital[i].partition);
	}
}

/* Under leaders_lock. */
static void
take_look(const rd_kafka_metadata_t *metadata, int64_t began_us)
{
	for (int i = 0; i < vital_count; i++)
		vital[i].leaderless = false;
	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		int32_t partition = find_leaderless(&metadata->topics[i]);

		take_vital(&metadata->topics[i]);
		if (partition >= 0)
			(void) outbox_leader_table_note(&table, metadata->topics[i].topic, partition, began_us);
	}
	outbox_leader_table_keep_seen(&table, began_us);
	looked_at = began_us;
}

/* Under leaders_lock.  The watched topics' leaders; answered: the look has been. */
static void
tell_watched(OutboxWireBuffer *frame, bool answered, int64_t now_us)
{
	size_t mark;

	frame->len = 0;
	if (watched_count == 0 || !outbox_wire_begin(frame, OUTBOX_FRAME_LEADERS, &mark))
		return;
	outbox_wire_put_u8(frame, 0);
	outbox_wire_put_u16(frame, (uint16_t) watched_count);
	for (size_t i = 0; i < watched_count; i++)
	{
		WatchedTopic		   *topic = &watched[i];
		const OutboxLeaderless *row = outbox_leader_table_find(&table, topic->name, now_us);
		int64_t					since = row != NULL ? row->since_us : topic->led_since_us;

		if (row != NULL || !answered)
			topic->led_since_us = 0;
		else if (topic->led_since_us == 0)
			topic->led_since_us = since = now_us;
		outbox_wire_put_cstring(frame, topic->name);
		outbox_wire_put_u32(frame, (uint32_t) (row != NULL ? row->partition : -1));
		outbox_wire_put_u64(frame,
							since == 0 || !answered ? 0 : (uint64_t) (now_us - since) / 1000);
	}
	outbox_wire_finish(frame, mark);
}

/* Asks Kafka for all its topics, and tells the relay of those it watches. */
static void
look(rd_kafka_t *client)
{
	static OutboxWireBuffer	   frame = {.grow = realloc};
	const rd_kafka_metadata_t *metadata = NULL;
	int64_t					   began_us = outbox_clock_us();
	bool					   answered =
		rd_kafka_metadata(client, 1, NULL, &metadata, ASK_TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;

	pthread_mutex_lock(&leaders_lock);
	if (answered)
		take_look(metadata, began_us);
	tell_watched(&frame, answered, outbox_clock_us());
	pthread_mutex_unlock(&leaders_lock);
	if (answered)
		rd_kafka_metadata_destroy(metadata);
	if (frame.len > 0)
		(void) outbox_output_write(&frame); /* that the relay is gone the main thread sees */
}

/* ---------------------------------------------------------------- thread */

static rd_kafka_t *
make_client(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(client_conf);
	char			 error[512];
	rd_kafka_t		*client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));

	if (client == NULL)
		rd_kafka_conf_destroy(conf);
	return client;
}

static void
drop_client(rd_kafka_t **client)
{
	if (*client != NULL)
		rd_kafka_destroy_flags(*client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	*client = NULL;
}

/* Under leaders_lock.  Waits for a change or the time. */
static void
wait_until(int64_t at_us)
{
	struct timespec at = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000};

	if (at_us == NEVER)
		(void) pthread_cond_wait(&leaders_changed, &leaders_lock);
	else
		(void) pthread_cond_timedwait(&leaders_changed, &leaders_lock, &at);
}

static void *
run(void *arg)
{
	rd_kafka_t *client = NULL;
	int64_t		next_us = 0; /* no look before */
	int64_t		used_us = 0;

	pthread_mutex_lock(&leaders_lock);
	while (!closing)
	{
		int64_t now_us = outbox_clock_us();
		int64_t due_us = watched_count > 0 ? 0 : worry_from;

		if (due_us < next_us)
			due_us = next_us;
		if (now_us < due_us)
		{
			int64_t idle_us = client == NULL ? NEVER : used_us + CLIENT_IDLE_US;

			if (now_us < idle_us)
			{
				wait_until(due_us < idle_us ? due_us : idle_us);
				continue;
			}
			pthread_mutex_unlock(&leaders_lock);
			drop_client(&client);
			pthread_mutex_lock(&leaders_lock);
			continue;
		}
		pthread_mutex_unlock(&leaders_lock);
		if (client == NULL)
			client = make_client();
		if (client != NULL)
			look(client);
		used_us = now_us;
		next_us = now_us + LOOK_US;
		pthread_mutex_lock(&leaders_lock);
	}
	pthread_mutex_unlock(&leaders_lock);
	drop_client(&client);
	return arg;
}

static void
add_vital(const char *topic, const char *holds, const char *what)
{
	VitalPartition *one = &vital[vital_count++];

	memset(one, 0, sizeof(*one));
	snprintf(one->topic, sizeof(one->topic), "%s", topic);
	snprintf(one->holds, sizeof(one->holds), "%s", holds);
	one->what = what;
}

/* After OPEN: nothing is known, the thread sleeps. */
void
outbox_leaders_open(const OutboxSettings *settings)
{
	OutboxFailure	   failure;
	pthread_condattr_t attributes;

	client_conf = outbox_cursor_conf(settings, false, &failure);
	if (client_conf == NULL)
		return;
	outbox_conf_hush(client_conf);
	add_vital(CONSUMER_LOG, settings->group, "the relay's cursor");
	if (settings->exactly_once)
	{
		add_vital(TRANSACTION_LOG, settings->transactional_id, "the relay's transactions");
		add_vital(TRANSACTION_LOG, settings->spare_id, "the relay's transactions");
	}
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&leaders_changed, &attributes);
	pthread_condattr_destroy(&attributes);
	running = pthread_create(&thread, NULL, run, NULL) == 0;
	if (!running)
		outbox_process_log("partitions without a leader are not looked for: there is no thread");
}

/* Ends the thread and forgets what is known; as long as a look may take. */
void
outbox_leaders_close(void)
{
	if (running)
	{
		pthread_mutex_lock(&leaders_lock);
		closing = true;
		pthread_cond_signal(&leaders_changed);
		pthread_mutex_unlock(&leaders_lock);
		pthread_join(thread, NULL);
		pthread_cond_destroy(&leaders_changed);
	}
	if (client_conf != NULL)
		rd_kafka_conf_destroy(client_conf);
	client_conf = NULL;
	running = closing = false;
	worry_from = NEVER;
	looked_at = 0;
	outbox_leader_table_free(&table);
	free(watched);
	watched = NULL;
	watched_count = 0;
	vital_count = 0;
}

/* ------------------------------------------------------- the main thread */

static int64_t
led_since(const WatchedTopic *topics, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(topics[i].name, name) == 0)
			return topics[i].led_since_us;
	return 0;
}

/* WATCH: what is to be told of from now on.  False: the frame cannot be read. */
bool
outbox_leaders_watch(OutboxWireReader *body)
{
	uint16_t	  count = outbox_wire_get_u16(body);
	WatchedTopic *topics = calloc((size_t) count + 1, sizeof(*topics));
	size_t		  taken = 0;

	if (topics == NULL)
		outbox_exit_out_of_memory();
	pthread_mutex_lock(&leaders_lock);
	for (uint16_t i = 0; i < count; i++)
	{
		const char *name;
		uint32_t	len;

		if (!outbox_wire_get_string(body, &name, &len))
			break;
		if (len == 0 || len >= OUTBOX_TOPIC_NAME_SIZE || memchr(name, '\0', len) != NULL)
			continue;
		memcpy(topics[taken].name, name, len);
		topics[taken].led_since_us = led_since(watched, watched_count, topics[taken].name);
		taken++;
	}
	free(watched);
	watched = topics;
	watched_count = taken;
	if (running)
		pthread_cond_signal(&leaders_changed);
	pthread_mutex_unlock(&leaders_lock);
	return !body->bad;
}

/* Kafka does not answer: from after_us on somebody looks, unless outbox_leaders_rest comes first.
 */
void
outbox_leaders_worry(int64_t after_us)
{
	int64_t from = outbox_clock_us() + after_us;

	if (!running)
		return;
	pthread_mutex_lock(&leaders_lock);
	if (from < worry_from)
	{
		worry_from = from;
		pthread_cond_signal(&leaders_changed);
	}
	pthread_mutex_unlock(&leaders_lock);
}

/* It has answered; all: for every topic of a batch, so that what else has no leader is no worry. */
void
outbox_leaders_rest(bool all)
{
	pthread_mutex_lock(&leaders_lock);
	if (all || table.count == 0)
		worry_from = NEVER;
	pthread_mutex_unlock(&leaders_lock);
}

/* What a producer has seen of a topic. */
void
outbox_leaders_note(const rd_kafka_metadata_topic_t *topic)
{
	int32_t partition = find_leaderless(topic);

	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR || !running)
		return;
	pthread_mutex_lock(&leaders_lock);
	if (partition < 0)
		outbox_leader_table_forget(&table, topic->topic);
	else
		(void) outbox_leader_table_note(&table, topic->topic, partition, outbox_clock_us());
	pthread_mutex_unlock(&leaders_lock);
	if (partition >= 0)
		outbox_leaders_worry(0);
}

/* Has the topic a partition without a leader?  Which, and how long it has had one. */
bool
outbox_leaders_lack(const char *topic, int32_t *partition, int64_t *for_us)
{
	int64_t					now_us = outbox_clock_us();
	const OutboxLeaderless *row;

	pthread_mutex_lock(&leaders_lock);
	row = outbox_leader_table_find(&table, topic, now_us);
	if (row != NULL)
	{
		*partition = row->partition;
		*for_us = now_us - row->since_us;
	}
	pthread_mutex_unlock(&leaders_lock);
	return row != NULL;
}

/* Has any topic in Kafka a partition without a leader, as far as is known? */
bool
outbox_leaders_any(void)
{
	bool any;

	pthread_mutex_lock(&leaders_lock);
	any = table.count > 0;
	pthread_mutex_unlock(&leaders_lock);
	return any;
}

/* Names one of them, for people: a topic that the sender has to do with, if there is one. */
void
outbox_leaders_name(char *text, size_t size)
{
	size_t at = 0;

	pthread_mutex_lock(&leaders_lock);
	while (at + 1 < table.count && outbox_topic_known(table.rows[at].topic) == NULL)
		at++;
	if (at < table.count)
		snprintf(text, size, "partition %d of topic \"%s\"", (int) table.rows[at].partition,
				 table.rows[at].topic);
	else
		snprintf(text, size, "a partition");
	pthread_mutex_unlock(&leaders_lock);
}

/*
 * Adds what nothing can be sent without, if that is what has no leader; or the partition that a
 * fence waits for.
 */
void
outbox_leaders_explain(OutboxFailure *failure)
{
	VitalPartition found = {.leaderless = false};
	char		   waiting[OUTBOX_LEADERS_TEXT];

	pthread_mutex_lock(&leaders_lock);
	if (looked_at > 0 && outbox_clock_us() - looked_at <= OUTBOX_LEADERS_GAP_US)
		for (int i = 0; i < vital_count && !found.leaderless; i++)
			found = vital[i];
	pthread_mutex_unlock(&leaders_lock);
	if (found.leaderless)
		outbox_failure_precede(failure,
							   "partition %d of topic \"%s\", which holds %s, has no leader: its "
							   "broker must come back, or the topic needs more replicas",
							   (int) found.partition, found.topic, found.what);
	else if (failure->kafka_error == RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS &&
			 outbox_leaders_any())
	{
		outbox_leaders_name(waiting, sizeof(waiting));
		outbox_failure_precede(failure,
							   "nothing is sent, the relay's transactions wait for a leader of %s",
							   waiting);
	}
}
