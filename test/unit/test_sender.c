/* SPDX-License-Identifier: PostgreSQL
 *
 * test_sender.c
 *	  The sender against librdkafka's mock cluster, which can be told to fail:
 *	  frames go in and come out through a socketpair.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "unit.h"
#include "src/common/error_class.h"
#include "src/common/wire.h"

#define API_FIND_COORDINATOR  10
#define API_INIT_PRODUCER_ID  22
#define API_END_TXN			  26
#define API_TXN_OFFSET_COMMIT 28
#define API_PRODUCE			  0

#define IN_FLIGHT_MS		  300 /* several requests are under way */
#define BATCH_TIME_US		  INT64_C(1700000000000000)
#define SLOW_MS				  2000	  /* longer than other refusals are waited for */
#define IMPOSSIBLE_PARTITIONS 1000000 /* no client asks Kafka for so many */

static rd_kafka_mock_cluster_t *cluster;
static int						channel;
static pid_t					child;
static int						log_end = 2; /* the next sender's standard error */
static OutboxWireBuffer			out = {.grow = realloc};
static uint8_t					in[65536];
static size_t					in_used;
static size_t					in_frame; /* size of the frame last read, still in `in` */

static void
start_sender(const char *program)
{
	struct timeval limit = {.tv_sec = 60};
	int			   pair[2];

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	child = fork();
	if (child == 0)
	{
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		dup2(log_end, 2);
		close(pair[0]);
		close(pair[1]);
		execl(program, program, (char *) NULL);
		_exit(127);
	}
	close(pair[1]);
	channel = pair[0];
	setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	in_used = 0;
	in_frame = 0;
}

