// A client whose types come from openapi.json alone: all six endpoints, and errors. Prints a line a check. The
// environment names the server (API) and a token (TOKEN).
import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

declare const process: { env: Record<string, string | undefined> }
type Task = components['schemas']['Task']

const { API, TOKEN } = process.env
const api = createClient<paths>({ baseUrl: API, headers: { Authorization: `Bearer ${TOKEN}` } })

function check(name: string, expected: unknown, seen: unknown) {
    console.log([name, JSON.stringify(expected), JSON.stringify(seen)].join('\t'))
}

/** The data of a response that has some: an error ends the program. */
function ok<T>({ data, error }: { data?: T; error?: unknown }): T {
    if (data === undefined) throw new Error(JSON.stringify(error))
    return data
}

const created = await api.POST('/api/tasks', { body: { title: 'Buy milk' } })
const task: Task = ok(created)
check('a task can be created', [201, 'Buy milk', null], [created.response.status, task.title, task.description])

const list = await api.GET('/api/tasks', { params: { query: { status: 'pending', sort: 'title', limit: 20 } } })
check('tasks can be listed', [task], ok(list))
check('with their number', '1', list.response.headers.get('X-Total-Count'))

const path = { id: task.id }
const read = await api.GET('/api/tasks/{id}', { params: { path } })
check('a task can be read', task, ok(read))

const seen = { 'If-Match': read.response.headers.get('ETag') ?? '' }
const body = { description: 'two litres' }
const updated = ok(await api.PUT('/api/tasks/{id}', { params: { path, header: seen }, body }))
check('updated', 'two litres', updated.description)
const late = await api.PUT('/api/tasks/{id}', { params: { path, header: seen }, body })
check('but not twice from the same version', [412, 'PRECONDITION_FAILED'],
    [late.response.status, late.error?.error_code])

const complete = '/api/tasks/{id}/complete'
check('completed', true, ok(await api.PATCH(complete, { params: { path }, body: { completed: true } })).completed)
check('toggled', false, ok(await api.PATCH(complete, { params: { path } })).completed)

const deleted = await api.DELETE('/api/tasks/{id}', { params: { path } })
check('and deleted', 204, deleted.response.status)
const gone = await api.GET('/api/tasks/{id}', { params: { path } })
check('a 404 is typed', [404, 'RESOURCE_NOT_FOUND'], [gone.response.status, gone.error?.error_code])

const invalid = await api.POST('/api/tasks', { body: { title: ' ' } })
if (invalid.error?.error_code !== 'VALIDATION_ERROR') throw new Error(JSON.stringify(invalid))
// Here the compiler knows that `detail` is the list of a 422.
check('a 422 is typed, with each field', [['body', 'title'], 'string_too_short'],
    [invalid.error.detail[0]?.loc, invalid.error.detail[0]?.type])

/** What the compiler must refuse; it complains of each line that it accepts. */
export function mistakes() {
    // @ts-expect-error a title is required
    void api.POST('/api/tasks', { body: { description: 'no title' } })
    // @ts-expect-error a title is a string
    void api.POST('/api/tasks', { body: { title: 1 } })
    // @ts-expect-error there is no such path
    void api.GET('/api/todos')
    // @ts-expect-error there is no such order
    void api.GET('/api/tasks', { params: { query: { order: 'up' } } })
    // @ts-expect-error a task has no such field
    return task.done
}
