// Uses the page in Chromium as a person would, and says what can be seen there.
//
// node browser.mjs SCENARIO: one of those at the end. Prints a line a check. The environment names the page's server
// (PAGE) and the backend (API).
import { mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MAX_WAIT, check, inChromium } from './chromium.mjs'

const CREDENTIALS = ['omit', 'same-origin', 'include']

const { PAGE, OTHER_PAGE, API, TOKEN, EXPIRED_TOKEN, TOKENS } = process.env

/** A tab with the page, and what its console says. */
class Tab {
    static async open(browser, address, settings) {
        const tab = new Tab()
        const context = await browser.newContext()
        tab.page = await context.newPage()
        tab.page.setDefaultTimeout(MAX_WAIT)
        tab.console = []
        tab.page.on('console', message => tab.console.push(message.text()))
        tab.page.on('pageerror', error => check('the page has no fault', null, String(error)))
        await tab.page.goto(`${address}?${new URLSearchParams({ api: API, ...settings })}`)
        return tab
    }

    /** Does something, and gives the response that the page gets thereupon. */
    async response(action) {
        const before = await this.page.locator('#response').getAttribute('data-responses')
        await action()
        return await this.responseAfter(before)
    }

    async responseAfter(before) {
        const locator = this.page.locator(`#response:not([data-responses="${before}"])`)
        return JSON.parse(await locator.textContent())
    }

    /** The response that the page gets when it opens with a token. */
    firstResponse() {
        return this.responseAfter(0)
    }

    signIn() {
        return this.response(() => this.page.getByRole('button', { name: 'Sign in' }).click())
    }

    create(title, notes = '') {
        return this.response(async () => {
            await this.page.locator('#create [name=title]').fill(title)
            const file = { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from(notes) }
            await this.page.locator('#create [name=notes]').setInputFiles(notes ? [file] : [])
            await this.page.getByRole('button', { name: 'Add' }).click()
        })
    }

    /** Clicks what `selector` finds in the topmost task. */
    inFirst(selector) {
        return this.response(() => this.page.locator('#tasks li').first().locator(selector).click())
    }

    rename(title) {
        return this.response(async () => {
            const row = this.page.locator('#tasks li').first()
            await row.locator('input:not([type=checkbox])').fill(title)
            await row.getByRole('button', { name: 'Save' }).click()
        })
    }

    reload() {
        return this.response(() => this.page.locator('#reload').click())
    }

    alert() {
        return this.page.locator('[role=alert]').textContent()
    }

    async isSignedOut() {
        return (await this.page.locator('#sign-in').isVisible()) && (await this.page.locator('main').isHidden())
    }

    async titles() {
        return this.page.$$eval('#tasks li', rows => rows.map(row => row.querySelectorAll('input')[1].value))
    }

    blockedByCors() {
        return this.console.some(line => line.includes('blocked by CORS policy'))
    }

    close() {
        return this.page.context().close()
    }
}

/** What a page sees of a response, shortened to what is checked. */
function seen({ status, body, error }) {
    return error ?? [status, body.error_code ?? body.title ?? (Array.isArray(body) ? body.length : body)]
}

async function everyday(browser, credentials) {
    const tab = await Tab.open(browser, PAGE, { credentials, tokens: TOKENS })
    const says = what => `credentials ${credentials}: ${what}`
    check(says('somebody who signs in sees an empty list'), [200, 0], seen(await tab.signIn()))
    const created = await tab.create('milk', 'oat')
    check(says('a task can be created'), [201, 'milk'], seen(created))
    check(says('the page can read where it is'), `/api/tasks/${created.body.id}`, created.headers.location)
    check(says('a task can be edited'), [200, 'cream'], seen(await tab.rename('cream')))
    check(says('a task can be done'), true, (await tab.inFirst('[type=checkbox]')).body.completed)
    check(says('and undone'), false, (await tab.inFirst('[type=checkbox]')).body.completed)
    check(says('the list shows all of that'), [200, 1], seen(await tab.reload()))
    check(says('with the new title'), ['cream'], await tab.titles())
    check(says('what the task was before is kept'), 'oat', (await tab.rename('cream')).body.description)

    check(says('422 can be read'), [422, 'VALIDATION_ERROR'], seen(await tab.create('   ')))
    check(says('and says which field'), true, (await tab.alert()).startsWith('body.title: '))
    const large = 'x'.repeat(8 * 1024 * 1024)
    check(says('413 can be read, also where the browser is still sending'), [413, 'PAYLOAD_TOO_LARGE'],
        seen(await tab.create('large', large)))

    const second = await Tab.open(browser, PAGE, { credentials, tokens: TOKENS })
    await second.signIn()
    check(says('a task can be deleted'), [204, ''], seen(await second.inFirst('button:text("Delete")')))
    check(says('and is gone'), [], await second.titles())
    check(says('404 can be read'), [404, 'RESOURCE_NOT_FOUND'], seen(await tab.rename('too late')))
    await second.close()
    await tab.close()
}

