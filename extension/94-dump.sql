/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------- configuration tables
 *
 * What pg_dump takes along: all but outbox.installation, which says whose database this is; leaves
 * as their root.  One statement for each: two in one SELECT fail with "tuple already updated by
 * self".
 */
DO $$
DECLARE
	kept regclass;
BEGIN
	FOR kept IN SELECT coalesce(p.relid, t.root)
		FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.event_seq', 'outbox.batch',
			'outbox.topic', 'outbox.dead_letter', 'outbox.dead_letter_id_seq', 'outbox.audit',
			'outbox.audit_id_seq', 'outbox.replay_job', 'outbox.idempotency',
			'outbox.consumer_offset', 'outbox.consumer_attempt', 'outbox.consumer_trouble',
			'outbox.consumer_anchor', 'outbox.topic_hold', 'outbox.topic_hold_id_seq',
			'outbox.topic_hold_batch', 'outbox.topic_hold_copy']::regclass[]) t(root)
		LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.root) p ON true LOOP
		PERFORM pg_catalog.pg_extension_config_dump(kept, '');
	END LOOP;
END
$$;
/* Rows that count: what dropped roles have left would be somebody else's elsewhere. */
SELECT pg_catalog.pg_extension_config_dump('outbox.topic_grant',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_namespace n
		CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
		JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE n.nspname = ''outbox'' AND r.oid = topic_grant.grantee)');
