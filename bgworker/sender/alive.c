/* SPDX-License-Identifier: PostgreSQL
 *
 * alive.c
 *	  The sender as a member of the group of the installation's living senders.
 *
 * Runs in the sender.  The member subscribes to the cursor topic, which holds no records, and gives
 * back what it is assigned: it reads nothing.  librdkafka's own thread joins, sends the heartbeats
 * and joins again after an outage; what it wants of us, it tells through a descriptor.
 */
#include "alive.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf.h"
#include "errors.h"
#include "explain.h"
#include "failure.h"
#include "process.h"
#include "settings.h"

#define ASK_TIMEOUT_MS	   5000
#define JOIN_LIMIT_US	   2000000	/* for our own member to be seen, in one look */
#define LOOK_LIMIT_US	   10000000 /* for a coordinator that moves or loads */
#define JOIN_PAUSE_NS	   10000000
#define SUBSCRIBE_AGAIN_US 250000	/* while the topic is unknown */
#define JOIN_AGAIN_US	   30000000 /* what was refused may be allowed meanwhile */
#define ASKER_AGAIN_US	   250000	/* while no coordinator is found */

static rd_kafka_t		  *member;
static rd_kafka_t		  *asker; /* asks for the members in the member's place; NULL: not needed */
static int64_t			   asker_made_at;
static int				   wakeup_fds[2] = {-1, -1};
static rd_kafka_resp_err_t refused;	  /* why we may not be one */
static rd_kafka_resp_err_t no_topic;  /* why the subscription does not count */
static int64_t			   joined_at; /* newest try to join */
static int64_t			   subscribed_at;

/* Whatever is assigned is not read. */
static void
give_back(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *assigned,
		  void *opaque)
{
	rd_kafka_topic_partition_list_t *nothing = rd_kafka_topic_partition_list_new(1);

	(void) assigned;
	(void) opaque;
	(void) rd_kafka_assign(client, code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? nothing : NULL);
	rd_kafka_topic_partition_list_destroy(nothing);
}

static void
subscribe(const OutboxSettings *settings)
{
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);

	no_topic = RD_KAFKA_RESP_ERR_NO_ERROR;
	subscribed_at = outbox_clock_us();
	rd_kafka_topic_partition_list_add(topics, settings->cursor_topic, RD_KAFKA_PARTITION_UA);
	(void) rd_kafka_subscribe(member, topics);
	rd_kafka_topic_partition_list_destroy(topics);
}

static void
watch_member(void)
{
	rd_kafka_queue_t *queue;

	rd_kafka_poll_set_consumer(member);
	if (wakeup_fds[0] < 0 && pipe2(wakeup_fds, O_NONBLOCK | O_CLOEXEC) != 0)
		return;
	queue = rd_kafka_queue_get_consumer(member);
	rd_kafka_queue_io_event_enable(queue, wakeup_fds[1], "a", 1);
	rd_kafka_queue_destroy(queue);
}

/* Begins to join; what comes of it is seen by outbox_alive_look. */
void
outbox_alive_join(const OutboxSettings *settings)
{
	rd_kafka_conf_t *conf;
	OutboxFailure	 failure;
	char			 error[512];

	refused = RD_KAFKA_RESP_ERR_NO_ERROR;
	joined_at = outbox_clock_us();
	if (settings->alive_group == NULL || settings->alive_client == NULL)
		return;
	conf = outbox_alive_conf(settings, &failure);
	if (conf == NULL)
	{
		outbox_process_log("cannot join group \"%s\": %s", settings->alive_group, failure.text);
		return;
	}
	rd_kafka_conf_set_rebalance_cb(conf, give_back);
	member = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (member == NULL)
	{
		rd_kafka_conf_destroy(conf);
		outbox_explain_without_values(settings, error);
		outbox_process_log("cannot join group \"%s\": %s", settings->alive_group, error);
		return;
	}
	watch_member();
	subscribe(settings);
}

/* The descriptor that becomes readable when outbox_alive_serve has something to do, or -1. */
int
outbox_alive_wakeup_fd(void)
{
	return member != NULL ? wakeup_fds[0] : -1;
}

