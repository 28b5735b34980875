/* SPDX-License-Identifier: PostgreSQL
 *
 * test_properties.c
 *	  The allow-list of librdkafka properties, their text, and error class names.
 */
#include <stdio.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "unit.h"
#include "src/common/error_class.h"
#include "src/common/kafka_properties.h"
#include "src/common/kafka_property_text.h"

static char seen[1024];

static bool
note_item(const char *name, const char *value, void *arg, char *reason, size_t reason_size)
{
	(void) arg;
	strcat(strcat(strcat(strcat(seen, name), "->"), value), "|");
	if (strcmp(value, "stop") != 0)
		return true;
	snprintf(reason, reason_size, "has no good value");
	return false;
}

static bool
parse(const char *text, char *error)
{
	seen[0] = '\0';
	return outbox_kafka_properties_parse(text, OUTBOX_KAFKA_PRODUCER, note_item, NULL, error, 256);
}

static void
test_allow_list(void)
{
	static const char *const refused[] = {
		"plugin.library.paths",
		"sasl.kerberos.kinit.cmd",
		"sasl.kerberos.keytab",
		"sasl.kerberos.principal",
		"ssl.engine.location",
		"ssl.engine.id",
		"ssl.providers",
		"sasl.oauthbearer.token.endpoint.url",
		"transactional.id",
		"enable.idempotence",
		"acks",
		"request.required.acks",
		"group.id",
		"isolation.level",
		"enable.auto.commit",
		"internal.termination.signal",
		"dr_cb",
		"opaque",
		"",
		"nonsense",
		"Linger.ms",
		"interceptors",
		"default_topic_conf",
		"log_cb",
		"socket_cb",
	};
	bool   any = false;
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		any |= outbox_kafka_property_allowed(refused[i], OUTBOX_KAFKA_PRODUCER) ||
			outbox_kafka_property_allowed(refused[i], OUTBOX_KAFKA_CONSUMER);
	CHECK(!any, "what is dangerous or the relay's own is refused");
	CHECK(outbox_kafka_property_allowed("linger.ms", OUTBOX_KAFKA_PRODUCER) &&
			  !outbox_kafka_property_allowed("linger.ms", OUTBOX_KAFKA_CONSUMER),
		  "linger.ms is for producers only");
	CHECK(outbox_kafka_property_allowed("fetch.min.bytes", OUTBOX_KAFKA_CONSUMER) &&
			  !outbox_kafka_property_allowed("fetch.min.bytes", OUTBOX_KAFKA_PRODUCER),
		  "fetch.min.bytes is for consumers only");
	CHECK(outbox_kafka_property_allowed("allow.auto.create.topics", OUTBOX_KAFKA_PRODUCER) &&
			  outbox_kafka_property_allowed("transaction.timeout.ms", OUTBOX_KAFKA_PRODUCER),
		  "the first and the last of the list are found");
}

/* Of all that librdkafka knows, nothing that reaches for code, commands, URLs or other files. */
static void
test_dangerous_kinds(void)
{
	static const char *const kinds[] = {
		"plugin", "kerberos",	 "engine", "provider", "oauth",	   "url",	 "_cb",
		"cmd",	  "interceptor", "stores", "opaque",   "callback", "https.",
	};
	static const char *const files[] = {
		"ssl.ca.location",	"ssl.certificate.location", "ssl.crl.location",
		"ssl.key.location", "ssl.keystore.location",
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	size_t			 count;
	const char	   **dump = rd_kafka_conf_dump(conf, &count);
	size_t			 dangerous = 0;
	size_t			 allowed = 0;

	for (size_t i = 0; i < count; i += 2)
	{
		bool bad = strstr(dump[i], "location") != NULL;

		for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++)
			bad = bad && strcmp(dump[i], files[f]) != 0;
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			bad = bad || strstr(dump[i], kinds[k]) != NULL;
		dangerous += bad;
		allowed += bad &&
			(outbox_kafka_property_allowed(dump[i], OUTBOX_KAFKA_PRODUCER) ||
			 outbox_kafka_property_allowed(dump[i], OUTBOX_KAFKA_CONSUMER));
	}
	CHECK(dangerous > 10 && allowed == 0, "no dangerous kind of property is allowed");
	rd_kafka_conf_dump_free(dump, count);
	rd_kafka_conf_destroy(conf);
}

