package gateway

import (
	"strings"

	"github.com/dime-bus/dime/internal/fault"
)

// edgeProblem is a problem of the gateway's own: what is wrong with a request
// before any run exists. Its sentence is `edge.KIND`, which config/messages.yaml
// may say otherwise.
func edgeProblem(status int, kind string) *Problem {
	return &Problem{Type: problemType + kind, Status: status, Say: "edge." + kind}
}

const problemType = "urn:dime:problem:"

// edgeWords are the sentences of the gateway's own problems.
func edgeWords(key string) map[string]string {
	switch strings.TrimPrefix(key, "edge.") {
	case "not-found":
		return words4("Questo indirizzo non esiste.", "There is nothing at this address.",
			"Unter dieser Adresse gibt es nichts.", "Il n'y a rien à cette adresse.")
	case "method":
		return words4("Questo indirizzo non accetta questo metodo.", "This address does not take this method.",
			"Diese Adresse nimmt diese Methode nicht an.", "Cette adresse n'accepte pas cette méthode.")
	case "credentials":
		return words4("Le credenziali non sono valide: accedi di nuovo.", "The credentials are not valid: sign in again.",
			"Die Anmeldedaten sind nicht gültig: bitte neu anmelden.", "Les identifiants ne sont pas valables : reconnectez-vous.")
	case "client-rights":
		return words4("Questo programma non è autorizzato a usare il servizio.", "This program has no right to use the service.",
			"Dieses Programm darf den Dienst nicht nutzen.", "Ce programme n'est pas autorisé à utiliser le service.")
	case "keys":
		return words4("Per ora non è possibile verificare le credenziali. Riprova tra poco.", "Credentials can't be verified now. Try again soon.",
			"Die Anmeldedaten können gerade nicht geprüft werden. Bitte bald erneut versuchen.", "Les identifiants ne peuvent être vérifiés pour l'instant. Réessayez bientôt.")
	case "request":
		return words4("La richiesta contiene errori.", "The request has errors.",
			"Die Anfrage enthält Fehler.", "La demande contient des erreurs.")
	case "json":
		return words4("Il corpo della richiesta non è JSON valido.", "The body of the request is not valid JSON.",
			"Der Inhalt der Anfrage ist kein gültiges JSON.", "Le corps de la demande n'est pas du JSON valide.")
	case "media-type":
		return words4("Il corpo deve essere JSON (Content-Type: application/json) o, con allegati, multipart/form-data.",
			"The body must be JSON (Content-Type: application/json) or, with attachments, multipart/form-data.",
			"Der Inhalt muss JSON sein (Content-Type: application/json) oder, mit Anhängen, multipart/form-data.",
			"Le corps doit être du JSON (Content-Type: application/json) ou, avec pièces jointes, multipart/form-data.")
	case "encoding":
		return words4("Invia il corpo senza Content-Encoding.", "Send the body without Content-Encoding.",
			"Bitte den Inhalt ohne Content-Encoding senden.", "Envoyez le corps sans Content-Encoding.")
	case "too-large":
		return words4("La richiesta è troppo grande.", "The request is too large.",
			"Die Anfrage ist zu groß.", "La demande est trop volumineuse.")
	case "cut-off":
		return words4("La richiesta si è interrotta prima della fine.", "The request broke off before its end.",
			"Die Anfrage brach vor ihrem Ende ab.", "La demande s'est interrompue avant sa fin.")
	case "store":
		return words4("Per ora non è possibile conservare gli allegati. Riprova tra poco.", "Attachments can't be stored now. Try again soon.",
			"Anhänge können gerade nicht gespeichert werden. Bitte bald erneut versuchen.", "Les pièces jointes ne peuvent être conservées pour l'instant. Réessayez bientôt.")
	case "internal":
		return words4("Si è verificato un errore. È stato registrato.", "Something went wrong. It has been recorded.",
			"Es ist ein Fehler aufgetreten. Er wurde aufgezeichnet.", "Une erreur s'est produite. Elle a été enregistrée.")
	}
	return nil
}

