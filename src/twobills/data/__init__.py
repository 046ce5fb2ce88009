"""FACTS: chips, prices, models and laws as TOML, each row with its source and date."""