/* librdkafka's own list: each name that we allow must be one of its names. */
static void
test_names_exist(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	size_t			 count;
	const char	   **dump = rd_kafka_conf_dump(conf, &count);
	size_t			 allowed = 0;
	size_t			 i;

	for (i = 0; i < count; i += 2)
		allowed += outbox_kafka_property_allowed(dump[i], OUTBOX_KAFKA_PRODUCER) ||
			outbox_kafka_property_allowed(dump[i], OUTBOX_KAFKA_CONSUMER);
	CHECK(allowed > 30, "the names on the list are librdkafka's");
	rd_kafka_conf_dump_free(dump, count);
	rd_kafka_conf_destroy(conf);
}

static void
test_secrets(void)
{
	CHECK(!outbox_kafka_property_public("sasl.password") &&
			  !outbox_kafka_property_public("ssl.key.password") &&
			  !outbox_kafka_property_public("ssl.key.pem") &&
			  !outbox_kafka_property_public("ssl.keystore.password") &&
			  !outbox_kafka_property_public("sasl.oauthbearer.client.secret"),
		  "passwords and keys are not public");
	CHECK(outbox_kafka_property_public("bootstrap.servers") &&
			  outbox_kafka_property_public("transactional.id"),
		  "names and addresses are");
}

static void
test_text(void)
{
	char error[256] = "";

	CHECK(parse("\xEF\xBB\xBF linger.ms = 5 \n\nbatch.size=1000\r\n# a ; comment = "
				"x\n\n\tclient.id=a=b",
				error) &&
			  strcmp(seen, "linger.ms->5|batch.size->1000|client.id->a=b|") == 0,
		  "a byte order mark, blanks, comments, CRLF, empty lines, no end of the last line");
	CHECK(parse("", error) && seen[0] == '\0', "no text, no items");
	CHECK(!parse("linger.ms=stop\nbatch.size=1", error) && strcmp(seen, "linger.ms->stop|") == 0 &&
			  strcmp(error, "line 1: Kafka property \"linger.ms\" has no good value") == 0,
		  "the callback can stop, and say why");
	CHECK(outbox_kafka_properties_parse("linger.ms=1", OUTBOX_KAFKA_PRODUCER, NULL, NULL, error,
										sizeof(error)),
		  "without a callback the text is checked");
}

/* Each line is one property and everything behind its first "=" the value. */
static void
test_whole_values(void)
{
	static const char		 azure[] = "Endpoint=sb://x.servicebus.windows.net/"
									   ";SharedAccessKeyName=Root;SharedAccessKey=aGk7bGluZ2Vy+/=";
	static const char *const passwords[] = {
		azure, "front;LEAKED=tail", "abc;linger.ms=7", "a #b", "\"quoted\"", "'", "a\\nb", "#;=",
		"ü ß",
	};
	char text[512];
	char found[512];
	char error[256] = "";

	for (size_t i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++)
	{
		snprintf(text, sizeof(text),
				 "sasl.username=$ConnectionString\nsasl.password = %s\nlinger.ms=1", passwords[i]);
		snprintf(found, sizeof(found),
				 "sasl.username->$ConnectionString|sasl.password->%s|linger.ms->1|", passwords[i]);
		CHECK(parse(text, error) && strcmp(seen, found) == 0, passwords[i]);
	}
	snprintf(text, sizeof(text), "linger.ms=5\\nclient.id=a");
	outbox_kafka_properties_unescape(text);
	CHECK(strcmp(text, "linger.ms=5\nclient.id=a") == 0, "the setting's \\n is a line's end");
}

#define KEY "-----BEGIN PRIVATE KEY-----\nMIIE+/=\n-----END PRIVATE KEY-----"
#define CHAIN \
	"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN " \
	"CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----"

static void
test_pem(void)
{
	char error[256] = "";

	CHECK(parse("ssl.key.pem=" KEY "\nlinger.ms=1", error) &&
			  strcmp(seen, "ssl.key.pem->" KEY "|linger.ms->1|") == 0,
		  "a PEM value goes on to its END");
	CHECK(parse("ssl.ca.pem =\n  -----BEGIN CERTIFICATE-----\r\n  MIIB\r\n  -----END "
				"CERTIFICATE-----\n"
				"-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
				error) &&
			  strcmp(seen, "ssl.ca.pem->" CHAIN "|") == 0,
		  "or begins in the next line, indented, and has several blocks");
	CHECK(parse("ssl.key.pem=-----BEGIN PRIVATE KEY-----\\nMIIE+/=\\n-----END PRIVATE "
				"KEY-----\nlinger.ms=1",
				error) &&
			  strcmp(seen, "ssl.key.pem->" KEY "|linger.ms->1|") == 0,
		  "or is one line with \\n");
	CHECK(!parse("ssl.key.pem=-----BEGIN PRIVATE KEY-----\nLEAKED\nlinger.ms=1", error) &&
			  strcmp(error,
					 "line 1: Kafka property \"ssl.key.pem\" has a PEM block without its line "
					 "-----END") == 0,
		  "a block that is cut off is told");
	CHECK(!parse("ssl.key.location=/x\n-----BEGIN PRIVATE KEY-----\nLEAKED==", error) &&
			  strstr(error, "line 2 has a PEM block") != NULL,
		  "so is one without a property");
}

