update tasks set completed = $3, updated_at = now() where user_id = $1 and id = $2
returning id, user_id, title, description, completed, created_at, updated_at, xmin