/* Ends the input; returns the sender's exit status. */
static int
stop_sender(void)
{
	int status;

	close(channel);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
flush_frames(void)
{
	size_t done = 0;

	while (done < out.len)
	{
		ssize_t n = write(channel, out.data + done, out.len - done);

		if (n <= 0)
			break;
		done += (size_t) n;
	}
	out.len = 0;
}

/* The next frame, or 0 when the sender has ended. */
static char
read_frame(OutboxWireReader *body)
{
	OutboxFrameType type;
	bool			corrupt;

	memmove(in, in + in_frame, in_used - in_frame);
	in_used -= in_frame;
	in_frame = 0;
	while (!outbox_wire_frame(in, in_used, &type, body, &in_frame, &corrupt))
	{
		ssize_t n = read(channel, in + in_used, sizeof(in) - in_used);

		in_frame = 0;
		if (n <= 0 || corrupt)
			return 0;
		in_used += (size_t) n;
	}
	return (char) type;
}

/* What LEADERS said of its first topic. */
typedef struct Leaders
{
	bool	 given_up;
	uint16_t count;
	char	 topic[64];
	int32_t	 partition;
	uint64_t for_ms;
} Leaders;

static Leaders leaders; /* the newest that gave nothing up */

static void
read_leaders(OutboxWireReader *body, Leaders *found)
{
	const char *topic;
	uint32_t	len;

	found->given_up = outbox_wire_get_u8(body) != 0;
	found->count = outbox_wire_get_u16(body);
	outbox_wire_get_string(body, &topic, &len);
	snprintf(found->topic, sizeof(found->topic), "%.*s", (int) len, topic);
	found->partition = (int32_t) outbox_wire_get_u32(body);
	found->for_ms = outbox_wire_get_u64(body);
}

/* The next answer, or 0 when the sender has ended; LEADERS that give nothing up are only noted. */
static char
read_answer(OutboxWireReader *body)
{
	for (;;)
	{
		char			 type = read_frame(body);
		OutboxWireReader copy = *body;

		if (type != OUTBOX_FRAME_LEADERS || outbox_wire_get_u8(&copy) != 0)
			return type;
		read_leaders(body, &leaders);
	}
}

static void
put_pair(const char *name, const char *value)
{
	outbox_wire_put_cstring(&out, name);
	outbox_wire_put_cstring(&out, value);
}

/* extra: names and values in turn, ended by NULL. */
static char
open_with(const char *delivery, const char *const *extra, OutboxWireReader *body)
{
	size_t	 mark;
	uint16_t count = 0;

	while (extra[2 * count] != NULL)
		count++;

	outbox_wire_begin(&out, OUTBOX_FRAME_OPEN, &mark);
	outbox_wire_put_u16(&out, OUTBOX_WIRE_VERSION);
	outbox_wire_put_u16(&out, (uint16_t) (6 + count));
	put_pair(OUTBOX_OPEN_DELIVERY, delivery);
	put_pair(OUTBOX_OPEN_GROUP, "relay");
	put_pair(OUTBOX_OPEN_CURSOR_TOPIC, "cursor");
	put_pair(OUTBOX_OPEN_SOURCE, "urn:test");
	put_pair("bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster));
	put_pair("transactional.id", "relay");
	for (; *extra != NULL; extra += 2)
		put_pair(extra[0], extra[1]);
	outbox_wire_finish(&out, mark);
	flush_frames();
	return read_answer(body);
}

/* extra NULL: no further property. */
static char
open_sender(const char *delivery, const char *extra, const char *value, OutboxWireReader *body)
{
	const char *pairs[] = {extra, value, NULL};

	return open_with(delivery, pairs, body);
}

static void
put_empty(OutboxFrameType type)
{
	size_t mark;

	outbox_wire_begin(&out, type, &mark);
	outbox_wire_finish(&out, mark);
}

static char
fence(OutboxWireReader *body)
{
	put_empty(OUTBOX_FRAME_FENCE);
	flush_frames();
	return read_answer(body);
}

static void
declare_with(const char *name, uint32_t partitions, const char *policy, const char *flaw,
			 bool waits)
{
	size_t mark;

	outbox_wire_begin(&out, OUTBOX_FRAME_DECLARE, &mark);
	outbox_wire_put_cstring(&out, name);
	outbox_wire_put_u32(&out, partitions);
	outbox_wire_put_u16(&out, 1);
	outbox_wire_put_u64(&out, (uint64_t) INT64_MIN);
	outbox_wire_put_u64(&out, (uint64_t) INT64_MIN);
	outbox_wire_put_cstring(&out, policy);
	outbox_wire_put_cstring(&out, flaw);
	outbox_wire_put_u8(&out, waits ? 1 : 0);
	outbox_wire_finish(&out, mark);
}

static void
declare_topic(const char *name, uint32_t partitions)
{
	declare_with(name, partitions, NULL, NULL, false);
}

/* A batch of small events, and of one with payload_len bytes if that is not 0. */
static char
send_to(const char *topic, uint64_t number, uint32_t events, uint32_t payload_len,
		OutboxWireReader *body)
{
	static const uint8_t id[16];
	uint8_t				*payload = calloc(1, payload_len + 1);
	uint32_t			 i;
	size_t				 mark;

	outbox_wire_begin(&out, OUTBOX_FRAME_BATCH, &mark);
	outbox_wire_put_u64(&out, number);
	outbox_wire_put_u64(&out, BATCH_TIME_US);
	outbox_wire_put_cstring(&out, "nonce");
	outbox_wire_finish(&out, mark);
	for (i = 0; i < events; i++)
	{
		OutboxWireEvent event = {
			.id = id,
			.created_at = 1700000000000000,
			.topic = topic,
			.topic_len = (uint16_t) strlen(topic),
			.type = "T",
			.type_len = 1,
			.payload = payload,
			.payload_len = i == events - 1 ? payload_len : 0,
		};

		outbox_wire_put_event(&out, &event);
	}
	outbox_wire_begin(&out, OUTBOX_FRAME_END, &mark);
	outbox_wire_put_u32(&out, events);
	outbox_wire_finish(&out, mark);
	flush_frames();
	free(payload);
	return read_answer(body);
}

static char
send_batch(uint64_t number, uint32_t events, uint32_t payload_len, OutboxWireReader *body)
{
	return send_to("topic", number, events, payload_len, body);
}

/* Is the answer COMMITTED of that batch, with that suspicion? */
static bool
is_committed(char type, OutboxWireReader *body, uint64_t number, uint32_t events, int suspect)
{
	if (type != OUTBOX_FRAME_COMMITTED || outbox_wire_get_u64(body) != number ||
		outbox_wire_get_u32(body) != events)
		return false;
	outbox_wire_get_u64(body);
	outbox_wire_get_u64(body);
	return outbox_wire_get_u8(body) == suspect && !body->bad;
}

/* What REFUSED says: how many suspects and events, the first event, its text. */
typedef struct Refused
{
	bool	 fence;
	uint32_t suspects;
	uint32_t per_request;
	uint32_t events;
	uint32_t index[8]; /* of the first events */
	int32_t	 error;	   /* of the first event */
	bool	 whole_topic;
	char	 text[256];
} Refused;

static bool
read_refused(char type, OutboxWireReader *body, Refused *refused)
{
	const char *text;
	uint32_t	len;
	uint16_t	texts;
	uint32_t	i;

	memset(refused, 0, sizeof(*refused));
	if (type != OUTBOX_FRAME_REFUSED)
		return false;
	refused->fence = outbox_wire_get_u8(body) != 0;
	refused->suspects = outbox_wire_get_u32(body);
	refused->per_request = outbox_wire_get_u32(body);
	outbox_wire_get_string(body, &text, &len);
	snprintf(refused->text, sizeof(refused->text), "%.*s", (int) len, text);
	texts = outbox_wire_get_u16(body);
	for (i = 0; i < texts; i++)
		outbox_wire_get_string(body, &text, &len);
	refused->events = outbox_wire_get_u32(body);
	for (i = 0; i < refused->events && i < 8; i++)
	{
		int32_t error;
		bool	whole_topic;

		refused->index[i] = outbox_wire_get_u32(body);
		error = (int32_t) outbox_wire_get_u32(body);
		whole_topic = outbox_wire_get_u8(body) != 0;
		outbox_wire_get_u16(body);
		refused->error = i == 0 ? error : refused->error;
		refused->whole_topic = i == 0 ? whole_topic : refused->whole_topic;
	}
	return !body->bad;
}

/* Does it blame that event alone, for that error, or with it its topic? */
static bool
is_refused(char type, OutboxWireReader *body, uint32_t index, int32_t error, bool whole_topic)
{
	Refused refused;

	return read_refused(type, body, &refused) && refused.events == 1 && refused.index[0] == index &&
		refused.error == error && refused.whole_topic == whole_topic;
}

/* Is the answer CURSOR with that batch number (-1: absent)? */
static bool
is_cursor(char type, OutboxWireReader *body, int64_t number)
{
	bool	present;
	int64_t found;

	if (type != OUTBOX_FRAME_CURSOR)
		return false;
	present = outbox_wire_get_u8(body) == 1;
	found = (int64_t) outbox_wire_get_u64(body);
	return number < 0 ? !present : present && found == number;
}

/* Is the answer FAILED of that class? */
static bool
is_failed(char type, OutboxWireReader *body, OutboxErrorClass class)
{
	return type == OUTBOX_FRAME_FAILED && outbox_wire_get_u8(body) == class;
}

static void
test_open(const char *program)
{
	OutboxWireReader body;
	const char		*text;
	uint32_t		 len;
	char			 type;

	start_sender(program);
	type = open_sender("exactly_once", "plugin.library.paths", "/tmp/x.so", &body);
	CHECK(is_failed(type, &body, OUTBOX_ERROR_CONFIG), "a forbidden property is refused");
	type = open_sender("exactly_once", "linger.ms", "abc", &body);
	CHECK(is_failed(type, &body, OUTBOX_ERROR_CONFIG), "a wrong value is refused");
	type = open_sender("sometimes", NULL, NULL, &body);
	CHECK(is_failed(type, &body, OUTBOX_ERROR_CONFIG), "an unknown delivery mode is refused");
	type = open_sender("exactly_once", "sasl.password", "hidden-value", &body);
	CHECK(type == OUTBOX_FRAME_OPENED, "after refusals a good OPEN is taken");
	outbox_wire_get_u16(&body);
	outbox_wire_get_string(&body, &text, &len);
	CHECK(outbox_wire_get_string(&body, &text, &len) &&
			  memmem(text, len, "transactional.id=relay", 22) != NULL &&
			  memmem(text, len, "partitioner=murmur2_random", 26) != NULL,
		  "OPENED tells the effective properties");
	CHECK(memmem(text, len, "hidden-value", 12) == NULL, "but no secret");
	CHECK(stop_sender() == 0, "end of input ends the sender with 0");
	start_sender(program);
	put_empty(OUTBOX_FRAME_FENCE);
	flush_frames();
	CHECK(read_answer(&body) == 0 && stop_sender() == 2, "a frame before OPEN ends it with 2");
}

/* Reads what the pipe has into text; returns how many lines that is. */
static int
read_lines(int end, char *text, size_t size)
{
	size_t used = 0;
	int	   lines = 0;

	for (ssize_t n; (n = read(end, text + used, size - used - 1)) > 0;)
		used += (size_t) n;
	text[used] = '\0';
	for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	return lines;
}

/* Nobody reads its log: it goes on, and says afterwards how much is missing. */
static void
test_full_log(const char *program)
{
	static char		 text[65536];
	OutboxWireReader body;
	int				 ends[2];
	int				 kept;
	int				 failed = 0;
	int				 missing = 0;

	CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) > 0,
		  "a pipe for a few lines");
	log_end = ends[1];
	start_sender(program);
	for (int i = 0; i < 200; i++)
		failed +=
			is_failed(open_sender("sometimes", NULL, NULL, &body), &body, OUTBOX_ERROR_CONFIG);
	CHECK(failed == 200, "a sender whose log nobody reads answers every frame");
	kept = read_lines(ends[0], text, sizeof(text));
	CHECK(kept > 0 && kept < 200 && text[strlen(text) - 1] == '\n', "whole lines of it are there");
	open_sender("sometimes", NULL, NULL, &body);
	CHECK(read_lines(ends[0], text, sizeof(text)) == 2 &&
			  sscanf(text, "%d lines are left out", &missing) == 1 && kept + missing == 200,
		  "and the next line says how many are not");
	stop_sender();
	log_end = 2;
	close(ends[0]);
	close(ends[1]);
}

