/* SPDX-License-Identifier: PostgreSQL
 *
 * test_settings.c
 *	  Which properties each of the sender's Kafka clients gets: defaults, the user's, ours.
 */
#include <string.h>

#include "bgworker/sender/alive.h"
#include "bgworker/sender/conf.h"
#include "bgworker/sender/producer.h"
#include "bgworker/sender/settings.h"

#include "unit.h"

static OutboxProperty properties[] = {
	{"bootstrap.servers", "127.0.0.1:1"},
	{"client.id", "theirs"},
	{"log_level", "6"},
	{"reconnect.backoff.ms", "2000"},
	{"reconnect.backoff.max.ms", "2500"},
};

/* With the first `count` of the user's properties. */
static OutboxSettings
make_settings(int count)
{
	return (OutboxSettings) {.properties = properties,
							 .property_count = count,
							 .exactly_once = true,
							 .group = "outbox-relay.unit",
							 .alive_group = "outbox-alive.unit",
							 .alive_client = "outbox-alive.1.2",
							 .cursor_topic = "outbox.cursor",
							 .source = "unit",
							 .transactional_id = "outbox-relay.unit"};
}

static bool
has(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char   found[256] = "";
	size_t size = sizeof(found);

	return conf != NULL && rd_kafka_conf_get(conf, name, found, &size) == RD_KAFKA_CONF_OK &&
		strcmp(found, value) == 0;
}

/* librdkafka refuses some combinations only here. */
static bool
makes_client(rd_kafka_conf_t *conf)
{
	char		error[512];
	rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));

	if (client == NULL)
	{
		printf("# %s\n", error);
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return true;
}

static void
test_cursor_client(void)
{
	OutboxSettings	 settings = make_settings(1);
	OutboxFailure	 failure;
	rd_kafka_conf_t *conf = outbox_cursor_conf(&settings, true, &failure);

	CHECK(has(conf, "client.id", "outbox-relay-cursor") && has(conf, "log_level", "4") &&
			  has(conf, "group.id", "outbox-relay.unit"),
		  "the cursor's client has a name of its own");
	CHECK(has(conf, "reconnect.backoff.max.ms", "2000"),
		  "it is back 2 s after an outage, as the producer");
	rd_kafka_conf_destroy(conf);
	settings = make_settings(5);
	conf = outbox_cursor_conf(&settings, true, &failure);
	CHECK(has(conf, "client.id", "theirs") && has(conf, "log_level", "6") &&
			  has(conf, "reconnect.backoff.max.ms", "2500"),
		  "but what the user sets counts");
	CHECK(makes_client(conf), "with the user's it can be made");
}

static void
test_member(void)
{
	OutboxSettings	 settings = make_settings(5);
	OutboxFailure	 failure;
	rd_kafka_conf_t *conf = outbox_alive_conf(&settings, &failure);

	CHECK(has(conf, "client.id", "outbox-alive.1.2") && has(conf, "log_level", "2") &&
			  has(conf, "group.id", "outbox-alive.unit") &&
			  has(conf, "session.timeout.ms", "10000"),
		  "a member's name says who it is, whatever the user sets, and it is silent");
	CHECK(has(conf, "reconnect.backoff.max.ms", "2500"), "the rest is the user's");
	rd_kafka_conf_destroy(conf);
	settings = make_settings(4);
	conf = outbox_alive_conf(&settings, &failure);
	CHECK(makes_client(conf),
		  "a backoff that the producer's default takes, the member's takes as well");
}

/* For a batch that took too long. */
static void
test_grown(void)
{
	static const OutboxDeadlines grown = {.message_ms = 600000,
										  .transaction_ms = 615000,
										  .socket_ms = 80000};
	OutboxSettings				 settings = make_settings(1);
	OutboxFailure				 failure = {0};
	rd_kafka_conf_t *conf = outbox_producer_conf(&settings, 0, 0, NULL, false, &failure);

	CHECK(has(conf, "message.timeout.ms", "30000") &&
			  has(conf, "max.in.flight.requests.per.connection", "5"),
		  "usually the settings' deadlines count");
	rd_kafka_conf_destroy(conf);
	conf = outbox_producer_conf(&settings, 0, 0, &grown, false, &failure);
	CHECK(has(conf, "message.timeout.ms", "600000") &&
			  has(conf, "transaction.timeout.ms", "615000") &&
			  has(conf, "socket.timeout.ms", "80000"),
		  "grown ones take their place");
	CHECK(has(conf, "batch.size", "262144") &&
			  has(conf, "max.in.flight.requests.per.connection", "1"),
		  "and requests are small and one at a time");
	rd_kafka_conf_destroy(conf);
}

/* What librdkafka refuses is told with our values (issue 12, last_error). */
static void
test_refused(void)
{
	static OutboxProperty long_message[] = {{"bootstrap.servers", "127.0.0.1:1"},
											{"message.timeout.ms", "60000"}};
	OutboxSettings		  settings = make_settings(1);
	OutboxFailure		  failure = {0};
	char				 *text = NULL;

	settings.properties = long_message;
	settings.property_count = 2;
	CHECK(!outbox_effective_properties(&settings, &text, &failure) &&
			  failure.class == OUTBOX_ERROR_CONFIG,
		  "a message may not outlast its transaction");
	CHECK(strstr(failure.text, "message.timeout.ms is 60000") != NULL &&
			  strstr(failure.text, "transaction.timeout.ms is 45000") != NULL,
		  "both values are told");
	printf("# %s\n", failure.text);
}

int
main(void)
{
	test_grown();
	test_refused();
	test_cursor_client();
	test_member();
	return finish_tests();
}
