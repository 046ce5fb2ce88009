"""NOUNS: frozen facts about models, machines, runs, loads and prices. No formula lives here."""
