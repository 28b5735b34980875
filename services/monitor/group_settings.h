/* SPDX-License-Identifier: PostgreSQL
 *
 * group_settings.h
 *	  The settings that name consumer groups: ignore_groups and lag_thresholds.
 *
 * Lists of lines; a pattern is one of fnmatch(3), the first line that fits a group counts, and
 * empty lines and those with # are passed over.  Pure but for memory.
 */
#ifndef OUTBOX_GROUP_SETTINGS_H
#define OUTBOX_GROUP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#define OUTBOX_GROUP_THRESHOLD_MAX_S 31536000 /* a year */

/* Option check: one pattern a line. */
extern bool outbox_group_check_patterns(const char *value, char *error, size_t size);

/* Option check: one pattern=seconds a line. */
extern bool outbox_group_check_thresholds(const char *value, char *error, size_t size);

/* Does a pattern of the list, which was checked, fit the group? */
extern bool outbox_group_is_listed(const char *patterns, const char *group);

/* The seconds of the group in a list that was checked; otherwise, where no line fits. */
extern double outbox_group_threshold(const char *thresholds, const char *group, double otherwise);

#endif /* OUTBOX_GROUP_SETTINGS_H */
