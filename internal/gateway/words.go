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

const problemType = "urn:dime:problem:" // as fault.ProblemType writes it

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
	case "slow":
		return words4("La richiesta non è arrivata per intero in tempo. Riprova.", "The request did not arrive in full in time. Try again.",
			"Die Anfrage ist nicht rechtzeitig vollständig eingetroffen. Bitte erneut versuchen.", "La demande n'est pas arrivée en entier à temps. Réessayez.")
	case "store":
		return words4("Per ora non è possibile conservare gli allegati. Riprova tra poco.", "Attachments can't be stored now. Try again soon.",
			"Anhänge können gerade nicht gespeichert werden. Bitte bald erneut versuchen.", "Les pièces jointes ne peuvent être conservées pour l'instant. Réessayez bientôt.")
	case "journal":
		return words4("Per ora non è possibile leggere lo stato della richiesta, che non è andata persa. Riprova tra poco.", "The state of the request can't be read now; the request is not lost. Try again soon.",
			"Der Stand der Anfrage kann gerade nicht gelesen werden; sie ist nicht verloren. Bitte bald erneut versuchen.", "L'état de la demande ne peut être lu pour l'instant ; elle n'est pas perdue. Réessayez bientôt.")
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
	if t := titles(ofStatus(kind, status))[lang]; t != "" {
		return t
	}
	return titles("failed")[lang]
}

// ofStatus is the kind that a word means with a status: some mean what their
// status does, of us (403) or of a system behind (502).
func ofStatus(kind string, status int) string {
	switch kind {
	case "reply", "invalid", "denied":
		return strings.ReplaceAll(kindOfStatus(status), "_", "-")
	}
	return kind
}

