"""Templates of a new plugin's files; :mod:`appliedpapers.pipelines.scaffold` fills them in."""
