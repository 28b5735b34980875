/* SPDX-License-Identifier: PostgreSQL
 *
 * startup.c
 *	  Standard files and signals of a program.
 *
 * Runs in the services and tools, main thread, before there are others.
 */
#define _GNU_SOURCE
#include "startup.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

/*
 * Sent by loggers, terminals and parents that mean another program: by default each of them ends
 * it, or stops it (a background program that writes to its terminal).
 */
static const int ignored[] = {SIGHUP,  SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM,
							  SIGPROF, SIGIO,	SIGXFSZ, SIGTTIN, SIGTTOU};

static const int endings[] = {SIGTERM, SIGINT, SIGQUIT};

void
outbox_startup(void)
{
	sigset_t none;

	for (int file = 0; file <= STDERR_FILENO; file++)
	{
		/* The lowest free number is this one. */
		if (fcntl(file, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(1);
	}
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		signal(endings[i], SIG_DFL);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}

void
outbox_startup_await_ends(sigset_t *ends)
{
	sigemptyset(ends);
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		sigaddset(ends, endings[i]);
	pthread_sigmask(SIG_BLOCK, ends, NULL);
}
