"""How a run lives: check, identity, build, run, resume, result. Knows no paper."""
