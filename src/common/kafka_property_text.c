/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_property_text.c
 *	  The text in which librdkafka properties are given, one a line.
 *
 * Compiled into server, sender and services.  A message has names, numbers of lines and what is
 * allowed in it, and nothing that may be part of a value: a name that looks like none is not shown.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kafka_property_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "setting_text.h"

#define PEM_BEGIN	   "-----BEGIN"
#define PEM_END		   "-----END"
#define PROPERTIES_MAX 100 /* of one text; more than there are */
#define PORT_MAX	   65535
#define HIDDEN		   "..."

typedef struct Parser
{
	char				 *rest; /* next line; NULL: none */
	int					  line; /* number of the line read last */
	OutboxKafkaSide		  side;
	OutboxKafkaPropertyFn fn;
	void				 *arg;
	const char			 *seen[PROPERTIES_MAX]; /* first names of what was read */
	int					  seen_count;
	char				 *error;
	size_t				  error_size;
} Parser;

static bool
starts_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

void
outbox_kafka_properties_unescape(char *text)
{
	char *end = text;

	for (; *text != '\0'; text++)
	{
		bool line_end = text[0] == '\\' && text[1] == 'n';

		*end++ = line_end ? '\n' : *text;
		text += line_end;
	}
	*end = '\0';
}

