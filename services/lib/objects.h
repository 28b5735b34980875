/* SPDX-License-Identifier: PostgreSQL
 *
 * objects.h
 *	  Which versions of the extension's objects a program works with.
 *
 * Those of its own major version, from the one on that has all it calls: what programs call is
 * only added to within a major version (CONTRIBUTING.md).
 */
#ifndef OUTBOX_OBJECTS_H
#define OUTBOX_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Do objects of that version serve a program that needs those of another?  Both as "1.0"; what
 * follows the second number does not count.  false: reason says why, for people.  Pure.
 */
extern bool outbox_objects_serve(const char *version, const char *needed, char *reason,
								 size_t size);

/*
 * Asks the database; waits 5 s at most.  false: its objects do not serve, reason says why.  One
 * that does not answer, or has no extension, is not judged: true.
 */
extern bool outbox_objects_check(const char *conninfo, char *reason, size_t size);

#endif /* OUTBOX_OBJECTS_H */
