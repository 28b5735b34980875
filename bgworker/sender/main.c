/* SPDX-License-Identifier: PostgreSQL
 *
 * main.c
 *	  The sender's frame loop: reads what the relay writes, does it, answers.
 *
 * Runs in the sender: frames on descriptor 0, answers on descriptor 1, one log
 * line per event of note on descriptor 2.  End of input is the order to stop.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "alive.h"
#include "batch.h"
#include "batch_end.h"
#include "conf.h"
#include "cursor.h"
#include "deadlines.h"
#include "failure.h"
#include "leaderless.h"
#include "leaders.h"
#include "output.h"
#include "process.h"
#include "producer.h"
#include "refusals.h"
#include "settings.h"
#include "topic_create.h"
#include "topics.h"

#define INPUT_SIZE			(2 * 1024 * 1024)
#define IDLE_TICK_MS		1000
/* a member that does not poll for max.poll.interval.ms is put out */
#define ALIVE_TICK_MS		3600000
#define LAST_CURSOR_WAIT_MS 1000
#define WORRY_AFTER_US		2000000 /* so long the cursor may take */

/* What the sender is ready for; README.md has the transition table. */
typedef enum SenderState
{
	SENDER_CLOSED, /* nothing but OPEN may come */
	SENDER_OPENED, /* no producer: LOOK or FENCE */
	SENDER_FAILED, /* as opened; a batch in the pipe is skipped */
	SENDER_READY,  /* fenced: BATCH may come */
	SENDER_BATCH,  /* between BATCH and END */
} SenderState;

static SenderState		state = SENDER_CLOSED;
static bool				looked; /* LOOK has been answered since OPEN */
static OutboxSettings	settings;
static OutboxWireBuffer answer = {.grow = realloc};

/* Input not yet consumed lies from input_start to input_end. */
static uint8_t *input;
static size_t	input_capacity;
static size_t	input_start;
static size_t	input_end;

static void
stop(int code)
{
	if (code == 0 && state != SENDER_CLOSED && !settings.exactly_once)
		outbox_cursor_drain(&settings, LAST_CURSOR_WAIT_MS);
	if (code == 0)
		outbox_alive_leave();
	fflush(stderr);
	_exit(code);
}

static void
stop_for_protocol(const char *what)
{
	outbox_process_log("%s: the relay and the sender do not understand each other", what);
	stop(2);
}

static void
stop_for_memory(void)
{
	outbox_process_log("out of memory");
	stop(1);
}

/* Writes the whole answer; the relay being gone is the end. */
static void
send_answer(size_t mark)
{
	outbox_wire_finish(&answer, mark);
	if (!outbox_output_write(&answer))
		stop(0);
	answer.len = 0;
}

static size_t
begin_answer(OutboxFrameType type)
{
	size_t mark;

	answer.len = 0;
	if (!outbox_wire_begin(&answer, type, &mark))
		stop_for_memory();
	return mark;
}

/* Every failure ends here: no producer any more, and FAILED (I6). */
static void
fail(OutboxFailure *failure)
{
	OutboxProgress progress;
	size_t		   mark;

	if (state != SENDER_CLOSED && failure->class == OUTBOX_ERROR_RETRIABLE)
	{
		outbox_leaders_worry(0);
		outbox_leaders_explain(failure);
	}
	outbox_process_log("%s failed (%s, Kafka error %d): %s", failure->tried,
					   outbox_error_class_name(failure->class), failure->kafka_error,
					   failure->text);
	outbox_producer_drop();
	if (state != SENDER_CLOSED)
		state = SENDER_FAILED;
	mark = begin_answer(OUTBOX_FRAME_FAILED);
	outbox_wire_put_u8(&answer, (uint8_t) failure->class);
	outbox_wire_put_u32(&answer, (uint32_t) failure->kafka_error);
	outbox_wire_put_cstring(&answer, failure->tried);
	outbox_wire_put_cstring(&answer, failure->text);
	outbox_deadlines_take_progress(&progress);
	outbox_wire_put_u64(&answer, (uint64_t) progress.bytes);
	outbox_wire_put_u64(&answer, (uint64_t) progress.done);
	outbox_wire_put_u64(&answer, (uint64_t) progress.took_ms);
	send_answer(mark);
}

/*
 * The batch is given up, for topics of it have had no leader for too long: no producer any more, as
 * after a failure (I6).
 */
static void
give_up(void)
{
	size_t mark;

	outbox_producer_drop();
	state = SENDER_FAILED;
	mark = begin_answer(OUTBOX_FRAME_LEADERS);
	if (!outbox_leaderless_put(&answer, true))
		stop_for_memory();
	send_answer(mark);
}