// title of a problem type in the caller's language; "" for a type of a route's own.
func title(kind string, status int, lang string) string {
	kind, ours := strings.CutPrefix(kind, problemType)
	if !ours {
		return ""
	}
	switch kind {
	case "reply", "invalid", "denied": // these words mean what their status does
		kind = kindOfStatus(status)
	}
	return titles(kind)[lang]
}

func titles(kind string) map[string]string {
	switch kind {
	case "not-found", string(fault.NotFound):
		return words4("Non trovato", "Not found", "Nicht gefunden", "Introuvable")
	case "method":
		return words4("Metodo non ammesso", "Method not allowed", "Methode nicht erlaubt", "Méthode non autorisée")
	case "credentials", "unauthenticated":
		return words4("Accesso richiesto", "Sign-in needed", "Anmeldung nötig", "Connexion requise")
	case "client-rights", "forbidden":
		return words4("Non autorizzato", "Not allowed", "Nicht erlaubt", "Non autorisé")
	case "request":
		return words4("Richiesta non valida", "The request is not valid", "Ungültige Anfrage", "Demande non valable")
	case "json":
		return words4("JSON non valido", "The JSON is not valid", "Ungültiges JSON", "JSON non valable")
	case "media-type", "encoding":
		return words4("Formato non accettato", "Format not accepted", "Format nicht angenommen", "Format non accepté")
	case "too-large":
		return words4("Richiesta troppo grande", "Request too large", "Anfrage zu groß", "Demande trop volumineuse")
	case "cut-off":
		return words4("Richiesta interrotta", "Request broken off", "Anfrage abgebrochen", "Demande interrompue")
	case "keys", "store", string(fault.Unavailable):
		return words4("Servizio non disponibile", "Service unavailable", "Dienst nicht verfügbar", "Service indisponible")
	case string(fault.Conflict):
		return words4("In conflitto con lo stato attuale", "Conflict with the present state", "Konflikt mit dem jetzigen Stand", "Conflit avec l'état actuel")
	case string(fault.Rejected):
		return words4("Richiesta rifiutata", "Request refused", "Anfrage abgelehnt", "Demande refusée")
	case string(fault.Throttled), "limit", "queue-full":
		return words4("Troppe richieste", "Too many requests", "Zu viele Anfragen", "Trop de demandes")
	case string(fault.Timeout), "late":
		return words4("Nessuna risposta in tempo", "No answer in time", "Keine rechtzeitige Antwort", "Pas de réponse à temps")
	case string(fault.Unknown):
		return words4("L'esito non è ancora noto", "The outcome is not known yet", "Das Ergebnis ist noch nicht bekannt", "Le résultat n'est pas encore connu")
	case string(fault.Internal):
		return words4("Errore interno", "Internal error", "Interner Fehler", "Erreur interne")
	case "cancelled":
		return words4("Richiesta annullata", "The request was cancelled", "Anfrage abgebrochen", "Demande annulée")
	case "failed":
		return words4("Richiesta non riuscita", "The request failed", "Anfrage gescheitert", "La demande a échoué")
	case "undoing":
		return words4("La prima richiesta è in corso di annullamento", "The first request is being undone",
			"Die erste Anfrage wird gerade rückgängig gemacht", "La première demande est en cours d'annulation")
	case "erased":
		return words4("I dati di questa richiesta sono stati cancellati", "The data of this request was erased",
			"Die Daten dieser Anfrage wurden gelöscht", "Les données de cette demande ont été effacées")
	case "key-reused":
		return words4("Chiave già usata per un'altra richiesta", "Key already used for another request",
			"Schlüssel schon für eine andere Anfrage benutzt", "Clé déjà utilisée pour une autre demande")
	}
	return nil
}

func words4(it, en, de, fr string) map[string]string {
	return map[string]string{"it": it, "en": en, "de": de, "fr": fr}
}
