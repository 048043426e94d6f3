package verify

// words are the page's texts in one language.
type words struct {
	Title, Skip, Languages, Service, Valid, ValidText, Withdrawn, WithdrawnText string
	Type, Issued, Issuer, Protocol, Digest                                      string
	Data, DataText, TaxCode, Show, Holder, Members, Wrong, TooMany              string
	Compare, CompareText, File, Do, Same, Other, NoFile                         string
	Missing, MissingText, Broken, Foot                                          string
}

func wordsIn(lang string) words {
	switch lang {
	case "en":
		return words{
			Title: "Verify a document", Skip: "Skip to the main content", Languages: "Language of the page", Service: "Public register of issued documents",
			Valid: "valid", ValidText: "This document was issued by the municipality and has not been withdrawn.",
			Withdrawn: "withdrawn", WithdrawnText: "The municipality has withdrawn this document: it no longer proves anything.",
			Type: "Document", Issued: "Issued on", Issuer: "Issued by", Protocol: "Protocol number", Digest: "SHA-256 of the file",
			Data: "Compare with the paper", DataText: "Type the holder's tax code as it stands on the document, and the page shows what the document says.",
			TaxCode: "Holder's codice fiscale", Show: "Show the data", Holder: "What the document says", Members: "Members of the family",
			Wrong: "The codice fiscale is not that of this document's holder. Check it on the paper.", TooMany: "Too many wrong tries for this document. Try again in an hour.",
			Compare: "Compare a file", CompareText: "Choose the PDF that you received: the page tells whether it is the document that the municipality sealed. The file is not kept.",
			File: "PDF file, 4 MB at most", Do: "Compare", Same: "The file is identical to the sealed document.", Other: "The file is not the sealed document: it was changed, or it is another.",
			NoFile:  "No file arrived, or it is larger than 4 MB. Choose the PDF of the document.",
			Missing: "Document not found", MissingText: "No document has this code. Check every letter and digit, or scan the QR code again. If the code is right, the document was not issued by this municipality.",
			Broken: "The register can't be read now. Try again in a few minutes.", Foot: "free software, EUPL 1.2 licence",
		}
	case "de":
		return words{
			Title: "Ein Dokument prüfen", Skip: "Zum Hauptinhalt", Languages: "Sprache der Seite", Service: "Öffentliches Register der ausgestellten Dokumente",
			Valid: "gültig", ValidText: "Dieses Dokument wurde von der Gemeinde ausgestellt und nicht zurückgezogen.",
			Withdrawn: "zurückgezogen", WithdrawnText: "Die Gemeinde hat dieses Dokument zurückgezogen: Es beweist nichts mehr.",
			Type: "Dokument", Issued: "Ausgestellt am", Issuer: "Ausgestellt von", Protocol: "Protokollnummer", Digest: "SHA-256 der Datei",
			Data: "Mit dem Papier vergleichen", DataText: "Geben Sie die Steuernummer des Inhabers ein, wie sie auf dem Dokument steht, und die Seite zeigt, was das Dokument sagt.",
			TaxCode: "Codice fiscale des Inhabers", Show: "Daten anzeigen", Holder: "Was das Dokument sagt", Members: "Mitglieder der Familie",
			Wrong: "Die Steuernummer ist nicht die des Inhabers dieses Dokuments. Prüfen Sie sie auf dem Papier.", TooMany: "Zu viele falsche Versuche für dieses Dokument. Versuchen Sie es in einer Stunde wieder.",
			Compare: "Eine Datei vergleichen", CompareText: "Wählen Sie die PDF-Datei, die Sie erhalten haben: Die Seite sagt, ob sie das Dokument ist, das die Gemeinde gesiegelt hat. Die Datei wird nicht aufbewahrt.",
			File: "PDF-Datei, höchstens 4 MB", Do: "Vergleichen", Same: "Die Datei ist mit dem gesiegelten Dokument identisch.", Other: "Die Datei ist nicht das gesiegelte Dokument: Sie wurde verändert oder ist eine andere.",
			NoFile:  "Es kam keine Datei an, oder sie ist größer als 4 MB. Wählen Sie die PDF-Datei des Dokuments.",
			Missing: "Dokument nicht gefunden", MissingText: "Kein Dokument hat diesen Code. Prüfen Sie jeden Buchstaben und jede Ziffer, oder scannen Sie den QR-Code noch einmal. Ist der Code richtig, so hat diese Gemeinde das Dokument nicht ausgestellt.",
			Broken: "Das Register ist gerade nicht lesbar. Versuchen Sie es in einigen Minuten wieder.", Foot: "freie Software, Lizenz EUPL 1.2",
		}
	case "fr":
		return words{
			Title: "Vérifier un document", Skip: "Aller au contenu principal", Languages: "Langue de la page", Service: "Registre public des documents délivrés",
			Valid: "valide", ValidText: "Ce document a été délivré par la commune et n'a pas été retiré.",
			Withdrawn: "retiré", WithdrawnText: "La commune a retiré ce document : il ne prouve plus rien.",
			Type: "Document", Issued: "Délivré le", Issuer: "Délivré par", Protocol: "Numéro de protocole", Digest: "SHA-256 du fichier",
			Data: "Comparer avec le papier", DataText: "Saisissez le code fiscal du titulaire tel qu'il figure sur le document : la page montre ce que dit le document.",
			TaxCode: "Codice fiscale du titulaire", Show: "Afficher les données", Holder: "Ce que dit le document", Members: "Membres de la famille",
			Wrong: "Ce code fiscal n'est pas celui du titulaire de ce document. Vérifiez-le sur le papier.", TooMany: "Trop d'essais erronés pour ce document. Réessayez dans une heure.",
			Compare: "Comparer un fichier", CompareText: "Choisissez le PDF que vous avez reçu : la page dit s'il est le document scellé par la commune. Le fichier n'est pas conservé.",
			File: "Fichier PDF, 4 Mo au plus", Do: "Comparer", Same: "Le fichier est identique au document scellé.", Other: "Le fichier n'est pas le document scellé : il a été modifié, ou c'en est un autre.",
			NoFile:  "Aucun fichier n'est arrivé, ou il dépasse 4 Mo. Choisissez le PDF du document.",
			Missing: "Document introuvable", MissingText: "Aucun document n'a ce code. Vérifiez chaque lettre et chaque chiffre, ou scannez de nouveau le code QR. Si le code est exact, le document n'a pas été délivré par cette commune.",
			Broken: "Le registre ne peut être lu en ce moment. Réessayez dans quelques minutes.", Foot: "logiciel libre, licence EUPL 1.2",
		}
	}
	return words{
		Title: "Verifica di un documento", Skip: "Vai al contenuto principale", Languages: "Lingua della pagina", Service: "Registro pubblico dei documenti rilasciati",
		Valid: "valido", ValidText: "Questo documento è stato rilasciato dal Comune e non è stato ritirato.",
		Withdrawn: "ritirato", WithdrawnText: "Il Comune ha ritirato questo documento: non prova più nulla.",
		Type: "Documento", Issued: "Rilasciato il", Issuer: "Rilasciato da", Protocol: "Numero di protocollo", Digest: "SHA-256 del file",
		Data: "Confronta con la carta", DataText: "Scrivi il codice fiscale dell'intestatario come appare sul documento: la pagina mostra che cosa dice il documento.",
		TaxCode: "Codice fiscale dell'intestatario", Show: "Mostra i dati", Holder: "Che cosa dice il documento", Members: "Componenti della famiglia",
		Wrong: "Il codice fiscale non è quello dell'intestatario di questo documento. Controllalo sulla carta.", TooMany: "Troppi tentativi sbagliati per questo documento. Riprova tra un'ora.",
		Compare: "Confronta un file", CompareText: "Scegli il PDF che hai ricevuto: la pagina dice se è il documento sigillato dal Comune. Il file non viene conservato.",
		File: "File PDF, al massimo 4 MB", Do: "Confronta", Same: "Il file è identico al documento sigillato.", Other: "Il file non è il documento sigillato: è stato modificato, oppure è un altro.",
		NoFile:  "Non è arrivato nessun file, o supera 4 MB. Scegli il PDF del documento.",
		Missing: "Documento non trovato", MissingText: "Nessun documento ha questo codice. Controlla ogni lettera e cifra, o inquadra di nuovo il codice QR. Se il codice è giusto, il documento non è stato rilasciato da questo Comune.",
		Broken: "Il registro non si può leggere in questo momento. Riprova tra qualche minuto.", Foot: "software libero, licenza EUPL 1.2",
	}
}
