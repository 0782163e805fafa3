// Uses /docs in Chromium as a person would.
//
// node docs.mjs SCENARIO: one of those at the end. Prints a line a check. The environment names the server (API), a
// token (TOKEN), and a file for a picture if one is wanted (SCREENSHOT).
import { MAX_WAIT, check, inChromium } from './chromium.mjs'

const { API, TOKEN, SCREENSHOT } = process.env

/** A tab with the page, what its console complains of, and the addresses that it asks for. */
class Docs {
    static async open(browser, path) {
        const docs = new Docs()
        docs.page = await browser.newPage({ viewport: { width: 1000, height: 700 } })
        docs.page.setDefaultTimeout(MAX_WAIT)
        docs.complaints = []
        docs.requests = []
        docs.page.on('console', message => docs.complaints.push(message.text()))
        docs.page.on('pageerror', error => docs.complaints.push(String(error)))
        docs.page.on('request', request => docs.requests.push(request.url()))
        await docs.page.goto(API + path)
        await docs.page.locator('.opblock').first().waitFor()
        return docs
    }

    async authorize(token) {
        await this.page.locator('.auth-wrapper .authorize').first().click()
        const dialog = this.page.locator('.dialog-ux')
        await dialog.getByRole('textbox').fill(token)
        await dialog.getByRole('button', { name: 'Apply credentials' }).click()
        await dialog.locator('.btn-done').click()
    }

    /** Presses *Try it out* and *Execute* of an operation, with another body if one is given. Status and text shown. */
    async execute(operation, body) {
        const block = this.page.locator(`.opblock[id$="-${operation}"]`)
        const clear = block.locator('.btn-clear')
        if (await clear.count()) {
            await clear.click()
        } else {
            await block.locator('.opblock-summary-control').click()
            await block.getByRole('button', { name: 'Try it out' }).click()
        }
        if (body !== undefined) await block.locator('textarea.body-param__text').fill(body)
        await block.locator('.btn.execute').click()
        const response = block.locator('.live-responses-table tbody tr.response')
        const status = Number.parseInt(await response.locator('.response-col_status').textContent())
        const code = response.locator('.response-col_description .highlight-code code').first()
        return [status, (await code.count()) ? await code.textContent() : '']
    }

    /** What is open slows the page down. */
    close(operation) {
        return this.page.locator(`.opblock[id$="-${operation}"] .opblock-summary-control`).click()
    }

    operations() {
        return this.page.$$eval('.opblock', blocks => blocks.map(block => block.id.split('-').pop()))
    }
}

/** Status and a part of the JSON that the page shows. */
function seen([status, text], part) {
    return [status, part(JSON.parse(text))]
}

const code = error => error.error_code
const scenarios = {
    async use(browser) {
        const docs = await Docs.open(browser, '/docs')
        check('without a token the page shows the 401', [401, 'AUTHENTICATION_REQUIRED'],
            seen(await docs.execute('listTasks'), code))
        await docs.authorize(TOKEN)
        check('with one a task can be created from the example', [201, 'Buy milk'],
            seen(await docs.execute('createTask'), task => task.title))
        check('listed', [200, 1], seen(await docs.execute('listTasks'), tasks => tasks.length))
        check('completed', [200, true], seen(await docs.execute('completeTask'), task => task.completed))
        check('toggled', [200, false], seen(await docs.execute('completeTask', '{}'), task => task.completed))
        check('a title of spaces gets a 422 that the page shows', [422, 'string_too_short'],
            seen(await docs.execute('createTask', '{"title": " "}'), error => error.detail[0].type))
        const operations = await docs.operations()
        check('the page has every operation', 18, operations.length)
        const done = ['listTasks', 'createTask', 'deleteTask']
        for (const operation of operations.filter(operation => !done.includes(operation))) {
            check(`${operation} works with what is filled in`, 200, (await docs.execute(operation))[0])
            await docs.close(operation)
        }
        check('a task can be deleted', [204, ''], await docs.execute('deleteTask'))
        check('the list is empty then', [200, 0], seen(await docs.execute('listTasks'), tasks => tasks.length))
        if (SCREENSHOT) await docs.page.screenshot({ path: SCREENSHOT })
        check('nothing was asked of another host', [], docs.requests.filter(url => !url.startsWith(`${API}/`)))
        const expected = status => `Failed to load resource: the server responded with a status of ${status}`
        check('the console complains of the two errors alone', [true, true, 2], [
            docs.complaints[0]?.startsWith(expected(401)), docs.complaints[1]?.startsWith(expected(422)),
            docs.complaints.length,
        ])
    },
    /** The same page one level deeper, so that its relative addresses differ. */
    async slash(browser) {
        const docs = await Docs.open(browser, '/docs/')
        check('/docs/ shows the same', 18, (await docs.operations()).length)
        check('without a complaint', [], docs.complaints)
    },
}

await inChromium(scenarios[process.argv[2]])
