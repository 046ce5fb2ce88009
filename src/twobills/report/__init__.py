"""PICTURES: tables, figures, sentences and the HTML page, drawn from JSON documents; no bill is made here."""
