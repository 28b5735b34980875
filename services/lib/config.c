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

#include "src/common/setting_text.h"

extern char **environ;

#define ENVIRONMENT_PREFIX "OUTBOX_"

static bool
fail(char *error, size_t size, const char *format, ...)
{
	va_list arguments;

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
		config->initials[config->count] = options->initial;
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

/* Index of the option with that variable; it must be one. */
static int
find_variable(const OutboxConfig *config, const void *variable)
{
	for (size_t i = 0; i < config->count; i++)
	{
		if (config->options[i]->variable == variable)
			return (int) i;
	}
	abort();
}

char *
outbox_config_next_line(char **rest, int *number)
{
	char *line;

	while ((line = strsep(rest, "\n")) != NULL)
	{
		(*number)++;
		line = outbox_setting_trim(line);
		if (*line != '\0' && *line != '#')
			return line;
	}
	return NULL;
}

char *
outbox_config_next_item(char **rest)
{
	int number = 0;

	return outbox_config_next_line(rest, &number);
}

/* Text of each line; what is wrong, to follow "line 2" of a list. */
static bool
check_lines(const char *value, char *reason, size_t size)
{
	char	   *copy = strdup(value);
	char	   *rest = copy;
	const char *flaw = NULL;
	char	   *line;

	for (int number = 1; flaw == NULL && (line = strsep(&rest, "\n")) != NULL; number++)
	{
		flaw = outbox_setting_flaw(outbox_setting_trim(line), true);
		if (flaw != NULL)
			fail(reason, size, "line %d %s", number, flaw);
	}
	free(copy);
	return flaw == NULL;
}

/* The form any text of the option's kind has. */
static bool
check_form(const OutboxOption *option, const char *value, char *reason, size_t size)
{
	bool own_quotes = option->kind == OUTBOX_OPTION_QUOTED || option->kind == OUTBOX_OPTION_LINES;
	const char *flaw = NULL;

	if (option->kind == OUTBOX_OPTION_LINES)
	{
		if (!check_lines(value, reason, size))
			return false;
	}
	else
		flaw = outbox_setting_flaw(value, own_quotes);
	if (flaw == NULL && !own_quotes)
		flaw = outbox_setting_decorated(value);
	if (flaw == NULL && option->initial == NULL && value[0] == '\0')
		flaw = "is empty";
	return flaw == NULL || fail(reason, size, "%s", flaw);
}

/* The place of the word in the option's choices, or -1. */
static int
find_choice(const OutboxOption *option, const char *word)
{
	for (int i = 0; option->choices[i] != NULL; i++)
	{
		if (strcmp(option->choices[i], word) == 0)
			return i;
	}
	return -1;
}

static void
list_choices(const OutboxOption *option, const char *separator, char *text, size_t size)
{
	size_t used = 0;

	for (int i = 0; option->choices[i] != NULL && used < size; i++)
		used += (size_t) snprintf(text + used, size - used, "%s%s", i > 0 ? separator : "",
								  option->choices[i]);
}

static bool
check_choice(const OutboxOption *option, const char *value, char *reason, size_t size)
{
	char words[256];
	bool two = option->choices[2] == NULL;

	if (find_choice(option, value) >= 0)
		return true;
	list_choices(option, two ? " nor " : ", ", words, sizeof(words));
	return fail(reason, size, "%s %s", two ? "neither" : "none of", words);
}

static bool
check_range(const OutboxOption *option, const char *value, char *reason, size_t size)
{
	char  *end;
	double real;
	long   number;

	if (option->kind == OUTBOX_OPTION_NUMBER)
	{
		real = strtod(value, &end);
		if (end != value && *end == '\0' && real >= option->min && real <= option->max)
			return true;
		return fail(reason, size, "not a number from %d to %d", option->min, option->max);
	}
	errno = 0;
	number = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0')
		return fail(reason, size, "not a whole number");
	if (number < option->min || number > option->max)
		return fail(reason, size, "%ld is outside %d .. %d", number, option->min, option->max);
	return true;
}

static bool
check_value(const OutboxOption *option, const char *value, char *reason, size_t size)
{
	bool good = check_form(option, value, reason, size);

	if (good && option->kind == OUTBOX_OPTION_CHOICE)
		good = check_choice(option, value, reason, size);
	if (good && (option->kind == OUTBOX_OPTION_INTEGER || option->kind == OUTBOX_OPTION_NUMBER))
		good = check_range(option, value, reason, size);
	return good && (option->check == NULL || option->check(value, reason, size));
}

/* Into the variable; value was checked and stays. */
static void
store_value(const OutboxOption *option, const char *value)
{
	switch (option->kind)
	{
		case OUTBOX_OPTION_TEXT:
		case OUTBOX_OPTION_QUOTED:
		case OUTBOX_OPTION_LINES:
			*(const char **) option->variable = value;
			break;
		case OUTBOX_OPTION_INTEGER:
			*(int *) option->variable = (int) strtol(value, NULL, 10);
			break;
		case OUTBOX_OPTION_NUMBER:
			*(double *) option->variable = strtod(value, NULL);
			break;
		case OUTBOX_OPTION_CHOICE:
			*(int *) option->variable = find_choice(option, value);
			break;
	}
}

/* line: of the file, or OUTBOX_CONFIG_ENVIRONMENT. */
static bool
set_value(OutboxConfig *config, int index, const char *value, int line, char *error, size_t size)
{
	const OutboxOption *option = config->options[index];
	char				reason[512];

	config->lines[index] = line;
	if (!check_value(option, value, reason, sizeof(reason)))
	{
		outbox_config_blame(config, option->variable, reason, error, size);
		return false;
	}
	free(config->values[index]);
	config->values[index] = strdup(value);
	if (config->values[index] == NULL)
		return fail(error, size, "out of memory");
	store_value(option, config->values[index]);
	return true;
}

void
outbox_config_blame(const OutboxConfig *config, const void *variable, const char *reason,
					char *error, size_t size)
{
	int			index = find_variable(config, variable);
	const char *name = config->options[index]->name;
	int			line = config->lines[index];
	int			item = 1;
	int			used = 0;

	if (line > 0 && sscanf(reason, "line %d%n", &item, &used) == 1)
	{
		/* of the list; in the file it is another one */
		reason += used + strspn(reason + used, ": ");
		line += item - 1;
	}
	if (line > 0)
		snprintf(error, size, "%s line %d: %s: %s", config->path, line, name, reason);
	else if (line == OUTBOX_CONFIG_ENVIRONMENT)
	{
		char upper[64];

		snprintf(upper, sizeof(upper), "%s", name);
		for (char *c = upper; *c != '\0'; c++)
			*c = (char) toupper((unsigned char) *c);
		snprintf(error, size, "environment " ENVIRONMENT_PREFIX "%s: %s", upper, reason);
	}
	else
		snprintf(error, size, "%s: %s", name, reason);
}

void
outbox_config_default(OutboxConfig *config, const void *variable, const char *value)
{
	config->initials[find_variable(config, variable)] = value;
}

/* The file as far as it is read. */
typedef struct ConfigReader
{
	OutboxConfig *config;
	int			  number;				   /* of the line read last */
	bool		  seen[OUTBOX_CONFIG_MAX]; /* options the file has set before */
	int			  index;				   /* of the setting whose value is being read, or -1 */
	int			  first;				   /* its line */
	/* malloc'ed; with a line's end for each line since, so that they can be counted */
	char		 *value;
} ConfigReader;

static bool
fail_line(const ConfigReader *reader, char *error, size_t size, const char *reason)
{
	return fail(error, size, "%s line %d %s", reader->config->path, reader->number, reason);
}

/* Sets the setting whose value has come to an end. */
static bool
end_value(ConfigReader *reader, char *error, size_t size)
{
	bool good = true;

	if (reader->index >= 0)
		good = set_value(reader->config, reader->index, reader->value, reader->first, error, size);
	free(reader->value);
	reader->value = NULL;
	reader->index = -1;
	return good;
}

static bool
go_on(ConfigReader *reader, const char *text)
{
	char *longer;

	if (reader->index < 0 || reader->config->options[reader->index]->kind != OUTBOX_OPTION_LINES)
		return true;
	if (asprintf(&longer, "%s\n%s", reader->value, text) < 0)
		return false;
	free(reader->value);
	reader->value = longer;
	return true;
}

/* A line that is neither empty nor a comment and does not begin with a blank. */
static bool
begin_value(ConfigReader *reader, char *line, char *error, size_t size)
{
	OutboxConfig *config = reader->config;
	char		 *value = strchr(line, '=');
	char		 *colon = strchr(line, ':');
	char		 *name;
	int			  index;

	if (colon != NULL && (value == NULL || colon < value))
	{
		*colon = '\0';
		if (find_option(config, outbox_setting_trim(line)) >= 0)
			return fail_line(reader, error, size,
							 "has \":\" after a setting's name, where \"=\" belongs");
		*colon = ':';
	}
	if (value == NULL)
		return fail_line(reader, error, size, "is not of the form name = value");
	*value++ = '\0';
	name = outbox_setting_trim(line);
	index = find_option(config, name);
	if (index < 0 && !outbox_setting_is_name(name))
		return fail_line(reader, error, size,
						 outbox_setting_flaw(name, false) != NULL ?
							 outbox_setting_flaw(name, false) :
							 "has no setting's name before \"=\" (--help lists them)");
	if (index < 0)
		return fail(error, size, "%s line %d: unknown setting \"%s\" (--help lists them)",
					config->path, reader->number, name);
	if (reader->seen[index])
		return fail(error, size, "%s line %d: setting \"%s\" is given twice%s", config->path,
					reader->number, name,
					config->options[index]->kind == OUTBOX_OPTION_LINES ?
						": a list goes on in lines that begin with a blank" :
						"");
	reader->seen[index] = true;
	reader->index = index;
	reader->first = reader->number;
	reader->value = strdup(outbox_setting_trim(value));
	return reader->value != NULL || fail(error, size, "out of memory");
}

/* One line of the file, of so many bytes. */
static bool
read_line(ConfigReader *reader, char *line, size_t len, char *error, size_t size)
{
	bool indented = *line == ' ' || *line == '\t';

	if (strncmp(line, "\xFF\xFE", 2) == 0 || strncmp(line, "\xFE\xFF", 2) == 0)
		return fail_line(reader, error, size, "is UTF-16: save the file as UTF-8");
	if (strlen(line) != len)
		return fail_line(reader, error, size, "has a zero byte");
	line = outbox_setting_trim(line);
	if (*line == '\0' || *line == '#')
		return go_on(reader, "") || fail(error, size, "out of memory");
	if (outbox_setting_flaw(line, true) != NULL)
		return fail_line(reader, error, size, outbox_setting_flaw(line, true));
	if (!indented)
		return end_value(reader, error, size) && begin_value(reader, line, error, size);
	if (reader->index < 0)
		return fail_line(reader, error, size,
						 "begins with a blank: only a line that goes on with a list does");
	if (reader->config->options[reader->index]->kind == OUTBOX_OPTION_LINES)
		return go_on(reader, line) || fail(error, size, "out of memory");
	return fail(error, size,
				"%s line %d begins with a blank, but \"%s\" before it is no list: a setting begins "
				"with its name",
				reader->config->path, reader->number, reader->config->options[reader->index]->name);
}

bool
outbox_config_read_file(OutboxConfig *config, const char *path, char *error, size_t size)
{
	FILE		*file = fopen(path, "r");
	ConfigReader reader = {.config = config, .index = -1};
	char		*line = NULL;
	size_t		 capacity = 0;
	ssize_t		 len;
	bool		 good = true;

	config->path = path;
	if (file == NULL)
		return fail(error, size, "cannot read %s: %s", path, strerror(errno));
	while (good && (len = getline(&line, &capacity, file)) >= 0)
	{
		char *text = ++reader.number == 1 ? (char *) outbox_setting_skip_bom(line) : line;

		good = read_line(&reader, text, (size_t) (len - (text - line)), error, size);
	}
	if (good && ferror(file))
		good = fail(error, size, "cannot read %s: %s", path, strerror(errno));
	good = good && end_value(&reader, error, size);
	free(reader.value);
	free(line);
	fclose(file);
	return good;
}

/*
 * Is it what Kubernetes puts into each pod for a Service named outbox...: the name, without the
 * prefix, ends in service_host, service_port[_name], port (a URL),
 * port_8180_tcp[_addr|_port|_proto]?
 */
static bool
is_service_link(const char *name, const char *value)
{
	size_t len = strlen(name);
	bool   url = strstr(value, "://") != NULL;

	if ((len >= 12 && strcmp(name + len - 12, "service_host") == 0) ||
		strstr(name, "service_port") != NULL)
		return true;
	for (const char *port = strstr(name, "port"); port != NULL; port = strstr(port + 1, "port"))
	{
		if ((url && port[4] == '\0') ||
			(strncmp(port, "port_", 5) == 0 && isdigit((unsigned char) port[5])))
			return true;
	}
	return false;
}

bool
outbox_config_read_environment(OutboxConfig *config, char *error, size_t size)
{
	size_t prefix_len = strlen(ENVIRONMENT_PREFIX);

	for (char **entry = environ; *entry != NULL; entry++)
	{
		char		name[256];
		const char *value = strchr(*entry, '=');
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
		if (!set_value(config, index, value + 1, OUTBOX_CONFIG_ENVIRONMENT, error, size))
			return false;
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
		if (config->initials[i] == NULL)
			return fail(error, size, "setting \"%s\" is missing", config->options[i]->name);
		if (!set_value(config, (int) i, config->initials[i], 0, error, size))
			return false;
	}
	return true;
}

void
outbox_config_help(const OutboxConfig *config)
{
	for (size_t i = 0; i < config->count; i++)
	{
		const OutboxOption *option = config->options[i];
		char				words[256];

		printf("  %-22s %s", option->name, option->text);
		if (option->kind == OUTBOX_OPTION_INTEGER || option->kind == OUTBOX_OPTION_NUMBER)
			printf(" (%d .. %d)", option->min, option->max);
		if (option->kind == OUTBOX_OPTION_CHOICE)
		{
			list_choices(option, ", ", words, sizeof(words));
			printf(" (%s)", words);
		}
		if (config->initials[i] == NULL)
			printf("; required\n");
		else
			printf("; default \"%s\"\n", config->initials[i]);
	}
}

void
outbox_config_free(OutboxConfig *config)
{
	for (size_t i = 0; i < config->count; i++)
		free(config->values[i]);
	config->count = 0;
}
