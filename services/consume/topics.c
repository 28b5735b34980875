/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  The setting topics: which topics are read, and which event types of them.
 *
 * Runs in outbox-consume at start, main thread.
 */
#define _GNU_SOURCE
#include "topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/common/setting_text.h"

#define HANDLERS_MAX 64	 /* the runtime reads no more topics than that */
#define TOPIC_MAX	 249 /* Kafka's own limit */

/* Would Kafka take the name?  A pattern, ^..., is no name. */
static bool
is_topic(const char *name)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strlen(name);

	return len > 0 && len <= TOPIC_MAX && strspn(name, letters) == len && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0;
}

/* Is an event of `handler` taken by one of the `count` others already? */
static bool
is_taken(const OutboxHandler *handlers, int count, const OutboxHandler *handler)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(handlers[i].topic, handler->topic) == 0 &&
			(handlers[i].event_type == NULL || handler->event_type == NULL ||
			 strcmp(handlers[i].event_type, handler->event_type) == 0))
			return true;
	}
	return false;
}

/* Cuts text, which the handlers then point into.  Returns their number, or -1 with *error. */
static int
parse_topics(char *text, OutboxHandler *handlers, char *error, size_t size)
{
	int	  count = 0;
	char *part;

	for (int number = 1; (part = strsep(&text, ",")) != NULL; number++)
	{
		char		 *type = strchr(part, ':');
		OutboxHandler handler = {0};

		if (type != NULL)
		{
			*type++ = '\0';
			handler.event_type = outbox_setting_trim(type);
		}
		handler.topic = outbox_setting_trim(part);
		if (!is_topic(handler.topic))
			snprintf(error, size, "entry %d is not the name of a topic", number);
		else if (type != NULL && *handler.event_type == '\0')
			snprintf(error, size, "entry %d has no event type after \":\"", number);
		else if (is_taken(handlers, count, &handler))
			snprintf(error, size, "entry %d names a topic twice for the same events", number);
		else if (count == HANDLERS_MAX)
			snprintf(error, size, "more than %d entries", HANDLERS_MAX);
		else
		{
			handlers[count++] = handler;
			continue;
		}
		return -1;
	}
	return count;
}

bool
consume_check_topics(const char *value, char *error, size_t size)
{
	OutboxHandler handlers[HANDLERS_MAX];
	char		 *text = strdup(value);
	bool		  good;

	if (text == NULL)
		abort(); /* no memory for a setting */
	good = parse_topics(text, handlers, error, size) > 0;
	free(text);
	return good;
}

const OutboxHandler *
consume_make_handlers(const char *topics,
					  OutboxVerdict (*decode)(const OutboxRecord *record, OutboxCall *call))
{
	static OutboxHandler handlers[HANDLERS_MAX + 1]; /* the last one stays empty */
	char				 error[256];
	char				*text = strdup(topics);
	int					 count;

	if (text == NULL)
		abort();
	count = parse_topics(text, handlers, error, sizeof(error));
	for (int i = 0; i < count; i++)
		handlers[i].decode = decode;
	return handlers;
}