async function signedOut(browser, credentials) {
    const says = what => `credentials ${credentials}: ${what}`
    for (const [token, code, what] of [
        [EXPIRED_TOKEN, 'TOKEN_EXPIRED', 'an expired token'],
        ['x.y.z', 'INVALID_TOKEN', 'a token that is none'],
    ]) {
        const tab = await Tab.open(browser, PAGE, { credentials, token })
        const response = await tab.firstResponse()
        check(says(`401 for ${what} can be read`), [401, code], seen(response))
        check(says(`the challenge for ${what}, too`), true,
            response.headers['www-authenticate'].startsWith('Bearer error='))
        check(says(`the page logs out on ${what}`), true, await tab.isSignedOut())
        await tab.close()
    }
}

/** A session at Better Auth is a cookie of this host, which the browser sends to every port of it. */
async function cookieAlone(browser) {
    const tab = await Tab.open(browser, PAGE, { credentials: 'include', tokens: TOKENS })
    await tab.signIn()
    const sent = tab.page.waitForRequest(`${API}/api/tasks`)
    const response = await tab.page.evaluate(async api => {
        const response = await fetch(`${api}/api/tasks`, { credentials: 'include' })
        return [response.status, (await response.json()).error_code]
    }, API)
    const { cookie = '' } = await (await sent).allHeaders()
    check('the browser sends the session cookie along', true, cookie.includes('better-auth.session_token='))
    check('which is no token', [401, 'AUTHENTICATION_REQUIRED'], response)
    await tab.page.locator('#sign-out').click()
    await tab.page.locator('#sign-in').waitFor()
    check('somebody can sign out', true, await tab.isSignedOut())
    check('and in again', [200, 0], seen(await tab.signIn()))
    await tab.close()
}

/** A page that may not read anything: not the list, not that its token is refused, not even that it was malformed. */
async function nothingToSee(browser, what, address) {
    for (const credentials of CREDENTIALS) {
        for (const token of [TOKEN, EXPIRED_TOKEN]) {
            const tab = await Tab.open(browser, address, { credentials, token })
            check(`${what} sees nothing (${credentials}${token === TOKEN ? '' : ', expired token'})`, 'TypeError',
                seen(await tab.firstResponse()))
            check('because the response does not name it', true, tab.blockedByCors())
            if (token === TOKEN) {
                check('nor can it create anything', 'TypeError', seen(await tab.create(`by ${what}`)))
            }
            check('it does not learn whether the token holds', false, await tab.isSignedOut())
            const plain = await tab.page.evaluate(
                api => fetch(`${api}/health`).then(response => response.status, error => error.name), API)
            check('nor sees a response for which no preflight is sent', 'TypeError', plain)
            await tab.close()
        }
    }
}

async function local(browser) {
    const folder = mkdtempSync(join(tmpdir(), 'todo-page-'))
    try {
        const file = join(folder, 'page.html')
        writeFileSync(file, readFileSync(new URL('page.html', import.meta.url)))
        await nothingToSee(browser, 'a local file', pathToFileURL(file).href)
    } finally {
        rmSync(folder, { recursive: true })
    }
}

const scenarios = {
    /** Everything that a person does, in each mode. */
    async use(browser) {
        for (const credentials of CREDENTIALS) {
            await everyday(browser, credentials)
            await signedOut(browser, credentials)
        }
        await cookieAlone(browser)
    },
    /** A page of another origin. */
    async strangers(browser) {
        await nothingToSee(browser, 'a page of another origin', OTHER_PAGE)
    },
    /** Pages whose origin is `null`. */
    async nameless(browser) {
        await nothingToSee(browser, 'a sandboxed page', `${PAGE}/sandboxed`)
        await local(browser)
    },
    /** The database is away. */
    async outage(browser) {
        for (const credentials of CREDENTIALS) {
            const tab = await Tab.open(browser, PAGE, { credentials, token: TOKEN })
            const response = await tab.firstResponse()
            check(`credentials ${credentials}: 503 can be read`, [503, 'SERVICE_UNAVAILABLE'], seen(response))
            check('and when to come again', true, Number(response.headers['retry-after']) > 0)
            check('the page does not log out', false, await tab.isSignedOut())
            check('a write is 503, too', [503, 'SERVICE_UNAVAILABLE'], seen(await tab.create('later')))
            await tab.close()
        }
    },
}

await inChromium(scenarios[process.argv[2]])
