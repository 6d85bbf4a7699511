"""The catalogue of shared modules: names, formulas, advice. Imports no torch; read by docs and registry."""

from appliedpapers.nn.catalogue import activations, kan, mixtures, mlp, more

BUILT_IN = (*kan.ENTRIES, *mlp.ENTRIES, *activations.ENTRIES, *mixtures.ENTRIES, *more.ENTRIES)