const char *
outbox_kafka_servers_flaw(const char *servers)
{
	if (servers[strspn(servers, " \t,")] == '\0')
		return "names no host";
	for (;;)
	{
		const char *host;
		const char *port;
		size_t		len;

		servers += strspn(servers, " \t,");
		if (*servers == '\0')
			return NULL;
		len = strcspn(servers, ",");
		host = memmem(servers, len, "://", 3);
		host = host != NULL ? host + 3 : servers;
		port = memrchr(host, ':', len - (size_t) (host - servers));
		if (strspn(host,
				   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:[] \t") <
			len - (size_t) (host - servers))
			return "is not of the form host:port,host:port";
		if (port != NULL && memchr(port, ']', len - (size_t) (port - servers)) == NULL)
		{
			char *end;
			long  number = strtol(port + 1, &end, 10);

			end += strspn(end, " \t");
			if (port == host || number < 1 || number > PORT_MAX || end != servers + len)
				return "has a port that is no number from 1 to 65535";
		}
		servers += len;
	}
}

void
outbox_kafka_refusal(const char *librdkafka, char *reason, size_t size)
{
	const char *range = strstr(librdkafka, "allowed range ");
	size_t		len;

	if (range != NULL)
	{
		range += strlen("allowed range ");
		len = strspn(range, "0123456789.-");
		while (len > 0 && range[len - 1] == '.')
			len--;
		snprintf(reason, size, "has a value outside the allowed range %.*s", (int) len, range);
	}
	else
		snprintf(reason, size, "has a value that librdkafka does not take");
}

static bool
is_word(char c)
{
	return c == '.' || c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
		(c >= 'a' && c <= 'z');
}

void
outbox_kafka_hide_value(char *text, const char *value)
{
	size_t len = strlen(value);

	if (len < strlen(HIDDEN) || value[strspn(value, "0123456789.-")] == '\0')
		return;
	for (char *begin = text; (text = strstr(text, value)) != NULL;)
	{
		/* "ssl" is not meant by "ssl.key.pem" */
		if ((text > begin && is_word(text[-1])) || is_word(text[len]))
		{
			text += len;
			continue;
		}
		memcpy(text, HIDDEN, strlen(HIDDEN));
		text += strlen(HIDDEN);
		memmove(text, text + len - strlen(HIDDEN), strlen(text + len - strlen(HIDDEN)) + 1);
	}
}

/* The next line without blanks at its ends; NULL: there is none. */
static char *
next_line(Parser *parser)
{
	char *line = parser->rest;
	char *newline;

	if (line == NULL)
		return NULL;
	newline = strchr(line, '\n');
	if (newline != NULL)
		*newline++ = '\0';
	parser->rest = newline;
	parser->line++;
	return outbox_setting_trim(line);
}

/* Has the text a PEM block that is not ended? */
static bool
is_open(const char *pem)
{
	bool open = false;

	for (const char *mark = strstr(pem, "-----"); mark != NULL; mark = strstr(mark + 5, "-----"))
	{
		if (starts_with(mark, PEM_BEGIN))
			open = true;
		else if (starts_with(mark, PEM_END))
			open = false;
	}
	return open;
}

/*
 * Puts the lines of a PEM value, which are behind it in the same memory, together.  false: its end
 * is missing.
 */
static bool
join_pem(Parser *parser, char *value)
{
	char *end;

	outbox_kafka_properties_unescape(value);
	end = value + strlen(value);
	while (parser->rest != NULL)
	{
		char  *line;
		size_t len;

		if (!is_open(value) && !starts_with(parser->rest + strspn(parser->rest, " \t"), PEM_BEGIN))
			break;
		line = next_line(parser);
		len = strlen(line);
		if (end > value)
			*end++ = '\n';
		memmove(end, line, len + 1);
		end += len;
	}
	return !is_open(value);
}

static bool
fail(Parser *parser, int line, const char *name, const char *reason)
{
	if (name != NULL)
		snprintf(parser->error, parser->error_size, "line %d: Kafka property \"%s\" %s", line, name,
				 reason);
	else
		snprintf(parser->error, parser->error_size, "line %d %s", line, reason);
	return false;
}

/* Is the text behind a semicolon another property, as of a list that is separated by them? */
static bool
holds_property(const char *value)
{
	for (const char *semicolon = strchr(value, ';'); semicolon != NULL;
		 semicolon = strchr(semicolon + 1, ';'))
	{
		const char *name = semicolon + 1 + strspn(semicolon + 1, " \t");
		size_t		len = strcspn(name, " \t=;");
		char		copy[64];

		if (name[len + strspn(name + len, " \t")] != '=' || len >= sizeof(copy))
			continue;
		snprintf(copy, sizeof(copy), "%.*s", (int) len, name);
		if (outbox_kafka_property_known(copy))
			return true;
	}
	return false;
}

/* What is wrong with a value, as far as that can be seen without librdkafka; NULL: nothing. */
static const char *
find_flaw(const char *name, const char *value, bool pem)
{
	bool		secret = !outbox_kafka_property_public(name);
	const char *flaw = pem ? NULL : outbox_setting_flaw(value, secret);

	if (flaw != NULL || secret || pem)
		return flaw;
	if (holds_property(value))
		return "has another one behind a \";\": each has a line of its own";
	if (strcmp(outbox_kafka_property_first_name(name), "bootstrap.servers") == 0 &&
		value[0] != '\0')
		flaw = outbox_kafka_servers_flaw(value);
	return flaw != NULL ? flaw : outbox_setting_decorated(value);
}

/* A line without a name and "=". */
static bool
fail_form(Parser *parser, char *line)
{
	char *colon = strchr(line, ':');

	if (starts_with(line, PEM_BEGIN) || starts_with(line, PEM_END))
		return fail(parser, parser->line, NULL,
					"has a PEM block without a property: it begins behind \"ssl.ca.pem=\" or the "
					"like");
	if (colon != NULL)
		*colon = '\0';
	if (colon != NULL && outbox_kafka_property_known(outbox_setting_trim(line)))
		return fail(parser, parser->line, NULL,
					"has \":\" after a property's name, where \"=\" belongs");
	return fail(parser, parser->line, NULL, "has no \"=\": each line is one property, name=value");
}

/* A property that was not there yet. */
static bool
note_name(Parser *parser, int line, const char *name)
{
	const char *first = outbox_kafka_property_first_name(name);

	for (int i = 0; i < parser->seen_count; i++)
	{
		if (strcmp(parser->seen[i], first) == 0)
			return fail(parser, line, name, "is given twice, perhaps under another name of it");
	}
	if (parser->seen_count < PROPERTIES_MAX)
		parser->seen[parser->seen_count++] = first;
	return true;
}

static bool
parse_line(Parser *parser, char *line)
{
	int			number = parser->line;
	char	   *equals = strchr(line, '=');
	bool		pem;
	const char *name;
	const char *flaw;
	char	   *value;
	char		reason[200] = "";

	if (*line == '\0' || *line == '#')
		return true;
	if (equals == NULL || starts_with(line, "-----"))
		return fail_form(parser, line);
	*equals = '\0';
	name = outbox_setting_trim(line);
	/* anything else may be a piece of a value that has come into a line of its own */
	if (!outbox_setting_is_name(name) ||
		(strchr(name, '.') == NULL && !outbox_kafka_property_known(name)))
	{
		flaw = outbox_setting_flaw(name, false);
		return fail(parser, number, NULL,
					flaw != NULL ? flaw : "has no name of a Kafka property before \"=\"");
	}
	if (!outbox_kafka_property_allowed(name, parser->side))
	{
		outbox_kafka_property_refuse(name, parser->side, reason, sizeof(reason));
		return fail(parser, number, name, reason);
	}
	if (!note_name(parser, number, name))
		return false;
	value = outbox_setting_trim(equals + 1);
	pem = strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".pem") == 0;
	if (pem && !join_pem(parser, value))
		return fail(parser, number, name, "has a PEM block without its line -----END");
	flaw = find_flaw(name, value, pem);
	if (flaw != NULL)
		return fail(parser, number, name, flaw);
	if (parser->fn == NULL || parser->fn(name, value, parser->arg, reason, sizeof(reason)))
		return true;
	return fail(parser, number, name, reason[0] != '\0' ? reason : "was not accepted");
}

bool
outbox_kafka_properties_parse(const char *text, OutboxKafkaSide side, OutboxKafkaPropertyFn fn,
							  void *arg, char *error, size_t error_size)
{
	char  *copy = strdup(outbox_setting_skip_bom(text));
	Parser parser = {.rest = copy,
					 .side = side,
					 .fn = fn,
					 .arg = arg,
					 .error = error,
					 .error_size = error_size};
	char  *line;
	size_t len;
	bool   ok = true;

	if (copy == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	len = strlen(copy);
	while (ok && (line = next_line(&parser)) != NULL)
		ok = parse_line(&parser, line);
	explicit_bzero(copy, len);
	free(copy);
	return ok;
}
