// What must have happened in the city before the pages can be looked at: documents
// asked, paid on the page of payment as a person pays, issued, withdrawn.
import assert from 'node:assert/strict';
import {setTimeout as pause} from 'node:timers/promises';

export const holder = 'RSSMRA80A01L736U';

export async function prepare(server) {
  const token = await server.token(holder);
  let n = 0;
  const ask = async (method, url, body) => {
    const answer = await fetch(url, {method, headers: {Authorization: `Bearer ${token}`, 'Content-Type': 'application/json'}, body: body && JSON.stringify(body)});
    assert.ok(answer.ok, `${method} ${url}: ${answer.status}`);
    return answer;
  };
  const order = async (path, more) => (await ask('POST', `${server.public}/v1/${path}`, {request_id: `browser-${n++}`, tax_code: holder, ...more})).json();
  const notice = () => order('payments/notices', {service: 'library-fee', amount: 550});
  const pay = async (page) => {
    const answer = await fetch(`${page}/paga`, {method: 'POST', redirect: 'manual'});
    assert.equal(answer.status, 303, `paying on ${page}`);
  };

  // A certificate, followed until it is there.
  const certificate = async (kind) => {
    const {pay_at, follow_at} = await order(`certificates/${kind}`);
    await pay(pay_at);
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await pause(50)) {
      const run = await (await ask('GET', follow_at)).json();
      if (run.state !== 'done') continue;
      const pdf = Buffer.from(await (await ask('GET', run.result.certificate_url)).arrayBuffer());
      return {verify: run.result.verify_url, pdf};
    }
    throw new Error(`the certificate (${kind}) was not issued within 20 s`);
  };

  // A page of Checkout for several notices, as an ente's portal asks for it.
  const cart = async (notices, amount = 550) => {
    const back = `${server.public}/?esito=`;
    const answer = await fetch(`${server.city}/pagopa/checkout/ec/v1/carts`, {
      method: 'POST', redirect: 'manual', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({
        paymentNotices: notices.map((x) => ({noticeNumber: x.notice_number, fiscalCode: '00339370272', amount, companyName: 'Comune di Venezia', description: 'Biblioteca civica'})),
        returnUrls: {returnOkUrl: `${back}ok`, returnCancelUrl: `${back}annullato`, returnErrorUrl: `${back}errore`},
      }),
    });
    assert.equal(answer.status, 302, `making a cart: ${await answer.text()}`);
    return answer.headers.get('location');
  };

  const [valid, family, closed, a, b, settled] = await Promise.all([
    certificate('residence'), certificate('family'), certificate('civil-status'), notice(), notice(), notice()]);
  await server.dime('documents', 'withdraw', new URL(family.verify).pathname.split('/').pop(), '--reason', 'a test', '--as', 'browser', '--admin', server.admin);
  const type = (page, text) => fetch(page, {method: 'POST', body: new URLSearchParams({tax_code: text})});
  for (let tries = 0; tries < 5; tries++) assert.equal((await type(closed.verify, 'X')).status, 422);
  await pay(settled.pay_at);
  return {
    valid, withdrawn: family, closed: closed.verify, settled: settled.pay_at, pay: a.pay_at,
    cart: await cart([a, b]), changed: await cart([a], 551),
    fault: (on) => server.dime('city', 'fault', 'pagopa.node.PAA_PAGAMENTO_SCADUTO', on ? 'on' : 'off', '--city', server.city),
    // The right codice fiscale takes back the wrong ones that were counted.
    forgive: async () => assert.equal((await type(valid.verify, holder)).status, 200),
  };
}
