"""Config keys that have been renamed, by their old name: the check reports the new one."""

RENAMED = {
    "about": "description",
    "least": "min_effect",
    "stand_in": "substitutes",
    "takes": "runtime",
    "words": "overrides",
}
