/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_profile.c
 *	  Reads a profile: sections of topics with name = value lines.
 *
 * Runs in outbox-topics.  A profile is checked whole before Kafka is asked
 * anything: what is wrong with it changes nothing.
 */
#define _GNU_SOURCE
#include "topic_profile.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/common/setting_text.h"
#include "src/common/topic_names.h"

#define PARTITIONS_MAX	 100000
#define REPLICATION_MAX	 100
#define DLT_RETENTION_MS (INT64_C(30) * 24 * 3600 * 1000)

const char *const outbox_topic_setting_names[OUTBOX_TOPIC_SETTINGS] = {
	"retention.ms",
	"cleanup.policy",
	"min.insync.replicas",
};

typedef struct ProfileReader
{
	OutboxTopicProfile *profile;
	OutboxTopicSpec		defaults; /* what stands before the first section */
	unsigned			seen;	  /* keys of the section, a bit each */
	int					line;
	char			   *error;
	size_t				size;
} ProfileReader;

static bool refuse(ProfileReader *reader, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool
refuse(ProfileReader *reader, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reader->error, reader->size, format, arguments);
	va_end(arguments);
	return false;
}

static bool
read_count(ProfileReader *reader, const char *key, const char *value, int max, int *count)
{
	char *end;
	long  number;

	errno = 0;
	number = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || number < 1 || number > max)
		return refuse(reader, "%s: \"%s\" is not a whole number from 1 to %d", key, value, max);
	*count = (int) number;
	return true;
}

/* "604800000", "7d", "-1": milliseconds as text. */
static bool
read_duration(ProfileReader *reader, const char *key, const char *value, char *out)
{
	static const struct
	{
		const char *unit;
		int64_t		ms;
	} units[] = {
		{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
	};
	char	 *end;
	long long number;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno == 0 && end != value && number == -1 && *end == '\0')
	{
		strcpy(out, "-1");
		return true;
	}
	for (size_t i = 0; errno == 0 && end != value && i < sizeof(units) / sizeof(units[0]); i++)
	{
		if (strcmp(end, units[i].unit) != 0 || number < 1 || number > INT64_MAX / units[i].ms)
			continue;
		snprintf(out, OUTBOX_TOPIC_VALUE_SIZE, "%" PRId64, (int64_t) number * units[i].ms);
		return true;
	}
	return refuse(reader, "%s: \"%s\" is neither -1 nor a number with ms, s, m, h, d or no unit",
				  key, value);
}

bool
outbox_topic_cleanup_normalize(const char *text, char value[OUTBOX_TOPIC_VALUE_SIZE])
{
	bool compact = false;
	bool delete = false;

	for (;;)
	{
		size_t len;

		text += strspn(text, " \t");
		len = strcspn(text, ", \t");
		if (len == 7 && memcmp(text, "compact", len) == 0 && !compact)
			compact = true;
		else if (len == 6 && memcmp(text, "delete", len) == 0 && !delete)
			delete = true;
		else
			return false;
		text += len;
		text += strspn(text, " \t");
		if (*text == '\0')
			break;
		if (*text++ != ',')
			return false;
	}
	snprintf(value, OUTBOX_TOPIC_VALUE_SIZE, "%s%s%s", compact ? "compact" : "",
			 compact && delete ? "," : "", delete ? "delete" : "");
	return true;
}

static bool
read_cleanup(ProfileReader *reader, const char *key, const char *value, char *out)
{
	if (outbox_topic_cleanup_normalize(value, out))
		return true;
	return refuse(reader, "%s: \"%s\" is none of delete, compact, or both with a comma", key,
				  value);
}

static bool
read_yes_no(ProfileReader *reader, const char *key, const char *value, bool *out)
{
	*out = strcmp(value, "yes") == 0;
	if (*out || strcmp(value, "no") == 0)
		return true;
	return refuse(reader, "%s: \"%s\" is neither yes nor no", key, value);
}

