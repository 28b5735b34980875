/* SPDX-License-Identifier: PostgreSQL
 *
 * conninfo.c
 *	  Connection strings of libpq, judged before anything connects.
 *
 * Runs in the services and the monitor at start, main thread.  libpq's own messages repeat
 * what is wrong, which may be a password: they are read here and never shown.
 */
#define _GNU_SOURCE
#include "conninfo.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/common/setting_text.h"

#define WORD_MAX	40
#define TYPO_MAX	2 /* letters by which a mistyped option differs */
#define PORT_MAX	65535
#define OPTIONS_MAX 100 /* more than libpq has */
#define BLANKS		" \t\n\v\f\r"
#define NO_SERVER	"/outbox/no-server" /* a directory without sockets */

static bool
fail(char *error, size_t size, const char *reason)
{
	snprintf(error, size, "%s", reason);
	return false;
}

static size_t
least(size_t one, size_t two)
{
	return one < two ? one : two;
}

/* By how many letters two words differ (Levenshtein); WORD_MAX: a word is longer. */
static size_t
count_typos(const char *one, const char *two)
{
	size_t row[WORD_MAX + 1];
	size_t len = strlen(two);

	if (len > WORD_MAX || strlen(one) > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 1; one[i - 1] != '\0'; i++)
	{
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++)
		{
			size_t above = row[j];

			row[j] = least(least(row[j - 1], above) + 1, corner + (one[i - 1] != two[j - 1]));
			corner = above;
		}
	}
	return row[len];
}

/* The option that is meant by the word between the last two quotes of libpq's message. */
static void
explain_option(const char *message, char *error, size_t size)
{
	PQconninfoOption *options = PQconndefaults();
	const char		 *end = strrchr(message, '"');
	const char		 *begin = end != NULL ? memrchr(message, '"', (size_t) (end - message)) : NULL;
	const char		 *meant = NULL;
	char			  word[WORD_MAX + 2] = "";
	size_t			  typos = TYPO_MAX + 1;

	if (begin != NULL && end - begin <= WORD_MAX)
		memcpy(word, begin + 1, (size_t) (end - begin - 1));
	for (PQconninfoOption *option = options;
		 option != NULL && option->keyword != NULL && word[0] != '\0'; option++)
	{
		if (count_typos(word, option->keyword) >= typos)
			continue;
		typos = count_typos(word, option->keyword);
		meant = option->keyword;
	}
	snprintf(error, size, "has an option that libpq does not know%s%s%s",
			 meant != NULL ? ": is \"" : "", meant != NULL ? meant : "",
			 meant != NULL ? "\" meant?" : "");
	PQconninfoFree(options);
}

/* Why libpq cannot read the string, by its own message. */
static void
explain_form(const char *message, char *error, size_t size)
{
	if (strstr(message, "invalid connection option") != NULL ||
		strstr(message, "URI query parameter: ") != NULL)
		explain_option(message, error, size);
	else if (strncmp(message, "missing \"=\"", 11) == 0)
		fail(error, size,
			 "is not of the form option=value option=value: a value with a blank stands between "
			 "single quotes, a comment has a line of its own");
	else if (strncmp(message, "unterminated quoted", 19) == 0)
		fail(error, size, "has a quote that is not closed");
	else
		fail(error, size, "is no connection string that libpq takes");
}

static bool
is_one_of(const char *word, const char *const *words)
{
	while (*words != NULL && strcmp(word, *words) != 0)
		words++;
	return *words != NULL;
}

/* Numbers from least_value on, separated by commas; a place may be empty. */
static bool
are_numbers(const char *value, long least_value, long most)
{
	for (;;)
	{
		char *end;
		long  number;

		errno = 0;
		number = strtol(value, &end, 10);
		if (end != value && (errno != 0 || number < least_value || number > most))
			return false;
		if (*end == '\0')
			return true;
		if (*end != ',')
			return false;
		value = end + 1;
	}
}

/*
 * Ends the value with ";", or is another option behind one, as in a list that is separated by them?
 */
