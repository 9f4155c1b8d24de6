"""From overrides to a checked config: composing, checking, references to other runs, and what a run's hash is."""
