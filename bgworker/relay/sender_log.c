/* SPDX-License-Identifier: PostgreSQL
 *
 * sender_log.c
 *	  What the sender writes to its standard error, as lines of the server's log.
 *
 * Runs in the relay.  Both ends of the pipe are non-blocking.  The sender's own lines are each one
 * write of less than PIPE_BUF, so a full pipe takes a line or leaves it; what a library or the
 * kernel's abort writes there may come in pieces.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "sender_log.h"
#include "src/encoding.h"

#define LINE_SIZE (8 * 1024) /* a longer one is logged in pieces */

static int	log_fd = -1;
static char lines[LINE_SIZE]; /* read, not yet logged */
static int	lines_len;

int
outbox_sender_log_open(void)
{
	int ends[2];

	Assert(log_fd < 0);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not make a pipe: %m")));
	log_fd = ends[0];
	lines_len = 0;
	return ends[1];
}

int
outbox_sender_log_fd(void)
{
	return log_fd;
}

static void
log_line(int pid, const char *line, int len)
{
	char *text = outbox_encoding_shown(line, len);

	ereport(LOG,
			(errmsg_internal("outbox-sender %d: %s", pid, text), errhidestmt(true),
			 errhidecontext(true)));
	pfree(text);
}

/* Logs the whole lines in hand; with_rest: also what has no end yet. */
static void
log_lines(int pid, bool with_rest)
{
	char *start = lines;
	char *end;

	while ((end = memchr(start, '\n', lines + lines_len - start)) != NULL)
	{
		if (end > start)
			log_line(pid, start, end - start);
		start = end + 1;
	}
	lines_len -= start - lines;
	memmove(lines, start, lines_len);
	if (lines_len > 0 && (with_rest || lines_len == LINE_SIZE))
	{
		log_line(pid, lines, lines_len);
		lines_len = 0;
	}
}

/* Bytes read and logged; 0: nobody writes any more, -1: there is nothing now. */
static ssize_t
read_some(int pid)
{
	ssize_t n;

	do
		n = read(log_fd, lines + lines_len, LINE_SIZE - lines_len);
	while (n < 0 && errno == EINTR);
	if (n > 0)
	{
		lines_len += n;
		log_lines(pid, false);
	}
	return n;
}

bool
outbox_sender_log_read(int pid)
{
	return log_fd >= 0 && read_some(pid) != 0;
}

void
outbox_sender_log_close(int pid)
{
	if (log_fd < 0)
		return;
	while (read_some(pid) > 0)
		;
	log_lines(pid, true);
	close(log_fd);
	log_fd = -1;
}
