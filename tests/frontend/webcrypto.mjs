// Node.js 18, which Debian 12 has, keeps Web Crypto in a module. Better Auth and jose expect the global that 20 has.
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto
