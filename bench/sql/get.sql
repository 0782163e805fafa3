select id, user_id, title, description, completed, created_at, updated_at, xmin from tasks
where user_id = $1 and id = $2
