/* SPDX-License-Identifier: PostgreSQL
 *
 * sender_log.h
 *	  What the sender writes to its standard error, as lines of the server's log.
 *
 * Process: the relay.  One sender at a time.  No call waits for the sender, and the sender waits
 * for none of them: what does not fit into the pipe it leaves out, and counts.
 */
#ifndef OUTBOX_SENDER_LOG_H
#define OUTBOX_SENDER_LOG_H

/*
 * Makes the pipe of the next sender; ERROR if it cannot.  Returns the end the child writes to,
 * which is the caller's to close.
 */
extern int outbox_sender_log_open(void);

/* The end that is read, to be waited for; -1: none is open. */
extern int outbox_sender_log_fd(void);

/*
 * Logs the whole lines that are there, of the sender with that process id, some kilobytes a call.
 * false: nobody writes there any more.
 */
extern bool outbox_sender_log_read(int pid);

/* Logs what is left of a sender that was reaped, and closes.  Harmless if none is open. */
extern void outbox_sender_log_close(int pid);

#endif /* OUTBOX_SENDER_LOG_H */