static bool
goes_on_behind_semicolon(const char *value)
{
	for (const char *semicolon = strchr(value, ';'); semicolon != NULL;
		 semicolon = strchr(semicolon + 1, ';'))
	{
		const char *next = semicolon + 1 + strspn(semicolon + 1, BLANKS);
		size_t		len = strspn(next, "abcdefghijklmnopqrstuvwxyz_");

		if (*next == '\0' || (len > 0 && next[len] == '='))
			return true;
	}
	return false;
}

/* Does a host of the list hold "@"?  A name that begins with one is a socket's. */
static bool
holds_user(const char *hosts)
{
	for (const char *at = strchr(hosts, '@'); at != NULL; at = strchr(at + 1, '@'))
	{
		if (at > hosts && at[-1] != ',')
			return true;
	}
	return false;
}

/* What one option's value has wrong, to follow its name; NULL: nothing seen. */
static const char *
find_flaw(const char *keyword, const char *value)
{
	static const char *const numbers[] = {"connect_timeout",
										  "keepalives",
										  "keepalives_idle",
										  "keepalives_interval",
										  "keepalives_count",
										  "tcp_user_timeout",
										  NULL};
	static const char *const secrets[] = {"password", "sslpassword", NULL};
	static const char *const files[] = {"passfile",	   "sslcert", "sslkey",
										"sslrootcert", "sslcrl",  NULL};

	if (strcmp(keyword, "port") == 0 && !are_numbers(value, 1, PORT_MAX))
		return "is no number from 1 to 65535";
	if (is_one_of(keyword, numbers) &&
		(strchr(value, ',') != NULL || !are_numbers(value, -1, INT32_MAX)))
		return "is not a whole number";
	if (is_one_of(keyword, files) && value[0] != '\0' && strcmp(value, "system") != 0 &&
		(strcmp(keyword, "sslkey") != 0 || strchr(value, ':') == NULL) && access(value, R_OK) != 0)
		return errno == ENOENT ? "names a file that is not there" :
								 "names a file that cannot be read";
	if (is_one_of(keyword, secrets))
		return NULL;
	if (strcmp(keyword, "options") != 0 && goes_on_behind_semicolon(value))
		return "has \";\" behind it: nothing ends with one, and in a list each connection string "
			   "has a line of its own";
	if ((strcmp(keyword, "host") == 0 && holds_user(value)) ||
		(strcmp(keyword, "dbname") == 0 && strstr(value, "://") != NULL))
		return "has part of a URI in it: either all is one, "
			   "postgresql://user:password@host/dbname, or nothing";
	return outbox_setting_flaw(value, false);
}

/* The option whose name libpq's message has first; NULL: none. */
static const char *
find_named(const PQconninfoOption *options, const char *message)
{
	const char *first = NULL;
	const char *keyword = NULL;

	for (; options->keyword != NULL; options++)
	{
		const char *place = options->val != NULL ? strstr(message, options->keyword) : NULL;

		if (place == NULL || (first != NULL && place >= first))
			continue;
		first = place;
		keyword = options->keyword;
	}
	return keyword;
}

/* As many places without a server as there are hosts; the caller's to free. */
static char *
make_hosts(const PQconninfoOption *options)
{
	char	   *hosts = strdup(NO_SERVER);
	const char *given = "";

	for (; options->keyword != NULL; options++)
	{
		if (options->val != NULL && options->val[0] != '\0' &&
			(strcmp(options->keyword, "hostaddr") == 0 ||
			 (strcmp(options->keyword, "host") == 0 && given[0] == '\0')))
			given = options->val;
	}
	for (const char *comma = strchr(given, ','); comma != NULL && hosts != NULL;
		 comma = strchr(comma + 1, ','))
	{
		char *longer;

		if (asprintf(&longer, "%s," NO_SERVER, hosts) < 0)
			longer = NULL;
		free(hosts);
		hosts = longer;
	}
	return hosts;
}

/*
 * Has libpq judge the values (sslmode, target_session_attrs, service ...) as it does before it
 * connects, to a place where no server is.
 */