static void
do_open(OutboxWireReader *body)
{
	OutboxFailure failure;
	char		 *effective = NULL;
	size_t		  mark;

	if (state != SENDER_CLOSED)
	{
		outbox_producer_drop();
		outbox_cursor_drain(&settings, LAST_CURSOR_WAIT_MS);
		outbox_cursor_close();
		outbox_alive_leave();
		outbox_alive_drop();
		outbox_deadlines_forget();
		outbox_leaders_close();
		outbox_settings_free(&settings);
		state = SENDER_CLOSED;
	}
	if (!outbox_settings_read(&settings, body, &failure) ||
		!outbox_effective_properties(&settings, &effective, &failure))
	{
		outbox_settings_free(&settings);
		fail(&failure);
		return;
	}
	state = SENDER_OPENED;
	looked = false;
	outbox_alive_join(&settings);
	outbox_leaders_open(&settings);
	mark = begin_answer(OUTBOX_FRAME_OPENED);
	outbox_wire_put_u16(&answer, OUTBOX_WIRE_VERSION);
	outbox_wire_put_cstring(&answer, rd_kafka_version_str());
	outbox_wire_put_cstring(&answer, effective);
	send_answer(mark);
	free(effective);
}

/* LOOK and FENCE. */
static void
do_read_cursor(bool fence)
{
	static OutboxCursor	   cursor;
	const OutboxDeadlines *usual = outbox_deadlines_usual();
	const OutboxDeadlines *grown;
	OutboxFailure		   failure;
	size_t				   mark;

	if (!settings.exactly_once)
		outbox_cursor_drain(&settings, LAST_CURSOR_WAIT_MS);
	outbox_leaders_worry(WORRY_AFTER_US);
	if ((fence && !outbox_producer_open(&settings, &failure)) ||
		!outbox_cursor_read(&settings, fence, &cursor, &failure))
	{
		fail(&failure);
		return;
	}
	if (fence)
		state = SENDER_READY;
	outbox_leaders_rest(false);
	grown = outbox_deadlines_grown();
	looked = true;
	mark = begin_answer(OUTBOX_FRAME_CURSOR);
	outbox_wire_put_u8(&answer, cursor.present ? 1 : 0);
	outbox_wire_put_u64(&answer, (uint64_t) cursor.batch_no);
	outbox_wire_put_string(&answer, cursor.metadata, cursor.metadata_len);
	outbox_wire_put_u32(&answer, (uint32_t) (grown != NULL ? grown : usual)->transaction_ms);
	outbox_wire_put_u32(&answer, (uint32_t) usual->message_ms);
	outbox_wire_put_u8(&answer, outbox_producer_is_spare() ? 1 : 0);
	outbox_wire_put_u8(&answer, outbox_producer_passed_over() != NULL ? 1 : 0);
	outbox_wire_put_cstring(&answer, outbox_producer_passed_over());
	send_answer(mark);
}

/* Who else sends for the installation, as the group shows it now. */
static void
do_alive(void)
{
	static OutboxMembers members = {.list = {.grow = realloc}};
	OutboxFailure		 failure;
	size_t				 mark;

	if (!outbox_alive_look(&settings, &members, &failure))
	{
		fail(&failure);
		return;
	}
	mark = begin_answer(OUTBOX_FRAME_MEMBERS);
	outbox_wire_put_u8(&answer, members.allowed ? 1 : 0);
	outbox_wire_put_u8(&answer, members.joined ? 1 : 0);
	outbox_wire_put_cstring(&answer, members.text);
	outbox_wire_put_u16(&answer, members.count);
	if (!outbox_wire_put_bytes(&answer, members.list.data, members.list.len))
		stop_for_memory();
	send_answer(mark);
}

