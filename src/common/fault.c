/* SPDX-License-Identifier: PostgreSQL
 *
 * fault.c
 *	  Fault points and mutants of test builds: the files that arm them.
 *
 * Runs in every process of the server and in the sender.
 */
#include "fault.h"

#ifdef OUTBOX_FAULTS

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULT_PATH_SIZE 128
#define WAIT_US			5000

static void
set_path(char *path, const char *name, const char *suffix)
{
	snprintf(path, FAULT_PATH_SIZE, "outbox_fault/%s%s", name, suffix);
}

/* Reads "ACTION PASSAGE"; false if the point is not armed. */
static bool
read_order(const char *path, char *action, unsigned *passage)
{
	char	text[64];
	int		fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return sscanf(text, "%15s %u", action, passage) == 2;
}

OutboxFaultAction
outbox_fault_claim(const char *name, unsigned *passages)
{
	char	 path[FAULT_PATH_SIZE];
	char	 fired[FAULT_PATH_SIZE];
	char	 action[16];
	unsigned passage;

	set_path(path, name, "");
	if (!read_order(path, action, &passage) || ++*passages < passage)
		return OUTBOX_FAULT_NONE;
	set_path(fired, name, ".fired");
	if (rename(path, fired) != 0)
		return OUTBOX_FAULT_NONE;
	*passages = 0;
	dprintf(STDERR_FILENO, "outbox fault point %s: %s in process %d\n", name, action,
			(int) getpid());
	if (strcmp(action, "error") == 0)
		return OUTBOX_FAULT_ERROR;
	if (strcmp(action, "wait") == 0)
		return OUTBOX_FAULT_WAIT;
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

bool
outbox_fault_is_released(const char *name)
{
	char path[FAULT_PATH_SIZE];

	set_path(path, name, ".fired");
	return access(path, F_OK) != 0;
}

void
outbox_fault_pass(const char *name, unsigned *passages)
{
	OutboxFaultAction action = outbox_fault_claim(name, passages);

	if (action == OUTBOX_FAULT_ERROR)
		_exit(1);
	while (action == OUTBOX_FAULT_WAIT && !outbox_fault_is_released(name))
		usleep(WAIT_US);
}

bool
outbox_fault_is_mutant(const char *name)
{
	char path[FAULT_PATH_SIZE];

	snprintf(path, sizeof(path), "outbox_fault/mutant-%s", name);
	return access(path, F_OK) == 0;
}

#endif