/* What librdkafka refuses only when it builds the client: a CA file that is gone. */
static void
test_missing_ca(const char *program)
{
	char			 place[] = "/tmp/outbox-ca-XXXXXX";
	const char		*pairs[] = {"security.protocol", "ssl", "ssl.ca.location", place, NULL};
	OutboxWireReader body;
	char			 type;

	CHECK(mkdtemp(place) != NULL, "a directory of CA files is made");
	start_sender(program);
	type = open_with("exactly_once", pairs, &body);
	CHECK(type == OUTBOX_FRAME_OPENED, "OPEN with CA files is taken");
	rmdir(place);
	CHECK(is_failed(fence(&body), &body, OUTBOX_ERROR_CONFIG), "FENCE without them: FAILED config");
	CHECK(is_failed(fence(&body), &body, OUTBOX_ERROR_CONFIG), "and again");
	type = open_with("exactly_once", pairs, &body);
	CHECK(is_failed(type, &body, OUTBOX_ERROR_CONFIG), "OPEN without them: FAILED config");
	type = open_sender("exactly_once", NULL, NULL, &body);
	CHECK(type == OUTBOX_FRAME_OPENED, "and a good OPEN is taken");
	CHECK(stop_sender() == 0, "the sender has lived through it");
}

static void
test_transactions(const char *program)
{
	OutboxWireReader body;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	CHECK(is_cursor(fence(&body), &body, -1), "a fresh group has no cursor");
	CHECK(is_committed(send_batch(0, 0, 0, &body), &body, 0, 0, 0), "an empty batch commits");
	CHECK(is_committed(send_batch(1, 100, 10, &body), &body, 1, 100, 0), "100 events commit");
	CHECK(is_refused(send_batch(2, 3, 2000000, &body), &body, 2,
					 RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, false),
		  "the event that is too large is refused by index, it alone");
	CHECK(is_committed(send_batch(2, 2, 10, &body), &body, 2, 2, 0),
		  "the batch without it commits");
	stop_sender();
}