/* What the declaration cannot say stops its topic alone. */
static void
do_declare(OutboxWireReader *body)
{
	OutboxTopic	  topic = {.declared = true};
	OutboxFailure failure;
	const char	 *name;
	const char	 *policy;
	const char	 *flaw;
	uint32_t	  name_len;
	uint32_t	  policy_len;
	uint32_t	  flaw_len;

	outbox_wire_get_string(body, &name, &name_len);
	topic.partitions = (int32_t) outbox_wire_get_u32(body);
	topic.replication = (int16_t) outbox_wire_get_u16(body);
	topic.retention_ms = (int64_t) outbox_wire_get_u64(body);
	topic.max_message_bytes = (int64_t) outbox_wire_get_u64(body);
	outbox_wire_get_string(body, &policy, &policy_len);
	outbox_wire_get_string(body, &flaw, &flaw_len);
	topic.waits = outbox_wire_get_u8(body) != 0;
	if (body->bad)
		stop_for_protocol("bad DECLARE frame");
	if (name_len == 0 || name_len >= sizeof(topic.name) || memchr(name, '\0', name_len) != NULL)
	{
		outbox_process_log("a topic was declared with a name of %u bytes that is none; it is "
						   "passed over",
						   name_len);
		return;
	}
	memcpy(topic.name, name, name_len);
	topic.name_len = name_len;
	if (flaw != NULL)
		snprintf(topic.flaw, sizeof(topic.flaw), "%.*s", (int) flaw_len, flaw);
	else if (policy_len >= sizeof(topic.cleanup_policy))
		snprintf(topic.flaw, sizeof(topic.flaw), "the cleanup policy of topic \"%s\" has %u bytes",
				 topic.name, policy_len);
	else if (policy_len > 0)
		memcpy(topic.cleanup_policy, policy, policy_len);
	if (!outbox_topic_declare(outbox_producer_client(), &topic, &failure))
		fail(&failure);
}

static void
do_batch(OutboxWireReader *body)
{
	static OutboxCursor cursor;
	const char		   *metadata;
	int64_t				time_us;
	uint32_t			len;

	cursor.present = true;
	cursor.batch_no = (int64_t) outbox_wire_get_u64(body);
	time_us = (int64_t) outbox_wire_get_u64(body);
	outbox_wire_get_string(body, &metadata, &len);
	if (body->bad || cursor.batch_no < 0 || len >= sizeof(cursor.metadata))
		stop_for_protocol("bad BATCH frame");
	if (len > 0)
		memcpy(cursor.metadata, metadata, len);
	cursor.metadata_len = len;
	outbox_batch_begin(outbox_producer_client(), &cursor, time_us / 1000);
	state = SENDER_BATCH;
}

static void
do_event(OutboxWireReader *body)
{
	OutboxWireEvent event;
	OutboxFailure	failure;

	if (!outbox_wire_get_event(body, &event))
		stop_for_protocol("bad EVENT frame");
	if (outbox_batch_event(&settings, &event, &failure))
		return;
	if (outbox_leaderless_given_up())
		give_up();
	else
		fail(&failure);
}

static void
answer_refused(const OutboxBatchResult *result)
{
	size_t mark = begin_answer(OUTBOX_FRAME_REFUSED);

	outbox_process_log("%u events of the batch were refused, %u are suspected: %s", result->told,
					   result->suspects, result->refused_text);
	outbox_wire_put_u8(&answer, result->fence ? 1 : 0);
	outbox_wire_put_u32(&answer, result->suspects);
	outbox_wire_put_u32(&answer, result->per_request);
	outbox_wire_put_cstring(&answer, result->refused_text);
	if (!outbox_refusals_put(&answer, result->told))
		stop_for_memory();
	send_answer(mark);
}

static void
do_end(OutboxWireReader *body)
{
	uint32_t		  events = outbox_wire_get_u32(body);
	OutboxBatchResult result;
	OutboxFailure	  failure;
	size_t			  mark;

	if (body->bad)
		stop_for_protocol("bad END frame");
	if (!outbox_batch_end(&settings, events, &result, &failure))
	{
		if (outbox_leaderless_given_up())
			give_up();
		else
			fail(&failure);
		return;
	}
	state = SENDER_READY;
	if (result.refused)
	{
		answer_refused(&result);
		return;
	}
	mark = begin_answer(OUTBOX_FRAME_COMMITTED);
	outbox_wire_put_u64(&answer, result.batch_no);
	outbox_wire_put_u32(&answer, result.events);
	outbox_wire_put_u64(&answer, result.bytes);
	outbox_wire_put_u64(&answer, result.duration_us);
	outbox_wire_put_u8(&answer, result.suspect ? 1 : 0);
	send_answer(mark);
}

/* BATCH, EVENT and END, in the states that allow them. */
static void
do_batch_frame(OutboxFrameType type, OutboxWireReader *body)
{
	if (state == SENDER_FAILED)
		return;
	if (state != (type == OUTBOX_FRAME_BATCH ? SENDER_READY : SENDER_BATCH))
		stop_for_protocol("a batch frame out of turn");
	if (type == OUTBOX_FRAME_EVENT)
		do_event(body);
	else if (type == OUTBOX_FRAME_BATCH)
		do_batch(body);
	else
		do_end(body);
}

