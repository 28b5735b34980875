/* SPDX-License-Identifier: PostgreSQL
 *
 * test_process.c
 *	  A program and what surrounds it: standard files, signals, a log that
 *	  nobody reads or that cannot be written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"
#include "services/lib/log.h"
#include "services/lib/metrics.h"
#include "services/lib/startup.h"

#define LINES	   20000 /* more than a pipe and the queue take */
#define DEADLINE_S 60

static const int harmless[] = {SIGHUP,	  SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2,
							   SIGVTALRM, SIGPROF, SIGIO,	SIGXFSZ};
static const int endings[] = {SIGTERM, SIGINT, SIGQUIT};

/* What outbox_log_lines_dropped_total says. */
static long
count_dropped(void)
{
	char	   *text = outbox_metrics_text();
	const char *line = text != NULL ? strstr(text, "\noutbox_log_lines_dropped_total") : NULL;
	long		count = line != NULL ? atol(strchr(line + 1, ' ')) : -1;

	free(text);
	return count;
}

static bool
await_dropped(long count)
{
	const struct timespec pause = {0, 10000000};

	for (int i = 0; i < DEADLINE_S * 100 && count_dropped() < count; i++)
		nanosleep(&pause, NULL);
	return count_dropped() == count;
}

/* Runs in a child whose parent has left it in disorder; returns its exit code. */
static int
run_child(int (*act)(void))
{
	int	  status = -1;
	pid_t child = fork();

	if (child == 0)
	{
		sigset_t all;

		close(STDERR_FILENO);
		close(STDIN_FILENO);
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
			signal(endings[i], SIG_IGN);
		outbox_startup();
		_exit(act());
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int
find_files(void)
{
	int file = open("/dev/null", O_RDONLY);

	return file > STDERR_FILENO && write(STDERR_FILENO, "x", 1) == 1 ? 7 : 1;
}

static int
survive_signals(void)
{
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		raise(harmless[i]);
	return 7;
}

static int
end_at_once(void)
{
	raise(SIGINT);
	return 7;
}

/* Those that end it wait, the second of them too. */
static int
await_ends(void)
{
	const struct timespec none = {0, 0};
	sigset_t			  ends;

	outbox_startup_await_ends(&ends);
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
	{
		raise(endings[i]);
		raise(SIGHUP);
		if (sigtimedwait(&ends, NULL, &none) != endings[i])
			return 1;
	}
	raise(SIGTERM);
	raise(SIGTERM);
	return 7;
}

static volatile pid_t late_thread;

static void *
log_late(void *arg)
{
	late_thread = gettid();
	outbox_log(OUTBOX_LOG_INFO, "test", "late");
	return arg;
}

/* Waits until the thread sleeps: it hangs in its write. */
static bool
await_sleep(void)
{
	const struct timespec pause = {0, 1000000};
	char				  path[64];
	char				  text[256] = "";

	for (int i = 0; i < DEADLINE_S * 1000; i++)
	{
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", late_thread);
		file = late_thread != 0 ? fopen(path, "r") : NULL;
		if (file != NULL && fgets(text, sizeof(text), file) != NULL && strstr(text, ") S ") != NULL)
			return fclose(file) == 0;
		if (file != NULL)
			fclose(file);
		nanosleep(&pause, NULL);
	}
	return false;
}

/*
 * The writer has ended; a thread that is left logs into a pipe that is full; exit() ends the writer
 * once more.
 */
static int
end_though_late(void)
{
	char	  block[4096] = "";
	int		  ends[2];
	pthread_t thread;

	outbox_log_start();
	outbox_log_stop();
	if (pipe2(ends, O_NONBLOCK) != 0)
		return 1;
	while (write(ends[1], block, sizeof(block)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	dup2(ends[1], STDERR_FILENO);
	if (pthread_create(&thread, NULL, log_late, NULL) != 0 || !await_sleep())
		return 1;
	signal(SIGALRM, SIG_DFL);
	alarm(DEADLINE_S);
	outbox_log_stop();
	return 7;
}

static void
test_startup(void)
{
	CHECK(run_child(end_though_late) == 7, "a line that is late and hangs does not hold the end");
	CHECK(run_child(find_files) == 7, "closed standard files are nothing's but /dev/null's");
	CHECK(run_child(survive_signals) == 7, "signals that mean nothing do nothing");
	CHECK(run_child(end_at_once) == -SIGINT,
		  "what ends a program does so, though the parent has blocked and ignored it");
	CHECK(run_child(await_ends) == 7, "SIGTERM, SIGINT and SIGQUIT wait for who asks");
}

/*
 * Reads lines up to the notice; counts those before it, which must be in order, and returns what it
 * says.
 */
static long
read_to_notice(FILE *file, int *lines)
{
	char  *line = NULL;
	size_t size = 0;
	long   lost = -1;

	*lines = 0;
	while (lost < 0 && getline(&line, &size, file) > 0)
	{
		const char *text = strstr(line, "\"msg\":\"");

		if (strstr(line, "\"event\":\"log_lines_lost\"") != NULL)
			lost = atol(text + 7);
		else if (text == NULL || atoi(text + 7) != (*lines)++)
			lost = 0;
	}
	free(line);
	return lost;
}

/* Nobody reads, then somebody does. */
static void
test_unread(void)
{
	int	  ends[2];
	int	  lines;
	long  lost;
	FILE *reader;

	if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
		abort();
	close(ends[1]);
	for (int i = 0; i < LINES; i++)
		outbox_log(OUTBOX_LOG_INFO, "test", "%d", i);
	CHECK(count_dropped() > 0 && count_dropped() < LINES,
		  "who logs does not wait; what is too much is counted");
	reader = fdopen(ends[0], "r");
	lost = read_to_notice(reader, &lines);
	CHECK(lost > 0 && lost + lines == LINES && lost == count_dropped(),
		  "what waited comes in order, then how many are lost");
	fclose(reader);
	outbox_log(OUTBOX_LOG_INFO, "test", "lost");
	CHECK(await_dropped(lost + 1), "a pipe that nobody has open: counted");
}

/* The log goes to file while one line is written, then to a pipe. */
static void
test_unwritten(int file, const char *what)
{
	long  before = count_dropped();
	int	  ends[2];
	int	  lines;
	FILE *reader;

	if (pipe2(ends, O_NONBLOCK) != 0)
		abort();
	if (file < 0)
		close(STDERR_FILENO);
	else
		dup2(file, STDERR_FILENO);
	outbox_log(OUTBOX_LOG_INFO, "test", "lost");
	CHECK(await_dropped(before + 1), what);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, 0);
	outbox_log(OUTBOX_LOG_INFO, "test", "0");
	reader = fdopen(ends[0], "r");
	CHECK(read_to_notice(reader, &lines) > 0 && lines == 0,
		  "when it can be written again, it says how many are lost");
	/* The line behind it is on its way: the pipe must not end before. */
	CHECK(fgetc(reader) == '{', "and goes on");
	if (file >= 0)
		close(file);
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	fclose(reader);
}

/* A pipe that nobody reads does not hold the end. */
static void
test_end(void)
{
	int ends[2];

	if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
		abort();
	for (int i = 0; i < LINES / 10; i++)
		outbox_log(OUTBOX_LOG_INFO, "test", "%d", i);
	outbox_log_stop();
	outbox_log(OUTBOX_LOG_INFO, "test", "late");
	CHECK(true, "the end comes, though nobody reads");
}

int
main(void)
{
	int kept = dup(STDERR_FILENO);

	test_startup();
	outbox_startup();
	outbox_log_setup("unit", OUTBOX_LOG_INFO);
	outbox_log_start();
	test_unread();
	test_unwritten(open("/dev/full", O_WRONLY), "a full disk: counted");
	test_unwritten(-1, "no standard error: counted");
	test_end();
	dup2(kept, STDERR_FILENO);
	return finish_tests();
}
