// The real binary with the shipped content, on free ports, until stop is called.
import {execFile, spawn} from 'node:child_process';
import {mkdtemp, readFile, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const binary = process.env.DIME_BINARY ?? join(root, 'bin', 'dime');
const run = promisify(execFile);

export async function serve() {
  const dir = await mkdtemp(join(tmpdir(), 'dime-browser-'));
  const data = join(dir, 'data'), ready = join(dir, 'ready.json');
  let log = '';
  const server = spawn(binary, ['serve', '--content', root, '--data', data, '--city', 'embedded',
    '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--ready-file', ready], {stdio: ['ignore', 'pipe', 'pipe']});
  const ended = new Promise((done) => server.once('exit', done));
  for (const out of [server.stdout, server.stderr]) out.on('data', (b) => { log += b; });
  const stop = async () => {
    server.kill('SIGTERM');
    await ended;
    await rm(dir, {recursive: true, force: true});
  };
  for (const deadline = Date.now() + 30_000; Date.now() < deadline && server.exitCode === null; await pause(20)) {
    try {
      const urls = JSON.parse(await readFile(ready, 'utf8'));
      const dime = async (...args) => (await run(binary, args)).stdout.trim();
      return {...urls, stop, dime, token: (citizen) => dime('token', '--data', data, '--citizen', citizen, '--assurance', '2')};
    } catch { /* not there yet */ }
  }
  await stop();
  throw new Error(`${binary} did not come up (run make build first):\n${log}`);
}