static bool
set_key(ProfileReader *reader, OutboxTopicSpec *spec, const char *key, const char *value)
{
	static const char *const keys[] = {
		"partitions",		   "replication", "retention.ms",	  "cleanup.policy",
		"min.insync.replicas", "dlt",		  "dlt.retention.ms",
	};
	unsigned index = 0;
	int		 count;

	while (index < sizeof(keys) / sizeof(keys[0]) && strcmp(keys[index], key) != 0)
		index++;
	if (index == sizeof(keys) / sizeof(keys[0]))
		return refuse(reader, "unknown key \"%s\"", key);
	if (reader->seen & (1u << index))
		return refuse(reader, "key \"%s\" is given twice", key);
	reader->seen |= 1u << index;
	switch (index)
	{
		case 0:
			return read_count(reader, key, value, PARTITIONS_MAX, &spec->partitions);
		case 1:
			return read_count(reader, key, value, REPLICATION_MAX, &spec->replication);
		case 2:
			return read_duration(reader, key, value, spec->values[OUTBOX_TOPIC_RETENTION]);
		case 3:
			return read_cleanup(reader, key, value, spec->values[OUTBOX_TOPIC_CLEANUP]);
		case 4:
			if (!read_count(reader, key, value, REPLICATION_MAX, &count))
				return false;
			snprintf(spec->values[OUTBOX_TOPIC_MIN_INSYNC], OUTBOX_TOPIC_VALUE_SIZE, "%d", count);
			return true;
		case 5:
			return read_yes_no(reader, key, value, &spec->dlt);
		default:
			return read_duration(reader, key, value, spec->dlt_retention);
	}
}

/*
 * Kafka takes '.' and '_' for the same in metric names, and refuses two topics that differ by them.
 */
static bool
names_collide(const char *a, const char *b)
{
	for (; *a != '\0' && *b != '\0'; a++, b++)
	{
		if ((*a == '_' ? '.' : *a) != (*b == '_' ? '.' : *b))
			return false;
	}
	return *a == *b;
}

static bool
check_name(ProfileReader *reader, const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > OUTBOX_TOPIC_NAME_MAX)
		return refuse(reader, "a topic's name has 1 to %d characters, this one %zu",
					  OUTBOX_TOPIC_NAME_MAX, len);
	for (const char *c = name; *c != '\0'; c++)
	{
		if (!isascii((unsigned char) *c) ||
			(!isalnum((unsigned char) *c) && strchr("._-", *c) == NULL))
			return refuse(reader,
						  "topic name \"%s\" has a character that is none of a-z A-Z 0-9 . _ -",
						  name);
	}
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return refuse(reader, "a topic cannot be called \"%s\"", name);
	if (strncmp(name, "__", 2) == 0)
		return refuse(reader, "topic \"%s\" is Kafka's own", name);
	if (strcmp(name, OUTBOX_CURSOR_TOPIC) == 0)
		return refuse(reader, "topic \"%s\" is the relay's own", name);
	for (size_t i = 0; i < reader->profile->count; i++)
	{
		const OutboxTopicSpec *other = &reader->profile->topics[i];

		if (strcmp(other->name, name) == 0)
			return refuse(reader, "topic \"%s\" is declared already, by line %d", name,
						  other->line);
		if (names_collide(other->name, name))
			return refuse(reader,
						  "topic \"%s\" collides with \"%s\" of line %d: Kafka tells . and _ not "
						  "apart",
						  name, other->name, other->line);
	}
	return true;
}

/* Appends spec under that name; NULL: refused. */
static OutboxTopicSpec *
add_topic(ProfileReader *reader, const OutboxTopicSpec *spec, const char *name)
{
	OutboxTopicProfile *profile = reader->profile;
	OutboxTopicSpec		copy = *spec;
	OutboxTopicSpec	   *grown;

	if (!check_name(reader, name))
		return NULL;
	grown = reallocarray(profile->topics, profile->count + 1, sizeof(OutboxTopicSpec));
	if (grown == NULL)
	{
		refuse(reader, "out of memory");
		return NULL;
	}
	profile->topics = grown;
	strcpy(copy.name, name);
	copy.line = reader->line;
	grown[profile->count] = copy;
	return &grown[profile->count++];
}

