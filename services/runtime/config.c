/* SPDX-License-Identifier: PostgreSQL
 *
 * config.c
 *	  Reads settings from file and environment; refuses what it does not know.
 *
 * Runs in the services at start, main thread.
 */
#define _GNU_SOURCE
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

#define ENVIRONMENT_PREFIX	"OUTBOX_"

static bool
fail(char *error, size_t size, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	return false;
}

void
outbox_config_add(OutboxConfig *config, const OutboxOption *options)
{
	for (; options != NULL && options->name != NULL; options++)
	{
		if (config->count == OUTBOX_CONFIG_MAX)
			abort();
		config->options[config->count++] = options;
	}
}

/* Index of the option, or -1. */
static int
find_option(const OutboxConfig *config, const char *name)
{
	for (size_t i = 0; i < config->count; i++)
	{
		if (strcmp(config->options[i]->name, name) == 0)
			return (int) i;
	}
	return -1;
}

static bool
check_value(const OutboxOption *option, const char *value, char *error, size_t size)
{
	char		reason[256];
	char	   *end;
	long		number;

	if (option->type == OUTBOX_OPTION_INTEGER)
	{
		errno = 0;
		number = strtol(value, &end, 10);
		if (errno != 0 || end == value || *end != '\0')
			return fail(error, size, "%s: \"%s\" is not a whole number", option->name, value);
		if (number < option->min || number > option->max)
			return fail(error, size, "%s: %ld is outside %ld .. %ld", option->name, number,
						option->min, option->max);
	}
	if (option->check != NULL && !option->check(value, reason, sizeof(reason)))
		return fail(error, size, "%s: %s", option->name, reason);
	return true;
}

static bool
set_value(OutboxConfig *config, int index, const char *value, char *error, size_t size)
{
	if (!check_value(config->options[index], value, error, size))
		return false;
	free(config->values[index]);
	config->values[index] = strdup(value);
	if (config->values[index] == NULL)
		return fail(error, size, "out of memory");
	return true;
}

void
outbox_config_default(OutboxConfig *config, const char *name, const char *value)
{
	int			index = find_option(config, name);

	if (index < 0 || config->values[index] != NULL)
		abort();
	config->values[index] = strdup(value);
}

static char *
trim_blanks(char *text)
{
	char	   *end;

	while (isspace((unsigned char) *text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	*end = '\0';
	return text;
}

/* One line of the file.  seen: which options the file has set before. */
static bool
read_line(OutboxConfig *config, char *line, bool *seen, char *error, size_t size)
{
	char	   *name = trim_blanks(line);
	char	   *value = strchr(name, '=');
	int			index;

	if (*name == '\0' || *name == '#')
		return true;
	if (value == NULL)
		return fail(error, size, "\"%s\" is not of the form name = value", name);
	*value++ = '\0';
	name = trim_blanks(name);
	index = find_option(config, name);
	if (index < 0)
		return fail(error, size, "unknown setting \"%s\" (--help lists them)", name);
	if (seen[index])
		return fail(error, size, "setting \"%s\" is given twice", name);
	seen[index] = true;
	return set_value(config, index, trim_blanks(value), error, size);
}

bool
outbox_config_read_file(OutboxConfig *config, const char *path, char *error, size_t size)
{
	FILE	   *file = fopen(path, "r");
	char	   *line = NULL;
	size_t		capacity = 0;
	bool		seen[OUTBOX_CONFIG_MAX] = {false};
	char		reason[512];
	bool		good = true;

	if (file == NULL)
		return fail(error, size, "cannot read %s: %s", path, strerror(errno));
	for (int number = 1; good && getline(&line, &capacity, file) >= 0; number++)
	{
		good = read_line(config, line, seen, reason, sizeof(reason));
		if (!good)
			fail(error, size, "%s line %d: %s", path, number, reason);
	}
	if (good && ferror(file))
		good = fail(error, size, "cannot read %s: %s", path, strerror(errno));
	free(line);
	fclose(file);
	return good;
}

/*
 * Is it what Kubernetes puts into each pod for a Service named outbox...: the name, without the
 * prefix, ends in service_host, service_port[_name], port (a URL), port_8180_tcp[_addr|_port|_proto]?
 */
static bool
is_service_link(const char *name, const char *value)
{
	size_t		len = strlen(name);
	bool		url = strstr(value, "://") != NULL;

	if ((len >= 12 && strcmp(name + len - 12, "service_host") == 0) || strstr(name, "service_port") != NULL)
		return true;
	for (const char *port = strstr(name, "port"); port != NULL; port = strstr(port + 1, "port"))
	{
		if ((url && port[4] == '\0') || (strncmp(port, "port_", 5) == 0 && isdigit((unsigned char) port[5])))
			return true;
	}
	return false;
}

bool
outbox_config_read_environment(OutboxConfig *config, char *error, size_t size)
{
	size_t		prefix_len = strlen(ENVIRONMENT_PREFIX);

	for (char **entry = environ; *entry != NULL; entry++)
	{
		char		name[256];
		const char *value = strchr(*entry, '=');
		char		reason[512];
		size_t		len;
		int			index;

		if (strncmp(*entry, ENVIRONMENT_PREFIX, prefix_len) != 0 || value == NULL)
			continue;
		len = (size_t) (value - *entry) - prefix_len;
		if (len >= sizeof(name))
			return fail(error, size, "unknown setting in the environment: %.*s",
						(int) (value - *entry), *entry);
		for (size_t i = 0; i < len; i++)
			name[i] = (char) tolower((unsigned char) (*entry)[prefix_len + i]);
		name[len] = '\0';
		index = find_option(config, name);
		if (index < 0 && is_service_link(name, value + 1))
			continue;
		if (index < 0)
			return fail(error, size, "unknown setting in the environment: %.*s (--help lists them)",
						(int) (value - *entry), *entry);
		if (!set_value(config, index, value + 1, reason, sizeof(reason)))
			return fail(error, size, "environment %.*s: %s", (int) (value - *entry), *entry, reason);
	}
	return true;
}

bool
outbox_config_finish(OutboxConfig *config, char *error, size_t size)
{
	for (size_t i = 0; i < config->count; i++)
	{
		if (config->values[i] != NULL)
			continue;
		if (config->options[i]->initial == NULL)
			return fail(error, size, "setting \"%s\" is missing", config->options[i]->name);
		if (!set_value(config, (int) i, config->options[i]->initial, error, size))
			return false;
	}
	return true;
}

const char *
outbox_config_text(const OutboxConfig *config, const char *name)
{
	int			index = find_option(config, name);

	if (index < 0)
		abort();
	return config->values[index];
}

long
outbox_config_integer(const OutboxConfig *config, const char *name)
{
	return strtol(outbox_config_text(config, name), NULL, 10);
}

void
outbox_config_help(const OutboxConfig *config)
{
	for (size_t i = 0; i < config->count; i++)
	{
		const OutboxOption *option = config->options[i];
		const char *initial = config->values[i] != NULL ? config->values[i] : option->initial;

		printf("  %-22s %s", option->name, option->text);
		if (option->type == OUTBOX_OPTION_INTEGER)
			printf(" (%ld .. %ld)", option->min, option->max);
		if (initial == NULL)
			printf("; required\n");
		else
			printf("; default \"%s\"\n", initial);
	}
}

void
outbox_config_free(OutboxConfig *config)
{
	for (size_t i = 0; i < config->count; i++)
		free(config->values[i]);
	config->count = 0;
}
