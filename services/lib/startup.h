/* SPDX-License-Identifier: PostgreSQL
 *
 * startup.h
 *	  What a program does before anything else: its standard files and its signals.
 */
#ifndef OUTBOX_STARTUP_H
#define OUTBOX_STARTUP_H

#include <signal.h>

/*
 * First call of main, before there are threads.  Standard files that the parent has closed become
 * /dev/null, so that no connection is ever taken for the log.  SIGHUP, SIGPIPE, SIGALRM, SIGUSR1,
 * SIGUSR2 and others that would end or stop a program without a reason do nothing.  SIGTERM, SIGINT
 * and SIGQUIT end it at once, whatever the parent had blocked or ignored.
 */
extern void outbox_startup(void);

/*
 * From here on SIGTERM, SIGINT and SIGQUIT wait, in all threads that are started later, for who
 * asks for `ends`.
 */
extern void outbox_startup_await_ends(sigset_t *ends);

#endif /* OUTBOX_STARTUP_H */
