with matching as not materialized (
select id, user_id, title, description, completed, created_at, updated_at from tasks where user_id = $1),
page as (select * from matching order by created_at desc, id desc limit $4 offset $5)
select page.*, total from (select count(*) as total from matching) as counted left join page on true
order by created_at desc, id desc
