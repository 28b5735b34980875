/* SPDX-License-Identifier: PostgreSQL
 *
 * test_properties.c
 *	  The allow-list of librdkafka properties, their text, and error class names.
 */
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "../../src/common/error_class.h"
#include "../../src/common/kafka_properties.h"
#include "unit.h"

static char seen[256];

static bool
note_item(const char *name, const char *value, void *arg)
{
	(void) arg;
	strcat(strcat(strcat(strcat(seen, name), "->"), value), "|");
	return strcmp(value, "stop") != 0;
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
		"plugin.library.paths", "sasl.kerberos.kinit.cmd", "sasl.kerberos.keytab",
		"sasl.kerberos.principal", "ssl.engine.location", "ssl.engine.id",
		"ssl.providers", "sasl.oauthbearer.token.endpoint.url", "transactional.id",
		"enable.idempotence", "acks", "request.required.acks", "group.id", "isolation.level",
		"enable.auto.commit", "internal.termination.signal", "dr_cb", "opaque", "", "nonsense",
		"Linger.ms", "interceptors", "default_topic_conf", "log_cb", "socket_cb",
	};
	bool		any = false;
	size_t		i;

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
		"plugin", "kerberos", "engine", "provider", "oauth", "url", "_cb", "cmd", "interceptor",
		"stores", "opaque", "callback", "https.",
	};
	static const char *const files[] = {
		"ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "ssl.key.location",
		"ssl.keystore.location",
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	size_t		count;
	const char **dump = rd_kafka_conf_dump(conf, &count);
	size_t		dangerous = 0;
	size_t		allowed = 0;

	for (size_t i = 0; i < count; i += 2)
	{
		bool		bad = strstr(dump[i], "location") != NULL;

		for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++)
			bad = bad && strcmp(dump[i], files[f]) != 0;
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			bad = bad || strstr(dump[i], kinds[k]) != NULL;
		dangerous += bad;
		allowed += bad && (outbox_kafka_property_allowed(dump[i], OUTBOX_KAFKA_PRODUCER) ||
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
	size_t		count;
	const char **dump = rd_kafka_conf_dump(conf, &count);
	size_t		allowed = 0;
	size_t		i;

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
		  outbox_kafka_property_public("transactional.id"), "names and addresses are");
}

static void
test_text(void)
{
	char		error[256] = "";

	CHECK(parse(" linger.ms = 5 ;; batch.size=1000\r\n# a ; comment = x\n\nclient.id=a=b \n",
				error) && strcmp(seen, "linger.ms->5|batch.size->1000|client.id->a=b|") == 0,
		  "items, blanks, comments and empty lines");
	CHECK(parse("", error) && seen[0] == '\0', "no text, no items");
	CHECK(!parse("linger.ms=1\nplugin.library.paths=secretvalue.so", error) &&
		  strstr(error, "plugin.library.paths") != NULL && strstr(error, "secretvalue") == NULL,
		  "a property that is not allowed is named, its value is not");
	CHECK(!parse("linger.ms", error) && strstr(error, "=") != NULL, "an item without = is refused");
	CHECK(!parse("fetch.min.bytes=1", error) && strstr(error, "side") != NULL,
		  "a consumer's property is refused for a producer");
	CHECK(!parse("linger.ms=stop;batch.size=1", error) && strcmp(seen, "linger.ms->stop|") == 0,
		  "the callback can stop");
	CHECK(outbox_kafka_properties_parse("linger.ms=1", OUTBOX_KAFKA_PRODUCER, NULL, NULL, error,
										sizeof(error)), "without a callback it is checked only");
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
	test_class_names();
	return finish_tests();
}
