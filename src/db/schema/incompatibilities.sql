-- Why the program cannot serve the table `tasks` as it is: a row for each cause. There is none if it can, and none if
-- no such table is on the search path.

with recursive
-- The columns that the program uses, and the types that each may have; null stands for any text type.
required (position, name, types) as (values
    (1, 'id', array['bigint', 'integer', 'smallint']),
    (2, 'user_id', null),
    (3, 'title', null),
    (4, 'description', null),
    (5, 'completed', array['boolean']),
    (6, 'created_at', array['timestamp with time zone', 'timestamp without time zone']),
    (7, 'updated_at', array['timestamp with time zone', 'timestamp without time zone'])
),
-- The columns of the table. One of a domain has another row for each type below.
own as (
    select attname::text as name, attnum, atttypid as type, attnotnull as not_null,
        atthasdef or attidentity <> '' as has_default, attgenerated <> '' as is_generated,
        case when not collisdeterministic then format(' collate %I (nondeterministic)', collname) end as collating
    from pg_attribute left join pg_collation on pg_collation.oid = attcollation
    where attrelid = to_regclass('tasks') and attnum > 0 and not attisdropped
    union all
    select name, attnum, typbasetype, not_null or typnotnull, has_default or typdefault is not null, is_generated,
        collating
    from own join pg_type on oid = type where typtype = 'd'
),
-- A text type is one of category `S`, such as `citext`, but not `name`, which truncates. With a nondeterministic
-- collation the user `a` may equal `A`.
typed as (
    select own.*, concat(format_type(type, null), collating) as type_name,
        typcategory = 'S' and typname <> 'name' and (collating is null or name <> 'user_id') as is_text
    from own join pg_type on oid = type where typtype <> 'd'
),
compared as (
    select *, coalesce(array_to_string(types, ' or '), 'text or another text type') as expected
    from required full join typed using (name)
)

-- `returning` on a partitioned table gives no `xmin`.
select format('it is %s, and only an ordinary table has `xmin`, which ETags are made of',
    case relkind when 'p' then 'a partitioned table' when 'v' then 'a view' when 'm' then 'a view'
        when 'f' then 'a foreign table' else 'no table' end)
from pg_class where oid = to_regclass('tasks') and relkind <> 'r'
union all
(select format(problem, name, type_name, expected)
from pg_class, compared, lateral (values
    (1, type is null, 'it has no column `%1$s` (%3$s)'),
    (2, position > 0 and not coalesce(type_name = any(types), is_text), '`%1$s` is %2$s, not %3$s'),
    (3, name = 'description' and not_null, '`%1$s` is not null, and may have to be null'),
    (4, position > 1 and is_generated, '`%1$s` is a generated column, so no task can be created'),
    (5, name = 'id' and not has_default, '`%1$s` has no default, so no task can be created'),
    (6, name = 'id' and not not_null, '`%1$s` may be null: make it the primary key'),
    (7, position is null and not_null and not has_default,
        '`%1$s` is not null without a default, so no task can be created')
) as problems (number, is_so, problem)
where pg_class.oid = to_regclass('tasks') and relkind = 'r' and is_so
order by position, attnum, number)
