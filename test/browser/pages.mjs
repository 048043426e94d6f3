// Every page that people see, and in which words each language must greet them.
// A new page is a new line here.
export const pages = [
  {name: 'first page', at: (urls) => `${urls.public}/`, says: {it: 'Che cosa è in funzione', en: 'What is running'}},
];

export const widths = [390, 1280];
