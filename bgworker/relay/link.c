/* SPDX-License-Identifier: PostgreSQL
 *
 * link.c
 *	  The relay's child process, the sender, and the frames to and from it.
 *
 * Runs in the relay.  The child gets a socketpair as its standard input and output, a pipe as its
 * standard error (sender_log.c) and nothing else: default signal handlers, its own process group,
 * no other descriptors, and it dies with the worker.  The worker ends and reaps it before it leaves
 * shared memory: where the postmaster is process 1 an orphan would be taken for a crashed backend.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "link.h"
#include "sender_log.h"
#include "src/compat.h"
#include "src/encoding.h"

#define SENDER_NAME	 "outbox-sender"
#define RECEIVE_SIZE (64 * 1024)
#define SMALL_SIZE	 (4 * 1024)
#define PIPE_SIZE	 (1024 * 1024)
#define LEAVE_MS	 200 /* for the sender to store its cursor and say good-bye to Kafka */

typedef struct OutboxLink
{
	int			  pid;	  /* 0 = none */
	int			  status; /* that the last one ended with; -1: unknown */
	int			  fd;
	bool		  ended; /* by itself, as its socket tells */
	WaitEventSet *events;
	int			  position;	 /* of the socket in events */
	uint32		  waits_for; /* what the socket is registered for */

	uint8_t		  *small; /* small frames not sent yet */
	size_t		   small_room;
	size_t		   small_len;
	size_t		   small_sent;
	const uint8_t *bulk; /* the piece given, owned by the giver */
	size_t		   bulk_len;
	size_t		   bulk_sent;

	uint8_t *received;
	size_t	 received_room;
	size_t	 received_len;
	size_t	 consumed;
} OutboxLink;

static OutboxLink sender = {.fd = -1, .status = -1};

