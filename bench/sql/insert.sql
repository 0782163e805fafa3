insert into tasks (user_id, title, description, completed, created_at, updated_at)
values ($1, $2, $3, $4, now(), now())
returning id, user_id, title, description, completed, created_at, updated_at, xmin