/* What is wrong is told with line and name, and with nothing of a value. */
static void
test_refusals(void)
{
	static const struct
	{
		const char	   *text;
		OutboxKafkaSide side;
		const char	   *reason;
	} refused[] = {
		{"linger.ms=1\nLEAKED", OUTBOX_KAFKA_PRODUCER, "line 2 has no \"=\""},
		{"sasl.password=front\nLEAKED=tail", OUTBOX_KAFKA_PRODUCER,
		 "line 2 has no name of a Kafka property"},
		{"sasl.password=front\nleaked=tail", OUTBOX_KAFKA_PRODUCER,
		 "line 2 has no name of a Kafka property"},
		{"sasl.password: LEAKED", OUTBOX_KAFKA_PRODUCER,
		 "line 1 has \":\" after a property's name"},
		{"\nplugin.library.paths=LEAKED", OUTBOX_KAFKA_PRODUCER,
		 "line 2: Kafka property \"plugin.library.paths\" is unknown"},
		{"sasl.pasword=LEAKED", OUTBOX_KAFKA_PRODUCER,
		 "line 1: Kafka property \"sasl.pasword\" is unknown"},
		{"fetch.min.bytes=1", OUTBOX_KAFKA_PRODUCER,
		 "\"fetch.min.bytes\" is of no use on this side"},
		{"linger.ms=1\nqueue.buffering.max.ms=1", OUTBOX_KAFKA_PRODUCER,
		 "line 2: Kafka property \"queue.buffering.max.ms\" is given twice"},
		{"sasl.password=a\nsasl.password=LEAKED", OUTBOX_KAFKA_PRODUCER,
		 "line 2: Kafka property \"sasl.password\" is given twice"},
		{"bootstrap.servers=LEAKED;linger.ms=5", OUTBOX_KAFKA_PRODUCER,
		 "has another one behind a \";\""},
		{"client.id=LEAKED; linger.ms = 5", OUTBOX_KAFKA_PRODUCER,
		 "has another one behind a \";\""},
		{"bootstrap.servers=leaked:port", OUTBOX_KAFKA_PRODUCER, "has a port that is no number"},
		{"bootstrap.servers=LEAKED?", OUTBOX_KAFKA_PRODUCER, "is not of the form host:port"},
		{"client.id=\"LEAKED\"", OUTBOX_KAFKA_PRODUCER, "has quotes around it"},
		{"client.id=LEAKED # main", OUTBOX_KAFKA_PRODUCER, "a comment has a line of its own"},
		{"client.id=LEAKED\xC2\xA0", OUTBOX_KAFKA_PRODUCER, "an invisible character"},
		{"sasl.password=LEAKED\xC2\xA0", OUTBOX_KAFKA_PRODUCER, "an invisible character"},
		{"\xC2\xA0linger.ms=LEAKED", OUTBOX_KAFKA_PRODUCER, "line 1 has an invisible character"},
		{"sasl.password=LEAKED\xFF", OUTBOX_KAFKA_PRODUCER, "is not UTF-8"},
		{"sasl.password=LEAKED\x01", OUTBOX_KAFKA_PRODUCER, "a control character"},
		{"acks=1", OUTBOX_KAFKA_PRODUCER, "\"acks\" is set by outbox itself"},
		{"transactional.id=LEAKED", OUTBOX_KAFKA_PRODUCER, "is set by outbox itself"},
		{"auto.offset.reset=latest", OUTBOX_KAFKA_CONSUMER,
		 "\"auto.offset.reset\" is set by outbox itself"},
		{"enable.auto.commit=true", OUTBOX_KAFKA_CONSUMER, "is set by outbox itself"},
		{"auto.commit.interval.ms=1", OUTBOX_KAFKA_CONSUMER, "is set by outbox itself"},
		{"isolation.level=read_uncommitted", OUTBOX_KAFKA_CONSUMER, "is set by outbox itself"},
		{"partition.assignment.strategy=range", OUTBOX_KAFKA_CONSUMER, "is set by outbox itself"},
		{"check.crcs=false", OUTBOX_KAFKA_CONSUMER, "is set by outbox itself"},
		{"group.id=LEAKED", OUTBOX_KAFKA_CONSUMER,
		 "is set by outbox itself: use the setting group_id"},
		{"bootstrap.servers=LEAKED", OUTBOX_KAFKA_CONSUMER, "use the setting bootstrap_servers"},
		{"metadata.broker.list=LEAKED", OUTBOX_KAFKA_MONITOR, "use the setting bootstrap_servers"},
		{"fetch.wait.max.ms=5", OUTBOX_KAFKA_MONITOR, "is set by outbox itself"},
		{"session.timeout.ms=5000", OUTBOX_KAFKA_MONITOR, "is of no use on this side"},
		{"bootstrap.servers=LEAKED", OUTBOX_KAFKA_ADMIN, "use the setting --bootstrap-servers"},
		{"fetch.min.bytes=1", OUTBOX_KAFKA_ADMIN, "is of no use on this side"},
		{"linger.ms=1", OUTBOX_KAFKA_ADMIN, "is of no use on this side"},
	};
	char error[256];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		error[0] = seen[0] = '\0';
		CHECK(!outbox_kafka_properties_parse(refused[i].text, refused[i].side, note_item, NULL,
											 error, sizeof(error)) &&
				  strstr(error, refused[i].reason) != NULL && strcasestr(error, "leaked") == NULL &&
				  strstr(error, "tail") == NULL,
			  refused[i].text);
		if (strstr(error, refused[i].reason) == NULL)
			printf("# %s\n", error);
	}
	strcpy(error, "Invalid value \"LEAKED\" for \"x\": LEAKED");
	outbox_kafka_hide_value(error, "LEAKED");
	CHECK(strcmp(error, "Invalid value \"...\" for \"x\": ...") == 0,
		  "librdkafka's words lose the value");
}

