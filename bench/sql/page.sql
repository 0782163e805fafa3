select id, user_id, title, description, completed, created_at, updated_at,
(select count(*) from tasks where user_id = $1) as total
from tasks where user_id = $1 order by created_at desc, id desc limit $4
