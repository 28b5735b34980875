/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.c
 *	  What OPEN said.
 *
 * Runs in the sender.  The relay has checked the properties already; they are
 * checked here again, because this process is the one that would load a
 * library or run a command.
 */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "src/common/kafka_properties.h"

static char *
copy_string(const char *data, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy != NULL)
	{
		if (len > 0)
			memcpy(copy, data, len);
		copy[len] = '\0';
	}
	return copy;
}

/* Back to nothing, as before OPEN. */
void
outbox_settings_free(OutboxSettings *settings)
{
	int i;

	for (i = 0; i < settings->property_count; i++)
	{
		free(settings->properties[i].name);
		free(settings->properties[i].value);
	}
	free(settings->properties);
	free(settings->group);
	free(settings->alive_group);
	free(settings->alive_client);
	free(settings->cursor_topic);
	free(settings->source);
	free(settings->transactional_id);
	free(settings->spare_id);
	memset(settings, 0, sizeof(*settings));
}

/* A key that begins with "relay.", or transactional.id; takes over value. */
static bool
set_relay_key(OutboxSettings *settings, const char *name, char *value)
{
	char **slot = NULL;
	bool   known = true;

	if (strcmp(name, OUTBOX_OPEN_GROUP) == 0)
		slot = &settings->group;
	else if (strcmp(name, OUTBOX_OPEN_ALIVE_GROUP) == 0)
		slot = &settings->alive_group;
	else if (strcmp(name, OUTBOX_OPEN_ALIVE_CLIENT) == 0)
		slot = &settings->alive_client;
	else if (strcmp(name, OUTBOX_OPEN_CURSOR_TOPIC) == 0)
		slot = &settings->cursor_topic;
	else if (strcmp(name, OUTBOX_OPEN_SOURCE) == 0)
		slot = &settings->source;
	else if (strcmp(name, "transactional.id") == 0)
		slot = &settings->transactional_id;
	else if (strcmp(name, OUTBOX_OPEN_DELIVERY) == 0)
	{
		settings->exactly_once = strcmp(value, "exactly_once") == 0;
		known = settings->exactly_once || strcmp(value, "at_least_once") == 0;
	}
	else if (strcmp(name, OUTBOX_OPEN_ENVELOPE) == 0)
	{
		settings->cloudevents = strcmp(value, "cloudevents") == 0;
		known = settings->cloudevents || strcmp(value, "none") == 0;
	}
	else if (strcmp(name, OUTBOX_OPEN_LEADERLESS) == 0)
	{
		settings->leaderless_us = strtoll(value, NULL, 10) * 1000;
		known = settings->leaderless_us > 0;
	}
	else
		known = false;
	if (slot == NULL)
	{
		free(value);
		return known;
	}
	free(*slot);
	*slot = value;
	return true;
}

/* One pair of OPEN; takes over name and value. */
static bool
add_pair(OutboxSettings *settings, char *name, char *value, OutboxFailure *failure)
{
	OutboxProperty *property = &settings->properties[settings->property_count];
	bool			ok;

	if (name == NULL || value == NULL)
	{
		free(name);
		free(value);
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "reading OPEN", "out of memory");
		return false;
	}
	if (strncmp(name, "relay.", 6) == 0 || strcmp(name, "transactional.id") == 0)
	{
		ok = set_relay_key(settings, name, value);
		if (!ok)
			outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, 0, "reading OPEN",
							   "\"%.100s\" is unknown or has a value that is not known", name);
		free(name);
		return ok;
	}
	property->name = name;
	property->value = value;
	settings->property_count++;
	if (outbox_kafka_property_allowed(name, OUTBOX_KAFKA_PRODUCER))
		return true;
	outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, 0, "reading OPEN",
					   "Kafka property \"%.100s\" is unknown or not allowed", name);
	return false;
}

/* What the producer compresses with, as given or by default. */
static OutboxCodec
find_codec(const OutboxSettings *settings)
{
	const char *codec = OUTBOX_DEFAULT_CODEC;
	int			i;

	for (i = 0; i < settings->property_count; i++)
		if (strcmp(settings->properties[i].name, "compression.codec") == 0 ||
			strcmp(settings->properties[i].name, "compression.type") == 0)
			codec = settings->properties[i].value;
	if (strcmp(codec, "none") == 0)
		return OUTBOX_CODEC_NONE;
	return strcmp(codec, "lz4") == 0 || strcmp(codec, "snappy") == 0 ? OUTBOX_CODEC_COPYING :
																	   OUTBOX_CODEC_OTHER;
}

/* Is everything there that this delivery mode needs? */
static bool
check_complete(const OutboxSettings *settings, OutboxFailure *failure)
{
	const char *missing = NULL;

	if (settings->group == NULL || settings->group[0] == '\0')
		missing = OUTBOX_OPEN_GROUP;
	else if (settings->cursor_topic == NULL || settings->cursor_topic[0] == '\0')
		missing = OUTBOX_OPEN_CURSOR_TOPIC;
	else if (settings->cloudevents && (settings->source == NULL || settings->source[0] == '\0'))
		missing = OUTBOX_OPEN_SOURCE;
	else if (settings->exactly_once &&
			 (settings->transactional_id == NULL || settings->transactional_id[0] == '\0'))
		missing = "transactional.id";
	if (missing == NULL)
		return true;
	outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, 0, "reading OPEN", "\"%s\" is not set",
					   missing);
	return false;
}

static bool
make_spare_id(OutboxSettings *settings, OutboxFailure *failure)
{
	if (settings->transactional_id == NULL ||
		asprintf(&settings->spare_id, "%s.spare", settings->transactional_id) > 0)
		return true;
	settings->spare_id = NULL;
	outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "reading OPEN", "out of memory");
	return false;
}

/* Reads the body of OPEN into *settings, which the caller frees in any case. */
bool
outbox_settings_read(OutboxSettings *settings, OutboxWireReader *body, OutboxFailure *failure)
{
	uint16_t version = outbox_wire_get_u16(body);
	uint16_t pairs = outbox_wire_get_u16(body);
	int		 i;

	memset(settings, 0, sizeof(*settings));
	settings->exactly_once = true;
	settings->cloudevents = true;
	settings->leaderless_us = (int64_t) OUTBOX_LEADERLESS_MS * 1000;
	if (version != OUTBOX_WIRE_VERSION)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, 0, "reading OPEN",
						   "relay speaks version %u, this sender version %d: "
						   "both must come from one installation",
						   version, OUTBOX_WIRE_VERSION);
		return false;
	}
	settings->properties = calloc((size_t) pairs + 1, sizeof(OutboxProperty));
	for (i = 0; i < pairs && settings->properties != NULL; i++)
	{
		const char *name;
		const char *value;
		uint32_t	name_len;
		uint32_t	value_len;

		if (!outbox_wire_get_string(body, &name, &name_len) ||
			!outbox_wire_get_string(body, &value, &value_len))
			break;
		if (!add_pair(settings, copy_string(name, name_len), copy_string(value, value_len),
					  failure))
			return false;
	}
	if (i < pairs || body->bad)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "reading OPEN", "the frame is cut off");
		return false;
	}
	settings->codec = find_codec(settings);
	return check_complete(settings, failure) && make_spare_id(settings, failure);
}
