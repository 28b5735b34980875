/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------------------------- audit
 *
 * outbox.audit: what persons did with dead letters and replays, insert-only.
 *
 *	role	the session's login role, whatever SET ROLE says
 *	action	name of the function
 *	object	what it was done to: 'dead_letter 7'
 *	reason	the person's words; NULL = none
 *	detail	the rest, as the action needs it; NULL = none
 */
CREATE TABLE outbox.audit (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	role name NOT NULL DEFAULT session_user,
	action text NOT NULL,
	object text,
	reason text,
	detail jsonb
);
