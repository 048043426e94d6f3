package gateway

// pageWords are the first page's texts in one language.
type pageWords struct {
	Title, Tagline, Lead, Program, Since, City, NoCity, OpenAPI   string
	Routes, RoutesCaption, Route, What, Begins, Version, NoRoutes string
	Connectors, ConnectorsCaption, Connector, Operations          string
	NoConnectors                                                  string
	BackTitle, PaidBack, CancelledBack, FailedBack                string
}

func wordsIn(lang string) pageWords {
	switch lang {
	case "en":
		return pageWords{
			Title: "What is running", Tagline: "Dime, the city's integration bus", Lead: "The city's services that this bus connects, in the version that runs now.",
			Program: "Program", Since: "Running since", City: "Virtual city", NoCity: "off", OpenAPI: "OpenAPI document of the services",
			Routes: "Routes", RoutesCaption: "The routes in force, how they begin, and the digest of their version.",
			Route: "Route", What: "What it does", Begins: "How it begins", Version: "Version", NoRoutes: "No route is in force.",
			Connectors: "Connected systems", ConnectorsCaption: "The outside systems that routes call.",
			Connector: "System", Operations: "Operations", NoConnectors: "No system is connected.",
			BackTitle:     "You are back from the payment page",
			PaidBack:      "If you have paid, there is nothing more to do: your request goes on by itself as soon as the receipt arrives.",
			CancelledBack: "You have left the payment. You can take it up again from the same payment page, or with the number of the notice.",
			FailedBack:    "The payment did not go through. You can try again from the same payment page, or with the number of the notice.",
		}
	case "de":
		return pageWords{
			Title: "Was in Betrieb ist", Tagline: "Dime, der Integrationsbus der Stadt", Lead: "Die Dienste der Stadt, die dieser Bus verbindet, in der Version, die jetzt in Betrieb ist.",
			Program: "Programm", Since: "In Betrieb seit", City: "Virtuelle Stadt", NoCity: "nicht aktiv", OpenAPI: "OpenAPI-Dokument der Dienste",
			Routes: "Abläufe", RoutesCaption: "Die Abläufe in Betrieb, wie sie beginnen und der Fingerabdruck ihrer Version.",
			Route: "Ablauf", What: "Was er tut", Begins: "Wie er beginnt", Version: "Version", NoRoutes: "Kein Ablauf ist in Betrieb.",
			Connectors: "Verbundene Systeme", ConnectorsCaption: "Die äußeren Systeme, welche die Abläufe aufrufen.",
			Connector: "System", Operations: "Operationen", NoConnectors: "Kein System ist verbunden.",
			BackTitle:     "Sie kommen von der Zahlungsseite zurück",
			PaidBack:      "Wenn Sie bezahlt haben, müssen Sie nichts weiter tun: Ihr Antrag läuft von selbst weiter, sobald die Quittung eintrifft.",
			CancelledBack: "Sie haben die Zahlung verlassen. Sie können sie auf derselben Zahlungsseite oder mit der Nummer der Zahlungsmitteilung wieder aufnehmen.",
			FailedBack:    "Die Zahlung ist nicht gelungen. Sie können es auf derselben Zahlungsseite oder mit der Nummer der Zahlungsmitteilung noch einmal versuchen.",
		}
	case "fr":
		return pageWords{
			Title: "Ce qui est en service", Tagline: "Dime, le bus d'intégration de la ville", Lead: "Les services de la ville que ce bus met en relation, dans la version actuellement en service.",
			Program: "Programme", Since: "En service depuis", City: "Ville virtuelle", NoCity: "inactive", OpenAPI: "Document OpenAPI des services",
			Routes: "Parcours", RoutesCaption: "Les parcours en service, comment ils commencent et l'empreinte de leur version.",
			Route: "Parcours", What: "Ce qu'il fait", Begins: "Comment il commence", Version: "Version", NoRoutes: "Aucun parcours n'est en service.",
			Connectors: "Systèmes reliés", ConnectorsCaption: "Les systèmes extérieurs que les parcours appellent.",
			Connector: "Système", Operations: "Opérations", NoConnectors: "Aucun système n'est relié.",
			BackTitle:     "Vous revenez de la page de paiement",
			PaidBack:      "Si vous avez payé, vous n'avez plus rien à faire : votre demande se poursuit d'elle-même dès que le reçu arrive.",
			CancelledBack: "Vous avez quitté le paiement. Vous pouvez le reprendre sur la même page de paiement ou avec le numéro de l'avis.",
			FailedBack:    "Le paiement n'a pas abouti. Vous pouvez réessayer sur la même page de paiement ou avec le numéro de l'avis.",
		}
	}
	return pageWords{
		Title: "Che cosa è in funzione", Tagline: "Dime, il bus di integrazione della città", Lead: "I servizi della città che questo bus mette in comunicazione, nella versione ora in funzione.",
		Program: "Programma", Since: "In funzione dal", City: "Città virtuale", NoCity: "non attiva", OpenAPI: "Documento OpenAPI dei servizi",
		Routes: "Percorsi", RoutesCaption: "I percorsi in funzione, come iniziano e l'impronta della loro versione.",
		Route: "Percorso", What: "Che cosa fa", Begins: "Come inizia", Version: "Versione", NoRoutes: "Nessun percorso è in funzione.",
		Connectors: "Sistemi collegati", ConnectorsCaption: "I sistemi esterni che i percorsi interrogano.",
		Connector: "Sistema", Operations: "Operazioni", NoConnectors: "Nessun sistema è collegato.",
		BackTitle:     "Sei tornato dalla pagina di pagamento",
		PaidBack:      "Se hai pagato, non devi fare altro: la tua richiesta prosegue da sola appena arriva la ricevuta.",
		CancelledBack: "Hai lasciato il pagamento. Puoi riprenderlo dalla stessa pagina di pagamento o con il numero dell'avviso.",
		FailedBack:    "Il pagamento non è riuscito. Puoi riprovare dalla stessa pagina di pagamento o con il numero dell'avviso.",
	}
}