/* What librdkafka refuses at once is not told before what Kafka refuses ahead of it. */
static void
test_order_of_refusals(const char *program)
{
	OutboxWireReader body;
	Refused			 refused;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	fence(&body);
	rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_INVALID_RECORD);
	rd_kafka_mock_broker_set_rtt(cluster, -1, SLOW_MS);
	CHECK(read_refused(send_batch(3, 2, 2000000, &body), &body, &refused) && refused.events == 2 &&
			  refused.index[0] == 0 && refused.index[1] == 1 &&
			  refused.error == RD_KAFKA_RESP_ERR_INVALID_RECORD,
		  "Kafka's refusal of an event and ours of a later one are told together, in order");
	rd_kafka_mock_broker_set_rtt(cluster, -1, 0);
	stop_sender();
}

/* Of a topic that cannot be created only its own events suffer. */
static void
test_impossible_topics(const char *program)
{
	OutboxWireReader body;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	declare_topic("impossible", IMPOSSIBLE_PARTITIONS);
	declare_topic("topic", 1);
	put_empty(OUTBOX_FRAME_LOOK);
	flush_frames();
	CHECK(read_answer(&body) == OUTBOX_FRAME_CURSOR, "LOOK lives with an impossible topic");
	CHECK(fence(&body) == OUTBOX_FRAME_CURSOR, "so does FENCE");
	declare_topic("impossible.DLT", IMPOSSIBLE_PARTITIONS);
	declare_topic("other", IMPOSSIBLE_PARTITIONS);
	CHECK(is_committed(send_batch(3, 2, 1, &body), &body, 3, 2, 0), "other topics go on");
	CHECK(is_refused(send_to("impossible", 4, 2, 1, &body), &body, 0,
					 RD_KAFKA_RESP_ERR__INVALID_ARG, true),
		  "its event is refused, and with it the topic");
	CHECK(send_to("impossible.DLT", 4, 1, 1, &body) == OUTBOX_FRAME_REFUSED,
		  "and that of an impossible dead letter topic");
	CHECK(is_committed(send_batch(4, 2, 1, &body), &body, 4, 2, 0), "others still go on");
	stop_sender();
}

/* What cannot be declared or framed stops nobody else. */
static void
test_flaws(const char *program)
{
	static const uint8_t id[16];
	static char			 longer[301];
	OutboxWireEvent		 event = {.id = id,
								  .topic = "topic",
								  .topic_len = 5,
								  .type = "T",
								  .type_len = 1,
								  .key = (const uint8_t *) "k",
								  .key_len = 1,
								  .flaw = OUTBOX_EVENT_TOO_LARGE};
	OutboxWireReader	 body;
	Refused				 refused;
	size_t				 mark;

	memset(longer, 'x', sizeof(longer) - 1);
	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	fence(&body);
	declare_with("", 1, NULL, NULL, false);
	declare_with(longer, 1, NULL, NULL, false);
	declare_with("repeated", 1, longer, NULL, false);
	declare_with("told", 1, "forget", "cleanup_policy is out of range", false);
	declare_with("topic", 1, NULL, longer, false);
	declare_topic("topic", 1);
	CHECK(is_committed(send_batch(3, 2, 1, &body), &body, 3, 2, 0),
		  "wrong declarations do not end the sender");
	CHECK(read_refused(send_to("repeated", 4, 2, 1, &body), &body, &refused) &&
			  refused.events == 1 && refused.error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION &&
			  refused.whole_topic && strstr(refused.text, "\"repeated\"") != NULL,
		  "events of a topic with a policy too long are refused, and it is named");
	CHECK(is_refused(send_to("told", 4, 2, 1, &body), &body, 0, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
					 true),
		  "and those of one with a flaw");
	declare_topic("told", 1);
	CHECK(is_committed(send_to("told", 4, 2, 1, &body), &body, 4, 2, 0),
		  "until it is declared well");

	outbox_wire_begin(&out, OUTBOX_FRAME_BATCH, &mark);
	outbox_wire_put_u64(&out, 5);
	outbox_wire_put_u64(&out, BATCH_TIME_US);
	outbox_wire_put_cstring(&out, "nonce");
	outbox_wire_finish(&out, mark);
	outbox_wire_put_event(&out, &event);
	outbox_wire_begin(&out, OUTBOX_FRAME_END, &mark);
	outbox_wire_put_u32(&out, 1);
	outbox_wire_finish(&out, mark);
	flush_frames();
	CHECK(is_refused(read_answer(&body), &body, 0, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, false),
		  "the frame of an event that fits into none is refused, it alone");
	CHECK(is_committed(send_batch(5, 2, 10, &body), &body, 5, 2, 0),
		  "the batch without it commits");
	CHECK(stop_sender() == 0, "the sender has lived through it");
}

