// What the tests in Chromium share: start and end, timeouts, and the lines that tests/frontend/lib.sh reads.
import { chromium } from 'playwright-core'

/** How long anything in the browser may take, in milliseconds. */
export const MAX_WAIT = 15_000
/** How long a program may take, in milliseconds. */
const LIMIT = 240_000

/** Prints a check: its name, what is expected and what was seen, as JSON, with tabs between. */
export function check(name, expected, seen) {
    console.log([name, JSON.stringify(expected), JSON.stringify(seen)].join('\t'))
}

/** Runs `use` with a browser, which ends with it. The environment says where the browser is (CHROMIUM). */
export async function inChromium(use) {
    setTimeout(() => {
        console.error(`the browser took longer than ${LIMIT} ms`)
        process.exit(1)
    }, LIMIT).unref()
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, timeout: 60_000 })
    try {
        await use(browser)
    } finally {
        await browser.close()
    }
}
