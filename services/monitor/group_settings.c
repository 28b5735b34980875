/* SPDX-License-Identifier: PostgreSQL
 *
 * group_settings.c
 *	  The settings that name consumer groups, each a list of lines with patterns.
 *
 * Runs in outbox-monitor, main thread and poller thread; pure but for memory.
 */
#define _GNU_SOURCE
#include "group_settings.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/config.h"
#include "src/common/setting_text.h"

bool
outbox_group_check_patterns(const char *value, char *error, size_t size)
{
	char	   *copy = strdup(value);
	char	   *rest = copy;
	char	   *line;
	const char *flaw = NULL;
	int			number = 0;

	if (copy == NULL)
		abort();
	while (flaw == NULL && (line = outbox_config_next_line(&rest, &number)) != NULL)
	{
		flaw = strchr(line, ';') != NULL ? "has \";\" in it: each pattern has a line of its own, "
										   "and ? stands for a group's \";\"" :
										   outbox_setting_decorated(line);
		if (flaw != NULL)
			snprintf(error, size, "line %d %s", number, flaw);
	}
	free(copy);
	return flaw == NULL;
}

/* Is there another threshold before the last one, as in "a=1;b=2"? */
static bool
holds_threshold(const char *line)
{
	for (const char *equals = strchr(line, '='); equals != NULL; equals = strchr(equals + 1, '='))
	{
		const char *end = equals + 1 + strspn(equals + 1, " 0123456789");

		if (*end == ';')
			return true;
	}
	return false;
}

bool
outbox_group_check_thresholds(const char *value, char *error, size_t size)
{
	char *copy = strdup(value);
	char *rest = copy;
	char *line;
	int	  number_of_line = 0;
	bool  good = copy != NULL;

	while (good && (line = outbox_config_next_line(&rest, &number_of_line)) != NULL)
	{
		char *number = strrchr(line, '=');
		char *end = NULL;
		long  seconds = number != NULL ? strtol(number + 1, &end, 10) : 0;

		good = seconds >= 1 && seconds <= OUTBOX_GROUP_THRESHOLD_MAX_S && *end == '\0';
		if (good && holds_threshold(line))
		{
			good = false;
			snprintf(error, size,
					 "line %d has another threshold behind a \";\": each has a line of its own",
					 number_of_line);
		}
		else if (!good)
			snprintf(error, size, "line %d: not of the form group=seconds, with 1 to %d seconds",
					 number_of_line, OUTBOX_GROUP_THRESHOLD_MAX_S);
	}
	free(copy);
	return good;
}

/*
 * The first line of a list whose pattern the group matches, as a pointer to what follows the
 * pattern: the line's end, or the last separator in it ('\0': none); NULL: no line.
 */
static const char *
find_pattern(const char *list, const char *group, char separator)
{
	while (*list != '\0')
	{
		size_t		len = strcspn(list, "\n");
		const char *end = separator != '\0' ? memrchr(list, separator, len) : list + len;
		char		line[256];
		char	   *pattern;

		snprintf(line, sizeof(line), "%.*s", end != NULL ? (int) (end - list) : 0, list);
		pattern = outbox_setting_trim(line);
		if (*pattern != '\0' && *pattern != '#' && fnmatch(pattern, group, 0) == 0)
			return end;
		list += len + (list[len] == '\n');
	}
	return NULL;
}

bool
outbox_group_is_listed(const char *patterns, const char *group)
{
	return find_pattern(patterns, group, '\0') != NULL;
}

double
outbox_group_threshold(const char *thresholds, const char *group, double otherwise)
{
	const char *found = find_pattern(thresholds, group, '=');

	return found != NULL ? (double) strtol(found + 1, NULL, 10) : otherwise;
}