/* Adds the dead letter topic: as many partitions, kept longer, never compacted. */
static bool
add_dead_letter_topic(ProfileReader *reader)
{
	OutboxTopicSpec letters = reader->profile->topics[reader->profile->count - 1];
	char			name[OUTBOX_TOPIC_NAME_MAX + sizeof(OUTBOX_DLT_SUFFIX)];
	const char	   *retention = letters.values[OUTBOX_TOPIC_RETENTION];
	int64_t			kept = strtoll(retention, NULL, 10);
	int64_t			wanted = DLT_RETENTION_MS;

	if (letters.dlt_retention[0] != '\0')
		wanted = strtoll(letters.dlt_retention, NULL, 10);
	else if (kept > wanted || kept < 0)
		wanted = kept;
	if (wanted > 0 && (kept < 0 || kept > wanted))
		return refuse(reader,
					  "dlt.retention.ms is below retention.ms: letters would go before their "
					  "records");
	snprintf(letters.values[OUTBOX_TOPIC_RETENTION], OUTBOX_TOPIC_VALUE_SIZE, "%" PRId64, wanted);
	strcpy(letters.values[OUTBOX_TOPIC_CLEANUP], "delete");
	letters.dlt = false;
	snprintf(name, sizeof(name), "%s%s", letters.name, OUTBOX_DLT_SUFFIX);
	return add_topic(reader, &letters, name) != NULL;
}

/* The section before this line is complete. */
static bool
finish_section(ProfileReader *reader)
{
	const OutboxTopicSpec *spec;
	int					   line = reader->line;
	bool				   good = true;

	if (reader->profile->count == 0)
		return true;
	spec = &reader->profile->topics[reader->profile->count - 1];
	reader->line = spec->line;
	if (spec->partitions == 0 || spec->replication == 0)
		return refuse(reader, "topic \"%s\" has no %s", spec->name,
					  spec->partitions == 0 ? "partitions" : "replication");
	if (atoi(spec->values[OUTBOX_TOPIC_MIN_INSYNC]) > spec->replication)
		return refuse(reader, "topic \"%s\": min.insync.replicas is above replication", spec->name);
	if (spec->dlt)
		good = add_dead_letter_topic(reader);
	if (good)
		reader->line = line;
	return good;
}

static char *
trim_blanks(char *text)
{
	char *end;

	while (isspace((unsigned char) *text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	*end = '\0';
	return text;
}

static bool
read_line(ProfileReader *reader, char *line)
{
	OutboxTopicProfile *profile = reader->profile;
	OutboxTopicSpec	   *spec;
	char			   *value;

	line = trim_blanks(line);
	if (*line == '\0' || *line == '#')
		return true;
	if (*line == '[')
	{
		size_t len = strlen(line);

		if (line[len - 1] != ']')
			return refuse(reader, "\"%s\" is not of the form [topic]", line);
		line[len - 1] = '\0';
		reader->seen = 0;
		return finish_section(reader) &&
			add_topic(reader, &reader->defaults, trim_blanks(line + 1)) != NULL;
	}
	value = strchr(line, '=');
	if (value == NULL)
		return refuse(reader, "neither [topic] nor key = value");
	*value++ = '\0';
	spec = profile->count > 0 ? &profile->topics[profile->count - 1] : &reader->defaults;
	return set_key(reader, spec, trim_blanks(line), trim_blanks(value));
}

bool
outbox_topic_profile_read(OutboxTopicProfile *profile, const char *path, char *error, size_t size)
{
	char		  reason[1024];
	ProfileReader reader = {.profile = profile, .error = reason, .size = sizeof(reason)};
	FILE		 *file = fopen(path, "r");
	char		 *line = NULL;
	size_t		  capacity = 0;
	ssize_t		  len;
	bool		  good = true;

	memset(profile, 0, sizeof(*profile));
	if (file == NULL)
	{
		snprintf(error, size, "cannot read %s: %s", path, strerror(errno));
		return false;
	}
	while (good && (len = getline(&line, &capacity, file)) >= 0)
	{
		reader.line++;
		good = strlen(line) == (size_t) len ?
			read_line(&reader, reader.line == 1 ? (char *) outbox_setting_skip_bom(line) : line) :
			refuse(&reader, "a zero byte");
	}
	if (good && ferror(file))
		good = refuse(&reader, "cannot be read: %s", strerror(errno));
	good = good && finish_section(&reader);
	if (good && profile->count == 0)
		good = refuse(&reader, "no topic is declared");
	if (!good)
	{
		snprintf(error, size, "%s line %d: %s", path, reader.line, reason);
		outbox_topic_profile_free(profile);
	}
	free(line);
	fclose(file);
	return good;
}

void
outbox_topic_profile_free(OutboxTopicProfile *profile)
{
	free(profile->topics);
	memset(profile, 0, sizeof(*profile));
}
