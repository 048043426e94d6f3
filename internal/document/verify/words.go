package verify

import "time"

// words are the page's texts in one language. The codice fiscale keeps its Italian
// name beside each translation: it is what the paper says.
type words struct {
	Title, Service, Error                                               string
	Valid, ValidText, Withdrawn, WithdrawnText                          string
	Type, Issued, Issuer, Protocol, Digest                              string
	Data, DataText, TaxCode, Show, Holder, HolderText, Members, Hide    string
	Wrong, TooMany, Compare, CompareText, File, Do, Same, Other, NoFile string
	Missing, MissingText, Broken                                        string
}

func wordsIn(lang string) words {
	switch lang {
	case "en":
		return words{
			Title: "Verify a document", Service: "Register of issued documents", Error: "Error",
			Valid: "This document is valid", ValidText: "The municipality issued it and has not withdrawn it.",
			Withdrawn: "This document has been withdrawn", WithdrawnText: "The municipality issued it and has withdrawn it since: it no longer proves anything.",
			Type: "Document", Issued: "Issued on", Issuer: "Issued by", Protocol: "Registration number", Digest: "Fingerprint of the file (SHA-256)",
			Data: "Compare with the paper", DataText: "Type the tax code (codice fiscale) of the person named on the document: the page then shows what the document says.",
			TaxCode: "Holder's tax code (codice fiscale)", Show: "Show the data", Holder: "What the document says", HolderText: "If the paper says anything else, the paper has been altered.",
			Members: "Members of the family", Hide: "Hide the data",
			Wrong: "This is not the tax code of this document's holder. Check it on the paper and type all 16 characters.", TooMany: "Too many wrong tries for this document. Try again in an hour.",
			Compare: "Compare a file", CompareText: "Choose the PDF that you received: the page tells you whether it is the document that the municipality sealed. The file is not kept.",
			File: "PDF file, 4 MB at most", Do: "Compare", Same: "The file is identical to the sealed document.", Other: "The file is not the sealed document: it has been altered, or it is another one.",
			NoFile:  "No file arrived, or it is larger than 4 MB. Choose the PDF of the document.",
			Missing: "Document not found", MissingText: "No document has this code. Check every letter and digit, or scan the QR code again. If the code is right, this municipality did not issue the document.",
			Broken: "The register can't be read at the moment. Try again in a few minutes.",
		}
	case "de":
		return words{
			Title: "Ein Dokument prüfen", Service: "Register der ausgestellten Dokumente", Error: "Fehler",
			Valid: "Dieses Dokument ist gültig", ValidText: "Die Gemeinde hat es ausgestellt und nicht zurückgezogen.",
			Withdrawn: "Dieses Dokument wurde zurückgezogen", WithdrawnText: "Die Gemeinde hat es ausgestellt und später zurückgezogen: Es beweist nichts mehr.",
			Type: "Dokument", Issued: "Ausgestellt am", Issuer: "Ausgestellt von", Protocol: "Protokollnummer", Digest: "Fingerabdruck der Datei (SHA-256)",
			Data: "Mit dem Papier vergleichen", DataText: "Geben Sie die Steuernummer (codice fiscale) der Person ein, die auf dem Dokument genannt ist: Dann zeigt die Seite, was im Dokument steht.",
			TaxCode: "Steuernummer (codice fiscale) der Inhaberin oder des Inhabers", Show: "Daten anzeigen", Holder: "Was im Dokument steht", HolderText: "Steht auf dem Papier etwas anderes, so wurde das Papier verändert.",
			Members: "Mitglieder der Familie", Hide: "Daten ausblenden",
			Wrong: "Diese Steuernummer gehört nicht zu diesem Dokument. Prüfen Sie sie auf dem Papier und geben Sie alle 16 Zeichen ein.", TooMany: "Zu viele falsche Versuche für dieses Dokument. Versuchen Sie es in einer Stunde wieder.",
			Compare: "Eine Datei vergleichen", CompareText: "Wählen Sie die PDF-Datei, die Sie erhalten haben: Die Seite sagt, ob es das Dokument ist, das die Gemeinde gesiegelt hat. Die Datei wird nicht aufbewahrt.",
			File: "PDF-Datei, höchstens 4 MB", Do: "Vergleichen", Same: "Die Datei ist mit dem gesiegelten Dokument identisch.", Other: "Die Datei ist nicht das gesiegelte Dokument: Sie wurde verändert oder ist eine andere.",
			NoFile:  "Es ist keine Datei angekommen, oder sie ist größer als 4 MB. Wählen Sie die PDF-Datei des Dokuments.",
			Missing: "Dokument nicht gefunden", MissingText: "Kein Dokument hat diesen Code. Prüfen Sie jeden Buchstaben und jede Ziffer, oder scannen Sie den QR-Code noch einmal. Ist der Code richtig, so hat diese Gemeinde das Dokument nicht ausgestellt.",
			Broken: "Das Register ist gerade nicht lesbar. Versuchen Sie es in einigen Minuten wieder.",
		}
	case "fr":
		return words{
			Title: "Vérifier un document", Service: "Registre des documents délivrés", Error: "Erreur",
			Valid: "Ce document est valide", ValidText: "La commune l'a délivré et ne l'a pas retiré.",
			Withdrawn: "Ce document a été retiré", WithdrawnText: "La commune l'a délivré puis l'a retiré : il ne prouve plus rien.",
			Type: "Document", Issued: "Délivré le", Issuer: "Délivré par", Protocol: "Numéro de protocole", Digest: "Empreinte du fichier (SHA-256)",
			Data: "Comparer avec le papier", DataText: "Saisissez le code fiscal (codice fiscale) de la personne nommée sur le document : la page montre alors ce que dit le document.",
			TaxCode: "Code fiscal (codice fiscale) du titulaire", Show: "Afficher les données", Holder: "Ce que dit le document", HolderText: "Si le papier dit autre chose, il a été modifié.",
			Members: "Membres de la famille", Hide: "Masquer les données",
			Wrong: "Ce code fiscal n'est pas celui du titulaire de ce document. Vérifiez-le sur le papier et saisissez les 16 caractères.", TooMany: "Trop d'essais erronés pour ce document. Réessayez dans une heure.",
			Compare: "Comparer un fichier", CompareText: "Choisissez le PDF que vous avez reçu : la page dit si c'est le document scellé par la commune. Le fichier n'est pas conservé.",
			File: "Fichier PDF, 4 Mo au plus", Do: "Comparer", Same: "Le fichier est identique au document scellé.", Other: "Le fichier n'est pas le document scellé : il a été modifié, ou c'en est un autre.",
			NoFile:  "Aucun fichier n'est arrivé, ou il dépasse 4 Mo. Choisissez le PDF du document.",
			Missing: "Document introuvable", MissingText: "Aucun document n'a ce code. Vérifiez chaque lettre et chaque chiffre, ou scannez de nouveau le code QR. Si le code est exact, cette commune n'a pas délivré le document.",
			Broken: "Le registre ne peut pas être lu en ce moment. Réessayez dans quelques minutes.",
		}
	}
	return words{
		Title: "Verifica di un documento", Service: "Registro dei documenti rilasciati", Error: "Errore",
		Valid: "Questo documento è valido", ValidText: "Il Comune lo ha rilasciato e non lo ha ritirato.",
		Withdrawn: "Questo documento è stato ritirato", WithdrawnText: "Il Comune lo ha rilasciato e poi lo ha ritirato: non prova più nulla.",
		Type: "Documento", Issued: "Rilasciato il", Issuer: "Rilasciato da", Protocol: "Numero di protocollo", Digest: "Impronta del file (SHA-256)",
		Data: "Confronta con la carta", DataText: "Scrivi il codice fiscale della persona indicata sul documento: la pagina mostra che cosa dice il documento.",
		TaxCode: "Codice fiscale dell'intestatario", Show: "Mostra i dati", Holder: "Che cosa dice il documento", HolderText: "Se sulla carta c'è scritto altro, la carta è stata modificata.",
		Members: "Componenti della famiglia", Hide: "Nascondi i dati",
		Wrong: "Questo codice fiscale non è dell'intestatario del documento. Controllalo sulla carta e scrivi tutti i 16 caratteri.", TooMany: "Troppi tentativi sbagliati per questo documento. Riprova tra un'ora.",
		Compare: "Confronta un file", CompareText: "Scegli il PDF che hai ricevuto: la pagina dice se è il documento sigillato dal Comune. Il file non viene conservato.",
		File: "File PDF, al massimo 4 MB", Do: "Confronta", Same: "Il file è identico al documento sigillato.", Other: "Il file non è il documento sigillato: è stato modificato, oppure è un altro.",
		NoFile:  "Non è arrivato nessun file, o supera 4 MB. Scegli il PDF del documento.",
		Missing: "Documento non trovato", MissingText: "Nessun documento ha questo codice. Controlla ogni lettera e cifra, o inquadra di nuovo il codice QR. Se il codice è giusto, questo Comune non ha rilasciato il documento.",
		Broken: "Il registro non si può leggere in questo momento. Riprova tra qualche minuto.",
	}
}

// day is a date as the language writes it.
func day(lang string, t time.Time) string {
	switch lang {
	case "en":
		return t.Format("2 January 2006")
	case "de":
		return t.Format("02.01.2006")
	}
	return t.Format("02/01/2006")
}
