// Each page, in each of its states and languages, on a phone and on a desk: WCAG 2.2
// AA by axe with no violation, nothing wider than the screen, the whole of it within
// reach of the keyboard and there without JavaScript, nothing fetched from another
// host, no breach of the content security policy, and little to load.
// DIME_PAGES=FOLDER keeps a picture of each, to look at.
import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {after, before, describe, it} from 'node:test';
import {gzipSync} from 'node:zlib';
import {chromium} from 'playwright-core';
import {holder, prepare} from './city.mjs';
import {pages} from './pages.mjs';
import {serve} from './server.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const maxWeight = 150_000; // of a page's HTML and CSS, packed

let server, state, browser;

before(async () => {
  server = await serve();
  state = {...server, ...await prepare(server)};
  browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox']});
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

// open is a browser of one language and screen, with what it complains of.
async function open(lang, screen, options) {
  // A phone's screen: the browser's own device metrics, not a small window.
  const context = await browser.newContext({viewport: screen, screen, isMobile: screen.width < 600, reducedMotion: 'reduce', locale: lang, ...options});
  if (options.javaScriptEnabled !== false) await context.addInitScript(axe); // past the page's policy, which stays in force
  const tab = await context.newPage();
  const complaints = [];
  const own = [new URL(state.public).origin, new URL(state.city).origin];
  tab.setDefaultTimeout(15_000);
  tab.on('console', (m) => {
    // The browser notes the status of the page itself; the test knows better which it must be.
    const status = m.text().startsWith('Failed to load resource') && m.location().url === tab.url();
    if (['error', 'warning'].includes(m.type()) && !status) complaints.push(m.text());
  });
  tab.on('pageerror', (e) => complaints.push(String(e)));
  tab.on('requestfailed', (r) => complaints.push(`${r.url()}: ${r.failure()?.errorText}`));
  tab.on('request', (r) => { if (!r.url().startsWith('data:') && !own.includes(new URL(r.url()).origin)) complaints.push(`it fetches ${r.url()}`); });
  return {tab, complaints, close: () => context.close()};
}

// show reaches a page in its state, hands it to look, and judges what must hold of
// every page however it is looked at.
async function show({tab, complaints}, page, lang, look) {
  complaints.length = 0;
  let answer = await tab.goto(page.at(state), {waitUntil: 'load'});
  if (page.then) answer = await page.then(tab, state);
  assert.equal(answer.status(), page.status);
  assert.match(answer.headers()['content-security-policy'] ?? '', /^default-src 'none'/);
  assert.equal(answer.headers()['content-language'], lang);
  assert.match(await tab.locator('body').innerText(), new RegExp(page.says[lang]));
  const html = await tab.content();
  if (page.secret) assert.doesNotMatch(html, new RegExp(`${holder}|Rossi`, 'i'), 'it shows personal data');
  await look(tab, html);
  assert.deepEqual(complaints, []);
}

async function accessible(tab) {
  const {violations} = await tab.evaluate((tags) => globalThis.axe.run({runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']}), rules);
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`), []);
}

async function narrow(tab, screen) {
  const {inner, wide} = await tab.evaluate(() => ({inner: innerWidth, wide: document.documentElement.scrollWidth}));
  assert.equal(inner, screen.width);
  assert.ok(wide <= screen.width, `the page is ${wide} px wide`);
}

const sheets = new Map(); // address -> bytes packed

async function light(tab, html) {
  const links = await tab.locator('link[rel="stylesheet"]').evaluateAll((all) => all.map((x) => x.href));
  assert.ok(links.length > 0, 'the page has no style sheet');
  let weight = gzipSync(html).length;
  for (const link of links) {
    if (!sheets.has(link)) {
      const answer = await fetch(link);
      assert.equal(answer.status, 200, link);
      sheets.set(link, gzipSync(Buffer.from(await answer.arrayBuffer())).length);
    }
    weight += sheets.get(link);
  }
  assert.ok(weight <= maxWeight, `HTML and CSS weigh ${weight} bytes packed`);
}

// reachable walks through the page by keyboard alone: the skip link first, which
// leads to the main part, then everything that can be used, in the order in which it
// is read, each with a focus that can be seen.
async function reachable(tab) {
  const focus = () => tab.evaluate(() => {
    const all = [...document.querySelectorAll('a[href], button, input, [tabindex="0"]')];
    const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
    const above = Math.max(box.top, 0), below = Math.min(box.bottom, innerHeight);
    const top = document.elementFromPoint(box.left + box.width / 2, (above + below) / 2);
    return {
      at: all.indexOf(e), of: all.length, id: e.id, what: e.outerHTML.slice(0, 100),
      drawn: `${s.outline}; ${s.boxShadow}`,
      ring: (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && !/^rgba\(.*, 0\)$|^transparent/.test(s.outlineColor) || s.boxShadow !== 'none') && box.width > 0 && box.height > 0,
      shown: above < below && e.contains(top),
    };
  });
  await tab.evaluate(() => { history.replaceState(null, '', location.pathname + location.search); scrollTo(0, 0); document.activeElement?.blur(); });
  await tab.keyboard.press('Tab');
  let now = await focus();
  while (now.at > 0) { // after a form's fragment the browser goes on from there: back to the beginning
    await tab.keyboard.press('Shift+Tab');
    now = await focus();
  }
  for (let n = 0; n < now.of; n++) {
    assert.equal(now.at, n, `the keyboard goes to ${now.what}`);
    assert.ok(now.ring, `the focus on ${now.what} can't be seen (${now.drawn})`);
    assert.ok(now.shown, `${now.what} has the focus and is hidden`);
    await tab.keyboard.press('Tab');
    now = await focus();
  }
  await tab.locator('.skiplinks a').focus();
  await tab.keyboard.press('Enter');
  assert.equal((await focus()).id, 'main', 'the skip link does not lead to the main part');
}

const keep = process.env.DIME_PAGES;
const looks = [
  {name: 'phone', screen: {width: 390, height: 844}, look: async (tab, html) => light(tab, html)},
  {name: 'desk', screen: {width: 1280, height: 900}, look: reachable},
];

for (const lang of ['it', 'en', 'de', 'fr']) {
  for (const {name, screen, look} of looks) {
    describe(`${lang}, ${name}`, () => {
      let at;
      before(async () => { at = await open(lang, screen, {}); });
      after(() => at?.close());
      for (const page of pages) {
        it(page.name, () => show(at, page, lang, async (tab, html) => {
          await narrow(tab, screen);
          await accessible(tab);
          if (keep) await tab.screenshot({path: join(keep, `${page.name.replaceAll(' ', '-')}-${lang}-${name}.png`), fullPage: true});
          await look(tab, html);
        }));
      }
    });
  }
  describe(`${lang}, without JavaScript`, () => {
    let at;
    before(async () => { at = await open(lang, looks[0].screen, {javaScriptEnabled: false}); });
    after(() => at?.close());
    for (const page of pages) it(page.name, () => show(at, page, lang, async () => {}));
  });
}

// What the judges above would not see, no page here would be rid of.
it('a bad page is found out', async () => {
  const {tab, complaints, close} = await open('it', looks[0].screen, {});
  try {
    await tab.goto(state.public);
    await tab.evaluate(() => {
      document.querySelector('main').innerHTML = '<p><img src="https://elsewhere.example/x.png"></p><p id="wide">wide</p>';
      document.getElementById('wide').style.width = '2000px';
      for (const a of document.querySelectorAll('a')) for (const how of ['outline', 'box-shadow']) a.style.setProperty(how, 'none', 'important');
    });
    assert.ok(complaints.some((c) => /Content Security Policy/.test(c)), complaints.join());
    await assert.rejects(accessible(tab), /image-alt/);
    await assert.rejects(narrow(tab, looks[0].screen), {name: 'AssertionError'});
    await assert.rejects(reachable(tab), /can't be seen/);
  } finally {
    await close();
  }
});
