/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_conf.c
 *	  The user's librdkafka properties in a configuration, and whether a client can be made of it.
 *
 * Runs in the services, the monitor and outbox-topics, on any thread.
 */
#include "kafka_conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/common/kafka_property_text.h"

bool
outbox_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *error,
					  size_t size)
{
	char librdkafka[512];
	char reason[128];

	if (rd_kafka_conf_set(conf, name, value, librdkafka, sizeof(librdkafka)) == RD_KAFKA_CONF_OK)
		return true;
	outbox_kafka_refusal(librdkafka, reason, sizeof(reason));
	snprintf(error, size, "Kafka property \"%s\" %s", name, reason);
	return false;
}

/* Why the file a property names cannot be used; NULL: it can, or the property names none. */
static const char *
find_file_flaw(const char *name, const char *value)
{
	size_t len = strlen(name);

	/* ssl.ca.location = probe: librdkafka looks for it */
	if (len < 9 || strcmp(name + len - 9, ".location") != 0 || value[0] == '\0' ||
		strcmp(value, "probe") == 0 || access(value, R_OK) == 0)
		return NULL;
	return errno == ENOENT ? "names a file that is not there" : "names a file that cannot be read";
}

static bool
take_property(const char *name, const char *value, void *conf, char *reason, size_t size)
{
	const char *flaw = find_file_flaw(name, value);
	char		librdkafka[512];

	if (flaw != NULL)
		snprintf(reason, size, "%s", flaw);
	else if (rd_kafka_conf_set(conf, name, value, librdkafka, sizeof(librdkafka)) ==
			 RD_KAFKA_CONF_OK)
		return true;
	else
		outbox_kafka_refusal(librdkafka, reason, size);
	return false;
}

bool
outbox_kafka_conf_take(rd_kafka_conf_t *conf, const char *text, OutboxKafkaSide side, char *error,
					   size_t size)
{
	return outbox_kafka_properties_parse(text, side, take_property, conf, error, size);
}

static bool
hide_property(const char *name, const char *value, void *text, char *reason, size_t size)
{
	(void) name, (void) reason, (void) size;
	outbox_kafka_hide_value(text, value);
	return true;
}

void
outbox_kafka_conf_hide(const char *reason, const char *text, OutboxKafkaSide side, char *error,
					   size_t size)
{
	char unused[256];

	snprintf(error, size, "%s", reason);
	(void) outbox_kafka_properties_parse(text, side, hide_property, error, unused, sizeof(unused));
}

bool
outbox_kafka_conf_try(rd_kafka_conf_t *conf, rd_kafka_type_t type, const char *text,
					  OutboxKafkaSide side, char *error, size_t size)
{
	char		reason[512];
	rd_kafka_t *rk;

	rd_kafka_conf_set_log_cb(conf, NULL);
	rk = rd_kafka_new(type, conf, reason, sizeof(reason));
	if (rk != NULL)
	{
		rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
		return true;
	}
	rd_kafka_conf_destroy(conf);
	outbox_kafka_conf_hide(reason, text, side, error, size);
	return false;
}