static bool
try_values(const char *conninfo, const PQconninfoOption *options, char *error, size_t size)
{
	char	   *hosts = make_hosts(options);
	const char *keywords[] = {"dbname", "host", "hostaddr", NULL};
	const char *values[] = {conninfo, hosts, "", NULL};
	PGconn	   *conn = hosts != NULL ? PQconnectStartParams(keywords, values, 1) : NULL;
	const char *message = conn != NULL ? PQerrorMessage(conn) : "";
	bool		good = PQstatus(conn) != CONNECTION_BAD || strstr(message, NO_SERVER) != NULL;
	const char *keyword = good ? NULL : find_named(options, message);

	if (!good)
		snprintf(error, size, "%s%s has a value that libpq does not take",
				 keyword != NULL ? "option " : "an option", keyword != NULL ? keyword : "");
	PQfinish(conn);
	free(hosts);
	return good;
}

/* Behind "= value" of libpq's form option=value, which it has taken. */
static const char *
skip_value(const char *text)
{
	bool quoted;

	text += strspn(text, BLANKS "=");
	quoted = *text == '\'';
	text += quoted;
	while (*text != '\0' && strchr(quoted ? "'" : BLANKS, *text) == NULL)
		text += text[0] == '\\' && text[1] != '\0' ? 2 : 1;
	return text + (*text != '\0');
}

/* The option that the string, no URI, has twice; NULL: none.  libpq takes the last one. */
static const char *
find_twice(const char *conninfo, const PQconninfoOption *options)
{
	bool seen[OPTIONS_MAX] = {false};

	for (conninfo += strspn(conninfo, BLANKS); *conninfo != '\0';
		 conninfo += strspn(conninfo, BLANKS))
	{
		size_t len = strcspn(conninfo, BLANKS "=");

		for (int i = 0; i < OPTIONS_MAX && options[i].keyword != NULL; i++)
		{
			if (strlen(options[i].keyword) != len ||
				strncmp(options[i].keyword, conninfo, len) != 0)
				continue;
			if (seen[i])
				return options[i].keyword;
			seen[i] = true;
		}
		conninfo = skip_value(conninfo + len);
	}
	return NULL;
}

/*
 * Has the URI "@" elsewhere than once before the host?  Then a piece of the password has become a
 * host or a database, and would stand in messages.
 */
static bool
cuts_password(const char *authority)
{
	size_t		len = strcspn(authority, "?");
	const char *at = memchr(authority, '@', len);

	return at != NULL &&
		(memchr(authority, '/', (size_t) (at - authority)) != NULL ||
		 memchr(at + 1, '@', len - (size_t) (at + 1 - authority)) != NULL);
}

/* What is wrong with the string as a whole, which libpq has taken. */
static bool
check_whole(const char *conninfo, const PQconninfoOption *options, char *error, size_t size)
{
	bool uri =
		strncmp(conninfo, "postgresql://", 13) == 0 || strncmp(conninfo, "postgres://", 11) == 0;
	const char *twice = uri ? NULL : find_twice(conninfo, options);

	if (twice != NULL)
		snprintf(error, size,
				 "option %s is given twice: in a list each connection string has a line of its own",
				 twice);
	else if (uri && cuts_password(strstr(conninfo, "://") + 3))
		return fail(error, size,
					"has \"@\" where a URI takes none: in a password write it as %40, \"/\" as %2F "
					"and \"%\" as %25");
	return twice == NULL;
}

bool
outbox_conninfo_check(const char *conninfo, char *error, size_t size)
{
	char			 *message = NULL;
	PQconninfoOption *options;
	const char		 *flaw = NULL;

	if (conninfo[0] == '\'' || conninfo[0] == '"')
		return fail(error, size, "has quotes around it, which would be part of it: leave them out");
	options = PQconninfoParse(conninfo, &message);
	if (options == NULL)
	{
		explain_form(message != NULL ? message : "", error, size);
		PQfreemem(message);
		return false;
	}
	if (!check_whole(conninfo, options, error, size))
		flaw = error;
	for (PQconninfoOption *option = options; option->keyword != NULL && flaw == NULL; option++)
	{
		flaw = option->val != NULL ? find_flaw(option->keyword, option->val) : NULL;
		if (flaw != NULL)
			snprintf(error, size, "option %s %s", option->keyword, flaw);
	}
	if (flaw == NULL && !try_values(conninfo, options, error, size))
		flaw = error;
	PQconninfoFree(options);
	return flaw == NULL;
}
