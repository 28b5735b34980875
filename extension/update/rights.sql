/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------------- rights after an update
 *
 * The end of every update script.  What the script has made is as after CREATE EXTENSION: only the
 * owner has anything of it, whatever PUBLIC or default privileges would have.  Those are the
 * members that joined since this update noted its version.  Then roles get what their grants bring
 * now.
 */
DO $$
DECLARE
	given record;
BEGIN
	FOR given IN
		WITH made (class, id) AS (
			SELECT d.classid, d.objid
			FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
			WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
				AND e.extname = 'outbox' AND d.xmin = e.xmin
				AND d.cmin::text::bigint >= e.cmin::text::bigint),
		object (kind, name, acl, owner) AS (
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
				c.oid::regclass::text, c.relacl, c.relowner
			FROM pg_catalog.pg_class c JOIN made m
				ON m.class = 'pg_catalog.pg_class'::regclass AND m.id = c.oid
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			UNION ALL
			SELECT 'ROUTINE', p.oid::regprocedure::text,
				coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner
			FROM pg_catalog.pg_proc p JOIN made m
				ON m.class = 'pg_catalog.pg_proc'::regclass AND m.id = p.oid
			UNION ALL
			SELECT 'TYPE', t.oid::regtype::text,
				coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner)), t.typowner
			FROM pg_catalog.pg_type t JOIN made m
				ON (m.class = 'pg_catalog.pg_type'::regclass AND m.id = t.oid)
				OR (m.class = 'pg_catalog.pg_class'::regclass AND m.id = t.typrelid)
			WHERE t.typcategory <> 'A')
		SELECT DISTINCT o.kind, o.name,
			coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC') AS role
		FROM object o CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
			LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
		WHERE a.grantee <> o.owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s',
			given.kind, given.name, given.role);
	END LOOP;
END
$$;
DELETE FROM pg_catalog.pg_init_privs i
USING pg_catalog.pg_type t JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
WHERE i.classoid = 'pg_catalog.pg_type'::regclass AND i.objoid = t.oid
	AND t.typnamespace = 'outbox'::regnamespace AND c.relkind <> 'c';
SELECT outbox.renew_grants();
