// The real binary with the shipped content, on free ports, until stop is called.
import {spawn} from 'node:child_process';
import {mkdtemp, readFile, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export async function serve() {
  const dir = await mkdtemp(join(tmpdir(), 'dime-browser-'));
  const ready = join(dir, 'ready.json');
  let log = '';
  const process = spawn(join(root, 'bin', 'dime'), ['serve', '--content', root, '--data', join(dir, 'data'), '--city', 'embedded',
    '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--ready-file', ready], {stdio: ['ignore', 'pipe', 'pipe']});
  const ended = new Promise((done) => process.once('exit', done));
  for (const out of [process.stdout, process.stderr]) out.on('data', (b) => { log += b; });
  const stop = async () => {
    process.kill('SIGTERM');
    await ended;
    await rm(dir, {recursive: true, force: true});
  };
  for (const deadline = Date.now() + 30_000; Date.now() < deadline && process.exitCode === null; await pause(20)) {
    try {
      return {...JSON.parse(await readFile(ready, 'utf8')), stop};
    } catch { /* not there yet */ }
  }
  await stop();
  throw new Error(`bin/dime did not come up (run make build first):\n${log}`);
}