static void
test_failures(const char *program)
{
	OutboxWireReader body;
	Refused			 refused;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	fence(&body);
	rd_kafka_mock_push_request_errors(cluster, API_END_TXN, 1,
									  RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
	CHECK(is_failed(send_batch(3, 1, 1, &body), &body, OUTBOX_ERROR_FENCED),
		  "another producer with our id: FAILED fenced");
	CHECK(fence(&body) == OUTBOX_FRAME_CURSOR, "and FENCE begins anew");
	rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 1,
									  RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
	CHECK(read_refused(send_batch(3, 20, 1, &body), &body, &refused) && refused.fence &&
			  refused.events == 0 && refused.suspects == 20 && refused.per_request == 10,
		  "a refused request of many events blames none; the next ones are half as large");
	fence(&body);
	CHECK(is_committed(send_batch(3, 20, 1, &body), &body, 3, 20, 0),
		  "the batch comes again and passes");
	for (uint32_t records = 10; records > 1; records = refused.per_request)
	{
		fence(&body);
		rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 1,
										  RD_KAFKA_RESP_ERR_INVALID_RECORD);
		CHECK(read_refused(send_batch(4, 20, 1, &body), &body, &refused) && refused.fence &&
				  refused.events == 0 && refused.suspects >= records &&
				  refused.per_request == (records + 1) / 2,
			  "and half as large again");
	}
	fence(&body);
	rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_NO_ERROR,
									  RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_INVALID_RECORD);
	CHECK(read_refused(send_batch(4, 20, 1, &body), &body, &refused) && refused.events >= 1 &&
			  refused.index[0] < 20 && !refused.whole_topic,
		  "alone in its request the event is to blame");
	CHECK(is_committed(send_batch(4, 19, 1, &body), &body, 4, 19, 1),
		  "the batch without it asks for a fence, which ends the small requests");
	rd_kafka_mock_push_request_errors(cluster, API_TXN_OFFSET_COMMIT, 1,
									  RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
	fence(&body);
	CHECK(is_failed(send_batch(5, 1, 1, &body), &body, OUTBOX_ERROR_AUTH),
		  "no right to the group: FAILED auth");
	stop_sender();
}

/*
 * A record whose request failed is not taken for written because a later one of its partition was.
 * Of a transaction the mock cluster takes no gap, as a broker would in a log that is new:
 * test_protocol_errors.py.
 */
static void
test_presumed(const char *program)
{
	const char		*pairs[] = {"batch.num.messages", "1", NULL};
	OutboxWireReader body;

	start_sender(program);
	open_with("at_least_once", pairs, &body);
	fence(&body);
	rd_kafka_mock_broker_set_rtt(cluster, -1, IN_FLIGHT_MS);
	rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 1,
									  RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
	CHECK(is_failed(send_batch(5, 2, 1, &body), &body, OUTBOX_ERROR_RETRIABLE),
		  "a first request failed, a later one did not: FAILED retriable");
	rd_kafka_mock_broker_set_rtt(cluster, -1, 0);
	fence(&body);
	CHECK(is_committed(send_batch(5, 2, 1, &body), &body, 5, 2, 0), "and all of it is sent again");
	stop_sender();
}