static void
stop_at_exit(int code, Datum arg)
{
	outbox_link_stop(true);
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static void
become_sender(int fd, int log_fd, pid_t parent, const char *path)
{
	static const int signals[] = {SIGHUP,  SIGINT,	SIGTERM, SIGQUIT, SIGPIPE, SIGALRM,
								  SIGUSR1, SIGUSR2, SIGCHLD, SIGURG,  SIGFPE};
	char *const		 arguments[] = {SENDER_NAME, NULL};
	/* librdkafka allocates for every record: keep freed pieces at hand */
	char *const		 environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C",
									  "GLIBC_TUNABLES=glibc.malloc.tcache_count=512", NULL};
	sigset_t		 none;

	setpgid(0, 0);
	for (int i = 0; i < (int) lengthof(signals); i++)
		signal(signals[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	if (dup2(fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(log_fd, 2) < 0)
		_exit(1);
	if (close_range(3, ~0U, 0) != 0)
		_exit(1);
	execve(path, arguments, environment);
	_exit(127);
}

static void
register_socket(uint32 waits_for)
{
	if (waits_for == sender.waits_for)
		return;
	ModifyWaitEvent(sender.events, sender.position, waits_for, NULL);
	sender.waits_for = waits_for;
}

static void
watch_socket(void)
{
	sender.events = outbox_compat_make_event_set(4);
	AddWaitEventToSet(sender.events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(sender.events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	sender.position = AddWaitEventToSet(sender.events, WL_SOCKET_READABLE, sender.fd, NULL, NULL);
	sender.waits_for = WL_SOCKET_READABLE;
	AddWaitEventToSet(sender.events, WL_SOCKET_READABLE, outbox_sender_log_fd(), NULL, NULL);
}

void
outbox_link_start(void)
{
	static bool registered = false;
	char		path[MAXPGPATH];
	int			pair[2];
	int			log_fd;
	int			size = PIPE_SIZE;
	pid_t		parent = getpid();
	pid_t		pid;

	outbox_link_stop(false);
	snprintf(path, sizeof(path), "%s/" SENDER_NAME, pkglib_path);
	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not execute \"%s\": %m", path),
				 errhint("Install the extension anew: make install.")));
	if (!registered)
	{
		before_shmem_exit(stop_at_exit, (Datum) 0);
		registered = true;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not make a socket pair: %m")));
	(void) setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	log_fd = outbox_sender_log_open();

	sigprocmask(SIG_SETMASK, &BlockSig, NULL); /* no handler of ours may run in the child */
	pid = fork();
	if (pid == 0)
		become_sender(pair[1], log_fd, parent, path);
	sigprocmask(SIG_SETMASK, &UnBlockSig, NULL);
	close(pair[1]);
	close(log_fd);
	if (pid < 0)
	{
		close(pair[0]);
		outbox_sender_log_close(0);
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not start the sender: %m")));
	}
	sender.pid = pid;
	sender.ended = false;
	sender.fd = pair[0];
	if (fcntl(sender.fd, F_SETFL, O_NONBLOCK) != 0)
		ereport(ERROR,
				(errcode_for_socket_access(), errmsg("could not set up the sender's socket: %m")));
	watch_socket();
}

/* The end of its input has told the sender to go; one that does not is killed.  -1: unknown. */
static int
reap_sender(bool leave)
{
	int status;

	for (int waited = 0; leave && waited < LEAVE_MS; waited++)
	{
		pid_t ended = waitpid(sender.pid, &status, WNOHANG);

		if (ended == sender.pid)
			return status;
		if (ended < 0 && errno != EINTR)
			return -1;
		pg_usleep(1000L);
	}
	kill(sender.pid, SIGKILL);
	for (;;)
	{
		pid_t ended = waitpid(sender.pid, &status, 0);

		if (ended == sender.pid)
			return status;
		if (ended < 0 && errno != EINTR)
			return -1;
	}
}

/* Its last lines, and how it ended, unless it was told to or killed here. */
static void
bury_sender(bool leave)
{
	int	 pid = sender.pid;
	int	 status = sender.status = reap_sender(leave);
	bool expected =
		!sender.ended && (status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));

	sender.pid = 0;
	outbox_sender_log_close(pid);
	if (status >= 0 && !expected)
		ereport(LOG,
				(errmsg_internal("outbox-sender %d: %s", pid, wait_result_to_str(status)),
				 errhidestmt(true), errhidecontext(true)));
}

void
outbox_link_stop(bool leave)
{
	if (sender.events != NULL)
		FreeWaitEventSet(sender.events);
	sender.events = NULL;
	if (sender.fd >= 0)
		close(sender.fd);
	sender.fd = -1;
	if (sender.pid > 0)
		bury_sender(leave);
	outbox_sender_log_close(0);
	sender.small_len = sender.small_sent = 0;
	sender.bulk = NULL;
	sender.bulk_len = sender.bulk_sent = 0;
	sender.received_len = sender.consumed = 0;
}

int
outbox_link_pid(void)
{
	return sender.pid;
}

const char *
outbox_link_ending(void)
{
	return sender.status < 0 ? "it is not known how" : wait_result_to_str(sender.status);
}

void
outbox_link_give(const uint8_t *frames, size_t len)
{
	Assert(sender.bulk_sent == sender.bulk_len);
	sender.bulk = frames;
	sender.bulk_len = len;
	sender.bulk_sent = 0;
}

void
outbox_link_give_small(const OutboxWireBuffer *frame)
{
	if (sender.small_sent == sender.small_len)
		sender.small_sent = sender.small_len = 0;
	if (sender.small_len + frame->len > sender.small_room)
	{
		sender.small_room = sender.small_len + frame->len + SMALL_SIZE;
		sender.small = sender.small == NULL ?
			MemoryContextAlloc(TopMemoryContext, sender.small_room) :
			repalloc(sender.small, sender.small_room);
	}
	memcpy(sender.small + sender.small_len, frame->data, frame->len);
	sender.small_len += frame->len;
}

bool
outbox_link_idle(void)
{
	return sender.small_sent == sender.small_len && sender.bulk_sent == sender.bulk_len;
}

/* Returns false when the sender is gone. */
static bool
send_piece(const uint8_t *data, size_t len, size_t *sent)
{
	while (*sent < len)
	{
		ssize_t n = send(sender.fd, data + *sent, len - *sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		*sent += n;
	}
	return true;
}

static bool
receive(void)
{
	if (sender.consumed > 0)
	{
		memmove(sender.received, sender.received + sender.consumed,
				sender.received_len - sender.consumed);
		sender.received_len -= sender.consumed;
		sender.consumed = 0;
	}
	for (;;)
	{
		ssize_t n;

		if (sender.received_room - sender.received_len < RECEIVE_SIZE)
		{
			sender.received_room += RECEIVE_SIZE;
			sender.received = sender.received == NULL ?
				MemoryContextAlloc(TopMemoryContext, sender.received_room) :
				repalloc(sender.received, sender.received_room);
		}
		n = recv(sender.fd, sender.received + sender.received_len, RECEIVE_SIZE, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		if (n == 0)
			return false;
		sender.received_len += n;
		if (n < RECEIVE_SIZE)
			return true;
	}
}

static bool
pump_frames(void)
{
	if (!send_piece(sender.small, sender.small_len, &sender.small_sent))
		return false;
	if (sender.small_sent == sender.small_len &&
		!send_piece(sender.bulk, sender.bulk_len, &sender.bulk_sent))
		return false;
	return receive();
}

bool
outbox_link_pump(void)
{
	if (sender.fd < 0)
		return false;
	if (!outbox_sender_log_read(sender.pid))
		kill(sender.pid, SIGKILL); /* it ends: nothing else closes its standard error */
	sender.ended = !pump_frames();
	return !sender.ended;
}

bool
outbox_link_next(OutboxFrameType *type, OutboxWireReader *body)
{
	size_t size;
	bool   corrupt = false;

	if (!outbox_wire_frame(sender.received + sender.consumed, sender.received_len - sender.consumed,
						   type, body, &size, &corrupt))
	{
		if (corrupt)
			elog(ERROR, "the sender wrote a frame that cannot be read");
		return false;
	}
	sender.consumed += size;
	return true;
}

char *
outbox_link_text(OutboxWireReader *body)
{
	const char *data;
	uint32_t	len;

	if (!outbox_wire_get_string(body, &data, &len) || data == NULL)
		return pstrdup("");
	return outbox_encoding_shown(data, (int) len);
}

void
outbox_link_wait(long timeout_ms)
{
	WaitEvent event;

	if (sender.events == NULL)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
						 PG_WAIT_EXTENSION);
		return;
	}
	register_socket(outbox_link_idle() ? WL_SOCKET_READABLE :
										 WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE);
	(void) WaitEventSetWait(sender.events, timeout_ms, &event, 1, PG_WAIT_EXTENSION);
}
