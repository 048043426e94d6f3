// Every page that people see, in each of its states: how it is reached, its status,
// and in which words each language must greet people; secret: nothing personal may
// stand there. A new page is a new entry.
import {holder} from './city.mjs';

// fill types into a page's form and sends it, as a person does.
const fill = async (tab, field, value) => {
  const into = tab.locator(`#${field}`);
  await (field === 'file' ? into.setInputFiles({name: 'certificato.pdf', mimeType: 'application/pdf', buffer: value}) : into.fill(value));
  return send(tab, tab.locator(`form:has(#${field}) button`));
};

const send = async (tab, button) => {
  const [answer] = await Promise.all([tab.waitForResponse((r) => r.request().isNavigationRequest() && r.status() !== 303), button.click()]);
  await tab.waitForLoadState('load');
  return answer;
};

export const pages = [
  {name: 'first page', at: ({public: url}) => `${url}/`, status: 200,
    says: {it: 'Che cosa è in funzione', en: 'What is running', de: 'Was in Betrieb ist', fr: 'Ce qui est en service'}},
  {name: 'back from paying', at: ({public: url}) => `${url}/?esito=ok`, status: 200,
    says: {it: 'non devi fare altro', en: 'nothing more to do', de: 'nichts weiter tun', fr: 'plus rien à faire'}},

  {name: 'valid document', at: ({valid}) => valid.verify, status: 200, secret: true,
    says: {it: 'Questo documento è valido', en: 'This document is valid', de: 'Dieses Dokument ist gültig', fr: 'Ce document est valide'}},
  {name: 'withdrawn document', at: ({withdrawn}) => withdrawn.verify, status: 200, secret: true,
    says: {it: 'è stato ritirato', en: 'has been withdrawn', de: 'wurde zurückgezogen', fr: 'a été retiré'}},
  {name: 'unknown code', at: ({public: url}) => `${url}/verifica/AAAAAAAAAAAAAAAAAAAAAAAAAA`, status: 404, secret: true,
    says: {it: 'Documento non trovato', en: 'Document not found', de: 'Dokument nicht gefunden', fr: 'Document introuvable'}},
  {name: 'another codice fiscale', at: ({valid}) => valid.verify, status: 422, secret: true,
    then: async (tab, {forgive}) => { await forgive(); return fill(tab, 'tax_code', 'VRDLGU80A01H501X'); },
    says: {it: 'non è dell.intestatario', en: 'not the tax code', de: 'gehört nicht zu diesem', fr: 'pas celui du titulaire'}},
  {name: 'holder shown', at: ({valid}) => valid.verify, status: 200, then: (tab) => fill(tab, 'tax_code', holder.toLowerCase()),
    says: {it: 'Che cosa dice il documento[^]*ROSSI', en: 'What the document says[^]*ROSSI', de: 'Was im Dokument steht[^]*ROSSI', fr: 'Ce que dit le document[^]*ROSSI'}},
  {name: 'family shown', at: ({withdrawn}) => withdrawn.verify, status: 200, then: (tab) => fill(tab, 'tax_code', holder),
    says: {it: 'Componenti della famiglia', en: 'Members of the family', de: 'Mitglieder der Familie', fr: 'Membres de la famille'}},
  {name: 'same file', at: ({valid}) => valid.verify, status: 200, secret: true, then: (tab, {valid}) => fill(tab, 'file', valid.pdf),
    says: {it: 'è identico', en: 'is identical', de: 'identisch', fr: 'est identique'}},
  {name: 'another file', at: ({valid}) => valid.verify, status: 200, secret: true, then: (tab, {withdrawn}) => fill(tab, 'file', withdrawn.pdf),
    says: {it: 'non è il documento sigillato', en: 'not the sealed document', de: 'nicht das gesiegelte', fr: 'pas le document scellé'}},
  {name: 'empty file', at: ({valid}) => valid.verify, status: 400, secret: true, then: (tab) => fill(tab, 'file', Buffer.alloc(0)),
    says: {it: 'Non è arrivato nessun file', en: 'No file arrived', de: 'keine Datei angekommen', fr: "Aucun fichier n.est arrivé"}},
  {name: 'too many tries', at: ({closed}) => closed, status: 429, secret: true, then: (tab) => fill(tab, 'tax_code', holder),
    says: {it: 'Troppi tentativi', en: 'Too many wrong tries', de: 'Zu viele falsche', fr: 'Trop d.essais'}},

  {name: 'payment', at: ({pay}) => pay, status: 200, says: {it: '5,50 €[^]*Paga', en: '€5.50[^]*Pay', de: '5,50 €[^]*Bezahlen', fr: '5,50 €[^]*Payer'}},
  {name: 'payment of a cart', at: ({cart}) => cart, status: 200, says: {it: '11,00 €', en: '€11.00', de: '11,00 €', fr: '11,00 €'}},
  {name: 'payment made', at: ({settled}) => settled, status: 200,
    says: {it: 'Pagamento eseguito', en: 'Payment made', de: 'Zahlung ausgeführt', fr: 'Paiement effectué'}},
  {name: 'payment refused', at: ({changed}) => changed, status: 200,
    says: {it: 'Pagamento non possibile', en: 'Payment not possible', de: 'Zahlung nicht möglich', fr: 'Paiement impossible'}},
  {name: 'payment refused on the button', at: ({pay}) => pay, status: 200,
    then: async (tab, {fault}) => {
      await fault(true);
      try { return await send(tab, tab.locator('form button').first()); } finally { await fault(false); }
    },
    says: {it: 'Pagamento non riuscito[^]*scaduto', en: 'Payment not made[^]*expired', de: 'Zahlung nicht ausgeführt[^]*abgelaufen', fr: 'Paiement non effectué[^]*expiré'}},
  {name: 'payment cancelled', at: ({pay}) => pay, status: 200, then: (tab) => send(tab, tab.locator('form button').last()),
    says: {it: 'Hai lasciato il pagamento', en: 'left the payment', de: 'Zahlung verlassen', fr: 'quitté le paiement'}},
  {name: 'no page of payment', at: ({city}) => `${city}/pagopa/checkout/pay/none`, status: 404,
    says: {it: 'Pagina non trovata', en: 'Page not found', de: 'Seite nicht gefunden', fr: 'Page introuvable'}},
];
