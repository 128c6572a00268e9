"""How the bundled koe5-mini is made."""
