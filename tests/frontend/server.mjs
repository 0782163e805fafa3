// A frontend's server as people write it: Better Auth over the database that also holds the tasks, routes that mint
// tokens with its secret, and one page. What would be mailed is kept and shown at /mails. The environment decides:
//
// PORT                   where it listens, on the loopback address
// NEON_DATABASE_URL      where Better Auth keeps its tables; made if they are not there
// BETTER_AUTH_SECRET, BETTER_AUTH_SECRETS   read by Better Auth itself
// ALGORITHM              what the plugin `jwt()` signs with; EdDSA if not set, as by default
// TOKEN_LIFETIME         how long its tokens hold, as `15m`, which is the default
// CACHE_SECONDS          how long the session's cookie cache holds
// CACHE_BY_PLUGIN        if set, the plugin signs that cache, too
import './webcrypto.mjs'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { fromNodeHeaders, toNodeHandler } from 'better-auth/node'
import { jwt } from 'better-auth/plugins'
import { SignJWT } from 'jose'
import jsonwebtoken from 'jsonwebtoken'
import pg from 'pg'

const { env } = process
const origin = `http://localhost:${env.PORT}`
const page = readFileSync(new URL('page.html', import.meta.url))
const secret = env.BETTER_AUTH_SECRET
const mails = []

const pool = new pg.Pool({ connectionString: env.NEON_DATABASE_URL })
pool.on('error', () => {}) // an idle connection was lost: the database may be stopped by a test

const auth = betterAuth({
    baseURL: origin,
    database: pool,
    telemetry: { enabled: false },
    emailAndPassword: { enabled: true },
    emailVerification: {
        sendOnSignUp: true,
        sendVerificationEmail: async ({ user, token }) => mail('verification', user.email, token),
    },
    user: {
        changeEmail: {
            enabled: true,
            sendChangeEmailConfirmation: async ({ user, token }) => mail('confirmation of a change', user.email, token),
        },
    },
    session: {
        cookieCache: { enabled: true, strategy: 'jwt', maxAge: Number(env.CACHE_SECONDS ?? 300) },
    },
    plugins: [
        jwt({
            jwks: { keyPairConfig: { alg: env.ALGORITHM ?? 'EdDSA' }, rotationInterval: 30 * 24 * 3600 },
            jwt: { expirationTime: env.TOKEN_LIFETIME ?? '15m' },
            sessionCookieCache: Boolean(env.CACHE_BY_PLUGIN),
        }),
    ],
})

function mail(subject, to, token) {
    mails.push({ subject, to, token })
}

/** Tokens that a project mints itself for whoever is signed in, for as many seconds as are asked for. */
const minting = {
    jose: ({ user }, seconds) =>
        new SignJWT({ sub: user.id, email: user.email, name: user.name })
            .setProtectedHeader({ alg: 'HS256' })
            .setIssuedAt()
            .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
            .sign(new TextEncoder().encode(secret)),
    jsonwebtoken: ({ user }, seconds) =>
        jsonwebtoken.sign({ userId: user.id, email: user.email }, secret, { algorithm: 'HS256', expiresIn: seconds }),
}

async function mint(request, response, library, seconds) {
    const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) })
    if (session) {
        json(response, 200, { token: await minting[library](session, seconds) })
    } else {
        json(response, 401, { message: 'Nobody is signed in' })
    }
}

function json(response, status, body) {
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
}

const betterAuthRoutes = toNodeHandler(auth)

async function serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, origin)
    if (pathname.startsWith('/api/auth/')) {
        await betterAuthRoutes(request, response)
    } else if (pathname === '/api/token/jose' || pathname === '/api/token/jsonwebtoken') {
        await mint(request, response, pathname.split('/').pop(), Number(searchParams.get('seconds') ?? 3600))
    } else if (pathname === '/mails') {
        json(response, 200, mails)
    } else if (pathname === '/') {
        response.writeHead(200, { 'Content-Type': 'text/html' }).end(page)
    } else if (pathname === '/sandboxed') {
        // As in a sandboxed frame: the page's origin is `null`.
        const headers = { 'Content-Type': 'text/html', 'Content-Security-Policy': 'sandbox allow-scripts allow-forms' }
        response.writeHead(200, headers).end(page)
    } else {
        json(response, 404, { message: 'Not found' })
    }
}

const { runMigrations } = await getMigrations(auth.options)
await runMigrations()
createServer((request, response) => {
    serve(request, response).catch(error => {
        console.error(error)
        json(response, 500, { message: String(error) })
    })
}).listen(Number(env.PORT), '127.0.0.1')