static int ignored;

static void
note_ignored(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
	(void) client, (void) level;
	if (strcmp(facility, "CONFWARN") != 0 || strstr(text, "and will be ignored") == NULL)
		return;
	printf("# %s\n", text);
	ignored++;
}

/* librdkafka says itself which properties of a client have no effect. */
static void
test_no_effect(void)
{
	static const OutboxKafkaSide sides[] = {OUTBOX_KAFKA_PRODUCER, OUTBOX_KAFKA_CURSOR,
											OUTBOX_KAFKA_CONSUMER, OUTBOX_KAFKA_MONITOR,
											OUTBOX_KAFKA_ADMIN};
	rd_kafka_conf_t				*defaults = rd_kafka_conf_new();
	size_t						 count;
	const char				   **dump = rd_kafka_conf_dump(defaults, &count);

	for (size_t s = 0; s < sizeof(sides) / sizeof(sides[0]); s++)
	{
		bool producer = sides[s] == OUTBOX_KAFKA_PRODUCER || sides[s] == OUTBOX_KAFKA_ADMIN;
		rd_kafka_conf_t *conf = rd_kafka_conf_new();
		rd_kafka_t		*client;
		char			 error[512];

		for (size_t i = 0; i < count; i += 2)
		{
			if (outbox_kafka_property_allowed(dump[i], sides[s]))
				(void) rd_kafka_conf_set(conf, dump[i], dump[i + 1], error, sizeof(error));
		}
		rd_kafka_conf_set_log_cb(conf, note_ignored);
		client = rd_kafka_new(producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, error,
							  sizeof(error));
		CHECK(client != NULL && ignored == 0,
			  "no property of a side is one that its client ignores");
		if (client != NULL)
			rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
		else
			printf("# %s\n", error);
	}
	rd_kafka_conf_dump_free(dump, count);
	rd_kafka_conf_destroy(defaults);
}

static void
test_class_names(void)
{
	CHECK(strcmp(outbox_error_class_name(OUTBOX_ERROR_RETRIABLE), "retriable") == 0 &&
			  strcmp(outbox_error_class_name(OUTBOX_ERROR_AUTH), "auth") == 0 &&
			  strcmp(outbox_error_class_name((OutboxErrorClass) 99), "unknown") == 0,
		  "error classes have names");
}

int
main(void)
{
	test_allow_list();
	test_dangerous_kinds();
	test_names_exist();
	test_secrets();
	test_text();
	test_whole_values();
	test_pem();
	test_refusals();
	test_no_effect();
	test_class_names();
	return finish_tests();
}
