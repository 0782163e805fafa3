-- The statements that give the role what it lacks on the table `tasks`, and none where there is no such table. A policy
-- that exists may still hide tasks: only trying shows that.

select format('grant %s on tasks to %I', string_agg(name, ', '), current_user)
from unnest(array['select', 'insert', 'update', 'delete']) as name
where not case name when 'delete' then has_table_privilege(to_regclass('tasks'), name)
    else has_any_column_privilege(to_regclass('tasks'), name) end
having count(*) > 0
union all
select format('grant usage on sequence %s to %I', name, current_user)
from pg_get_serial_sequence(to_regclass('tasks')::text, 'id') as name, pg_attribute
where attrelid = to_regclass('tasks') and attname = 'id' and attidentity = ''
    and not has_sequence_privilege(name, 'usage, update')
union all
select format('create policy todo_backend on tasks to %I using (true)', current_user)
where row_security_active(to_regclass('tasks')) and not exists (
    select from pg_policy where polrelid = to_regclass('tasks')
        and (polroles = '{0}' or exists (select from unnest(polroles) as role where pg_has_role(role, 'usage')))
)