/* A batch already in the pipe when its sender fails is skipped. */
static void
test_skip(const char *program)
{
	OutboxWireReader body;
	size_t			 mark;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	fence(&body);
	rd_kafka_mock_push_request_errors(cluster, API_END_TXN, 1,
									  RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
	send_batch(5, 1, 1, &body);
	outbox_wire_begin(&out, OUTBOX_FRAME_BATCH, &mark);
	outbox_wire_put_u64(&out, 6);
	outbox_wire_put_u64(&out, BATCH_TIME_US);
	outbox_wire_put_cstring(&out, "nonce");
	outbox_wire_finish(&out, mark);
	outbox_wire_begin(&out, OUTBOX_FRAME_END, &mark);
	outbox_wire_put_u32(&out, 0);
	outbox_wire_finish(&out, mark);
	CHECK(fence(&body) == OUTBOX_FRAME_CURSOR, "frames of a lost batch get no answer");
	stop_sender();
}

/* A repeated EndTxn or TxnOffsetCommit makes the outcome suspect. */
static void
test_suspect(const char *program)
{
	OutboxWireReader body;

	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	fence(&body);
	rd_kafka_mock_push_request_errors(cluster, API_TXN_OFFSET_COMMIT, 1,
									  RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
	CHECK(is_committed(send_batch(7, 1, 1, &body), &body, 7, 1, 1),
		  "TxnOffsetCommit sent twice: committed and suspect");
	fence(&body);
	CHECK(is_committed(send_batch(8, 1, 1, &body), &body, 8, 1, 0),
		  "after the fence the suspicion is gone");
	rd_kafka_mock_push_request_errors(cluster, API_END_TXN, 1, RD_KAFKA_RESP_ERR__TRANSPORT);
	CHECK(is_committed(send_batch(9, 1, 1, &body), &body, 9, 1, 1),
		  "EndTxn that lost its connection: committed and suspect");
	stop_sender();
}

/*
 * FENCE is answered with that deadline of a batch, and that message.timeout.ms of the settings, ms.
 * On a loaded machine the mock broker may answer later than the deadlines under test allow: then
 * again, as the relay does it.
 */
static bool
fences_with_usual(uint32_t longest_ms, uint32_t usual_ms)
{
	OutboxWireReader body;
	const char		*metadata;
	uint32_t		 len;
	uint32_t		 longest;
	uint32_t		 usual;
	char			 type = fence(&body);

	for (int i = 0; i < 20 && is_failed(type, &body, OUTBOX_ERROR_RETRIABLE); i++)
		type = fence(&body);
	if (type != OUTBOX_FRAME_CURSOR)
	{
		printf("# a frame of type %d\n", type);
		return false;
	}
	outbox_wire_get_u8(&body);
	outbox_wire_get_u64(&body);
	outbox_wire_get_string(&body, &metadata, &len);
	longest = outbox_wire_get_u32(&body);
	usual = outbox_wire_get_u32(&body);
	if (longest != longest_ms || usual != usual_ms)
		printf("# %u ms for a batch, usually %u ms for a message\n", longest, usual);
	return longest == longest_ms && usual == usual_ms && !body.bad;
}

static bool
fences_with(uint32_t longest_ms)
{
	return fences_with_usual(longest_ms, 1000);
}

/* Sends a batch whose first events Kafka does not take before message.timeout.ms is over. */
static char
send_late(uint64_t number, uint32_t events, uint32_t payload_len, OutboxWireReader *body)
{
	static rd_kafka_resp_err_t errors[1000];
	char					   type;

	for (int i = 0; i < 1000; i++)
		errors[i] = RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
	rd_kafka_mock_push_request_errors_array(cluster, API_PRODUCE, 1000, errors);
	type = send_batch(number, events, payload_len, body);
	rd_kafka_mock_clear_request_errors(cluster, API_PRODUCE);
	return type;
}

/* A batch that ran out of time gets more, while Kafka allows it, until it is committed. */
static void
test_deadlines(const char *program)
{
	static const char *const impatient[] = {"message.timeout.ms",
											"1000",
											"transaction.timeout.ms",
											"3000",
											"socket.timeout.ms",
											"1000",
											"retry.backoff.ms",
											"50",
											NULL,
											NULL};
	OutboxWireReader		 body;

	start_sender(program);
	open_with("exactly_once", impatient, &body);
	CHECK(fences_with(3000), "the settings' deadlines count");
	CHECK(is_failed(send_late(10, 1, 1, &body), &body, OUTBOX_ERROR_RETRIABLE),
		  "a batch runs out of time");
	CHECK(fences_with(4000), "the next producer has twice the time, and as much for the commit");
	CHECK(is_committed(send_batch(10, 1, 1, &body), &body, 10, 1, 1),
		  "with it the batch is committed, and a fence asked for");
	CHECK(fences_with(3000), "after which the settings' deadlines count again");
	CHECK(is_failed(send_late(11, 1, 1, &body), &body, OUTBOX_ERROR_RETRIABLE),
		  "another batch runs out of time");
	rd_kafka_mock_push_request_errors(cluster, API_INIT_PRODUCER_ID, 1,
									  RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT);
	CHECK(fences_with(3500), "what Kafka does not allow is lowered at once");
	CHECK(is_committed(send_batch(11, 1, 1, &body), &body, 11, 1, 1), "and the batch committed");
	stop_sender();
}

/*
 * A link too slow to say what becomes of the events ahead of one that we refuse is one for longer
 * deadlines.
 */
static void
test_stalled(const char *program)
{
	static const char *const patient[] = {"message.timeout.ms",
										  "20000",
										  "transaction.timeout.ms",
										  "25000",
										  "retry.backoff.ms",
										  "50",
										  NULL,
										  NULL};
	OutboxWireReader		 body;
	Refused					 refused;

	start_sender(program);
	open_with("exactly_once", patient, &body);
	CHECK(fences_with_usual(25000, 20000), "the settings' deadlines count");
	CHECK(is_failed(send_late(12, 2, 2000000, &body), &body, OUTBOX_ERROR_ABORTABLE),
		  "an event is refused, and nobody knows what becomes of the one ahead of it");
	CHECK(fences_with_usual(45000, 20000), "the next producer has more time");
	CHECK(read_refused(send_batch(12, 2, 2000000, &body), &body, &refused) && refused.events == 1 &&
			  refused.index[0] == 1,
		  "with which it is told");
	stop_sender();
}

/* At least topic and partition are told. */
static void
test_leaderless(const char *program)
{
	static const char *const impatient[] = {"message.timeout.ms", "1000", NULL, NULL};
	OutboxWireReader		 body;
	const char				*text;
	uint32_t				 len;

	start_sender(program);
	open_with("exactly_once", impatient, &body);
	fence(&body);
	CHECK(is_committed(send_batch(12, 1, 1, &body), &body, 12, 1, 0),
		  "while the partition has a leader");
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, -1);
	CHECK(is_failed(send_batch(13, 1, 1, &body), &body, OUTBOX_ERROR_RETRIABLE),
		  "without one the batch fails");
	outbox_wire_get_u32(&body);
	outbox_wire_get_string(&body, &text, &len);
	outbox_wire_get_string(&body, &text, &len);
	CHECK(!body.bad &&
			  memmem(text, len, "partition 0 of topic \"topic\" has no leader: ", 44) == text,
		  "and names topic and partition");
	printf("# %.*s\n", (int) len, text);
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, 1);
	fence(&body);
	CHECK(is_committed(send_batch(13, 1, 1, &body), &body, 13, 1, 0),
		  "with a leader the batch is committed");
	stop_sender();
}

