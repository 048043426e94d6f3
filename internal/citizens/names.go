package citizens

const italy = "Italia"

// italianPlaces begins with the city itself.
var italianPlaces = []Place{
	{"L736", "Venezia", "VE", italy}, {"L736", "Venezia", "VE", italy}, {"G224", "Padova", "PD", italy}, {"L407", "Treviso", "TV", italy},
	{"L781", "Verona", "VR", italy}, {"L840", "Vicenza", "VI", italy}, {"H620", "Rovigo", "RO", italy}, {"A757", "Belluno", "BL", italy},
	{"L424", "Trieste", "TS", italy}, {"L483", "Udine", "UD", italy}, {"H501", "Roma", "RM", italy}, {"F205", "Milano", "MI", italy},
	{"F839", "Napoli", "NA", italy}, {"L219", "Torino", "TO", italy}, {"A944", "Bologna", "BO", italy}, {"D612", "Firenze", "FI", italy},
	{"D969", "Genova", "GE", italy}, {"A662", "Bari", "BA", italy}, {"G273", "Palermo", "PA", italy}, {"C351", "Catania", "CT", italy},
}

// origin is names that go together, and where their bearers were born.
type origin struct {
	citizenship          string
	place                Place // zero: one of italianPlaces
	surnames, men, women []string
}

var italians = origin{
	citizenship: italy,
	surnames: []string{"Vianello", "Scarpa", "Rossi", "Busetto", "Zennaro", "Bianchi", "Ballarin", "Favaretto", "Costantini", "Penzo", "Boscolo", "Tiozzo",
		"Ferrari", "Trevisan", "Bortoluzzi", "Dalla Costa", "De Rossi", "Rosso", "Barbieri", "Zane", "Zorzi", "Fabris", "Gavagnin", "Enzo", "Seno",
		"D'Este", "Dei Rossi", "Moro", "Bettin", "Carraro", "Pavan", "Marchiori", "Zanella", "Furlan", "Visentin", "Salvador", "Tagliapietra", "Toso",
		"Molin", "Minio", "Memo", "Nardo", "Rizzo", "Conte", "Longo", "Esposito", "Russo", "Marino", "Greco", "Bruno", "Gallo", "Fontana", "Caruso",
		"Mancini", "Lombardi", "Moretti", "Barbaro", "Contarini", "Dal Maschio", "Bòcus", "Fuga", "Signoretto", "Senigaglia", "Zuliani", "Donà", "Nicolè",
		"Bragadin", "Cavagnis", "Orlandini", "Padoan", "Pagan", "Quintavalle", "Regazzo", "Scattolin", "Simionato", "Tonolo", "Ugo", "Valentini", "Wolf"},
	men: []string{"Marco", "Andrea", "Luca", "Matteo", "Alessandro", "Francesco", "Lorenzo", "Davide", "Riccardo", "Stefano", "Paolo", "Giovanni", "Antonio",
		"Giuseppe", "Roberto", "Alvise", "Nicolò", "Tommaso", "Pietro", "Giacomo", "Filippo", "Enrico", "Michele", "Simone", "Federico", "Daniele", "Fabio",
		"Massimo", "Claudio", "Sergio", "Bruno", "Gino", "Ugo", "Pier Luigi", "Gian Maria", "Sebastiano", "Leonardo", "Elia", "Noè", "Zeno"},
	women: []string{"Giulia", "Sofia", "Aurora", "Alice", "Martina", "Chiara", "Francesca", "Anna", "Maria", "Laura", "Elena", "Sara", "Silvia", "Paola",
		"Federica", "Elisa", "Beatrice", "Emma", "Giorgia", "Valentina", "Alessandra", "Cristina", "Barbara", "Roberta", "Lucia", "Teresa", "Rosa", "Caterina",
		"Marina", "Marta", "Irene", "Ilaria", "Nicoletta", "Bianca", "Ada", "Ida", "Maria Grazia", "Anna Maria", "Noemi", "Zoe"},
}

func abroad(code, state string) Place { return Place{code, state, "EE", state} }

// foreign are the largest communities; the codes are the tax office's for states.
var foreign = []origin{
	{"Bangladesh", abroad("Z249", "Bangladesh"), []string{"Hossain", "Rahman", "Islam", "Ahmed", "Miah"}, []string{"Mohammed", "Abdul", "Kamal", "Rafiq"}, []string{"Fatema", "Nasrin", "Ayesha", "Rokeya"}},
	{"Romania", abroad("Z129", "Romania"), []string{"Popescu", "Ionescu", "Munteanu", "Dumitru"}, []string{"Andrei", "Ion", "Mihai", "Ștefan"}, []string{"Elena", "Ioana", "Mihaela", "Ana"}},
	{"Moldova", abroad("Z140", "Moldova"), []string{"Rusu", "Ceban", "Ciobanu"}, []string{"Vasile", "Sergiu", "Igor"}, []string{"Natalia", "Svetlana", "Olga"}},
	{"Cina", abroad("Z210", "Cina"), []string{"Hu", "Chen", "Wang", "Lin"}, []string{"Wei", "Jun", "Xiaoming"}, []string{"Li", "Mei", "Xiu"}},
	{"Albania", abroad("Z100", "Albania"), []string{"Hoxha", "Gjoka", "Leka", "Shehu"}, []string{"Arben", "Besnik", "Ilir"}, []string{"Elira", "Mirela", "Anila"}},
	{"Ucraina", abroad("Z138", "Ucraina"), []string{"Kovalenko", "Shevchenko", "Bondar"}, []string{"Oleh", "Andrii", "Taras"}, []string{"Oksana", "Iryna", "Halyna"}},
	{"Marocco", abroad("Z330", "Marocco"), []string{"El Amrani", "Benali", "Idrissi"}, []string{"Youssef", "Hassan", "Omar"}, []string{"Fatima", "Khadija", "Salma"}},
	{"Filippine", abroad("Z216", "Filippine"), []string{"Santos", "Reyes", "Dela Cruz"}, []string{"Jose", "Mark", "Ramon"}, []string{"Maricel", "Rosa", "Lourdes"}},
	{"Nigeria", abroad("Z335", "Nigeria"), []string{"Okafor", "Eze", "Adeyemi"}, []string{"Chinedu", "Emeka", "Tunde"}, []string{"Blessing", "Ngozi", "Joy"}},
	{"Germania", abroad("Z112", "Germania"), []string{"Müller", "Schäfer", "Weiß"}, []string{"Jürgen", "Klaus"}, []string{"Käthe", "Ingrid"}},
	{"Francia", abroad("Z110", "Francia"), []string{"Lefèvre", "Durand"}, []string{"François", "Luc"}, []string{"Hélène", "Aude"}},
}
