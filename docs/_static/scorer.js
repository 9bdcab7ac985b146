// What people read comes before the reference and the notebooks; the numbers below are Sphinx's own.
var Scorer = {
  score: (result) => {
    const page = result[0];
    const reading = !/^(api|notebooks|changelog)/.test(page);
    return result[4] + (reading ? 20 : page.startsWith("api/") ? -10 : 0);
  },
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