static void
drop_asker(void)
{
	if (asker != NULL)
		rd_kafka_destroy_flags(asker, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	asker = NULL;
}

/* Ends the member; one that has not left is seen until its session ends. */
void
outbox_alive_drop(void)
{
	if (member != NULL)
		rd_kafka_destroy_flags(member, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	member = NULL;
	drop_asker();
}

/*
 * Will the next try to join end like this one?  librdkafka tries for ever, and says so each time.
 */
static bool
is_final(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
		case RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED:
		case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
		case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
			return true;
		default:
			return false;
	}
}

/* Serves what librdkafka wants; a member that may not join is dropped, or it would try for ever. */
void
outbox_alive_serve(void)
{
	char				drain[64];
	rd_kafka_message_t *message;

	if (member == NULL)
		return;
	while (read(wakeup_fds[0], drain, sizeof(drain)) > 0)
		;
	while (member != NULL && (message = rd_kafka_consumer_poll(member, 0)) != NULL)
	{
		if (is_final(message->err))
			refused = message->err;
		else if (message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
				 message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
			no_topic = message->err;
		rd_kafka_message_destroy(message);
		if (refused != RD_KAFKA_RESP_ERR_NO_ERROR)
			outbox_alive_drop();
	}
}

/* Leaves the group and says so to Kafka; outbox_alive_drop or the end of the process follows. */
void
outbox_alive_leave(void)
{
	if (member != NULL)
		(void) rd_kafka_consumer_close(member);
}

static void
take_description(const rd_kafka_ConsumerGroupDescription_t *group, const char *own,
				 OutboxMembers *members)
{
	size_t count = rd_kafka_ConsumerGroupDescription_member_count(group);

	for (size_t i = 0; i < count && i < UINT16_MAX; i++)
	{
		const rd_kafka_MemberDescription_t *found =
			rd_kafka_ConsumerGroupDescription_member(group, i);
		const char *client = rd_kafka_MemberDescription_client_id(found);

		if (client != NULL && strcmp(client, own) == 0)
			members->joined = true;
		if (outbox_wire_put_cstring(&members->list, client) &&
			outbox_wire_put_cstring(&members->list, rd_kafka_MemberDescription_host(found)))
			members->count++;
	}
}

static rd_kafka_resp_err_t
take_groups(rd_kafka_event_t *event, const OutboxSettings *settings, OutboxMembers *members)
{
	const rd_kafka_DescribeConsumerGroups_result_t *result =
		rd_kafka_event_DescribeConsumerGroups_result(event);
	const rd_kafka_ConsumerGroupDescription_t **groups;
	const rd_kafka_error_t					   *error;
	size_t										count = 0;

	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL)
		return rd_kafka_event_error(event);
	groups = rd_kafka_DescribeConsumerGroups_result_groups(result, &count);
	if (count != 1)
		return RD_KAFKA_RESP_ERR__BAD_MSG;
	error = rd_kafka_ConsumerGroupDescription_error(groups[0]);
	if (error != NULL)
		return rd_kafka_error_code(error);
	take_description(groups[0], settings->alive_client, members);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * librdkafka 2.0.2 keeps the coordinator of a group it has described for metadata.max.age.ms (15
 * minutes), also one that is not it any more or does not live.  A client that has never asked finds
 * the new one.
 */
static void
make_asker(const OutboxSettings *settings)
{
	OutboxFailure	 failure;
	rd_kafka_conf_t *conf = outbox_alive_conf(settings, &failure);
	char			 error[512];

	drop_asker();
	asker_made_at = outbox_clock_us();
	if (conf == NULL)
		return;
	asker = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (asker == NULL)
		rd_kafka_conf_destroy(conf);
}

/* Asks Kafka once who is in the group. */
static rd_kafka_resp_err_t
ask_members(const OutboxSettings *settings, OutboxMembers *members)
{
	rd_kafka_t				*client = asker != NULL ? asker : member;
	rd_kafka_queue_t		*queue = rd_kafka_queue_new(client);
	rd_kafka_AdminOptions_t *options =
		rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
	const char		   *names[] = {settings->alive_group};
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_event_t   *event;
	char				error[256];

	members->count = 0;
	members->list.len = 0;
	members->joined = false;
	(void) rd_kafka_AdminOptions_set_request_timeout(options, ASK_TIMEOUT_MS, error, sizeof(error));
	rd_kafka_DescribeConsumerGroups(client, names, 1, options, queue);
	event = rd_kafka_queue_poll(queue, ASK_TIMEOUT_MS + 1000);
	if (event != NULL)
	{
		code = take_groups(event, settings, members);
		rd_kafka_event_destroy(event);
	}
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	return code;
}

static bool
take_refusal(OutboxMembers *members, rd_kafka_resp_err_t code, const OutboxSettings *settings)
{
	members->allowed = false;
	snprintf(members->text, sizeof(members->text), "%s (group \"%s\")",
			 code == RD_KAFKA_RESP_ERR_NO_ERROR ? "not joined" : rd_kafka_err2str(code),
			 settings->alive_group == NULL ? "" : settings->alive_group);
	return true;
}

/* One step of a look; true: it is over with *code. */
static bool
look_once(const OutboxSettings *settings, OutboxMembers *members, rd_kafka_resp_err_t *code)
{
	outbox_alive_serve();
	*code = refused;
	if (member == NULL)
		return true;
	if (no_topic != RD_KAFKA_RESP_ERR_NO_ERROR &&
		outbox_clock_us() - subscribed_at >= SUBSCRIBE_AGAIN_US)
		subscribe(settings);
	*code = ask_members(settings, members);
	if (*code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return members->joined;
	if (outbox_error_classify(*code) != OUTBOX_ERROR_RETRIABLE)
		return true;
	if (*code != RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS &&
		outbox_clock_us() - asker_made_at >= ASKER_AGAIN_US)
		make_asker(settings);
	return false;
}

/*
 * Who is in the group?  Waits a little for our own member to be seen; false: Kafka cannot be asked
 * now.
 */
bool
outbox_alive_look(const OutboxSettings *settings, OutboxMembers *members, OutboxFailure *failure)
{
	const struct timespec pause = {.tv_nsec = JOIN_PAUSE_NS};
	int64_t				  started = outbox_clock_us();
	rd_kafka_resp_err_t	  code;
	OutboxErrorClass class;

	if (member == NULL && started - joined_at >= JOIN_AGAIN_US)
		outbox_alive_join(settings);
	members->allowed = true;
	members->joined = false;
	members->text[0] = '\0';
	members->count = 0;
	members->list.len = 0;
	while (!look_once(settings, members, &code) &&
		   outbox_clock_us() - started <
			   (code == RD_KAFKA_RESP_ERR_NO_ERROR ? JOIN_LIMIT_US : LOOK_LIMIT_US))
		nanosleep(&pause, NULL);

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && !members->joined)
		code = no_topic;
	class = outbox_error_classify(code);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && member != NULL)
		return true;
	/* what else is forbidden, the fence says better */
	if (member == NULL || code == no_topic ||
		code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
		(class != OUTBOX_ERROR_RETRIABLE && class != OUTBOX_ERROR_AUTH))
		return take_refusal(members, code, settings);
	outbox_failure_from_code(failure, code, "looking for other senders", NULL);
	return false;
}
