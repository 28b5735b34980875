/* SPDX-License-Identifier: PostgreSQL
 *
 * marker.h
 *	  The file outbox.marker in the data directory, which a copy of the directory's files gives
 *	  away.
 *
 * It holds its own inode and birth time, so a file copied with the directory does not fit itself.
 * A copy of the volume's blocks does fit.
 */
#ifndef OUTBOX_MARKER_H
#define OUTBOX_MARKER_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#define OUTBOX_MARKER_FILE "outbox.marker"

/* What the file says. */
typedef struct OutboxMarker
{
	pg_uuid_t	id; /* random */
	uint64		inode;
	int64		born_s; /* birth time, -1 = the file system has none */
	int64		born_ns;
	bool		copied;	  /* written where another one of this timeline did not fit */
	int			timeline; /* the server's newest one, as far as the file's writer knew */
	TimestampTz made_at;
} OutboxMarker;

/* What a database remembers of the last one it worked under. */
typedef struct OutboxAccepted
{
	bool		present;
	pg_uuid_t	id;
	int			timeline;
	TimestampTz created_at; /* of the installation */
} OutboxAccepted;

typedef enum OutboxMarkerVerdict
{
	OUTBOX_MARKER_FITS,
	OUTBOX_MARKER_LATER,   /* a promoted or recovered server: nothing is asked */
	OUTBOX_MARKER_UNKNOWN, /* there was none: host and path decide */
	OUTBOX_MARKER_COPIED,  /* the data directory was copied or moved */
} OutboxMarkerVerdict;

/* Pure.  false: not a marker. */
extern bool outbox_marker_parse(const char *text, OutboxMarker *marker);
extern void outbox_marker_format(char *text, size_t size, const OutboxMarker *marker);

/* Pure.  Is this the file that was written, by its inode and birth time (-1 = not known)? */
extern bool outbox_marker_fits(const OutboxMarker *marker, uint64 inode, int64 born_s,
							   int64 born_ns);

/*
 * The inode and the birth time of an open file; a birth time of -1 where none is told.  false:
 * errno says why.
 */
extern bool outbox_marker_stat(int fd, uint64 *inode, int64 *born_s, int64 *born_ns);

/* Pure.  marker: NULL if there is none. */
extern OutboxMarkerVerdict outbox_marker_judge(const OutboxMarker *marker, bool fits,
											   const OutboxAccepted *accepted, int timeline);

/*
 * Pure.  What is to be written at a start: *next is the marker but for what its file will be.
 * false: the one there is stays.  found: NULL if there is none.
 */
extern bool outbox_marker_plan(const OutboxMarker *found, bool fits, int timeline,
							   OutboxMarker *next);

/*
 * Launcher, at its start: a data directory without a fitting marker gets one; a failure is logged.
 */
extern void outbox_marker_ensure(void);

/* false: there is none to be read. */
extern bool outbox_marker_read(OutboxMarker *marker, bool *fits);

#endif /* OUTBOX_MARKER_H */
