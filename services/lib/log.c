/* SPDX-License-Identifier: PostgreSQL
 *
 * log.c
 *	  JSON lines for standard error (log_writer.c writes them).
 *
 * Runs in the services, any thread.
 */
#include "log.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_writer.h"
#include "text.h"
#include "wall_time.h"

const char *const outbox_log_level_names[] = {"debug", "info", "warning", "error", NULL};

/* written before the threads start */
static const char	 *service_name = "outbox";
static OutboxLogLevel log_threshold = OUTBOX_LOG_INFO;

void
outbox_log_setup(const char *service, OutboxLogLevel threshold)
{
	service_name = service;
	log_threshold = threshold;
}

json_t *
outbox_log_text(const char *text)
{
	json_t *value = json_string(text);
	char   *copy;

	if (value != NULL)
		return value;
	copy = strdup(text);
	if (copy == NULL)
		return json_null();
	outbox_text_mend(copy, SIZE_MAX);
	value = json_string(copy);
	free(copy);
	return value;
}

static json_t *
make_timestamp(void)
{
	char text[OUTBOX_TIME_TEXT];

	outbox_format_time(outbox_wall_ms(), text);
	return json_string(text);
}

/* What every line begins with. */
static json_t *
begin_line(OutboxLogLevel level, const char *event)
{
	json_t *line = json_object();

	json_object_set_new(line, "ts", make_timestamp());
	json_object_set_new(line, "level", json_string(outbox_log_level_names[level]));
	json_object_set_new(line, "service", outbox_log_text(service_name));
	json_object_set_new(line, "event", json_string(event));
	return line;
}

/* The line as text with its newline, malloc'ed; NULL when memory is short.  Frees line. */
static char *
end_line(json_t *line)
{
	char  *text = json_dumps(line, JSON_COMPACT);
	size_t len;

	json_decref(line);
	if (text == NULL)
		return NULL;
	len = strlen(text);
	text = realloc(text, len + 2);
	if (text != NULL)
		memcpy(text + len, "\n", 2);
	return text;
}

static char *
make_lost_line(unsigned long lost)
{
	json_t *line = begin_line(OUTBOX_LOG_WARNING, "log_lines_lost");

	json_object_set_new(line, "msg",
						json_sprintf("%lu lines are lost here: the log was not read, or could not "
									 "be written",
									 lost));
	return end_line(line);
}

void
outbox_log_start(void)
{
	outbox_log_writer_start(make_lost_line);
	atexit(outbox_log_writer_stop);
}

void
outbox_log_stop(void)
{
	outbox_log_writer_stop();
}

bool
outbox_log_wants(OutboxLogLevel level)
{
	return level >= log_threshold;
}

void
outbox_log_fields(OutboxLogLevel level, const char *event, json_t *fields, const char *format,
				  va_list arguments)
{
	json_t *line;
	char   *text;
	char	message[2048];

	if (outbox_log_wants(level))
	{
		vsnprintf(message, sizeof(message), format, arguments);
		outbox_text_mend(message, sizeof(message));
		line = begin_line(level, event);
		if (fields != NULL)
			json_object_update(line, fields);
		json_object_set_new(line, "msg", json_string(message));
		text = end_line(line);
		if (text != NULL)
			outbox_log_write(text, strlen(text));
	}
	json_decref(fields);
}

void
outbox_log(OutboxLogLevel level, const char *event, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	outbox_log_fields(level, event, NULL, format, arguments);
	va_end(arguments);
}
