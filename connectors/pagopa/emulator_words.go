package pagopa

// emWords are the texts of the page of payment in one language.
type emWords struct {
	Name, Tagline, Lead, Company, Description, Notice, Amount, Total, Code string
	Pay, Cancel, Back, DoneText                                            string

	payment, impossible, failed, done, noPage, noPageText, noNotice, noNoticeText string // titles and what is wrong
	unknown, duplicate, expired, cancelled, running, other                        string // why a notice can't be paid
}

func emWordsIn(lang string) emWords {
	switch lang {
	case "en":
		return emWords{
			Name: "pagoPA della città virtuale", Tagline: "The virtual city: no money moves", Lead: "Check what you are about to pay.",
			Company: "Creditor", Description: "Reason for payment", Notice: "Notice number", Amount: "Amount", Total: "Total", Code: "Code",
			Pay: "Pay", Cancel: "Cancel", Back: "Go back to the creditor", DoneText: "The payment has been made. The receipt goes to the creditor.",
			payment: "Payment", impossible: "Payment not possible", failed: "Payment not made", done: "Payment made",
			noPage: "Page not found", noPageText: "This payment page does not exist or has expired.", noNotice: "Unknown notice", noNoticeText: "No creditor of this city has issued this notice.",
			unknown: "The creditor does not know this notice. Check its number.", duplicate: "This notice has already been paid.",
			expired: "This notice has expired. Ask the creditor for a new one.", cancelled: "The creditor has cancelled this notice.",
			running: "A payment of this notice is already under way. Try again in a few minutes.", other: "This notice can't be paid at the moment. Nothing has been charged for it: try again later.",
		}
	case "de":
		return emWords{
			Name: "pagoPA della città virtuale", Tagline: "Die virtuelle Stadt: Es fließt kein Geld", Lead: "Prüfen Sie, was Sie bezahlen.",
			Company: "Gläubigerkörperschaft", Description: "Zahlungsgrund", Notice: "Nummer der Zahlungsmitteilung", Amount: "Betrag", Total: "Gesamtbetrag", Code: "Code",
			Pay: "Bezahlen", Cancel: "Abbrechen", Back: "Zurück zur Körperschaft", DoneText: "Die Zahlung wurde ausgeführt. Die Quittung geht an die Körperschaft.",
			payment: "Zahlung", impossible: "Zahlung nicht möglich", failed: "Zahlung nicht ausgeführt", done: "Zahlung ausgeführt",
			noPage: "Seite nicht gefunden", noPageText: "Diese Zahlungsseite gibt es nicht, oder sie ist abgelaufen.", noNotice: "Unbekannte Zahlungsmitteilung", noNoticeText: "Keine Körperschaft dieser Stadt hat diese Zahlungsmitteilung ausgestellt.",
			unknown: "Die Körperschaft kennt diese Zahlungsmitteilung nicht. Prüfen Sie die Nummer.", duplicate: "Diese Zahlungsmitteilung wurde bereits bezahlt.",
			expired: "Diese Zahlungsmitteilung ist abgelaufen. Bitten Sie die Körperschaft um eine neue.", cancelled: "Die Körperschaft hat diese Zahlungsmitteilung annulliert.",
			running: "Für diese Zahlungsmitteilung läuft bereits eine Zahlung. Versuchen Sie es in einigen Minuten wieder.", other: "Diese Zahlungsmitteilung kann zurzeit nicht bezahlt werden. Es wurde dafür nichts abgebucht: Versuchen Sie es später wieder.",
		}
	case "fr":
		return emWords{
			Name: "pagoPA della città virtuale", Tagline: "La ville virtuelle : aucun argent ne circule", Lead: "Vérifiez ce que vous allez payer.",
			Company: "Organisme créancier", Description: "Motif du paiement", Notice: "Numéro de l'avis", Amount: "Montant", Total: "Total", Code: "Code",
			Pay: "Payer", Cancel: "Annuler", Back: "Revenir à l'organisme", DoneText: "Le paiement a été effectué. Le reçu est transmis à l'organisme.",
			payment: "Paiement", impossible: "Paiement impossible", failed: "Paiement non effectué", done: "Paiement effectué",
			noPage: "Page introuvable", noPageText: "Cette page de paiement n'existe pas ou a expiré.", noNotice: "Avis inconnu", noNoticeText: "Aucun organisme de cette ville n'a émis cet avis.",
			unknown: "L'organisme ne connaît pas cet avis. Vérifiez son numéro.", duplicate: "Cet avis a déjà été payé.",
			expired: "Cet avis a expiré. Demandez-en un nouveau à l'organisme.", cancelled: "L'organisme a annulé cet avis.",
			running: "Un paiement de cet avis est déjà en cours. Réessayez dans quelques minutes.", other: "Cet avis ne peut pas être payé pour le moment. Rien n'a été débité pour lui : réessayez plus tard.",
		}
	}
	return emWords{
		Name: "pagoPA della città virtuale", Tagline: "La città virtuale: nessun denaro si muove", Lead: "Controlla che cosa stai per pagare.",
		Company: "Ente creditore", Description: "Causale", Notice: "Numero avviso", Amount: "Importo", Total: "Totale", Code: "Codice",
		Pay: "Paga", Cancel: "Annulla", Back: "Torna all'ente", DoneText: "Il pagamento è stato eseguito. La ricevuta arriva all'ente.",
		payment: "Pagamento", impossible: "Pagamento non possibile", failed: "Pagamento non riuscito", done: "Pagamento eseguito",
		noPage: "Pagina non trovata", noPageText: "Questa pagina di pagamento non esiste o è scaduta.", noNotice: "Avviso sconosciuto", noNoticeText: "Nessun ente di questa città ha emesso questo avviso.",
		unknown: "L'avviso non risulta all'ente. Controlla il numero dell'avviso.", duplicate: "Questo avviso è già stato pagato.",
		expired: "Questo avviso è scaduto. Rivolgiti all'ente per averne uno nuovo.", cancelled: "L'ente ha annullato questo avviso.",
		running: "C'è già un pagamento in corso per questo avviso. Riprova fra qualche minuto.", other: "Al momento questo avviso non si può pagare. Per esso nessun importo è stato addebitato: riprova più tardi.",
	}
}

// sorry says a fault to a person.
func (w emWords) sorry(code string) string {
	switch code {
	case "PAA_PAGAMENTO_SCONOSCIUTO":
		return w.unknown
	case "PAA_PAGAMENTO_DUPLICATO":
		return w.duplicate
	case "PAA_PAGAMENTO_SCADUTO":
		return w.expired
	case "PAA_PAGAMENTO_ANNULLATO":
		return w.cancelled
	case "PAA_PAGAMENTO_IN_CORSO":
		return w.running
	}
	return w.other
}