/* Is the answer LEADERS that give the batch up for that topic alone? */
static bool
is_given_up(char type, OutboxWireReader *body, const char *topic)
{
	Leaders found;

	if (type != OUTBOX_FRAME_LEADERS)
		return false;
	read_leaders(body, &found);
	return found.given_up && found.count == 1 && strcmp(found.topic, topic) == 0 &&
		found.partition == 0 && found.for_ms >= 1000 && !body->bad;
}

/* Asks for LEADERS of a topic until they say so, and for so long. */
static bool
watch_until(const char *topic, int32_t partition, uint64_t for_ms)
{
	OutboxWireReader body;
	Leaders			 found;
	size_t			 mark;

	outbox_wire_begin(&out, OUTBOX_FRAME_WATCH, &mark);
	outbox_wire_put_u16(&out, topic == NULL ? 0 : 1);
	if (topic != NULL)
		outbox_wire_put_cstring(&out, topic);
	outbox_wire_finish(&out, mark);
	flush_frames();
	if (topic == NULL)
		return true;
	do
	{
		if (read_frame(&body) != OUTBOX_FRAME_LEADERS)
			return false;
		read_leaders(&body, &found);
	} while (found.partition != partition || found.for_ms < for_ms);
	return !found.given_up && found.count == 1 && strcmp(found.topic, topic) == 0;
}

/* A batch of a topic without a leader is given up in time, others pass, and the leaders are told.
 */
static void
test_given_up(const char *program, const char *delivery)
{
	const char		*pairs[] = {OUTBOX_OPEN_LEADERLESS, "1000", NULL};
	OutboxWireReader body;

	start_sender(program);
	open_with(delivery, pairs, &body);
	fence(&body);
	CHECK(is_committed(send_batch(50, 1, 1, &body), &body, 50, 1, 0), delivery);
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, -1);
	memset(&leaders, 0, sizeof(leaders));
	CHECK(is_given_up(send_batch(51, 3, 1, &body), &body, "topic"),
		  "one that has lost its leader is given up");
	CHECK(leaders.count == 1 && strcmp(leaders.topic, "topic") == 0 && leaders.partition == 0,
		  "and told before");
	fence(&body);
	CHECK(is_given_up(send_batch(51, 1, 1, &body), &body, "topic"), "so is the next try");
	fence(&body);
	CHECK(is_committed(send_to("told", 51, 2, 1, &body), &body, 51, 2, 0),
		  "what goes to another topic is committed");
	CHECK(watch_until("topic", 0, 3000), "WATCH: it has no leader");
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, 1);
	CHECK(watch_until("topic", -1, 0) && watch_until("topic", -1, 1500), "and has one for a while");
	watch_until(NULL, 0, 0);
	CHECK(is_committed(send_batch(52, 3, 1, &body), &body, 52, 3, 0), "then its events pass");
	CHECK(stop_sender() == 0, "the sender ends");
}