// details are the sentences of the engine's problems, and of the edge's; follow
// says that the run goes on and can be looked at.
func details(kind string, status int, follow bool) map[string]string {
	switch kind = ofStatus(kind, status); kind {
	case "not-found":
		return words4("Quello che cerchi non esiste.", "What you are looking for does not exist.",
			"Was Sie suchen, gibt es nicht.", "Ce que vous cherchez n'existe pas.")
	case string(fault.Conflict):
		return words4("La richiesta non è compatibile con quanto risulta ora.", "The request does not fit what is on record now.",
			"Die Anfrage passt nicht zu dem, was jetzt eingetragen ist.", "La demande n'est pas compatible avec ce qui est enregistré à présent.")
	case string(fault.Rejected):
		return words4("Il sistema che doveva eseguire la richiesta l'ha rifiutata.", "The system that was to carry out the request refused it.",
			"Das System, das die Anfrage ausführen sollte, hat sie abgelehnt.", "Le système qui devait exécuter la demande l'a refusée.")
	case string(fault.Throttled), "limit":
		return words4("Ci sono troppe richieste in questo momento. Riprova tra poco.", "There are too many requests right now. Try again soon.",
			"Im Moment gibt es zu viele Anfragen. Bitte bald erneut versuchen.", "Il y a trop de demandes en ce moment. Réessayez bientôt.")
	case "queue-full":
		return words4("Troppe richieste attendono già il loro turno. Riprova più tardi.", "Too many requests are waiting for their turn already. Try again later.",
			"Es warten schon zu viele Anfragen. Bitte später erneut versuchen.", "Trop de demandes attendent déjà leur tour. Réessayez plus tard.")
	case string(fault.Unavailable):
		return words4("Il servizio per ora non è disponibile. Riprova tra poco.", "The service is not available now. Try again soon.",
			"Der Dienst ist gerade nicht verfügbar. Bitte bald erneut versuchen.", "Le service n'est pas disponible pour l'instant. Réessayez bientôt.")
	case "status-502", string(fault.Contract):
		return words4("Un sistema collegato non ha dato una risposta utilizzabile. La richiesta non è stata completata.",
			"A connected system gave no answer that can be used. The request was not completed.",
			"Ein verbundenes System hat keine brauchbare Antwort gegeben. Die Anfrage wurde nicht abgeschlossen.",
			"Un système relié n'a pas donné de réponse utilisable. La demande n'a pas abouti.")
	case string(fault.Timeout):
		return words4("Un sistema collegato non ha risposto in tempo. Riprova tra poco.", "A connected system did not answer in time. Try again soon.",
			"Ein verbundenes System hat nicht rechtzeitig geantwortet. Bitte bald erneut versuchen.", "Un système relié n'a pas répondu à temps. Réessayez bientôt.")
	case "late":
		if follow {
			return words4("La risposta non è arrivata in tempo. La richiesta prosegue: puoi seguirla al suo indirizzo.", "There was no answer in time. The request goes on: you can follow it at its address.",
				"Die Antwort kam nicht rechtzeitig. Die Anfrage läuft weiter: Sie können sie unter ihrer Adresse verfolgen.",
				"La réponse n'est pas arrivée à temps. La demande se poursuit : vous pouvez la suivre à son adresse.")
		}
		return words4("La risposta non è arrivata in tempo.", "There was no answer in time.",
			"Die Antwort kam nicht rechtzeitig.", "La réponse n'est pas arrivée à temps.")
	case string(fault.Unknown):
		return words4("Non è ancora certo se la richiesta sia stata eseguita. Non ripeterla: l'esito sarà accertato.",
			"It is not certain yet whether the request was carried out. Do not repeat it: the outcome will be found out.",
			"Es ist noch nicht sicher, ob die Anfrage ausgeführt wurde. Bitte nicht wiederholen: Das Ergebnis wird festgestellt.",
			"Il n'est pas encore certain que la demande ait été exécutée. Ne la répétez pas : le résultat sera établi.")
	case "cancelled":
		return words4("La richiesta è stata annullata.", "The request was cancelled.",
			"Die Anfrage wurde abgebrochen.", "La demande a été annulée.")
	case "settled":
		return words4("La richiesta non era riuscita e un ufficio se n'è occupato. Per una nuova richiesta usa un'altra chiave.",
			"The request failed, and an office has seen to it. For a new request use another key.",
			"Die Anfrage war gescheitert, und ein Amt hat sich darum gekümmert. Für eine neue Anfrage bitte einen anderen Schlüssel verwenden.",
			"La demande avait échoué et un service s'en est occupé. Pour une nouvelle demande, utilisez une autre clé.")
	case "failed":
		return words4("La richiesta non è riuscita. È stato registrato.", "The request failed. It has been recorded.",
			"Die Anfrage ist gescheitert. Das wurde aufgezeichnet.", "La demande a échoué. Cela a été enregistré.")
	case "undoing":
		return words4("La prima richiesta con questa chiave è in corso di annullamento. Riprova tra poco.", "The first request with this key is being undone. Try again soon.",
			"Die erste Anfrage mit diesem Schlüssel wird gerade rückgängig gemacht. Bitte bald erneut versuchen.",
			"La première demande avec cette clé est en cours d'annulation. Réessayez bientôt.")
	case "erased":
		return words4("Questa richiesta è già stata trattata e i suoi dati sono stati cancellati.", "This request was handled before and its data was erased.",
			"Diese Anfrage wurde schon bearbeitet, ihre Daten wurden gelöscht.", "Cette demande a déjà été traitée et ses données ont été effacées.")
	case "key-reused":
		return words4("Per un'altra richiesta usa un'altra chiave.", "Use another key for another request.",
			"Benutzen Sie für eine andere Anfrage einen anderen Schlüssel.", "Utilisez une autre clé pour une autre demande.")
	case "unauthenticated":
		return words4("Accedi per usare questo servizio.", "Sign in to use this service.",
			"Melden Sie sich an, um diesen Dienst zu nutzen.", "Connectez-vous pour utiliser ce service.")
	case "forbidden":
		return words4("Non hai il diritto di fare questa richiesta.", "You have no right to make this request.",
			"Sie haben kein Recht zu dieser Anfrage.", "Vous n'avez pas le droit de faire cette demande.")
	}
	return edgeWords("edge." + kind)
}

func titles(kind string) map[string]string {
	switch kind {
	case "not-found":
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
	case "status-502", string(fault.Contract):
		return words4("Risposta non utilizzabile", "No usable answer", "Keine brauchbare Antwort", "Réponse inutilisable")
	case "slow":
		return words4("Richiesta troppo lenta", "Request too slow", "Anfrage zu langsam", "Demande trop lente")
	case "cut-off":
		return words4("Richiesta interrotta", "Request broken off", "Anfrage abgebrochen", "Demande interrompue")
	case "keys", "store", "journal", string(fault.Unavailable):
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
	case "settled":
		return words4("Richiesta non riuscita, già trattata", "The request failed, and somebody has seen to it",
			"Anfrage gescheitert, bereits bearbeitet", "La demande a échoué et a été traitée")
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