static void
do_frame(OutboxFrameType type, OutboxWireReader *body)
{
	if (state == SENDER_CLOSED && type != OUTBOX_FRAME_OPEN)
		stop_for_protocol("a frame before OPEN");
	if (state == SENDER_BATCH && type != OUTBOX_FRAME_EVENT && type != OUTBOX_FRAME_END)
		stop_for_protocol("a batch without its END");
	switch (type)
	{
		case OUTBOX_FRAME_OPEN:
			do_open(body);
			break;
		case OUTBOX_FRAME_LOOK:
			do_read_cursor(false);
			break;
		case OUTBOX_FRAME_ALIVE:
			do_alive();
			break;
		case OUTBOX_FRAME_FENCE:
			do_read_cursor(true);
			break;
		case OUTBOX_FRAME_DECLARE:
			do_declare(body);
			break;
		case OUTBOX_FRAME_WATCH:
			if (!outbox_leaders_watch(body))
				stop_for_protocol("bad WATCH frame");
			break;
		case OUTBOX_FRAME_BATCH:
		case OUTBOX_FRAME_EVENT:
		case OUTBOX_FRAME_END:
			do_batch_frame(type, body);
			break;
		default:
			stop_for_protocol("unknown frame");
	}
}

/* Topics declared to an idle relay, which has no producer, are created with another look. */
static void
make_declared_topics(void)
{
	static OutboxCursor ignored;
	OutboxFailure		failure;

	if (state == SENDER_OPENED && looked && outbox_topics_untried() &&
		!outbox_cursor_read(&settings, false, &ignored, &failure))
		outbox_process_log("%s failed: %s", failure.tried, failure.text);
}

/* Does every frame that is there as a whole; returns the size of the next, or 0. */
static size_t
do_frames(void)
{
	OutboxFrameType	 type;
	OutboxWireReader body;
	size_t			 size;
	bool			 corrupt;

	while (outbox_wire_frame(input + input_start, input_end - input_start, &type, &body, &size,
							 &corrupt))
	{
		do_frame(type, &body);
		input_start += size;
	}
	if (corrupt)
		stop_for_protocol("corrupt frame");
	return size;
}

/* Makes room to read at least the rest of a frame of that size. */
static void
make_room(size_t frame_size)
{
	size_t kept = input_end - input_start;

	if (input_start > 0)
		memmove(input, input + input_start, kept);
	input_start = 0;
	input_end = kept;
	if (frame_size + 1 < input_capacity && input_capacity >= INPUT_SIZE)
		return;
	input_capacity = frame_size + INPUT_SIZE;
	input = realloc(input, input_capacity);
	if (input == NULL)
	{
		outbox_process_log("out of memory for a frame of %zu bytes", frame_size);
		stop(1);
	}
}

/* Waits for input; about once a second Kafka's callbacks are served meanwhile. */
static void
await_input(void)
{
	struct pollfd fds[3] = {{.fd = 0, .events = POLLIN}, {.events = POLLIN}, {.events = POLLIN}};

	for (;;)
	{
		bool idle = settings.exactly_once || outbox_cursor_serve(&settings);
		bool forever = idle && outbox_producer_client() == NULL;
		int	 tick = forever ? ALIVE_TICK_MS : IDLE_TICK_MS;

		fds[1].fd = outbox_cursor_wakeup_fd();
		fds[2].fd = outbox_alive_wakeup_fd();
		if (poll(fds, 3, tick) < 0 && errno != EINTR)
			stop(1);
		if (fds[0].revents != 0)
			return;
		outbox_producer_idle();
		outbox_alive_serve();
	}
}

/* For a person; the relay gives no argument. */
static int
answer_argument(const char *program, const char *argument)
{
	if (strcmp(argument, "--version") == 0)
	{
		printf("outbox-sender %s\n", OUTBOX_VERSION);
		return 0;
	}
	printf("usage: %s [--help | --version]\n"
		   "Reads frames from standard input and answers on standard output.\n"
		   "Started by the relay of the PostgreSQL extension outbox.\n",
		   program);
	return strcmp(argument, "--help") == 0 ? 0 : 2;
}

int
main(int argc, char **argv)
{
	size_t next = 0;

	if (argc > 1)
		return answer_argument(argv[0], argv[1]);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setvbuf(stderr, NULL, _IOLBF, 0);
	settings.exactly_once = true;
	for (;;)
	{
		ssize_t got;

		make_room(next);
		await_input();
		got = read(0, input + input_end, input_capacity - input_end);
		if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
			stop(0);
		if (got > 0)
			input_end += (size_t) got;
		next = do_frames();
		make_declared_topics();
	}
}