/* A topic that is waited for: its batch fails, and is never given up. */
static void
test_waiting(const char *program)
{
	const char		*pairs[] = {OUTBOX_OPEN_LEADERLESS, "1000", NULL};
	OutboxWireReader body;
	const char		*text;
	uint32_t		 len;

	start_sender(program);
	open_with("exactly_once", pairs, &body);
	declare_with("topic", 1, NULL, NULL, true);
	fence(&body);
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, -1);
	CHECK(watch_until("topic", 0, 0), "the topic is known to have no leader");
	CHECK(is_failed(send_batch(60, 1, 1, &body), &body, OUTBOX_ERROR_RETRIABLE),
		  "the batch of a topic that is waited for fails");
	outbox_wire_get_u32(&body);
	outbox_wire_get_string(&body, &text, &len);
	outbox_wire_get_string(&body, &text, &len);
	CHECK(!body.bad &&
			  memmem(text, len, "partition 0 of topic \"topic\" has no leader: ", 44) == text,
		  "and names topic and partition");
	rd_kafka_mock_partition_set_leader(cluster, "topic", 0, 1);
	CHECK(watch_until("topic", -1, 0), "it has one again");
	watch_until(NULL, 0, 0);
	fence(&body);
	CHECK(is_committed(send_batch(60, 1, 1, &body), &body, 60, 1, 0), "and the batch passes");
	stop_sender();
}

/* FAILED that names the partition, which a sender does once it has looked: with the second try. */
static bool
is_named(char type, OutboxWireReader *body, const char *partition)
{
	const char *text;
	uint32_t	len;

	if (!is_failed(type, body, OUTBOX_ERROR_RETRIABLE))
		return false;
	outbox_wire_get_u32(body);
	outbox_wire_get_string(body, &text, &len);
	outbox_wire_get_string(body, &text, &len);
	printf("# %.*s\n", (int) len, text);
	return !body->bad && memmem(text, len, partition, strlen(partition)) == text;
}

/* What nothing can be sent without is named when it has no leader. */
static void
test_vital(const char *program)
{
	/* "relay" as a group and as an id has partition 1 of 50, by Java's hash */
	const int		 place = 1;
	OutboxWireReader body;
	char			 type;

	rd_kafka_mock_topic_create(cluster, "__consumer_offsets", 50, 1);
	rd_kafka_mock_topic_create(cluster, "__transaction_state", 50, 1);
	rd_kafka_mock_partition_set_leader(cluster, "__consumer_offsets", place, -1);
	start_sender(program);
	open_sender("exactly_once", NULL, NULL, &body);
	for (int i = 0; i < 200; i++)
		rd_kafka_mock_push_request_errors(cluster, API_FIND_COORDINATOR, 1,
										  RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
	put_empty(OUTBOX_FRAME_LOOK);
	flush_frames();
	type = read_answer(&body);
	CHECK(is_named(type, &body,
				   "partition 1 of topic \"__consumer_offsets\", which holds the relay's cursor, "
				   "has "
				   "no leader"),
		  "the cursor's partition is named");
	rd_kafka_mock_clear_request_errors(cluster, API_FIND_COORDINATOR);
	rd_kafka_mock_partition_set_leader(cluster, "__consumer_offsets", place, 1);
	stop_sender();
}

static void
test_at_least_once(const char *program)
{
	OutboxWireReader body;
	uint64_t		 i;
	bool			 all = true;

	start_sender(program);
	open_sender("at_least_once", NULL, NULL, &body);
	CHECK(fence(&body) == OUTBOX_FRAME_CURSOR, "at_least_once reads the cursor too");
	for (i = 20; i < 40; i++)
		all &= is_committed(send_batch(i, 5, 10, &body), &body, i, 5, 0);
	CHECK(all, "20 batches are acknowledged");
	CHECK(is_cursor(fence(&body), &body, 39), "the cursor has followed");
	send_batch(40, 1, 1, &body);
	CHECK(stop_sender() == 0, "the sender ends");
	start_sender(program);
	open_sender("at_least_once", NULL, NULL, &body);
	CHECK(is_cursor(fence(&body), &body, 40), "its last cursor was stored before it ended");
	stop_sender();
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t		*client;
	char			 error[256];

	if (argc != 2)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	rd_kafka_conf_set(conf, "log_level", "2", error, sizeof(error));
	client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	cluster = rd_kafka_mock_cluster_new(client, 1);
	rd_kafka_mock_topic_create(cluster, "cursor", 1, 1);
	rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
	rd_kafka_mock_topic_create(cluster, "told", 1, 1);
	test_open(argv[1]);
	test_full_log(argv[1]);
	test_missing_ca(argv[1]);
	test_transactions(argv[1]);
	test_order_of_refusals(argv[1]);
	test_impossible_topics(argv[1]);
	test_flaws(argv[1]);
	test_failures(argv[1]);
	test_presumed(argv[1]);
	test_skip(argv[1]);
	test_suspect(argv[1]);
	test_deadlines(argv[1]);
	test_stalled(argv[1]);
	test_leaderless(argv[1]);
	test_given_up(argv[1], "exactly_once");
	test_given_up(argv[1], "at_least_once");
	test_waiting(argv[1]);
	test_vital(argv[1]);
	test_at_least_once(argv[1]);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(client);
	free(out.data);
	return finish_tests();
}
