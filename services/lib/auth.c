/* SPDX-License-Identifier: PostgreSQL
 *
 * auth.c
 *	  Basic authentication against password hashes, by libxcrypt.
 *
 * Runs in outbox-monitor: read at start, asked by the HTTP threads.  Neither the
 * comparison nor an unknown user's name shows in the time an answer takes.
 */
#define _GNU_SOURCE
#include "auth.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/common/setting_text.h"

#define USERS_MAX 100

typedef struct User
{
	char *name;
	char *hash;
} User;

/* written before the threads start */
static User	  users[USERS_MAX];
static size_t user_count;

static bool
fail(char *error, size_t size, const char *path, int line, const char *why)
{
	snprintf(error, size, "%s line %d: %s", path, line, why);
	return false;
}

static bool
take_line(char *line, const char *path, int number, char *error, size_t size)
{
	char *hash;

	line[strcspn(line, "\r\n")] = '\0';
	if (outbox_setting_flaw(line, false) != NULL)
		return fail(error, size, path, number, outbox_setting_flaw(line, false));
	if (line[0] == '\0' || line[0] == '#')
		return true;
	hash = strchr(line, ':');
	if (hash == NULL || hash == line)
		return fail(error, size, path, number, "is not of the form user:hash");
	*hash++ = '\0';
	/* A password in clear, or a hash that is weak by today's measure, is no hash to it. */
	if (hash[0] != '$' || crypt_checksalt(hash) != CRYPT_SALT_OK)
		return fail(error, size, path, number, "the hash is none that crypt(3) takes, or too weak");
	for (size_t i = 0; i < user_count; i++)
	{
		if (strcmp(users[i].name, line) == 0)
			return fail(error, size, path, number, "the user is there already");
	}
	if (user_count == USERS_MAX)
		return fail(error, size, path, number, "too many users");
	users[user_count].name = strdup(line);
	users[user_count].hash = strdup(hash);
	if (users[user_count].name == NULL || users[user_count].hash == NULL)
		abort();
	user_count++;
	return true;
}

bool
outbox_auth_load(const char *path, char *error, size_t size)
{
	FILE  *file = fopen(path, "r");
	char  *line = NULL;
	size_t room = 0;
	bool   good = true;

	if (file == NULL)
	{
		snprintf(error, size, "cannot read %s: %s", path, strerror(errno));
		return false;
	}
	for (int number = 1; good && getline(&line, &room, file) >= 0; number++)
		good = take_line((char *) outbox_setting_skip_bom(line), path, number, error, size);
	if (good && user_count == 0)
	{
		snprintf(error, size, "%s names no user", path);
		good = false;
	}
	free(line);
	fclose(file);
	return good;
}

static bool
same_text(const char *one, const char *two)
{
	size_t		  len = strlen(two);
	unsigned char difference = strlen(one) != len;

	for (size_t i = 0; i < len && one[i] != '\0'; i++)
		difference |= (unsigned char) (one[i] ^ two[i]);
	return difference == 0;
}

bool
outbox_auth_admits(const char *user, const char *password)
{
	const User *found = NULL;
	void	   *memory = NULL;
	int			size = 0;
	const char *made;
	bool		same;

	for (size_t i = 0; i < user_count; i++)
	{
		if (strcmp(users[i].name, user) == 0)
			found = &users[i];
	}
	/* Unknown: as much work as for a known one. */
	made = crypt_ra(password, found != NULL ? found->hash : users[0].hash, &memory, &size);
	same = made != NULL && same_text(made, found != NULL ? found->hash : users[0].hash);
	free(memory);
	return same && found != NULL;
}
