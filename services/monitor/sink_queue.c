/* SPDX-License-Identifier: PostgreSQL
 *
 * sink_queue.c
 *	  The lines of alerts that wait for a sink.
 *
 * Runs in outbox-monitor, any thread, under the sinks' lock; and in the unit tests.
 */
#define _GNU_SOURCE
#include "sink_queue.h"

#include <stdlib.h>
#include <string.h>

#include "services/lib/backoff.h"

#define RETRY_FIRST_MS 1000
#define RETRY_MOST_MS  60000

static OutboxSinkLine *
find_line(const OutboxSinkQueue *queue, const char *key)
{
	for (size_t i = 0; i < queue->line_count; i++)
	{
		if (strcmp(queue->lines[i]->key, key) == 0)
			return queue->lines[i];
	}
	return NULL;
}

static void
free_line(OutboxSinkLine *line)
{
	for (size_t i = 0; i < line->count; i++)
		json_decref(line->changes[i].alert);
	free(line->key);
	free(line);
}

static void
drop_line(OutboxSinkQueue *queue, OutboxSinkLine *line)
{
	for (size_t i = 0; i < queue->line_count; i++)
	{
		if (queue->lines[i] == line)
			queue->lines[i] = queue->lines[--queue->line_count];
	}
	free_line(line);
}

/* Takes changes out of a line, from the place on. */
static void
remove_changes(OutboxSinkQueue *queue, OutboxSinkLine *line, size_t place, size_t count)
{
	for (size_t i = 0; i < count; i++)
		json_decref(line->changes[place + i].alert);
	memmove(&line->changes[place], &line->changes[place + count],
			(line->count - place - count) * sizeof(OutboxSinkChange));
	line->count -= count;
	queue->count -= count;
}

/* Makes room for one change of any alert: the oldest that is not being sent is lost. */
static size_t
lose_oldest(OutboxSinkQueue *queue)
{
	OutboxSinkLine *oldest = NULL;
	size_t			place = 0;

	for (size_t i = 0; i < queue->line_count; i++)
	{
		OutboxSinkLine *line = queue->lines[i];
		size_t			first = line->under_way ? 1 : 0;

		if (first < line->count &&
			(oldest == NULL || line->changes[first].order < oldest->changes[place].order))
		{
			oldest = line;
			place = first;
		}
	}
	if (oldest == NULL)
		return 0;
	remove_changes(queue, oldest, place, 1);
	if (oldest->count == 0)
		drop_line(queue, oldest);
	return 1;
}

static OutboxSinkLine *
make_line(OutboxSinkQueue *queue, const char *key)
{
	OutboxSinkLine *line = calloc(1, sizeof(OutboxSinkLine));

	if (line == NULL || (line->key = strdup(key)) == NULL)
		abort();
	queue->lines[queue->line_count++] = line;
	return line;
}

size_t
outbox_sink_queue_add(OutboxSinkQueue *queue, const char *action, const json_t *alert)
{
	const char	   *key = json_string_value(json_object_get(alert, "key"));
	OutboxSinkLine *line;
	size_t			lost = 0;

	if (queue->count == OUTBOX_QUEUE_MAX)
		lost += lose_oldest(queue);
	line = find_line(queue, key);
	if (line == NULL)
		line = make_line(queue, key);
	if (line->count == OUTBOX_LINE_MAX)
	{
		remove_changes(queue, line, line->under_way ? 1 : 0, 2);
		lost += 2;
	}
	line->changes[line->count++] =
		(OutboxSinkChange) {.action = strcmp(action, "trigger") == 0 ? "trigger" : "resolve",
							.alert = json_deep_copy(alert),
							.order = ++queue->order};
	queue->count++;
	if (queue->repeat != NULL && !queue->repeat_under_way)
		json_object_del(queue->repeat, key);
	return lost;
}

