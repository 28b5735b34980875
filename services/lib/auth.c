/* SPDX-License-Identifier: PostgreSQL
 *
 * auth.c
 *	  Basic authentication against password hashes, by libxcrypt.
 *
 * Runs in outbox-monitor: read at start, asked by the threads that answer HTTP.  Neither the
 * comparison nor an unknown user's name shows in the time an answer takes.
 */
#define _GNU_SOURCE
#include "auth.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "auth_cache.h"
#include "clock.h"
#include "log.h"
#include "src/common/setting_text.h"

#define USERS_MAX 100

typedef struct User
{
	char	*name;
	char	*hash;
	unsigned rights;
} User;

/* A file as read, and what tells whether it is another one since. */
typedef struct Table
{
	User		users[USERS_MAX];
	size_t		count;
	struct stat file;
} Table;

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static Table		  *table; /* guarded by table_lock, as what follows */
static char			  *table_path;
static unsigned		   generation; /* of the table: whose passwords may be remembered */

static void
free_table(Table *old)
{
	for (size_t i = 0; old != NULL && i < old->count; i++)
	{
		free(old->users[i].name);
		free(old->users[i].hash);
	}
	free(old);
}

static bool
fail(char *error, size_t size, const char *path, int line, const char *why)
{
	snprintf(error, size, "%s line %d: %s", path, line, why);
	return false;
}

/* A list as "read,operate"; NULL: not given.  0: a word that is none. */
static unsigned
parse_rights(char *list)
{
	unsigned rights = OUTBOX_RIGHT_NONE;
	char	*word;

	if (list == NULL)
		return OUTBOX_RIGHT_READ;
	while ((word = strsep(&list, ",")) != NULL)
	{
		if (strcmp(word, "read") == 0)
			rights |= OUTBOX_RIGHT_READ;
		else if (strcmp(word, "operate") == 0)
			rights |= OUTBOX_RIGHT_OPERATE;
		else
			return OUTBOX_RIGHT_NONE;
	}
	return rights;
}

/* What is wrong with the line, or NULL. */
static const char *
take_line(Table *into, char *line)
{
	User	*user = &into->users[into->count];
	char	*hash;
	char	*list;
	unsigned rights;

	line[strcspn(line, "\r\n")] = '\0';
	if (outbox_setting_flaw(line, false) != NULL)
		return outbox_setting_flaw(line, false);
	if (line[0] == '\0' || line[0] == '#')
		return NULL;
	hash = strchr(line, ':');
	if (hash == NULL || hash == line)
		return "is not of the form user:hash";
	*hash++ = '\0';
	list = strchr(hash, ':');
	if (list != NULL)
		*list++ = '\0';
	/* A password in clear, or a hash that is weak by today's measure, is no hash to it. */
	if (hash[0] != '$' || crypt_checksalt(hash) != CRYPT_SALT_OK)
		return "the hash is none that crypt(3) takes, or too weak";
	for (size_t i = 0; i < into->count; i++)
	{
		if (strcmp(into->users[i].name, line) == 0)
			return "the user is there already";
	}
	if (into->count == USERS_MAX)
		return "too many users";
	rights = parse_rights(list);
	if (rights == OUTBOX_RIGHT_NONE)
		return "the rights are not a list of read and operate";
	*user = (User) {strdup(line), strdup(hash), rights};
	if (user->name == NULL || user->hash == NULL)
		abort();
	into->count++;
	return NULL;
}

static bool
read_lines(Table *into, FILE *file, const char *path, char *error, size_t size)
{
	char	   *line = NULL;
	const char *wrong = NULL;
	size_t		room = 0;
	int			number = 0;

	while (wrong == NULL && getline(&line, &room, file) >= 0)
	{
		number++;
		wrong = take_line(into, (char *) outbox_setting_skip_bom(line));
	}
	if (line != NULL)
		explicit_bzero(line, room);
	free(line);
	if (wrong != NULL)
		return fail(error, size, path, number, wrong);
	if (into->count > 0)
		return true;
	snprintf(error, size, "%s names no user", path);
	return false;
}

