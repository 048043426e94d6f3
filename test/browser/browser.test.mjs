// Each page, in each of its languages, on a phone and on a desk: WCAG 2.2 AA by
// axe with no violation, nothing wider than the screen, no breach of the content
// security policy, everything there without JavaScript, focus that can be seen.
import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import {after, before, describe, it} from 'node:test';
import {chromium} from 'playwright-core';
import {pages, widths} from './pages.mjs';
import {serve} from './server.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

let urls, browser;

before(async () => {
  urls = await serve();
  browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox']});
});

after(async () => {
  await browser?.close();
  await urls?.stop();
});

// open shows a page and gathers what the browser complains of.
async function open(page, lang, width, options = {}) {
  const context = await browser.newContext({viewport: {width, height: 844}, locale: lang, ...options});
  const tab = await context.newPage();
  const complaints = [];
  tab.on('console', (m) => { if (['error', 'warning'].includes(m.type())) complaints.push(m.text()); });
  tab.on('pageerror', (e) => complaints.push(String(e)));
  tab.on('requestfailed', (r) => complaints.push(`${r.url()}: ${r.failure()?.errorText}`));
  const answer = await tab.goto(page.at(urls), {waitUntil: 'load'});
  assert.equal(answer.status(), 200);
  return {tab, answer, complaints, close: () => context.close()};
}

for (const page of pages) {
  describe(page.name, () => {
    for (const [lang, words] of Object.entries(page.says)) {
      for (const width of widths) {
        it(`${lang}, ${width} px`, async () => {
          const {tab, answer, complaints, close} = await open(page, lang, width, {bypassCSP: true});
          try {
            assert.equal(await tab.locator('html').getAttribute('lang'), lang);
            assert.match(await tab.locator('body').innerText(), new RegExp(words));
            assert.match(answer.headers()['content-security-policy'] ?? '', /default-src/);
            const wide = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
            assert.ok(wide <= 0, `the page is ${wide} px wider than the screen`);
            await tab.addScriptTag({path: axe});
            const {violations} = await tab.evaluate((tags) => globalThis.axe.run({runOnly: {type: 'tag', values: tags}}), rules);
            assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`), []);
            assert.deepEqual(complaints, []);
          } finally {
            await close();
          }
        });
      }

      it(`${lang}, without JavaScript and with its policy in force`, async () => {
        const {tab, complaints, close} = await open(page, lang, 390, {javaScriptEnabled: false});
        try {
          assert.match(await tab.locator('body').innerText(), new RegExp(words));
          assert.deepEqual(complaints, []);
        } finally {
          await close();
        }
      });

      it(`${lang}, by keyboard`, async () => {
        const {tab, close} = await open(page, lang, 1280);
        try {
          const seen = new Set();
          for (let n = 0; n < 40; n++) {
            await tab.keyboard.press('Tab');
            const focus = await tab.evaluate(() => {
              const e = document.activeElement;
              if (e === document.body) return null;
              const s = getComputedStyle(e), box = e.getBoundingClientRect();
              return {what: e.outerHTML.slice(0, 80), seen: (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== 'none') && box.width > 0 && box.height > 0};
            });
            if (!focus || seen.has(focus.what)) break;
            seen.add(focus.what);
            assert.ok(focus.seen, `the focus on ${focus.what} cannot be seen`);
          }
          assert.ok(seen.size > 0, 'nothing can be reached');
        } finally {
          await close();
        }
      });
    }
  });
}