OutboxSinkLine *
outbox_sink_queue_next(OutboxSinkQueue *queue, int64_t now_ms, bool retries)
{
	OutboxSinkLine *fresh = NULL;
	OutboxSinkLine *failed = NULL;

	for (size_t i = 0; i < queue->line_count; i++)
	{
		OutboxSinkLine *line = queue->lines[i];

		if (line->under_way || (line->failures > 0 && line->due_ms > now_ms) ||
			(queue->repeat != NULL && json_object_get(queue->repeat, line->key) != NULL))
			continue;
		if (line->failures == 0 &&
			(fresh == NULL || line->changes[0].order < fresh->changes[0].order))
			fresh = line;
		if (line->failures > 0 && (failed == NULL || line->due_ms < failed->due_ms))
			failed = line;
	}
	return fresh != NULL ? fresh : retries ? failed : NULL;
}

int64_t
outbox_sink_queue_wait(const OutboxSinkQueue *queue, int64_t now_ms, int64_t longest)
{
	int64_t wait = longest;

	for (size_t i = 0; i < queue->line_count; i++)
	{
		const OutboxSinkLine *line = queue->lines[i];

		if (!line->under_way && line->failures > 0 && line->due_ms > now_ms &&
			line->due_ms - now_ms < wait)
			wait = line->due_ms - now_ms;
	}
	return wait;
}

void
outbox_sink_queue_sent(OutboxSinkQueue *queue, OutboxSinkLine *line, bool done, int64_t now_ms)
{
	line->under_way = false;
	if (!done)
	{
		line->due_ms =
			now_ms + outbox_backoff_grow(RETRY_FIRST_MS, 2, RETRY_MOST_MS, ++line->failures);
		return;
	}
	line->failures = 0;
	remove_changes(queue, line, 0, 1);
	if (line->count == 0)
		drop_line(queue, line);
}

void
outbox_sink_queue_repeat(OutboxSinkQueue *queue, json_t *alerts)
{
	json_t	   *alert;
	const char *key;

	if (queue->repeat != NULL)
		return;
	queue->repeat = json_object();
	json_object_foreach(alerts, key, alert)
	{
		if (find_line(queue, key) == NULL)
			json_object_set_new(queue->repeat, key, json_deep_copy(alert));
	}
	if (json_object_size(queue->repeat) == 0)
		outbox_sink_queue_repeated(queue);
}

void
outbox_sink_queue_repeated(OutboxSinkQueue *queue)
{
	json_decref(queue->repeat);
	queue->repeat = NULL;
	queue->repeat_under_way = false;
}

static int
compare_changes(const void *a, const void *b)
{
	const OutboxSinkChange *one = *(const OutboxSinkChange *const *) a;
	const OutboxSinkChange *two = *(const OutboxSinkChange *const *) b;

	return (one->order > two->order) - (one->order < two->order);
}

json_t *
outbox_sink_queue_dump(const OutboxSinkQueue *queue)
{
	const OutboxSinkChange **changes = calloc(queue->count + 1, sizeof(*changes));
	json_t					*list = json_array();
	size_t					 found = 0;

	if (changes == NULL)
		abort();
	for (size_t i = 0; i < queue->line_count; i++)
	{
		for (size_t j = 0; j < queue->lines[i]->count; j++)
			changes[found++] = &queue->lines[i]->changes[j];
	}
	qsort(changes, found, sizeof(*changes), compare_changes);
	for (size_t i = 0; i < found; i++)
		json_array_append_new(list,
							  json_pack("{s:s, s:o}", "action", changes[i]->action, "alert",
										json_deep_copy(changes[i]->alert)));
	free(changes);
	return list;
}

void
outbox_sink_queue_free(OutboxSinkQueue *queue)
{
	for (size_t i = 0; i < queue->line_count; i++)
		free_line(queue->lines[i]);
	json_decref(queue->repeat);
	memset(queue, 0, sizeof(*queue));
}