/* NULL: error tells. */
static Table *
read_table(const char *path, char *error, size_t size)
{
	FILE  *file = fopen(path, "r");
	Table *made = calloc(1, sizeof(Table));

	if (file == NULL || made == NULL || fstat(fileno(file), &made->file) != 0)
		snprintf(error, size, "cannot read %s: %s", path, strerror(errno));
	else if (read_lines(made, file, path, error, size))
	{
		fclose(file);
		return made;
	}
	if (file != NULL)
		fclose(file);
	free_table(made);
	return NULL;
}

bool
outbox_auth_load(const char *path, char *error, size_t size)
{
	Table *made = read_table(path, error, size);

	if (made == NULL)
		return false;
	pthread_mutex_lock(&table_lock);
	free_table(table);
	table = made;
	free(table_path);
	table_path = strdup(path);
	if (table_path == NULL)
		abort();
	generation++;
	outbox_auth_cache_forget();
	pthread_mutex_unlock(&table_lock);
	return true;
}

static bool
is_same_file(const struct stat *one, const struct stat *two)
{
	return one->st_dev == two->st_dev && one->st_ino == two->st_ino &&
		one->st_size == two->st_size && one->st_mtim.tv_sec == two->st_mtim.tv_sec &&
		one->st_mtim.tv_nsec == two->st_mtim.tv_nsec &&
		one->st_ctim.tv_sec == two->st_ctim.tv_sec && one->st_ctim.tv_nsec == two->st_ctim.tv_nsec;
}

/* Caller holds table_lock. */
static void
follow_file_locked(void)
{
	struct stat file = {0};
	char		error[512];
	Table	   *made;

	(void) stat(table_path, &file);
	if (is_same_file(&file, &table->file))
		return;
	generation++;
	outbox_auth_cache_forget();
	made = read_table(table_path, error, sizeof(error));
	if (made == NULL)
	{
		outbox_log(OUTBOX_LOG_ERROR, "auth_file_failed", "%s; the users stay as they were", error);
		table->file = file; /* told once */
		return;
	}
	free_table(table);
	table = made;
	outbox_log(OUTBOX_LOG_INFO, "auth_file_read", "%zu user(s)", table->count);
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

/* The hash to compare with, malloc'ed; *known: the user's own, not one for an unknown user. */
static char *
find_hash(const char *user, bool *known, unsigned *rights, unsigned *of_generation)
{
	const User *found = NULL;
	char	   *hash;

	pthread_mutex_lock(&table_lock);
	follow_file_locked();
	for (size_t i = 0; i < table->count; i++)
	{
		if (strcmp(table->users[i].name, user) == 0)
			found = &table->users[i];
	}
	*known = found != NULL;
	*rights = found != NULL ? found->rights : OUTBOX_RIGHT_NONE;
	*of_generation = generation;
	/* Unknown: as much work as for a known one. */
	hash = strdup(found != NULL ? found->hash : table->users[0].hash);
	pthread_mutex_unlock(&table_lock);
	return hash;
}

/* Not when the file has changed while the hash was made. */
static void
remember(const char *user, const char *password, unsigned rights, unsigned of_generation)
{
	pthread_mutex_lock(&table_lock);
	if (of_generation == generation)
		outbox_auth_cache_add(user, password, outbox_clock_ms(), rights);
	pthread_mutex_unlock(&table_lock);
}

bool
outbox_auth_admits(const char *user, const char *password, unsigned *rights)
{
	void	   *memory = NULL;
	int			size = 0;
	bool		known;
	unsigned	of_generation;
	char	   *hash = find_hash(user, &known, rights, &of_generation);
	const char *made;
	bool		admitted;

	if (hash != NULL && outbox_auth_cache_find(user, password, outbox_clock_ms(), rights))
	{
		free(hash);
		return true;
	}
	made = hash != NULL ? crypt_ra(password, hash, &memory, &size) : NULL;
	admitted = made != NULL && same_text(made, hash) && known;
	if (memory != NULL)
		explicit_bzero(memory, (size_t) size);
	free(memory);
	free(hash);
	if (admitted)
		remember(user, password, *rights, of_generation);
	return admitted;
}
