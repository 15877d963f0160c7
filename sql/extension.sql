-- what CREATE EXTENSION makes
CREATE EXTENSION transcribe;

SELECT n.nspname <> 'pg_catalog' AS own_schema, e.extrelocatable, e.extversion
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'transcribe';

-- everything is described
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS undescribed
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'transcribe' AND d.deptype = 'e'
  AND d.classid IN ('pg_proc'::regclass, 'pg_foreign_data_wrapper'::regclass, 'pg_class'::regclass)
  AND NOT (d.classid = 'pg_class'::regclass
           AND (SELECT relkind FROM pg_class WHERE oid = d.objid) NOT IN ('r', 'v'))
  AND obj_description(d.objid, d.classid::regclass::name) IS NULL;
SELECT c.relname, a.attname AS undescribed
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'transcribe'
WHERE c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
  AND col_description(c.oid, a.attnum) IS NULL;

-- users' data is dumped: every table, and the sequence
SELECT c.relname FROM pg_extension e, unnest(e.extconfig) AS t (oid)
JOIN pg_class c ON c.oid = t.oid
WHERE e.extname = 'transcribe' ORDER BY 1;

-- settings
SELECT name, setting, unit, context FROM pg_settings WHERE name LIKE 'transcribe.%' ORDER BY 1;
SET transcribe.no_such_setting = 1;
ALTER SYSTEM SET transcribe.media_directories = 'relative/path';
SELECT format('ALTER SYSTEM SET transcribe.media_directories = %L',
              current_setting('data_directory') || '/base') AS stmt \gset
\set VERBOSITY sqlstate
:stmt;
\set VERBOSITY default

-- the launcher is there, and no worker
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe launcher';
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker';

-- nothing is left behind, and it can be made again
DROP EXTENSION transcribe;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'transcribe%';
CREATE EXTENSION transcribe;
