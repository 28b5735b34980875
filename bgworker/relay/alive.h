/* SPDX-License-Identifier: PostgreSQL
 *
 * alive.h
 *	  Who else sends for this installation: the members of group outbox-alive.<installation>.
 *
 * Pure but for outbox_boot_id_read and outbox_directory_identify, which ask the kernel.
 */
#ifndef OUTBOX_ALIVE_H
#define OUTBOX_ALIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_DIRECTORY_SIZE 96
#define OUTBOX_TOKEN_SIZE	  192 /* client id of a member */

/*
 * How long another member is looked at.  A dead one's session is 10 s; Kafka counts it anew when a
 * join that the dead one waits for ends, at most 10 s later, or when the group gets another
 * coordinator.
 */
#define OUTBOX_ALIVE_LOOK_MS   25000
/*
 * The same for the last writer of the cursor: of two that look at each other it stays, until the
 * other has left.
 */
#define OUTBOX_ALIVE_WRITER_MS (OUTBOX_ALIVE_LOOK_MS + 15000)
/* How long another that was seen must not be there: between two senders of one relay nobody is. */
#define OUTBOX_ALIVE_GONE_MS   1000
/* How long our own member is waited for. */
#define OUTBOX_ALIVE_JOIN_MS   10000

/* A data directory under one boot of one kernel: the postmaster's lock lets one server have it. */
typedef struct OutboxDirectory
{
	char text[OUTBOX_DIRECTORY_SIZE]; /* boot id, device, inode */
} OutboxDirectory;

typedef enum OutboxAliveVerdict
{
	OUTBOX_ALIVE_ALONE, /* nobody else, go on */
	OUTBOX_ALIVE_LOOK,	/* ask again */
	OUTBOX_ALIVE_HOLD,	/* another one outlived every session: one of us is a copy */
} OutboxAliveVerdict;

/* What the members of one moment say; times in ms, -1 = not so. */
typedef struct OutboxAliveView
{
	bool	other;	 /* a member that is neither of this directory nor of an earlier timeline */
	bool	joined;	 /* our own is among them */
	bool	allowed; /* we may be a member, and see them */
	int64_t other_for_ms;	/* since when another was seen first */
	int64_t gone_for_ms;	/* since when it is not seen any more */
	int64_t joining_for_ms; /* since when our own is not seen */
	bool	last_writer;	/* the cursor was written from this directory */
} OutboxAliveView;

/*
 * A kernel's boot id from file.  Where none can be read: a random one that nobody else has, so a
 * restart waits for the session of the sender before it.
 */
extern void outbox_boot_id_read(const char *file, char *boot, size_t size);

/* The running kernel's boot id, device and inode of path.  The same in one process always. */
extern void outbox_directory_identify(const char *path, OutboxDirectory *directory);

/* The client id of this server's member. */
extern void outbox_alive_write_token(char *token, size_t size, int timeline, uint64_t system_id,
									 const OutboxDirectory *directory, unsigned int database);

/*
 * Is a member another relay's?  Not of a server of an earlier timeline, which own supersedes; not
 * of own's directory and database, whose earlier process is dead; not of a client that is no relay.
 */
extern bool outbox_alive_is_other(const char *own, const char *member);

extern OutboxAliveVerdict outbox_alive_judge(const OutboxAliveView *view);

#endif /* OUTBOX_ALIVE_H */
