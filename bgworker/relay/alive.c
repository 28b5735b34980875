/* SPDX-License-Identifier: PostgreSQL
 *
 * alive.c
 *	  Who else sends for this installation: the members of group outbox-alive.<installation>.
 *
 * Pure but for what identifies the directory; runs in the relay.  A relay joins, then looks, then
 * fences: of two that do so at the same time at least one sees the other.
 */
#include "postgres.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alive.h"
#include "src/fault.h"

#define TOKEN_PREFIX "outbox-alive."
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* The parts of a client id. */
typedef struct Token
{
	int			 timeline;
	uint64_t	 system_id;
	char		 directory[OUTBOX_DIRECTORY_SIZE];
	unsigned int database;
} Token;

void
outbox_boot_id_read(const char *file, char *boot, size_t size)
{
	uint64_t other = 0;
	int		 fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t	 got = fd < 0 ? -1 : read(fd, boot, size - 1);

	if (fd >= 0)
		close(fd);
	boot[Max(got, 0)] = '\0';
	boot[strspn(boot, "0123456789abcdef-")] = '\0';
	if (boot[0] != '\0')
		return;
	if (getrandom(&other, sizeof(other), 0) != sizeof(other))
		other = (uint64_t) getpid();
	snprintf(boot, size, "unknown-%016" PRIx64, other);
}

void
outbox_directory_identify(const char *path, OutboxDirectory *directory)
{
	static char boot[40];
	struct stat status = {0};

	if (boot[0] == '\0')
		outbox_boot_id_read(BOOT_ID_FILE, boot, sizeof(boot));
	(void) stat(path, &status);
	snprintf(directory->text, sizeof(directory->text), "%s.%" PRIu64 ".%" PRIu64, boot,
			 (uint64_t) status.st_dev, (uint64_t) status.st_ino);
}

void
outbox_alive_write_token(char *token, size_t size, int timeline, uint64_t system_id,
						 const OutboxDirectory *directory, unsigned int database)
{
	snprintf(token, size, TOKEN_PREFIX "%d.%" PRIu64 ".%u.%s", timeline, system_id, database,
			 directory->text);
}

static bool
read_token(const char *text, Token *token)
{
	return sscanf(text, TOKEN_PREFIX "%d.%" SCNu64 ".%u.%95s", &token->timeline, &token->system_id,
				  &token->database, token->directory) == 4;
}

bool
outbox_alive_is_other(const char *own, const char *member)
{
	Token mine;
	Token theirs;

	if (strncmp(member, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0)
		return false;
	if (!read_token(member, &theirs) || !read_token(own, &mine))
		return true;
	if (strcmp(mine.directory, theirs.directory) == 0 && mine.database == theirs.database)
		return false;
	return mine.system_id != theirs.system_id || theirs.timeline >= mine.timeline;
}

OutboxAliveVerdict
outbox_alive_judge(const OutboxAliveView *view)
{
	int64_t look_ms = view->last_writer ? OUTBOX_ALIVE_WRITER_MS : OUTBOX_ALIVE_LOOK_MS;

	OUTBOX_MUTATE("brief_look", look_ms -= 12000);
	if (view->other)
		return view->other_for_ms < look_ms ? OUTBOX_ALIVE_LOOK : OUTBOX_ALIVE_HOLD;
	if (view->other_for_ms >= 0 && view->gone_for_ms < OUTBOX_ALIVE_GONE_MS)
		return OUTBOX_ALIVE_LOOK;
	if (view->joined || !view->allowed || view->joining_for_ms >= OUTBOX_ALIVE_JOIN_MS)
		return OUTBOX_ALIVE_ALONE;
	return OUTBOX_ALIVE_LOOK;
}
